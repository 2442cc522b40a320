"""The report: a page that loads nothing and names what its figures depend on."""

import re
from xml.etree import ElementTree

import pytest

from metrics.charts import Chart, make_age_charts, make_group_charts
from metrics.report import write_report
from metrics.tables import VALIDATION_NOTE, format_estimate, make_bin_tables
from tests.support.groups import make_groups


METRICS = {"age_mae": 4.5, "age_cs5": 0.7, "gender_accuracy": 0.94, "num_images": 1880}
RESULTS = {
    "model": "runs/<b>",
    "weights_sha256": "abc123",
    "data_dir": "faces.zip",
    "split": "validation",
    "split_seed": 7,
    "validation_share": None,
    "mixed_precision": "no",
    "metrics": METRICS | {f"{key}_21_60": value for key, value in METRICS.items()},
    "errors": {
        "by_age": [
            {
                "ages": "0–3",
                "num_images": 155,
                "age_mae": 0.95,
                "age_bias": 0.5,
                "gender_accuracy": 0.665,
                "interval_coverage": None,
            }
        ]
    },
    "groups": make_groups(),
    "date": "2026-11-28",
    "hardware": {"cpu": "AMD EPYC", "cpu_cores": 2},
    "versions": {"torch": "2.13.0"},
}


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    return write_report(tmp_path_factory.mktemp("report") / "new", RESULTS).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def charts() -> list[Chart]:
    return make_age_charts(RESULTS["groups"], RESULTS["errors"]) + make_group_charts(RESULTS["groups"])


def test_page_loads_nothing(page):
    """No element and no style names a resource, and no link leads to another host."""
    assert not re.search(r"<(link|script|img|iframe|object|embed|base)\b|@import|url\((?!#)", page)
    assert all(target.startswith("#") for target in re.findall(r"(?:src|href)\s*=\s*[\"']([^\"']*)", page))


def test_page_names_what_the_figures_depend_on(page):
    for text in ("AMD EPYC", "2026-11-28", "validation", "faces.zip", "abc123", "torch 2.13.0", "1,880", "fp32"):
        assert text in page, text
    assert "runs/&lt;b&gt;" in page and "<b>" not in page


def test_page_has_tables_charts_and_what_deployers_must_know(page, charts):
    assert page.count("<svg") == len(charts) and all(chart.svg in page for chart in charts)
    for text in (
        "30 of 340: 8.8 %",
        "66.5 %",
        "By race label and gender label and age",
        "P(age ≥ 18) and the share of faces that are so old",
        VALIDATION_NOTE,
        "Art. 50(3)",
        "ISO/IEC 27566-1",
    ):
        assert text in page, text
    assert "prefers-color-scheme: dark" in page
    assert page.count("<details>") == 1 + len(RESULTS["groups"]["reliability"])


def test_page_names_the_whole_command(page, tmp_path):
    """Defaults are left out."""
    command = "python evaluation.py --model &#39;runs/&lt;b&gt;&#39; --data_dir faces.zip --split validation --split_seed 7 --report report"
    assert command in page
    changes = {"split": "test", "split_seed": None, "validation_share": 0.2, "mixed_precision": "bf16", "model": "."}
    other = write_report(tmp_path, RESULTS | changes).read_text(encoding="utf-8")
    assert "--split test --validation_share 0.2 --mixed_precision bf16 --report report" in other
    assert VALIDATION_NOTE not in other


def test_each_threshold_has_axes_and_a_table_of_its_own(charts):
    groups = RESULTS["groups"]
    for row, table in zip(groups["reliability"], make_bin_tables(groups), strict=True):
        assert f"T = {row['threshold']} years" in charts[-1].svg
        assert table.rows[3] == [
            f"{100 * row['bins'][3]['probability']:.1f} %", format_estimate(row["bins"][3]["share"], ".1%"),
        ]  # fmt: skip
        assert len(table.rows) == len(row["bins"])


def test_charts_are_svg_in_the_colour_of_the_page(charts):
    for chart in charts:
        root = ElementTree.fromstring(chart.svg)
        assert root.tag.endswith("svg") and root.get("aria-label") and root.get("width") is None
        assert "currentColor" in chart.svg and "#010203" not in chart.svg and "<metadata" not in chart.svg
        assert not re.search(r"\bid=\"[A-Za-z]+_\d+\"", chart.svg)


def test_charts_by_age_do_without_groups():
    assert [chart.title for chart in make_age_charts(None, RESULTS["errors"])] == [
        "How far off the age is", "Too old or too young", "Gender as labelled",
    ]  # fmt: skip
    assert make_age_charts(None, {}) == []
