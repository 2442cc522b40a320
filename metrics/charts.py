"""Charts of a results JSON as SVG for a page: they take its colour of text, so that they fit light and dark pages."""

import io
import re
from itertools import zip_longest
from typing import NamedTuple

import matplotlib
from matplotlib.figure import Figure

from metrics.results import GENDERS, INTERVAL_COVERAGE, is_measured
from metrics.tables import RANGE, RULE_NAMES, find_bands, find_groups


INK = "#010203"  # becomes the colour of the text around the chart
# At least 3:1 against white and against dark pages (WCAG 2.2, 1.4.11). The markers differ too.
COLOURS = ("#3b82f6", "#d97706", "#059669", "#db2777", "#8b5cf6")
MARKERS = "osD^v"
SIZE = (5.2, 3.4)  # inches: narrowed on a phone, its text is still above nine pixels
SPREAD = 0.3  # of the distance of two labels, over which the points of one label are spread
TARGETS = {"age_bias": 0, "interval_coverage": 100 * INTERVAL_COVERAGE}
# Title and note of the charts by age.
AGE_CHARTS = {
    "age_mae": ("How far off the age is", "Mean absolute error by labelled age."),
    "age_bias": ("Too old or too young", "Above zero the age is too high on average, below too low."),
    "gender_accuracy": ("Gender as labelled", "Share of genders that are the labelled one."),
    "interval_coverage": (f"Age in its {RANGE}", "The dashed line is what is meant."),
}
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "chart",
    "font.size": 11,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}


class Chart(NamedTuple):
    """A chart with its title and one sentence on how to read it."""

    title: str
    note: str
    svg: str


def make_figure(rows: int = 1, columns: int = 1):
    """Makes an empty figure, and its axes with common scales: one, or an array of several."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True)
    for each in figure.axes:
        each.grid(axis="y", color=INK, alpha=0.15)
        each.set_axisbelow(True)
    return figure, axes


def write_svg(figure: Figure, title: str) -> str:
    """Returns a figure as an `<svg>` element that loads nothing and is as wide as its place, at most its own width."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = re.sub(r"(?s)^.*?(?=<svg)|<metadata>.*?</metadata>|<!--.*?-->", "", buffer.getvalue())
    text = re.sub(r' id="[A-Za-z]+[\w.]*_\d+"', "", text)  # these ids would be double on a page of several charts
    text = re.sub(r"(font: (?:\d+ )?[\d.]+px) [^;\"]*", r"\1 system-ui, sans-serif", text).replace(INK, "currentColor")
    text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2)
    style = f"display: block; width: 100%; max-width: {round(SIZE[0] * 120)}px; height: auto"
    return text.replace("<svg", f'<svg role="img" aria-label="{title}" style="{style}"', 1)


def draw_estimates(
    title: str, unit: str, series: dict[str, dict[str, dict]], factor: float, target=None, bottom=None
) -> str:
    """
    Draws estimates with their intervals.

    Args:
        title: Text for those who do not see the chart.
        unit: Label of the vertical axis.
        series: For each name in the legend the estimates by the label below them.
        factor: From the estimates to the unit.
        target: Where a dashed line is drawn, in the unit.
        bottom: Where the vertical axis begins, in the unit. By default below the least estimate.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = make_figure()
        labels = list(dict.fromkeys(label for estimates in series.values() for label in estimates))
        for number, (name, estimates) in enumerate(series.items()):
            shift = SPREAD * (number - (len(series) - 1) / 2) / max(1, len(series) - 1)
            points = [
                (labels.index(label) + shift, found)
                for label, found in estimates.items()
                if found["value"] is not None
            ]
            draw_points(axes, points, factor, name, number)
        if bottom is not None:
            axes.set_ylim(bottom=bottom)
        if target is not None:
            axes.axhline(target, color=INK, alpha=0.6, linestyle="--", linewidth=1)
        axes.set_xticks(range(len(labels)), labels, rotation=45 if sum(map(len, labels)) > 40 else 0)
        axes.set_ylabel(unit)
        if len(series) > 1:
            figure.legend(loc="outside upper center", ncols=3)
        return write_svg(figure, title)


def draw_points(axes, points: list[tuple[float, dict]], factor: float, name: str, number: int, line: str = "none"):
    """Draws estimates at their places, with a bar from end to end of each interval."""
    places, values = [place for place, _ in points], [factor * found["value"] for _, found in points]
    ends = [
        [factor * abs(found["value"] - found[end]) if is_measured(found[end]) else 0 for _, found in points]
        for end in ("low", "high")
    ]
    style = {"color": COLOURS[number], "marker": MARKERS[number], "markersize": 6, "capsize": 3, "linewidth": 1.5}
    axes.errorbar(places, values, yerr=ends, label=name, linestyle=line, **style)


def draw_curves(title: str, x_label: str, y_label: str, curves: dict[str, list[tuple[float, float]]]) -> str:
    """Draws a line through the points of each curve, by its name in the legend; a y of NaN interrupts it."""
    with matplotlib.rc_context(STYLE):
        figure, axes = make_figure()
        for number, (name, points) in enumerate(curves.items()):
            axes.plot(*zip(*points), label=name, color=COLOURS[number], linewidth=1.5)
        axes.set(xlabel=x_label, ylabel=y_label)
        figure.legend(loc="outside upper center", ncols=3)
        return write_svg(figure, title)


def draw_reliability(title: str, reliability: list[dict]) -> str:
    """Draws the share of faces that are so old against the probability, in axes of its own for each threshold."""
    with matplotlib.rc_context(STYLE):
        figure, grid = make_figure(2, -(-len(reliability) // 2))
        for axes, row in zip_longest(grid.flat, reliability):
            if not row:
                axes.set_axis_off()
                grid[0, -1].tick_params(labelbottom=True)  # of the chart above the gap
                continue
            axes.plot([0, 100], [0, 100], color=INK, alpha=0.6, linestyle="--", linewidth=1)
            points = [(100 * part["probability"], part["share"]) for part in row["bins"]]
            draw_points(axes, points, 100, "", 0, "-")
            axes.set_title(f"T = {row['threshold']} years", fontsize="medium")
            axes.set(xticks=(0, 50, 100), yticks=(0, 50, 100))
        figure.supxlabel("P(age ≥ T), %", fontsize="medium")
        figure.supylabel("faces that are so old, %", fontsize="medium")
        return write_svg(figure, title)


def draw_statistic(title: str, key: str, series: dict[str, dict[str, dict]]) -> str:
    """Draws a statistic of groups in its unit; `series` as in `draw_estimates`."""
    unit, factor = ("% of faces", 100) if key in ("gender_accuracy", "interval_coverage") else ("years", 1)
    bottom = 0 if key == "age_mae" else None
    return draw_estimates(title, unit, series, factor, TARGETS.get(key), bottom)


def make_age_charts(groups: dict | None, errors: dict) -> list[Chart]:
    """
    Makes the charts by age, for each gender where there are groups.

    Args:
        groups: From `metrics.groups`, None where a results JSON has none.
        errors: From `describe_errors`.
    """
    charts = []
    for key, (title, note) in AGE_CHARTS.items():
        rows = {"all": find_bands(groups, errors)}
        if groups and key != "interval_coverage":
            both = find_groups(groups, "gender", "ages")
            rows = {gender: [row for row in both if row["gender"] == gender] for gender in GENDERS}
        series = {name: {row["ages"]: row[key] for row in found if key in row} for name, found in rows.items()}
        if any(is_measured(found["value"]) for estimates in series.values() for found in estimates.values()):
            charts.append(Chart(title, note, draw_statistic(title, key, series)))
    return charts


def make_group_charts(groups: dict) -> list[Chart]:
    """Makes the charts by race label and gender, of the rules and of the probabilities."""
    charts, both = [], find_groups(groups, "race", "gender")
    for key in ("age_mae", "gender_accuracy"):
        title, note = f"{AGE_CHARTS[key][0]}, by race label", "By the labels of the data set; no race is estimated."
        series = {
            gender: {row["race"]: row[key] for row in both if row["gender"] == gender and key in row}
            for gender in GENDERS
        }
        if any(series.values()):
            charts.append(Chart(title, note, draw_statistic(title, key, series)))
    note = "; ".join(f"{rule}: {name}" for rule, name in RULE_NAMES.items())
    for line in sorted({row["line"] for row in groups["rules"]}):
        title, rows = f"A line at {line} years", [row for row in groups["rules"] if row["line"] == line]
        series = {
            "passes at 13–17": {row["rule"]: row["false_adults"]["13–17"] for row in rows},
            "adults refused": {row["rule"]: row["adults_refused"] for row in rows},
        }
        svg = draw_estimates(title, "% of faces", series, 100, bottom=0)
        charts.append(Chart(title, f"What passes the line. {note}.", svg))
    if groups["reliability"]:
        title = "Probability of being at least so old"
        note = "On the dashed line, probabilities come true as often as they say."
        charts.append(Chart(title, note, draw_reliability(title, groups["reliability"])))
    return charts
