"""The page's tab about the model: what it was trained on, how well it does, and where it errs."""

import json
import math
from pathlib import Path

import gradio as gr
import pandas as pd


# As in metrics.py and utkface.py, whose imports would make the page slow to start.
ADULT_AGES = (21, 60)
INTERVAL_COVERAGE = 0.9
GENDERS = ("male", "female")

TRAINING_FILE = "train_results.json"
EVALUATION_FILE = "benchmarks/evaluation_validation.json"
# Columns of the frame of errors: key in the JSON, factor to the unit and decimals.
COLUMNS = {
    "error": ("age_mae", 1, 2),
    "bias": ("age_bias", 1, 2),
    "gender": ("gender_accuracy", 100, 1),
    "interval": ("interval_coverage", 100, 1),
    "width": ("interval_width", 1, 1),
}
ERRORS_HEADER = "| labelled age | images | error, years | bias, years | gender | label in range | range, years |"
METRICS_HEADER = "| labelled age | images | mean age error | off by at most five years | gender as labelled |"
# File, label and text for those who do not see the picture.
PICTURES = (
    ("assets/age_gender.png", "Images by gender and age", "Bars: images of each gender, and of each age by gender."),
    ("assets/race_age.png", "Images by age and race label", "Bars: images of each age by the data set's race labels."),
    (
        "assets/augmentation.jpg",
        "A public-domain portrait as training sees it",
        "A portrait and random changes of it: turned, shifted, recoloured, blurred or partly covered.",
    ),
)
PLOT_HEIGHT = 260  # pixels
MIN_WIDTH = 320  # pixels; two side by side, one below the other on a phone


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


def format_value(value: float | None, style: str) -> str:
    """A number for a sentence or table, a dash where it is not known."""
    return format(value, style) if value is not None and math.isfinite(value) else "–"


def make_error_frame(errors: dict) -> pd.DataFrame:
    """
    The errors by labelled age, in the order of age.

    Returns:
        A row for "all" and for each band: `ages`, `images`, and the mean `error` and `bias` (years too old), `gender` and
        `interval` (% that agree with the label and that hold it) and `width` of the interval (years); NaN for null.
    """
    rows = errors.get("by_age") or []
    frame = pd.DataFrame({"ages": [row["ages"] for row in rows], "images": [row["num_images"] for row in rows]})
    for column, (key, factor, decimals) in COLUMNS.items():
        values = pd.Series([row.get(key) for row in rows], dtype=float)
        frame[column] = (factor * values).round(decimals)
    return frame


def make_confusion_frame(errors: dict) -> pd.DataFrame:
    """The number of `images` of each gender `label` by the `answer` of the model; empty where not known."""
    counts = errors.get("gender_confusion") or []
    cells = [
        (label, answer, count)
        for label, row in zip(GENDERS, counts, strict=bool(counts))
        for answer, count in zip(GENDERS, row, strict=True)
    ]
    return pd.DataFrame(cells, columns=["label", "answer", "images"])


def make_curve_frame(history: list[dict], series: dict[str, str]) -> pd.DataFrame:
    """
    The progress of a training.

    Args:
        history: One dict for each epoch.
        series: Names of curves by their keys in these dicts.

    Returns:
        `epoch`, `curve` and `value`, without what was not measured.
    """
    points = [(row["epoch"], name, row.get(key)) for name, key in series.items() for row in history]
    frame = pd.DataFrame(points, columns=["epoch", "curve", "value"]).astype({"value": float})
    return frame.dropna(subset="value").round({"value": 3})


def describe_training(training: dict) -> str:
    """What the weights were trained on, as Markdown."""
    if not training:
        return (
            f"There is no `{TRAINING_FILE}` beside these weights, so it is not known here what they were trained on."
        )
    arguments, images = training.get("arguments") or {}, training.get("split_images") or {}
    data = "UTKFace" if training.get("is_utkface") else f"`{arguments.get('data_dir', 'faces')}`"
    text = f"It was trained on {format_value(images.get('train'), ',')} images of {data}"
    if training.get("extra_images"):
        names = ", ".join(f"`{name}`" for name in arguments.get("extra_data") or [])
        text += f" and {training['extra_images']:,} images of {names or 'other data'}"
    if arguments.get("teacher"):
        text += f", and on the answers of {len(arguments['teacher'])} other model(s)"
    text += "."
    if images.get("validation"):
        text += f" Another {images['validation']:,} were kept back to measure it."
    if training.get("training_seconds") and training.get("date"):
        epochs, minutes = len(training.get("history") or []), training["training_seconds"] / 60
        text += f" That took {minutes:.0f} minutes for {epochs} epochs, up to {training['date']}."
    return text + (f"\n\nStart: {training['start']}" if training.get("start") else "")


def describe_metrics(metrics: dict) -> str:
    """How well the model does, of all ages and of adults, as a Markdown table with a sentence."""
    if not metrics:
        return "There are no measurements beside these weights."
    rows = []
    for name, suffix in (("all", ""), ("{}–{}".format(*ADULT_AGES), "_{}_{}".format(*ADULT_AGES))):
        error = format_value(metrics.get(f"age_mae{suffix}"), ".2f")
        shares = [format_value(metrics.get(key + suffix), ".1%") for key in ("age_cs5", "gender_accuracy")]
        images = format_value(metrics.get(f"num_images{suffix}"), ",")
        rows.append(f"| {name} | {images} | {error} years | {shares[0]} | {shares[1]} |")
    return (
        "Measured on validation images, which nobody trained on; some of them chose the epoch whose weights these are.\n\n"
        + "\n".join([METRICS_HEADER, "|---|---|---|---|---|", *rows])
    )


def format_errors(frame: pd.DataFrame) -> str:
    """The frame of errors as a Markdown table, for those who read numbers sooner than charts."""
    rows = []
    for row in frame.itertuples():
        shares = [format_value(value / 100, ".1%") for value in (row.gender, row.interval)]
        years = [format_value(value, style) for value, style in ((row.error, ".2f"), (row.bias, "+.2f"))]
        cells = [row.ages, f"{row.images:,}", *years, *shares, format_value(row.width, ".1f")]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([ERRORS_HEADER, "|---" * 7 + "|", *rows])


def describe_limits(frame: pd.DataFrame, is_utkface: bool) -> str:
    """
    What the model cannot do, as a Markdown list.

    Args:
        frame: See `make_error_frame`.
        is_utkface: Whether that is what the model was trained on.
    """
    lines = [
        "It says how old a face *looks*; nobody's age can be read from a picture.",
        "Gender is one of the two labels of the data set, not a person's gender.",
    ]
    bands, overall = frame[frame["ages"] != "all"], frame[frame["ages"] == "all"]
    if len(overall) and bands["gender"].notna().any():
        worst = bands.loc[bands["gender"].idxmin()]
        lines.append(
            f"It errs most on gender at {worst['ages']} years: {worst['gender']:.1f}% of its answers there are as "
            f"labelled, of all ages {format_value(overall['gender'].iloc[0], '.1f')}%."
        )
    if len(overall) and bands["bias"].notna().any():
        oldest, images = bands.iloc[-1], overall["images"].iloc[0]
        direction = "young" if oldest["bias"] < 0 else "old"
        lines.append(
            f"It reads faces labelled {oldest['ages']} years too {direction}, by {abs(oldest['bias']):.1f} years on "
            f"average; {oldest['images']:,} of the {images:,} images are of that age."
        )
    if bands["width"].notna().any():
        widest, narrowest = bands.loc[bands["width"].idxmax()], bands.loc[bands["width"].idxmin()]
        lines.append(
            f"Its ranges are wide: {widest['width']:.0f} years on average at {widest['ages']} years, where they are "
            f"widest, and {narrowest['width']:.0f} at {narrowest['ages']} years."
        )
    if is_utkface:
        lines.append("UTKFace was collected from the web; other cameras, lighting and people may fare worse.")
    lines.append("Do not use it for decisions about people.")
    return "\n".join(f"- {line}" for line in lines)


def make_error_plots(errors: dict) -> list[tuple[type, dict]]:
    """The charts by labelled age that the results allow: for each its gradio component and the arguments of it."""
    frame = make_error_frame(errors)
    bands = frame[frame["ages"] != "all"]
    plots = []
    for column, label, unit, limits in (
        ("error", "Mean error of the age", "years", None),
        ("bias", "Bias of the age: years too old (up) or too young (down)", "years", None),
        ("gender", "Gender as labelled", "% of images", [0, 100]),
        ("interval", "Ages inside their range", "% of images", None),
        ("width", "Mean width of the range", "years", None),
    ):
        known = bands.dropna(subset=column)[["ages", "images", column]]
        if known.empty:
            continue
        options = {"x": "ages", "y": column, "x_title": "labelled age", "y_title": unit, "sort": list(known["ages"])}
        options |= {"label": label, "tooltip": ["images"], "y_lim": limits}
        if column == "interval":
            known = pd.concat(
                [known.assign(share="measured"), known.assign(share="meant", interval=100 * INTERVAL_COVERAGE)]
            )
            low = 10 * math.floor(min(known["interval"].min(), 70) / 10)
            plots.append((gr.LinePlot, options | {"value": known, "color": "share", "y_lim": [low, 100]}))
        else:
            plots.append((gr.BarPlot, options | {"value": known}))
    confusion = make_confusion_frame(errors)
    if len(confusion):
        options = {
            "x": "label",
            "y": "images",
            "color": "answer",
            "sort": list(GENDERS),
            "label": "Gender labels and answers",
        }
        plots.insert(3, (gr.BarPlot, options | {"value": confusion}))
    return plots


def make_curve_plots(history: list[dict]) -> list[tuple[type, dict]]:
    """The curves of a training, in the form of `make_error_plots`."""
    adults = "{}–{} years".format(*ADULT_AGES)
    plots = []
    for label, unit, series in (
        ("Loss by epoch", "loss", {"training": "train_loss", "validation": "loss"}),
        (
            "Mean error of the age by epoch",
            "years",
            {
                "training": "train_age_mae",
                "validation": "age_mae",
                f"validation, {adults}": "age_mae_{}_{}".format(*ADULT_AGES),
            },
        ),
    ):
        frame = make_curve_frame(history, series)
        if len(frame):
            options = {"x": "epoch", "y": "value", "color": "curve", "y_title": unit, "label": label}
            plots.append((gr.LinePlot, options | {"value": frame}))
    return plots


def build_plots(plots: list[tuple[type, dict]]):
    """Places charts two in a row."""
    for first in range(0, len(plots), 2):
        with gr.Row():
            for component, options in plots[first : first + 2]:
                component(**options, height=PLOT_HEIGHT, min_width=MIN_WIDTH, buttons=["fullscreen"])


def build_model_page(folder: Path):
    """
    Builds the tab.

    Args:
        folder: Of the model, with `train_results.json`, `benchmarks/` and `assets/`; what it lacks is left out.
    """
    results = read_results(folder)
    training, errors = results["training"], results["errors"]
    gr.Markdown(f"## What it learnt from\n\n{describe_training(training)}")
    gr.Markdown(f"## How well it does\n\n{describe_metrics(results['metrics'])}")
    frame = make_error_frame(errors)
    gr.Markdown(f"## Limits\n\n{describe_limits(frame, bool(training.get('is_utkface')))}")
    gr.Markdown("## Where it errs")
    if len(frame):
        build_plots(make_error_plots(errors))
        with gr.Accordion("The same as a table", open=False):
            gr.Markdown(format_errors(frame))
    else:
        gr.Markdown("There are no errors by age beside these weights.")
    gr.Markdown("## How it was trained")
    curves = make_curve_plots(training.get("history") or [])
    build_plots(curves)
    if not curves:
        gr.Markdown("There are no curves of a training beside these weights.")
    gr.Markdown("## The data")
    pictures = [picture for picture in PICTURES if (folder / picture[0]).is_file()]
    for first in range(0, len(pictures), 2):
        with gr.Row():
            for name, label, text in pictures[first : first + 2]:
                gr.Image(
                    folder / name,
                    label=label,
                    alt_text=text,
                    interactive=False,
                    buttons=["fullscreen"],
                    min_width=MIN_WIDTH,
                )
    if not pictures:
        gr.Markdown("There are no pictures of the data beside these weights.")
