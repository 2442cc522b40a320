"""Charts of a results JSON as SVG for a page: they take its colour of text, so that they fit light and dark pages."""

import io
import re
from typing import NamedTuple

import matplotlib
from matplotlib.figure import Figure

from metrics.results import GENDERS, INTERVAL_COVERAGE, is_measured
from metrics.tables import RULE_NAMES, STATISTICS, find_bands, find_group, find_groups


INK = "#010203"  # becomes the colour of the text around the chart
# At least 3:1 against white and against dark pages (WCAG 2.2, 1.4.11). The markers differ too.
COLOURS = ("#3b82f6", "#d97706", "#059669", "#db2777", "#8b5cf6")
MARKERS = "osD^v"
SIZE = (5.2, 3.4)  # inches: on a phone, where the chart is narrowed, its text is still above nine pixels
SPREAD = 0.3  # of the distance of two labels, over which the points of one label are spread
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


def make_figure():
    """Makes an empty figure with axes for a chart."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.grid(axis="y", color=INK, alpha=0.15)
    axes.set_axisbelow(True)
    return figure, axes


def write_svg(figure: Figure, title: str) -> str:
    """Returns a figure as an `<svg>` element that loads nothing and is as wide as its place, at most its own width."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = re.sub(r"(?s)^.*?(?=<svg)|<metadata>.*?</metadata>|<!--.*?-->", "", buffer.getvalue())
    text = re.sub(r' id="[A-Za-z]+[\w.]*_\d+"', "", text)  # these ids would be double on a page of several charts
    text = re.sub(r"(font: (?:\d+ )?[\d.]+px) [^;\"]*", r"\1 system-ui, sans-serif", text).replace(INK, "currentColor")
    text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2)
    style = f"display: block; width: 100%; max-width: {round(SIZE[0] * 96)}px; height: auto"
    return text.replace("<svg", f'<svg role="img" aria-label="{title}" style="{style}"', 1)


def draw_estimates(title: str, unit: str, series: dict[str, dict[str, dict]], factor: float = 1, target=None) -> str:
    """
    Draws estimates with their intervals.

    Args:
        title: Text for those who do not see the chart.
        unit: Label of the vertical axis.
        series: For each name in the legend the estimates by the label below them.
        factor: From the estimates to the unit.
        target: Where a dashed line is drawn, in the unit.
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


def draw_reliability(title: str, reliability: list[dict]) -> str:
    """Draws the share of faces that are so old against the probability, for each threshold."""
    with matplotlib.rc_context(STYLE):
        figure, axes = make_figure()
        axes.plot([0, 100], [0, 100], color=INK, alpha=0.6, linestyle="--", linewidth=1)
        for number, row in enumerate(reliability):
            points = [(100 * part["probability"], part["share"]) for part in row["bins"]]
            draw_points(axes, points, 100, f"{row['threshold']} years", number, "-")
        axes.set(xlabel="P(age ≥ T), %", ylabel="faces that are so old, %")
        figure.legend(loc="outside upper center", ncols=3)
        return write_svg(figure, title)


def make_age_charts(groups: dict | None, errors: dict) -> list[Chart]:
    """
    Makes the charts by age, for each gender where there are groups.

    Args:
        groups: From `metrics.groups`, None where a results JSON has none.
        errors: From `describe_errors`.
    """
    charts = []
    for key, title, unit, factor, note in (
        ("age_mae", "How far off the age is", "years", 1, "Mean absolute error by labelled age."),
        ("age_bias", "Too old or too young", "years", 1, "Above zero the age is too high on average, below too low."),
        ("gender_accuracy", "Gender as labelled", "% of faces", 100, "Share of genders that are the labelled one."),
        (
            "interval_coverage",
            f"Age in its {INTERVAL_COVERAGE:.0%} range",
            "% of faces",
            100,
            "The dashed line is what is meant.",
        ),
    ):
        series = {"all": {row["ages"]: row.get(key) for row in find_bands(groups, errors)}}
        if groups and key != "interval_coverage":
            series = {
                gender: {
                    row["ages"]: row.get(key)
                    for row in find_groups(groups, "gender", "ages")
                    if row["gender"] == gender
                }
                for gender in GENDERS
            }
        series = {name: {ages: found for ages, found in row.items() if found} for name, row in series.items()}
        if any(found["value"] is not None for row in series.values() for found in row.values()):
            target = {"age_bias": 0, "interval_coverage": 100 * INTERVAL_COVERAGE}.get(key)
            charts.append(Chart(title, note, draw_estimates(title, unit, series, factor, target)))
    return charts


def make_group_charts(groups: dict) -> list[Chart]:
    """Makes the charts by race label and gender, of the rules and of the probabilities."""
    charts = []
    races = [row["race"] for row in find_groups(groups, "race")]
    for key, title, unit, factor in (
        ("age_mae", "How far off the age is, by race label", "years", 1),
        ("gender_accuracy", "Gender as labelled, by race label", "% of faces", 100),
    ):
        rows = {gender: {race: find_group(groups, race=race, gender=gender) for race in races} for gender in GENDERS}
        series = {
            gender: {race: row[key] for race, row in found.items() if row and key in row}
            for gender, found in rows.items()
        }
        if any(series.values()):
            charts.append(Chart(title, STATISTICS[key][1], draw_estimates(title, unit, series, factor)))
    for line in sorted({row["line"] for row in groups["rules"]}):
        title = f"A line at {line} years"
        rows = [row for row in groups["rules"] if row["line"] == line]
        series = {f"passes at {ages}": {row["rule"]: row["false_adults"][ages] for row in rows} for ages in ("13–17",)}
        series["adults refused"] = {row["rule"]: row["adults_refused"] for row in rows}
        note = "; ".join(f"{rule}: {name}" for rule, name in RULE_NAMES.items())
        charts.append(Chart(title, f"What passes a line. {note}.", draw_estimates(title, "% of faces", series, 100)))
    if groups["reliability"]:
        title = "Probability of being at least so old"
        note = "On the dashed line, probabilities come true as often as they say."
        charts.append(Chart(title, note, draw_reliability(title, groups["reliability"])))
    return charts
