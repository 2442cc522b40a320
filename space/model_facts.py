"""Facts about the model for its tab: frames and sentences from the results files."""

import json
from pathlib import Path

import pandas as pd

from metrics.results import WHOLE_YEARS, format_value, name_count


# As in metrics.py and utkface.py, whose imports would make the page slow to start.
ADULT_AGES = (21, 60)
ADULTS, ADULT_SUFFIX = "{}–{}".format(*ADULT_AGES), "_{}_{}".format(*ADULT_AGES)
INTERVAL_COVERAGE = 0.9
GENDERS = ("male", "female")
TRAINING_FILE = "train_results.json"
EVALUATION_FILE = "benchmarks/evaluation_validation.json"
# Columns of the frame of errors: key in the JSON, factor to the unit, decimals, heading of the table.
COLUMNS = {
    "error": ("age_mae", 1, 2, "Error, years"),
    "bias": ("age_bias", 1, 2, "Too old by, years"),
    "gender": ("gender_accuracy", 100, 1, "Gender as labelled, %"),
    "interval": ("interval_coverage", 100, 1, "Age in range, %"),
    "width": ("interval_width", 1, 1, "Range, years"),
}


def read_json(file: Path) -> dict:
    """The content of a file of results; empty where there is none that can be read."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def read_results(folder: Path) -> dict:
    """
    What is known about the weights of a folder.

    Returns:
        `training`, all that the training wrote; `metrics` and `errors` on the validation images, each value from the
        training, whose intervals were not fitted to the images they are measured on, else from the evaluation. Empty where
        not known.
    """
    training, evaluation = read_json(folder / TRAINING_FILE), read_json(folder / EVALUATION_FILE)
    if training and training.get("weights_sha256") != evaluation.get("weights_sha256"):
        evaluation = {}  # of other weights
    measured = {
        key: (evaluation.get(key) or {}) | ((training.get(key) or {}).get("validation") or {})
        for key in ("metrics", "errors")
    }
    return {"training": training, **measured}


def make_error_frame(errors: dict) -> pd.DataFrame:
    """
    The errors by labelled age, in the order of age.

    Returns:
        A row for "all" and for each band: `ages`, `images`, and the mean `error` and `bias` (years too old), `gender` and
        `interval` (% that agree with the label and that hold it) and `width` of the interval (years); NaN for null.
    """
    rows = errors.get("by_age") or []
    frame = pd.DataFrame({"ages": [row["ages"] for row in rows], "images": [row["num_images"] for row in rows]})
    for column, (key, factor, decimals, _) in COLUMNS.items():
        values = pd.Series([row.get(key) for row in rows], dtype=float)
        frame[column] = (factor * values).round(decimals)
    return frame


def make_confusion_frame(errors: dict) -> pd.DataFrame:
    """The number of `images` of each gender `label` by the `answer` of the model; empty where not known."""
    counts = errors.get("gender_confusion") or []
    cells = [(label, answer, count) for label, row in zip(GENDERS, counts) for answer, count in zip(GENDERS, row)]
    return pd.DataFrame(cells, columns=["label", "answer", "images"])


def make_curve_frame(history: list[dict], series: dict[str, str]) -> pd.DataFrame:
    """The curves named in `series` by `epoch` (text, one place each on the axis), without what was not measured."""
    points = [(str(row["epoch"]), name, row.get(key)) for name, key in series.items() for row in history]
    frame = pd.DataFrame(points, columns=["epoch", "curve", "value"]).astype({"value": float})
    return frame.dropna(subset="value").round({"value": 3})


def describe_training(training: dict) -> str:
    """What the weights were trained on, as Markdown."""
    if not training:
        return f"There is no `{TRAINING_FILE}` beside these weights: what they were trained on is not known here."
    arguments, images = training.get("arguments") or {}, training.get("split_images") or {}
    data = "UTKFace" if training.get("is_utkface") else f"`{arguments.get('data_dir', 'faces')}`"
    text = f"It was trained on {format_value(images.get('train'), ',')} images of {data}"
    if training.get("extra_images"):
        names = ", ".join(f"`{name}`" for name in arguments.get("extra_data") or [])
        text += f" and {name_count(training['extra_images'], 'further face')} with ages" + (
            f" ({names})" if names else ""
        )
    if arguments.get("teacher"):
        text += f", and on the answers of {name_count(len(arguments['teacher']), 'other model')}"
    text += "."
    if images.get("validation"):
        text += f" Another {images['validation']:,} were kept back to measure it."
    if training.get("training_seconds") and training.get("date"):
        epochs = name_count(len(training.get("history") or []), "epoch")
        minutes = name_count(round(training["training_seconds"] / 60), "minute")
        text += f" That took {minutes} for {epochs} and ended on {training['date']}."
    return text


def describe_metrics(metrics: dict, age_statistic: str | None = None) -> str:
    """How well the model does, of all ages and of adults, as a Markdown table with a sentence or two."""
    if not metrics:
        return "There are no measurements beside these weights."
    rows = ["| labelled age | all | " + ADULTS + " |", "|---|---|---|"]
    for name, key, style in (
        ("images", "num_images", ","),
        ("mean error, years", "age_mae", ".2f"),
        ("within five years", "age_cs5", ".1%"),
        ("gender as labelled", "gender_accuracy", ".1%"),
    ):
        cells = [format_value(metrics.get(key + suffix), style) for suffix in ("", ADULT_SUFFIX)]
        rows.append(f"| {name} | {cells[0]} | {cells[1]} |")
    intro = "Measured on validation images, which nobody trained on; some of them chose the epoch of these weights."
    return "\n".join([intro, "", *rows, *(["", WHOLE_YEARS] if age_statistic == "median" else [])])


def make_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame of errors for people who read numbers sooner than charts."""
    headings = {"ages": "Labelled age", "images": "Images"} | {column: values[3] for column, values in COLUMNS.items()}
    return frame.astype(object).where(frame.notna(), "–").rename(columns=headings)


def describe_limits(frame: pd.DataFrame, is_utkface: bool) -> str:
    """What the model cannot do, as a Markdown list; `frame` as from `make_error_frame`."""
    lines = [
        "It says how old a face *looks*; nobody's age can be read from a picture.",
        "Gender is one of the two labels of the data set, not a person's gender.",
    ]
    bands, overall = frame[frame["ages"] != "all"], frame[frame["ages"] == "all"]
    known = bands.dropna(subset="gender")
    if len(known):
        worst, mean = known.loc[known["gender"].idxmin()], overall["gender"].iloc[0]
        text = f"It errs most on gender at {worst['ages']} years: {worst['gender']:.1f}% of its answers there"
        lines.append(f"{text} are as labelled, of all ages {mean:.1f}%.")
    known = bands.dropna(subset="bias")
    if len(known):
        oldest, images = known.iloc[-1], overall["images"].iloc[0]
        text = f"It reads faces labelled {oldest['ages']} years too {'young' if oldest['bias'] < 0 else 'old'}, by"
        text += f" {abs(oldest['bias']):.1f} years on average; only {oldest['images']:,} of the {images:,} images"
        lines.append(f"{text} are of that age.")
    known = bands.dropna(subset="width").sort_values("width")
    if len(known):
        widest, narrowest = known.iloc[-1], known.iloc[0]
        text = f"Its ranges are wide: {widest['width']:.0f} years on average at {widest['ages']} years, where they are"
        lines.append(f"{text} widest, and {narrowest['width']:.0f} at {narrowest['ages']} years.")
    if is_utkface:
        lines.append("UTKFace was collected from the web; other cameras, lighting and people may fare worse.")
    lines.append("Do not use it for decisions about people.")
    return "\n".join(f"- {line}" for line in lines)


def describe_curves(training: dict) -> str:
    """What the curves of a training cover, and what it began with, as sentences."""
    history, arguments = training.get("history") or [], training.get("arguments") or {}
    if not history:
        return "There is no record of it beside these weights."
    text = (
        f"The curves cover the last training alone, the {name_count(len(history), 'epoch')} that gave these weights."
    )
    if arguments.get("from_scratch"):
        return f"{text} It began with random weights."
    model = arguments.get("model")
    return text + (f" It began with weights that had been trained before (`{model}`)." if model else "")
