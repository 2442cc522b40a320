"""The report: a page that loads nothing and names what its figures depend on."""

import re
from xml.etree import ElementTree

import pytest

from metrics.charts import Chart, make_age_charts, make_group_charts
from metrics.report import write_report
from tests.support.groups import make_groups


METRICS = {"age_mae": 4.5, "age_cs5": 0.7, "gender_accuracy": 0.94, "num_images": 1880}
RESULTS = {
    "model": "runs/<b>",
    "weights_sha256": "abc123",
    "data_dir": "faces.zip",
    "split": "validation",
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
        "By race label and gender label and age",
        "30 of 340: 8.8%",
        "66.5%",
        "Art. 50(3)",
        "ISO/IEC 27566-1",
    ):
        assert text in page, text
    assert "prefers-color-scheme: dark" in page


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
