"""Describes what weights were made from: data, initial weights and teachers, each with its licence."""

from metrics.results import format_value, name_count


# Data and initial weights of `scripts/reproduce.py`, by file or folder.
KNOWN = {
    "imdb_faces.parquet": "34,299 faces of IMDB-WIKI (Rothe, Timofte, Van Gool) at 20–50 years. For academic research only.",
    "official_portraits.parquet": "3,913 official portraits of members of the European Parliament (© European Union, reuse with "
    "the source named), the US Congress (public domain) and the UK Parliament (CC BY 3.0).",
    "start_dlib": "the ResNet-29 of Davis King's dlib, which learnt identities from three million photos. CC0.",
    "start_faceres": "Andrey Savchenko's MobileNet-v1 (HSE_FaceRec_tf), which learnt identities from VGGFace2, then age and gender; "
    "converted by Vladimir Mandic, whose package is under the MIT licence.",
}
OWN_TERMS = "Their own terms apply."


def find_trainings(results: dict) -> list[dict]:
    """Returns the results of all trainings that led to the weights, the one that took longest first."""
    steps = (results.get("steps") or {}).values()
    trainings = [step for step in steps if step.get("training_seconds")] or [results]  # others only calibrate
    return sorted(trainings, key=lambda each: each.get("training_seconds") or 0, reverse=True)


def find_arguments(trainings: list[dict], name: str) -> list[str]:
    """Returns the values of an argument in all trainings, each once; an argument may be a list."""
    values = [(training.get("arguments") or {}).get(name) or [] for training in trainings]
    return list(dict.fromkeys(item for value in values for item in ([value] if isinstance(value, str) else value)))


def list_origins(results: dict) -> list[str]:
    """Returns a line of Markdown about each data set, teacher and start of a `train_results.json`, with its licence."""
    trainings, images = find_trainings(results), results.get("split_images") or {}
    counts = f"{format_value(images.get('train'), ',')} images"
    terms = OWN_TERMS
    if results.get("is_utkface"):
        counts, terms = (
            f"{counts} of UTKFace",
            "They belong to their owners and are for non-commercial research only.",
        )
    lines = [f"`{(results.get('arguments') or {}).get('data_dir', 'faces')}`: {counts}. {terms}"]
    extra = find_arguments(trainings, "extra_data")
    lines += [f"`{name}`: {KNOWN[name]}" for name in extra if name in KNOWN]
    if others := [f"`{name}`" for name in extra if name not in KNOWN]:
        count = max(training.get("extra_images") or 0 for training in trainings)
        number = name_count(count, "further face") if len(others) == len(extra) and count else "further faces"
        lines.append(f"{', '.join(others)}: {number}. {OWN_TERMS}")
    if teachers := find_arguments(trainings, "teacher"):
        names = ", ".join(f"`{name}`" for name in teachers)
        lines.append(f"The answers of {name_count(len(teachers), 'earlier model')}: {names}. {OWN_TERMS}")
    if results.get("steps"):
        starts = [name for name in find_arguments(trainings, "model") if name not in results["steps"]]
        lines += [f"Initial weights: {KNOWN.get(name, f'`{name}`. {OWN_TERMS}')}" for name in starts]
    elif results.get("start"):
        lines.append(f"Initial weights: {results['start']}")
    return lines
