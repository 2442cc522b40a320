"""What a training leaves behind, and fine-tuning from it."""

import hashlib
import json
import math
import os
import shutil
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file

import train
from data.augmentation import AugmentationArguments
from data.loaders import make_evaluation_dataloader
from data.utkface import load_utkface
from hub import model_card
from hub.loading import load_model
from image_processing_agegender import AgeGenderImageProcessor
from metrics.prediction import evaluate_model
from modeling_agegender import AgeGenderModel
from tests.support.training import NETWORK, TRAIN_IMAGES, measure_choosing_images, read_results


pytestmark = pytest.mark.usefixtures("datasets_cache", "fresh_accelerate_state")


def test_a_run_leaves_a_complete_model_folder(trained):
    names = set(os.listdir(trained))
    code = {"configuration_agegender.py", "modeling_agegender.py", "image_processing_agegender.py"}
    code |= {"pipeline_agegender.py", "face_detection.py"}
    assert code | {"config.json", "model.safetensors", "preprocessor_config.json", "README.md"} <= names
    config = json.loads((trained / "config.json").read_text())
    assert (
        set(config["auto_map"]) == {"AutoConfig", "AutoModel"}
        and "age-gender-estimation" in config["custom_pipelines"]
    )
    processor = AgeGenderImageProcessor.from_pretrained(trained)
    assert dict(processor.size) == {"height": 32, "width": 32}
    output = AgeGenderModel.from_pretrained(trained).eval()(torch.zeros(2, 3, 32, 32))
    assert output.age.shape == (2,) and torch.isfinite(output.age).all()
    with Image.open(trained / "curves.png") as curves:
        assert curves.width > 600
        assert len(curves.convert("L").getcolors()) > 10


def test_results_name_all_that_they_depend_on(trained, faces):
    results = read_results(trained)
    assert set(results) == {
        "arguments", "start", "is_utkface", "split_images", "split", "extra_images", "errors", "groups", "metrics", "calibration", "comparison", "best_epoch", "history", "training_seconds", "num_processes",
        "weights_sha256", "date", "hardware", "versions",
    }  # fmt: skip
    assert results["weights_sha256"] == hashlib.sha256((trained / "model.safetensors").read_bytes()).hexdigest()
    assert results["split_images"] == {"train": TRAIN_IMAGES, "validation": 10, "test": 3}
    arguments = results["arguments"]
    assert (arguments["data_dir"], arguments["seed"], arguments["learning_rate"]) == (faces.name, 0, 0.01)
    assert arguments["flip"] == AugmentationArguments().flip
    assert results["versions"]["torch"] == torch.__version__ and results["hardware"]["cpu_cores"] == os.cpu_count()
    assert set(results["metrics"]) == {"validation", "test"}
    assert results["metrics"]["test"]["num_images"] == 3
    best = results["history"][results["best_epoch"] - 1]
    assert best["loss"] == min(row["loss"] for row in results["history"])
    for key, value in measure_choosing_images(trained, faces).items():
        assert best[key] == pytest.approx(value, rel=1e-5), key
    assert results["metrics"]["validation"]["num_images"] == 10 == best["num_images"]  # too few to calibrate
    losses = [row["train_loss"] for row in results["history"]]
    assert losses[-1] < losses[0]


def test_card_carries_the_results_as_the_hub_reads_them(trained):
    card, results = ModelCard.load(trained / "README.md"), read_results(trained)
    found = {(entry.dataset_split, entry.metric_type): entry.metric_value for entry in card.data.eval_results}
    expected = {
        (split, key): metrics[key]
        for split, metrics in results["metrics"].items()
        for key in ("age_mae", "age_cs5", "gender_accuracy")
    }
    assert found.keys() == expected.keys()
    assert all(abs(found[key] - value) <= 0.005 for key, value in expected.items())
    assert card.data.model_name == "tiny-faces" and card.data.library_name == "transformers"
    assert f"| validation | all | 10 | {results['metrics']['validation']['age_mae']:.2f} |" in card.text
    assert "{" not in card.text and "eleven of them lie within five years" in card.text


def test_card_names_the_hub_repository_and_survives_a_dot_and_missing_labels(trained, monkeypatch):
    monkeypatch.chdir(trained)
    results = read_results(trained)
    results["metrics"]["test"]["gender_accuracy"] = math.nan
    card_before = (trained / "README.md").read_text()
    try:
        model_card.write_card(Path("."), results)
        card = ModelCard.load("README.md")
        assert card.data.model_name == "tiny-faces"
        assert ("test", "gender_accuracy") not in {(e.dataset_split, e.metric_type) for e in card.data.eval_results}
        results["arguments"]["hub_model_id"] = "somebody/faces"
        model_card.write_card(Path("."), results)
        assert 'model="somebody/faces"' in Path("README.md").read_text()
    finally:
        (trained / "README.md").write_text(card_before)


def test_a_hub_out_of_reach_is_named_before_training(run_train, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(train, "load_training_data", lambda *args, **kwargs: pytest.fail("the data were read"))
    with pytest.raises(ValueError, match="run cannot be written to on the Hub: HF_HUB_OFFLINE=1 disables"):
        run_train(tmp_path / "run", push_to_hub=True)


def test_other_faces_have_other_terms(trained):
    card_before = (trained / "README.md").read_text()
    results = read_results(trained)
    assert results["is_utkface"] and "(UTKFace; the images belong" in card_before
    model_card.write_card(trained, results | {"is_utkface": False})
    card = (trained / "README.md").read_text()
    (trained / "README.md").write_text(card_before)
    assert "UTKFace; the images" not in card and "The terms of all images" in card


def test_printed_lines(run_train, tmp_path, capsys):
    run_train(tmp_path, num_train_epochs=1)
    lines = capsys.readouterr().out.splitlines()
    epoch_lines = [line for line in lines if line.startswith("Epoch 1:")]
    assert len(epoch_lines) == 1
    assert all(
        word in epoch_lines[0] for word in ("train loss", "age MAE", "CS@5", "gender", "s in all)", "best loss so far")
    )
    assert any("validation split" in line for line in lines) and any("21–60 years" in line for line in lines)


def test_fine_tuning_keeps_network_and_processor(run_train, trained, tmp_path):
    start = tmp_path / "start"
    shutil.copytree(trained, start, ignore=shutil.ignore_patterns("checkpoints", "best"))
    processor = AgeGenderImageProcessor.from_pretrained(start, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.2, 0.3])
    processor.save_pretrained(start)
    run_train(tmp_path / "tuned", from_scratch=None, config=None, model=start, num_train_epochs=1, learning_rate=1e-6)
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (start, tmp_path / "tuned"))
    assert {name: after[name] for name in NETWORK} == {name: before[name] for name in NETWORK}
    tuned = AgeGenderImageProcessor.from_pretrained(tmp_path / "tuned")
    assert list(tuned.image_mean) == [0.4, 0.5, 0.6] and list(tuned.image_std) == [0.2, 0.2, 0.3]
    first, second = (load_file(folder / "model.safetensors") for folder in (start, tmp_path / "tuned"))
    weight = "age_head.layers.0.weight"
    assert torch.allclose(first[weight], second[weight], atol=1e-4) and not torch.equal(first[weight], second[weight])
    card = (tmp_path / "tuned" / "README.md").read_text()
    assert "Initial weights: `start`. Estimates the apparent age" in card


def test_half_precision_weights_are_those_measured(run_train, faces, tmp_path):
    folder = tmp_path / "half"
    run_train(folder, num_train_epochs=1, half_precision_weights=True)
    stored = load_file(folder / "model.safetensors")
    kernels = {name for name, values in stored.items() if values.dtype == torch.float16}
    assert kernels == {name for name, values in stored.items() if values.ndim > 1} != set()
    model, processor = load_model(str(folder))
    loaded = AgeGenderModel.from_pretrained(folder)
    for name, values in loaded.state_dict().items():
        assert values.dtype == (torch.int64 if "tracked" in name else torch.float32)
        assert torch.equal(values, model.state_dict()[name])
    images = load_utkface(faces, validation_share=0.25)["validation"]
    metrics = evaluate_model(model, make_evaluation_dataloader(images, processor, 8, 0), Accelerator(cpu=True))
    expected = read_results(folder)["metrics"]["validation"]
    assert metrics["age_mae"] == pytest.approx(expected["age_mae"], abs=1e-5)
