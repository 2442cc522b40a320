"""Fine-tuning a trained model: its defaults, its start as epoch 0, and its calibration."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from metrics.calibration import CALIBRATED_FIELDS
from modeling_agegender import AgeGenderModel
from tests.support.training import assert_same, assert_same_end, read_results
from training.arguments import FINE_TUNING, FULL_TRAINING, Arguments, parse_arguments
from training.checkpoints import find_checkpoints


pytestmark = pytest.mark.usefixtures("datasets_cache", "fresh_accelerate_state")
CALIBRATION = {
    "age_interval_ages": [0, 30],
    "age_interval_levels": [0.5, 0.7],
    "age_interval_entropies": [0, 3],
    "age_interval_exponents": [1, 0.5],
    "gender_temperature": 1.5,
    "age_at_least_scale": 1.2,
    "age_at_least_shift": 0.1,
}
FROM_START = {"from_scratch": None, "config": None, "validation_share": 0.25}


@pytest.fixture
def start(trained, tmp_path) -> Path:
    """A trained model with a calibration, as one trained on enough labels has."""
    folder = tmp_path / "start"
    shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("checkpoints", "best"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | CALIBRATION))
    return folder


def parse(*words: str):
    return parse_arguments(["--model", "start", "--data_dir", "d", "--output_dir", "o", *words])


def test_defaults_go_with_the_start():
    trained, other = parse(), parse()
    trained.set_defaults(is_trained=True)
    other.set_defaults(is_trained=False)
    assert FINE_TUNING.items() <= trained.to_dict().items() and trained.model.teacher == ["start"]
    assert FULL_TRAINING.items() <= other.to_dict().items() and other.model.teacher == []


def test_arguments_that_are_given_win():
    arguments = parse(
        "--learning_rate", "0.5", "--freeze_batch_norm", "false", "--teacher", "x", "--teacher_weight", "0.1"
    )
    arguments.set_defaults(is_trained=True)
    values = arguments.to_dict()
    assert (values["learning_rate"], values["freeze_batch_norm"]) == (0.5, False)
    assert (values["teacher"], values["teacher_weight"]) == (["x"], 0.1)
    without = parse("--teacher_weight", "0")
    without.set_defaults(is_trained=True)
    assert without.model.teacher == []


def test_help_names_both_defaults(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    assert "None: 0.001, from a trained model 0.0001." in " ".join(capsys.readouterr().out.split())


def test_a_start_that_no_epoch_betters_is_exported(run_train, start, tmp_path, capsys):
    """With a rate that ruins the weights. The start keeps its calibration: ten validation images cannot replace it."""
    run_train(tmp_path / "run", **FROM_START, model=start, num_train_epochs=1, learning_rate=1.0, ema_decay=0)
    results, printed = read_results(tmp_path / "run"), capsys.readouterr().out
    assert [row["epoch"] for row in results["history"]] == [0, 1] and results["best_epoch"] == 0
    assert results["history"][0]["loss"] < results["history"][1]["loss"]
    assert_same(load_file(tmp_path / "run" / "model.safetensors"), load_file(start / "model.safetensors"))
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert {name: config[name] for name in CALIBRATED_FIELDS} == CALIBRATION == results["calibration"]
    assert results["comparison"]["age_mae"]["change"] == [0.0, 0.0]
    for sentence in (
        "The start is a trained model, which sets the defaults",
        "teacher_weight 0.85, teacher the start itself.",
        "Before training: validation loss",
        "Kept from the start, for want of labels: the interval levels, the gender temperature and the age thresholds.",
        "Nothing was won: no epoch had a better loss than the start",
    ):
        assert sentence in printed


def test_no_epoch_calibrates_the_start(run_train, start, tmp_path):
    run_train(tmp_path / "run", **FROM_START, model=start, num_train_epochs=0)
    results = read_results(tmp_path / "run")
    assert [row["epoch"] for row in results["history"]] == [0] and results["best_epoch"] == 0
    assert_same(load_file(tmp_path / "run" / "model.safetensors"), load_file(start / "model.safetensors"))


def test_heads_on_unchanged_images_learn_the_same_from_features(run_train, start, tmp_path, monkeypatch):
    """Features that are computed once give the heads of a training that computes them for each batch."""
    options = FROM_START | {
        "model": start,
        "num_train_epochs": 3,
        "teacher_weight": 0,
        "encoder_learning_rate": 0,
        "unchanged": 1,
        "config_overrides": "mirror_averaging=false",  # which needs evaluation, or features that are computed once
        "dataloader_num_workers": 0,
    }
    run_train(tmp_path / "once", **options)
    monkeypatch.setattr(Arguments, "have_fixed_features", lambda _: False)
    encode, shapes = AgeGenderModel.encode, []
    monkeypatch.setattr(AgeGenderModel, "encode", lambda *args: shapes.append(args[1].shape) or encode(*args))
    run_train(tmp_path / "each_time", **options)
    assert {len(shape) for shape in shapes} == {4}
    once, each_time = (load_file(tmp_path / name / "model.safetensors") for name in ("once", "each_time"))
    before = load_file(start / "model.safetensors")
    for name, values in once.items():
        torch.testing.assert_close(values, each_time[name], rtol=1e-4, atol=1e-5)
        assert torch.equal(values, before[name]) != name.startswith(("age_head", "gender_head"))


def test_a_start_that_is_bettered_is_compared(run_train, start, tmp_path, capsys):
    """The statistics of batch normalization stay, the weights do not."""
    run_train(tmp_path / "run", **FROM_START, model=start, num_train_epochs=2, learning_rate=3e-3, teacher_weight=0.1)
    results, printed = read_results(tmp_path / "run"), capsys.readouterr().out
    assert results["best_epoch"] > 0
    before, after = (load_file(folder / "model.safetensors") for folder in (start, tmp_path / "run"))
    means = [name for name in before if name.endswith("running_mean")]
    assert means and all(torch.equal(before[name], after[name]) for name in means)
    weight = "age_head.layers.0.weight"
    assert not torch.equal(before[weight], after[weight])
    assert "Before and after training, on the 3 test images:" in printed and "Nothing was won: no epoch" not in printed
    years = results["comparison"]["age_mae"]
    assert years["after"][0] == pytest.approx(results["metrics"]["test"]["age_mae"])
    assert years["change"][0] == pytest.approx(years["after"][0] - years["before"][0])


def test_heads_alone_leave_the_encoders_as_they_are(run_train, start, tmp_path):
    options = {"num_train_epochs": 1, "learning_rate": 3e-3, "encoder_learning_rate": 0, "freeze_batch_norm": "false"}
    run_train(tmp_path / "run", **FROM_START, model=start, **options, teacher_weight=0, ema_decay=0)
    before, after = (load_file(folder / "model.safetensors") for folder in (start, tmp_path / "run"))
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"age_head", "gender_head"}


def test_weights_are_averaged_with_those_of_the_start(run_train, start, tmp_path):
    options = FROM_START | {"model": start, "num_train_epochs": 1, "learning_rate": 3e-3, "teacher_weight": 0.1}
    run_train(tmp_path / "run", **options)
    run_train(tmp_path / "average", **options, start_share=0.25)
    before, after, average = (
        load_file(folder / "model.safetensors") for folder in (start, tmp_path / "run", tmp_path / "average")
    )
    assert read_results(tmp_path / "run")["best_epoch"] == read_results(tmp_path / "average")["best_epoch"] == 1
    for name, values in average.items():
        expected = 0.75 * after[name] + 0.25 * before[name] if values.is_floating_point() else after[name]
        torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_resumed_fine_tuning_ends_as_an_uninterrupted_one(run_train, start, tmp_path):
    """From a checkpoint within the first epoch: the start stays measured, and its weights may still be the best."""
    options = {
        **FROM_START,
        "model": start,
        "num_train_epochs": 2,
        "checkpointing_steps": 3,
        "checkpoints_total_limit": 9,
    }
    options["learning_rate"] = 3e-3
    run_train(tmp_path / "whole", **options)
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "whole", copy)
    for file in ("model.safetensors", "train_results.json"):
        (copy / file).unlink()
    run_train(copy, **options, resume_from_checkpoint=find_checkpoints(copy)[0])
    assert_same_end(tmp_path / "whole", copy)
    assert [row["epoch"] for row in read_results(copy)["history"]] == [0, 1, 2]
    assert all(math.isfinite(row["loss"]) for row in read_results(copy)["history"])
