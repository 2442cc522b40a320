"""The model card: metadata that the Hub reads, tables and terms."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from hub.model_card import describe_start, write_card
from hub.provenance import KNOWN
from hub.upload import describe_upload
from metrics.tables import (
    VALIDATION_NOTE,
    format_estimate,
    make_error_table,
    make_group_tables,
    make_result_table,
    make_sentences,
)
from tests.support.groups import make_groups
from tests.support.models import make_model


ROOT = Path(__file__).parents[2]
METRICS = {"age_mae": 4.5, "age_cs5": 0.7, "gender_accuracy": None}
ERRORS = {"ages": "0–3", "num_images": 1200, "age_mae": 1.0, "age_bias": 0.5, "interval_coverage": 0.9}
RESULTS = {
    "arguments": {
        "data_dir": "faces.zip",
        "extra_data": ["user/faces", "more.parquet"],
        "model": "user/start",
        "teacher": [],
        "hub_model_id": "user/tiny",
        "num_train_epochs": 3,
    },
    "is_utkface": False,
    "split_images": {"train": 30, "validation": 10},
    "extra_images": 5,
    "metrics": {
        "validation": METRICS | {f"{key}_21_60": value for key, value in METRICS.items()} | {"num_images": 10}
    },
    "errors": {"validation": {"by_age": [ERRORS | {"gender_accuracy": None}]}},
    "best_epoch": 2,
    "start": "`user/start`.",
    "date": "2026-11-26",
    "weights_sha256": "abc123",
    "hardware": {"cpu": "AMD EPYC", "cpu_cores": 2},
}


@pytest.fixture
def folder(tmp_path) -> Path:
    make_model().save_pretrained(tmp_path)
    return tmp_path


def test_metadata(folder):
    write_card(folder, RESULTS)
    data = ModelCard.load(folder / "README.md").data
    assert data.pipeline_tag is None and data.library_name == "transformers" and data.language == "en"
    assert data.base_model == "user/start" and data.datasets == ["user/faces"]  # files are not on the Hub
    assert data.license_name == "terms-of-the-training-images"
    assert {result.metric_type: result.metric_value for result in data.eval_results} == {
        "age_mae": 4.5,
        "age_cs5": 0.7,
    }


def test_text(folder):
    write_card(folder, RESULTS)
    text = ModelCard.load(folder / "README.md").text
    assert 'model="user/tiny"' in text and "{" not in text
    assert "| validation | all | 10 | 4.50 | 70.0 % | – |\n| validation | 21–60 | – | 4.50 | 70.0 % | – |" in text
    assert "| 0–3 | 1,200 | 1.00 | +0.50 | – | 90.0 % | – |" in text
    assert "on 2 cores of AMD EPYC, with the\nweights of epoch 2," in text
    assert (
        "- `faces.zip`: 30 images. Their own terms apply.\n- `user/faces`, `more.parquet`: 5 further faces. Their own"
        in text
    )
    assert "- Initial weights: `user/start`." in text and "abc123" in text
    assert "(UTKFace; the images belong" not in text
    write_card(folder, RESULTS | {"is_utkface": True})
    assert "(UTKFace; the images belong" in (folder / "README.md").read_text()


def test_sections_of_the_card_hold_the_figures_of_the_json(folder):
    groups = make_groups()
    write_card(folder, RESULTS | {"groups": {"validation": groups}})
    text = (folder / "README.md").read_text(encoding="utf-8")
    headings = [
        "Model details",
        "Intended use",
        "Out-of-scope use",
        "For deployers",
        "Factors",
        "Metrics",
        "Evaluation data",
    ]
    headings += ["Training data and licences", "Results", "Groups and thresholds", "Ethical considerations", "Limits"]
    places = [text.index(f"\n## {heading}\n") for heading in headings]
    assert places == sorted(places)
    assert "Art. 50(3)" in text and "ISO/IEC 27566-1" in text and "&" not in text
    for table in make_group_tables(groups):
        assert f"\n### {table.title}\n\n| {' | '.join(table.header)} |\n|---" in text
        assert all(f"| {' | '.join(row)} |\n" in text for row in table.rows)
    refused = groups["rules"][0]["adults_refused"]
    assert f"| {format_estimate(refused, '.1%')} |" in text
    assert "Measured on the validation images" in text and "At 18–30 years, the MAE is 2.75" in text


def test_card_does_without_groups(folder):
    write_card(folder, RESULTS)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "## For deployers" in text and "Groups and thresholds" not in text and "###" not in text


def test_groups_of_the_card_are_those_of_the_test_images_where_there_are_any(folder):
    groups = {"validation": make_groups(), "test": make_groups() | {"young_adults": None}}
    metrics = {"validation": RESULTS["metrics"]["validation"], "test": RESULTS["metrics"]["validation"]}
    write_card(folder, RESULTS | {"groups": groups, "metrics": metrics})
    card = ModelCard.load(folder / "README.md")
    assert "Measured on the test images" in card.text and "At 18–30 years" not in card.text
    assert {result.dataset_split for result in card.data.eval_results} == {"validation", "test"}


def test_card_of_the_shipped_weights(folder):
    """It tells of all trainings, not only of the last step, which calibrates; each figure is that of the results."""
    results = json.loads((ROOT / "train_results.json").read_text(encoding="utf-8"))
    for name in ("config.json", "model.safetensors"):
        shutil.copy(ROOT / name, folder)
    write_card(folder, results)
    text = (folder / "README.md").read_text(encoding="utf-8")
    steps = results["steps"].values()
    named = {name for step in steps for name in step["arguments"]["extra_data"]}
    assert named == {"imdb_faces.parquet", "official_portraits.parquet"}
    (total,) = {step["extra_images"] for step in steps} - {0}
    assert sum(int(KNOWN[name].partition(" ")[0].replace(",", "")) for name in named) == total
    for name in (*named, "start_dlib", "start_faceres"):
        assert KNOWN[name] in text
    assert "- `UTKFace.tar.gz`: 16,916 images of UTKFace. They belong to their owners" in text
    assert "`averaged`" not in text and "`resnet29`" not in text and "epoch 0" not in text
    assert "2 convolutional encoders" in text and VALIDATION_NOTE in text and results["weights_sha256"] in text
    errors, groups = (results[name]["validation"] for name in ("errors", "groups"))
    for table in (make_result_table(results["metrics"]), make_error_table(errors), *make_group_tables(groups)):
        assert table.rows and all(f"| {' | '.join(row)} |\n" in text for row in table.rows)
    assert all(sentence in text for sentence in make_sentences(groups))
    figures = {result.metric_type: result.metric_value for result in ModelCard(text).data.eval_results}
    metrics = results["metrics"]["validation"]
    assert figures == {
        name: pytest.approx(metrics[name], abs=0.005 if name == "age_mae" else 0.0005) for name in METRICS
    }


def test_start(folder, tmp_path):
    assert describe_start(None, Path("configs/tiny.json")) == "random weights, network of `tiny.json`."
    assert describe_start("user/start") == "`user/start`."
    start = shutil.copytree(folder, tmp_path / "start")
    (start / "README.md").write_text(
        "---\nlicense: other\n---\n\n# Start\n\nThe encoder of another network.\n\nMore.\n"
    )
    assert describe_start(str(start)) == "`start`. The encoder of another network."


def test_commit_message():
    message = "Train on faces.zip: epoch 2, age MAE 4.50 years, gender – on validation"
    assert describe_upload(RESULTS) == message
