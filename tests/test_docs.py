"""README and docs lead to files, modules and figures that exist."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from metrics.tables import fill_tables, make_result_cells


ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "experiments" / "README.md", *ROOT.glob("docs/*.md")]


def make_anchors(page: Path) -> set[str]:
    """Returns the anchors that GitHub and the Hub give to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_links_lead_to_files_and_headings(page):
    links = re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", page.read_text(encoding="utf-8"))
    for link in ("".join(pair) for pair in links):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in make_anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_files_and_modules_that_are_named_exist(page):
    text, folders = (
        page.read_text(encoding="utf-8"),
        "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "runs"),
    )
    for path in re.findall(rf"`((?:{folders})/[\w./]*|\w+\.py)`", text):
        assert (ROOT / path).exists(), path
    for module in re.findall(r"python -m ((?:scripts|benchmarks|tests)\.[\w.]+)", text):
        assert module.endswith(".NAME") or find_spec(module), module


def test_readme_shows_the_measured_figures():
    """The card's header and the table have the figures of the benchmark's results, rounded."""
    metrics = json.loads((ROOT / "benchmarks" / "evaluation_validation.json").read_text())["metrics"]
    training = json.loads((ROOT / "train_results.json").read_text(encoding="utf-8"))
    if "groups" in training:  # older trainings measured in bf16
        for name, value in training["metrics"]["validation"].items():
            assert metrics[name] == pytest.approx(value, abs=1e-4)
    card = ModelCard.load(ROOT / "README.md")
    assert card.data.pipeline_tag is None  # for each tag the Hub shows code that cannot load this model
    for result in card.data.eval_results:
        digits = 2 if result.metric_type == "age_mae" else 3
        assert result.metric_value == round(metrics[result.metric_type], digits)
    images, *cells = make_result_cells(metrics)
    cells = [f"{cell} years" if "%" not in cell else cell.replace("%", " %") for cell in cells]
    assert "| **shipped** | " + " | ".join(cells) + " |" in card.text and f"weights, {images} validation" in card.text


@pytest.fixture
def groups() -> dict:
    found = json.loads((ROOT / "benchmarks" / "evaluation_validation.json").read_text(encoding="utf-8")).get("groups")
    return found or pytest.skip("The weights were measured before evaluation.py wrote groups.")


def test_tables_of_groups_show_the_measured_figures(groups):
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for title in ("By race label and gender label", "Genders that are sure, by age", "Probability of an age"):
        assert f"<!-- {title} -->" in text
    assert fill_tables(text, groups) == text, "python -m scripts.write_tables writes the tables."


def test_no_age_contradicts_what_the_page_promises_of_sure_genders(groups):
    """Nineteen of twenty are as labelled; figures of few faces have wide intervals."""
    promise = "A gender that the page names is meant to be the labelled one for at least 95 of 100 faces, at any age"
    assert promise in (ROOT / "docs" / "results.md").read_text(encoding="utf-8").replace("\n", " ")
    for row in groups["sure_genders"]:
        found = row["right_where_sure"]
        assert not found["num_images"] or found["high"] >= 0.95, (row["ages"], found)


def test_tables_of_turned_photos_show_the_measured_figures():
    measured = json.loads((ROOT / "benchmarks" / "turning.json").read_text(encoding="utf-8"))["by_angle"]
    text, details = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/results.md"))
    total = sum(row["photos"] for row in measured)
    assert total == sum(
        row["found"] for row in measured
    ) and f"in {total} turned photos of 30 faces, all were found" in text.replace("\n", " ")
    for first, last in ((0, 0), (15, 30), (45, 75), (90, 90), (105, 165), (180, 180)):
        rows = [row for row in measured if first <= min(row["angle"], 360 - row["angle"]) <= last]
        photos, found, other, sure, off = (
            sum(row[name] for row in rows)
            for name in ("photos", "found", "other_gender", "other_gender_where_sure", "age_off_by_more_than_5")
        )
        years = sum(row["age_difference"] * row["found"] for row in rows) / found
        seconds = sum(row["seconds"] * row["photos"] for row in rows) / photos
        angles = f"{first}°" if first == last else f"{first}–{last}°"
        row = f"| {angles} | {photos} | {found} | {other} | {sure} | {years:.1f} years | {off} | {seconds:.2f} s |"
        assert row in details


def test_speeds_are_the_measured_ones():
    """CPU milliseconds of a face for each network, and CPU seconds of a photo for each program."""
    networks, photos = (
        json.loads((ROOT / "benchmarks" / f"{name}.json").read_text(encoding="utf-8")) for name in ("speed", "photos")
    )
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    many, one = (networks["cpu_milliseconds_per_face"][f"batch_{size}"] for size in (8, 1))
    for name in many:
        digits = 0 if many[name] > 100 else 1
        assert f"| {many[name]:.{digits}f} | {one[name]:.{digits}f} |" in text
    for row in photos["measured"].values():
        assert f"| {row['faces']} of 90 | {row['cpu_seconds_per_photo']:.3f} |" in text


def test_table_of_other_crops_shows_the_measured_figures():
    measured = json.loads((ROOT / "benchmarks" / "other_crops.json").read_text(encoding="utf-8"))["crops"]
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for name, row in measured.items():
        crop, detected = row["without_detection"], row["with_detection"]
        cells = [f"{crop['mae']:.2f} years", *(f"{crop[key]:.1%}" for key in ("gender_accuracy", "interval_coverage"))]
        cells += [f"{row['reported']:.1%}", f"{detected['mae']:.2f} years", f"{detected['gender_accuracy']:.1%}"]
        assert f"| {name} | {' | '.join(cells)} |".replace("%", " %").replace("  %", " %") in text


def test_the_table_of_fine_tuning_shows_the_measured_figures_and_none_is_worse_than_the_start():
    """Worse: by more than the standard error of the start's own figure."""
    measured = json.loads((ROOT / "benchmarks" / "fine_tuning.json").read_text(encoding="utf-8"))
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    columns = [(images, name) for images in ("own", "utkface") for name in ("age_mae", "gender_accuracy")]
    for training in measured["trainings"]:
        start, cells = [], []
        for images, name in columns:
            values = training[images][name]
            factor, digits, unit = (1, 2, "") if name == "age_mae" else (100, 1, " %")
            (before, before_error), (after, _), (change, error) = (
                values[key] for key in ("before", "after", "change")
            )
            start.append(f"{factor * before:.{digits}f} ± {factor * before_error:.{digits}f}{unit}")
            signed = f"{factor * change:+.{digits}f}".replace("-", "−")
            cells.append(f"{factor * after:.{digits}f}{unit} ({signed} ± {factor * error:.{digits}f})")
            assert (change if name == "age_mae" else -change) <= before_error, (
                training["kind"],
                training["images"],
                name,
            )
        assert f"| {training['kind']} | the start | {' | '.join(start)} |" in text
        assert f"| {training['kind']} | {training['images']:,} | {' | '.join(cells)} |" in text


def test_table_of_trials_of_fine_tuning_shows_the_recorded_figures():
    trials = json.loads((ROOT / "experiments" / "fine_tuning_trials.json").read_text(encoding="utf-8"))["trials"]
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    for trial in trials:
        cells = [
            f"{change:+.2f} ± {error:.2f}".replace("-", "−") for change, error in (trial["own"], trial["utkface"])
        ]
        assert f"| {trial['kind']} | {trial['name']} | {' | '.join(cells)} |" in text


@pytest.mark.parametrize("page", ["README.md", "docs/training.md"])
def test_lines_of_a_log_are_those_that_were_printed(page):
    log = (ROOT / "experiments" / "fine_tuning.log").read_text(encoding="utf-8").splitlines()
    (block,) = re.findall(
        r"\n\n((?:    .*\n)*    Before training.*\n(?:    .*\n)*)", (ROOT / page).read_text(encoding="utf-8")
    )
    for line in block.splitlines():
        start = line[4:].removesuffix("…").rstrip(", ")
        assert any(printed.startswith(start) for printed in log), line
