"""README and docs lead to files, modules and figures that exist."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from hub.model_card import make_card_data
from image_processing_agegender import SMALL_CHILD_AGE, SURE_GENDER, SURE_GENDER_OF_SMALL_CHILD
from metrics.results import compute_weights_sha256
from metrics.tables import ERRORS, find_group, format_figure
from pipeline_agegender import AgeGenderPipeline
from scripts import write_tables


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


@pytest.fixture(scope="module")
def training() -> dict:
    return json.loads((ROOT / "train_results.json").read_text(encoding="utf-8"))


def read_line(page: str) -> str:
    """The text of a page as one line."""
    return re.sub(r"\s+", " ", (ROOT / page).read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", write_tables.PAGES)
def test_tables_and_texts_are_those_of_the_results(page):
    assert write_tables.fill_page(page) == (ROOT / page).read_text(encoding="utf-8"), (
        "python -m scripts.write_tables writes them."
    )


@pytest.mark.parametrize(
    ("page", "titles"),
    [
        ("README.md", ["For deployers", "Accuracy"]),
        ("docs/deployment.md", ["For deployers"]),
        (
            "docs/results.md",
            [
                "Accuracy", "Errors by age", "Aims", "By race label and gender label", "By gender label and age",
                "Lines at an age", "Genders that are sure, by age", "Probability of an age", "Blurred and small faces",
                "Faces in a photo", "Faces found by size", "Faces found in crowds", "Other crops", "Turned photos",
                "Speed of the network", "Photos", "Photos in a browser", "Answers in a browser",
            ],
        ),
    ],
)  # fmt: skip
def test_pages_have_the_marks(page, titles):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert re.findall(r"<!-- (?!end)(.*) -->", text) == titles
    assert text.count("<!-- end -->") == len(titles)
    assert set(titles) <= write_tables.make_texts(page).keys()


def test_every_evaluation_has_a_row_and_the_rows_hold_its_figures():
    """Computed here by hand, for what `write_tables` writes."""
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    files = sorted(ROOT.glob("benchmarks/evaluation_*.json"))
    assert len(files) == 4
    for file in files:
        results = json.loads(file.read_text(encoding="utf-8"))
        cells = []
        for ages in ("", "_21_60"):
            mae, *shares = (results["metrics"][name + ages] for name in ("age_mae", "age_cs5", "gender_accuracy"))
            cells += [f"{mae:.2f} years", *(f"{100 * share:.1f} %" for share in shares)]
        assert f"| {' | '.join(cells)} |" in text, file


def test_the_shipped_weights_are_those_that_were_measured(training):
    """Ranges and the loss differ: those of the training are cross-fitted."""
    measured = write_tables.read_evaluation("validation")
    assert measured["weights_sha256"] == training["weights_sha256"] == compute_weights_sha256(ROOT)
    for name, value in training["metrics"]["validation"].items():
        if name != "loss":
            assert measured["metrics"][name] == pytest.approx(value, abs=1e-4)


def test_headers_of_readme_and_card_are_made_alike(training):
    header = ModelCard.load(ROOT / "README.md").data.to_dict()
    expected = make_card_data("agegender", training).to_dict()
    assert {name: header[name] for name in expected} == expected
    assert "pipeline_tag" not in header  # for each tag the Hub shows code that cannot load this model
    assert "datasets" not in header  # none of the data sets is on the Hub


def test_sentences_of_readme_and_docs_show_the_measured_figures(training):
    metrics, errors, groups = (training[name]["validation"] for name in ("metrics", "errors", "groups"))
    readme, results = read_line("README.md"), read_line("docs/results.md")
    images, adults = (f"{metrics[f'num_images{ages}']:,}" for ages in ("", "_21_60"))
    assert (
        f"wrong by **{metrics['age_mae']:.2f} years** on average ({images} images), by at most five years in "
        f"**{100 * metrics['age_cs5']:.1f} %** ({images}), and the gender is the labelled one in "
        f"**{100 * metrics['gender_accuracy']:.1f} %** ({images}) or **{100 * metrics['gender_accuracy_21_60']:.1f} %** at "
        f"21–60 years ({adults})"
    ) in readme
    covered = errors["by_age"][0]
    text = f"{100 * covered['interval_coverage']:.1f} % ± {100 * covered['interval_standard_error']:.1f}"
    assert f"It contained {text} of these labels" in readme
    passed = {row["rule"]: row["false_adults"]["13–17"] for row in groups["rules"] if row["line"] == 18}
    answer, probability = passed["answer"], passed["probability"]
    assert (
        f"It reads {answer['count']} of {answer['num_images']} faces labelled 13–17 years as 18 or older. Asking for "
        f"P(age ≥ 18) ≥ 95 % still passes {probability['count']} of them"
    ) in readme
    error, deviation = (100 * errors[f"gender_calibration_{name}"] for name in ("error", "standard_error"))
    assert f"The probabilities are off by {error:.1f} ± {deviation:.1f} points" in results


def test_the_two_places_of_a_figure_agree(training):
    """The ends of errors by age and of groups, which each table rounds for itself."""
    errors, groups = (training[name]["validation"] for name in ("errors", "groups"))
    for row in errors["by_age"][1:]:
        group = find_group(groups, ages=row["ages"])
        for name in ("age_mae", "age_bias", "gender_accuracy", "interval_coverage"):
            style = ERRORS[name][0]
            assert format_figure(group[name]["value"], style) == format_figure(row[name], style), (row["ages"], name)
    for row in groups["reliability"]:
        found = errors["age_at_least_calibration_errors"][str(row["threshold"])]
        assert row["calibration_error"] == pytest.approx(found, abs=1e-6)


def test_no_age_contradicts_what_the_page_promises_of_sure_genders(training):
    promise = (
        "for at least 95 of 100 faces. The table shows this for each age with at least 30 named faces. At 0–3 years the page is almost "
        "always unsure, and too few are named to tell."
    )
    assert promise in read_line("docs/results.md")
    for row in training["groups"]["validation"]["sure_genders"]:
        found = row["right_where_sure"]
        assert (found["num_images"] < 30) == (row["ages"] == "0–3")
        assert found["num_images"] < 30 or found["value"] >= 0.95, (row["ages"], found)


def test_the_docstring_of_the_pipeline_names_what_makes_a_gender_sure():
    rule = f'({SURE_GENDER_OF_SMALL_CHILD} if face["age"] < {SMALL_CHILD_AGE} else {SURE_GENDER})'
    assert f'face["gender_score"] >= {rule}' in AgeGenderPipeline.__call__.__doc__


def test_the_table_of_the_recipe_shows_what_each_training_gave(training):
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    for name, step in training["steps"].items():
        metrics = step["metrics"]["validation"]
        minutes = round(step["training_seconds"] / 60)
        cells = f"{minutes or '–'} | {metrics['age_mae']:.2f} years, {100 * metrics['gender_accuracy']:.1f} % |"
        assert re.search(rf"^\| `{name}` \| .* \| {re.escape(cells)}$", text, re.MULTILINE), name


def test_the_readme_tells_how_many_turned_photos_have_their_face_found():
    measured = json.loads((ROOT / "benchmarks" / "turning.json").read_text(encoding="utf-8"))["by_angle"]
    total, found = (sum(row[name] for row in measured) for name in ("photos", "found"))
    assert f"in {total} turned photos of 30 faces, {found} were found" in read_line("README.md")


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
