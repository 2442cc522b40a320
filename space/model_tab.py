"""The tab about the model: what it gets right and wrong, its training data and its metrics."""

from pathlib import Path

import gradio as gr

from hub.provenance import find_trainings
from metrics.charts import Chart, make_age_charts
from metrics.results import GENDERS
from metrics.tables import (
    DEPLOYERS,
    describe_person,
    find_groups,
    format_markdown,
    make_error_table,
    make_group_table,
    make_rule_table,
    make_sure_gender_table,
)
from space.model_facts import (
    TRAINING_FILE,
    describe_curves,
    describe_limits,
    describe_metrics,
    describe_training_data,
    describe_use,
    is_utkface,
    make_curve_frame,
    read_json,
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


def build_person(groups: dict):
    """Places the choice of an age and a gender, and what the model does for such faces."""
    bands = [row["ages"] for row in find_groups(groups, "ages")]
    private = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}

    def answer(ages: str, gender: str) -> str:
        return describe_person(groups, gender, ages)

    first = bands[len(bands) // 3]
    gr.Markdown("## How well does it do for a face like yours?")
    with gr.Row():
        ages = gr.Dropdown(bands, value=first, label="Age, years", min_width=160)
        gender = gr.Radio(list(GENDERS), value=GENDERS[-1], label="Gender label", min_width=160)
    text = gr.Markdown(answer(first, GENDERS[-1]), elem_classes="announced")
    for choice in (ages, gender):
        choice.input(answer, [ages, gender], text, **private)


def build_charts(charts: list[Chart]):
    """Places charts side by side, as many as the page is wide for."""
    figures = (
        f"<figure><figcaption><strong>{chart.title}</strong><br>{chart.note}</figcaption>{chart.svg}</figure>"
        for chart in charts
    )
    gr.HTML(f'<div class="charts">{"".join(figures)}</div>')


def make_curve_plots(history: list[dict]) -> list[tuple[type, dict]]:
    """Makes the curves of a training; returns the Gradio component of each and its arguments."""
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
    metrics, errors, groups = (
        (training.get(key) or {}).get("validation") or {} for key in ("metrics", "errors", "groups")
    )
    history = find_trainings(training)[0].get("history") or []
    table = make_error_table(errors)
    if groups and find_groups(groups, "gender", "ages"):
        build_person(groups)
    gr.Markdown(f"## How well it does\n\n{describe_metrics(metrics, age_statistic)}", elem_classes="figures")
    gr.Markdown(f"## Limits\n\n{describe_limits(errors, is_utkface(model), groups)}")
    gr.Markdown("\n".join(["## Before you use it on others", "", *(f"- {text}" for text in DEPLOYERS)]))
    gr.Markdown("## Where it errs" + ("" if table.rows else "\n\nThere are no errors by age beside these weights."))
    if groups:
        gr.Markdown("The bars are 95 % intervals: how far a figure could be off by the choice of the photos.")
    if charts := make_age_charts(groups, errors):
        build_charts(charts)
    tables = [table]
    if groups:
        tables += [make_rule_table(groups), make_sure_gender_table(groups), make_group_table(groups, "race")]
    for table in tables:
        if table.rows:
            with gr.Accordion(table.title, open=False):
                gr.Markdown(format_markdown(table), elem_classes="figures")
    gr.Markdown(f"## What it learnt from\n\n{describe_training_data(training)}")
    gr.Markdown(f"## In your code\n\n{describe_use(model, revision)}")
    gr.Markdown(f"## How it was trained\n\n{describe_curves(training)}")
    build_plots(make_curve_plots(history))
    build_pictures(folder)
