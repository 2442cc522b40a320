"""The tab about the model: its training data, its metrics and its errors."""

import math
from pathlib import Path

import gradio as gr
import pandas as pd

from metrics.results import GENDERS, INTERVAL_COVERAGE
from space.model_facts import (
    TRAINING_FILE,
    describe_curves,
    describe_limits,
    describe_metrics,
    describe_training_data,
    describe_use,
    is_utkface,
    make_confusion_frame,
    make_curve_frame,
    make_error_frame,
    make_table,
    read_json,
)


# Charts by age: column, label and unit.
BAR_PLOTS = (
    ("error", "Mean error of the age", "years"),
    ("bias", "Bias of the age: years too old (up) or too young (down)", "years"),
    ("width", "Mean width of the 90 % range", "years"),
    ("gender", "Gender as labelled", "% of images"),
)
# Charts of the training: label, unit and the key of each curve.
CURVES = (
    ("Loss by epoch", "loss", {"training": "train_loss", "validation": "loss"}),
    ("Mean error of the age by epoch", "years", {"training": "train_age_mae", "validation": "age_mae"}),
)
# File, caption and alternative text.
PICTURES = (
    ("assets/age_gender.png", "Images by gender and age", "Bars: images of each gender, and of each age by gender."),
    ("assets/race_age.png", "Images by age and race label", "Bars: images of each age by the data set's race labels."),
    ("assets/augmentation.jpg", "A public-domain portrait as training sees it", "The portrait with random changes."),
)
MIN_WIDTH = 500  # pixels of a chart: two stand side by side, and one below the other on a phone


def make_error_plots(errors: dict) -> list[tuple[type, dict]]:
    """Makes the charts of the known errors; returns the Gradio component of each and its arguments."""
    frame = make_error_frame(errors)
    bands = frame[frame["ages"] != "all"]
    options = {"x": "ages", "x_title": "labelled age", "sort": list(bands["ages"]), "x_label_angle": -45}
    options["tooltip"] = ["images"]
    plots = []
    for column, label, unit in BAR_PLOTS:
        known = bands.dropna(subset=column)[["ages", "images", column]]
        if known.empty:
            continue
        # By default Gradio cuts off zero.
        ends = [0, 100] if column == "gender" else [min(known[column].min(), 0), max(known[column].max(), 0)]
        chart = {"value": known, "y": column, "y_title": unit, "label": label}
        chart["y_lim"] = [math.floor(ends[0]), math.ceil(ends[1])]
        plots.append((gr.BarPlot, options | chart))
    known = bands.dropna(subset="interval")[["ages", "images", "interval"]]
    meant = known.assign(interval=100 * INTERVAL_COVERAGE, share="meant")
    chart = {"value": pd.concat([known.assign(share="measured"), meant]), "y": "interval", "y_title": "% of images"}
    chart |= {"color": "share", "color_title": "", "label": "Ages inside their 90 % range"}
    chart["y_lim"] = [min(70, math.floor(known["interval"].min())) if len(known) else 0, 100]
    plots.insert(2, (gr.LinePlot, options | chart))
    confusion = make_confusion_frame(errors)
    chart = {"value": confusion, "x": "label", "y": "images", "color": "answer", "sort": list(GENDERS)}
    plots.append((gr.BarPlot, chart | {"x_title": "labelled", "label": "Answers by gender label"}))
    return [(component, arguments) for component, arguments in plots if len(arguments["value"])]


def make_curve_plots(history: list[dict]) -> list[tuple[type, dict]]:
    """Makes the curves of a training, in the form of `make_error_plots`."""
    plots = []
    for label, unit, series in CURVES:
        frame = make_curve_frame(history, series)
        chart = {"value": frame, "x": "epoch", "y": "value", "color": "curve", "color_title": "", "y_title": unit}
        if len(frame):
            plots.append((gr.LinePlot, chart | {"sort": [str(row["epoch"]) for row in history], "label": label}))
    return plots


def build_plots(plots: list[tuple[type, dict]]):
    """Places charts side by side, as many as the page is wide for."""
    with gr.Row():
        for component, arguments in plots:
            # Without a height: with one, Gradio 6.31 cuts off the legend.
            component(**arguments, min_width=MIN_WIDTH, buttons=["fullscreen"])


def build_pictures(folder: Path):
    """Places the pictures that exist side by side, with the caption above, where it covers nothing."""
    pictures = [picture for picture in PICTURES if (folder / picture[0]).is_file()]
    if pictures:
        gr.Markdown("## The data")
    with gr.Row():
        for name, caption, text in pictures:
            with gr.Column(min_width=MIN_WIDTH):
                gr.Markdown(caption)
                options = {"label": caption, "show_label": False, "alt_text": text, "buttons": ["fullscreen"]}
                kind = "chart" if name.endswith(".png") else None  # only charts change their colours in the dark
                gr.Image(folder / name, interactive=False, elem_classes=kind, **options)


def build_model_tab(model: str, revision: str | None = None):
    """
    Builds the tab.

    Args:
        model: Hub id of the model, or its folder with `train_results.json` and `assets/`. Results that it lacks are left out.
        revision: Branch, tag or commit on the Hub.
    """
    folder = Path(model)
    training, age_statistic = read_json(folder / TRAINING_FILE), read_json(folder / "config.json").get("age_statistic")
    metrics, errors = ((training.get(key) or {}).get("validation") or {} for key in ("metrics", "errors"))
    frame, history = make_error_frame(errors), training.get("history") or []
    gr.Markdown(f"## What it learnt from\n\n{describe_training_data(training)}")
    gr.Markdown(f"## How well it does\n\n{describe_metrics(metrics, age_statistic)}")
    gr.Markdown(f"## Limits\n\n{describe_limits(frame, is_utkface(model))}")
    gr.Markdown(f"## In your code\n\n{describe_use(model, revision)}")
    gr.Markdown("## Where it errs" + ("" if len(frame) else "\n\nThere are no errors by age beside these weights."))
    build_plots(make_error_plots(errors))
    if len(frame):
        with gr.Accordion("The same as a table", open=False):
            gr.Dataframe(make_table(frame), label="Errors by labelled age", interactive=False, max_height=500)
    gr.Markdown(f"## How it was trained\n\n{describe_curves(training)}")
    build_plots(make_curve_plots(history))
    build_pictures(folder)
