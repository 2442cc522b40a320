"""
Writes tables and texts from results into README.md and docs, between marks: `<!-- TITLE -->` and the next `<!-- end -->`.

    python -m scripts.write_tables

The figures of the shipped weights are those of `train_results.json`, as on the page and the model card. The rows for comparison are from
`benchmarks/evaluation_….json`, and those of other measurements from the file that their command writes.
"""

import argparse
import json
import textwrap
from pathlib import Path

from hub.errors import run
from metrics.tables import (
    ADULT_SUFFIX,
    ADULTS,
    DEPLOYERS,
    ERRORS,
    RANGE,
    Table,
    fill_marks,
    find_rule,
    format_figure,
    format_markdown,
    make_group_tables,
    make_metric_cells,
)
from scripts.benchmark_tables import make_benchmark_tables, read_benchmark


ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/results.md", "docs/deployment.md")
SHIPPED = "train_results.json"
FORMER = "former weights (commit 5956c75)"
WIDTH = 140  # characters of a line of text
# Rows: text, file in benchmarks/ and the name of the metrics in it; None for the shipped weights.
README_ROWS = (
    ("**shipped**", None, "metrics"),
    ("the former weights", "before", "metrics"),
    ("a ResNet-29 alone, half of the average", "resnet", "metrics"),
)
PAGE_ROWS = (
    ("shipped, all {} validation images", None, "metrics"),
    (
        "shipped, without images whose near-duplicates have other labels ({} images)",
        "validation",
        "metrics_where_duplicates_agree",
    ),
    (
        "shipped, ages in fractions of years (`age_statistic` `interpolated_median`)",
        "validation",
        "metrics_of_interpolated_median",
    ),
    (f"the {FORMER}", "before", "metrics"),
    ("one half of the average: the ResNet-29 (`second`)", "resnet", "metrics"),
    ("the other half: heads on the public MobileNet-v1 (`frozen`)", "frozen", "metrics"),
)
COMPARED = (
    "age_mae",
    "age_bias",
    "gender_accuracy",
)  # errors by age that are shown beside those of the former weights
LEAST_FACES = 60  # of a band whose range has an aim
# Aims: figure, format, the aim and its sign: 1 where less is better, -1 where more is, 0 for a bias of either sign.
AIMS = (
    ("mean of the nine bands' MAE", ".2f", 4.35, 1),
    ("MAE", ".2f", 4.18, 1),
    (f"MAE at {ADULTS}", ".2f", 4.34, 1),
    ("gender", ".1%", 0.948, -1),
    (f"gender at {ADULTS}", ".1%", 0.981, -1),
    ("bias at 13–20", "+.2f", 1.6, 0),
    ("bias at 51–60", "+.2f", 1.6, 0),
    ("bias at 61–75", "+.2f", 2.5, 0),
    ("bias at 76–120", "+.2f", 3.5, 0),
    ("labelled 13–17 and read as 18 or older", ".1%", 0.28, 1),
    (f"in {RANGE}, blurred by 8 px", ".1%", 0.85, -1),
    (f"in {RANGE}, worst band of at least {LEAST_FACES} faces", ".1%", 0.86, -1),
    (f"mean width of the {RANGE}", ".1f", 18.5, 1),
)
BLURRING = {"interval_width": (".1f", "width"), "interval_coverage": (".1%", f"in {RANGE}"), "age_mae": (".2f", "MAE")}


def read_shipped() -> dict:
    """Returns the metrics, errors and groups of the shipped weights on the validation images."""
    training = json.loads((ROOT / SHIPPED).read_text(encoding="utf-8"))
    return {name: training[name]["validation"] for name in ("metrics", "errors", "groups")}


def read_evaluation(name: str) -> dict:
    """Returns the results of `evaluation.py` by the end of their file's name."""
    return read_benchmark(f"evaluation_{name}")


def read_blurring(suffix: str = "") -> dict[str, dict]:
    """Returns the figures of `benchmarks/blurring.py` by the change of the faces."""
    return read_benchmark(f"blurring{suffix}")["changes"]


def make_comparison_table(title: str, head: str, rows: tuple) -> Table:
    """Makes a table of metrics with a row for each weights; `rows` as `PAGE_ROWS`."""
    headings = ("MAE", "CS@5", "gender")
    header = [head, *headings, f"at {ADULTS} years: {headings[0]}", *headings[1:]]
    found = []
    for text, file, key in rows:
        metrics = (read_evaluation(file) if file else read_shipped())[key]
        cells = [make_metric_cells(metrics, suffix) for suffix in ("", ADULT_SUFFIX)]
        found.append(
            [
                text.format(f"{metrics['num_images']:,}"),
                *(cell for mae, *more in cells for cell in (f"{mae} years", *more)),
            ]
        )
    return Table(title, header, found)


def make_age_table() -> Table:
    """Makes the table of the errors by age of the shipped weights beside those of the former ones."""
    errors, before = read_shipped()["errors"], read_evaluation("before")["errors"]["by_age"]
    header = ["age", "images", "MAE", "before", "bias", "before", "gender", "before", f"in {RANGE}", "width"]
    rows = []
    for row, former in zip(errors["by_age"], before, strict=True):
        cells = [format_figure(each[key], ERRORS[key][0]) for key in COMPARED for each in (row, former)]
        coverage = f"{format_figure(row['interval_coverage'], '.1%')} ± {100 * row['interval_standard_error']:.1f}"
        rows.append([row["ages"], f"{row['num_images']:,}", *cells, coverage, f"{row['interval_width']:.1f}"])
    means = [average_bands(by_age) for by_age in (errors["by_age"], before)]
    rows.append(["mean of the nine bands", "", *(f"{mean:.2f}" for mean in means), *[""] * 6])
    return Table("Errors by age", header, rows)


def average_bands(by_age: list[dict]) -> float:
    """Returns the mean of the MAE over the bands of ages."""
    return sum(row["age_mae"] for row in by_age[1:]) / (len(by_age) - 1)


def list_figures(results: dict, blurring: dict) -> list[float]:
    """Returns the figures that `AIMS` names, in its order."""
    metrics, (overall, *rows) = results["metrics"], results["errors"]["by_age"]
    bias = {row["ages"]: row["age_bias"] for row in rows}
    return [
        average_bands([overall, *rows]),
        *(metrics[key + suffix] for key in ("age_mae", "gender_accuracy") for suffix in ("", ADULT_SUFFIX)),
        *(bias[ages] for ages in ("13–20", "51–60", "61–75", "76–120")),
        find_rule(results["groups"], 18, "answer")["false_adults"]["13–17"]["value"],
        blurring["blurred by 8 px"]["interval_coverage"],
        min(row["interval_coverage"] for row in rows if row["num_images"] >= LEAST_FACES),
        overall["interval_width"],
    ]


def make_aim_table() -> Table:
    """Makes the table of the aims and of what the former and the shipped weights give."""
    former = list_figures(read_evaluation("before"), read_blurring("_before"))
    rows = []
    for (name, style, aim, sign), *values in zip(
        AIMS, former, list_figures(read_shipped(), read_blurring()), strict=True
    ):
        cells = [format_figure(value, style) for value in values]
        limit = format_figure(aim, style.removeprefix("+"))
        reached = sign * values[1] <= sign * aim if sign else abs(values[1]) <= aim
        word = {1: "at most", -1: "at least", 0: "within ±"}[sign]
        rows.append([name, f"{word} {limit}".replace("± ", "±"), *cells, "yes" if reached else "**missed**"])
    return Table("Aims", ["figure", "aim", FORMER, "shipped", "reached"], rows)


def make_blurring_table() -> Table:
    """Makes the table of changed faces, with the figures of the former weights."""
    before = read_blurring("_before")
    rows = [
        [
            name,
            *(format_figure(each[key], style) for key, (style, _) in BLURRING.items() for each in (row, before[name])),
        ]
        for name, row in read_blurring().items()
    ]
    header = ["faces", *(text for _, name in BLURRING.values() for text in (name, "before"))]
    return Table("Blurred and small faces", header, rows)


def make_texts(page: str) -> dict[str, str]:
    """Returns the texts for a page by the titles in their marks."""
    shipped = read_shipped()
    images = f"{shipped['metrics']['num_images']:,}"
    tables = [*make_group_tables(shipped["groups"]), make_age_table(), make_aim_table(), make_blurring_table()]
    tables += make_benchmark_tables()
    if page == "README.md":
        tables.append(make_comparison_table("Accuracy", f"weights, {images} validation images", README_ROWS))
    else:
        tables.append(make_comparison_table("Accuracy", "weights, images", PAGE_ROWS))
    lines = (textwrap.fill(f"- {text}", WIDTH, subsequent_indent="  ") for text in DEPLOYERS)
    return {table.title: format_markdown(table) for table in tables} | {"For deployers": "\n".join(lines)}


def fill_page(name: str) -> str:
    """Returns a page with the texts between its marks."""
    return fill_marks((ROOT / name).read_text(encoding="utf-8"), make_texts(name))


def main():
    argparse.ArgumentParser(description="Writes tables and texts from results into README.md and docs.").parse_args()
    for name in PAGES:
        (ROOT / name).write_text(fill_page(name), encoding="utf-8")


if __name__ == "__main__":
    run(main)
