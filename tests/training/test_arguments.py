"""The command line of train.py: what is refused, and what its values become."""

import sys

import pytest

from tests.support.training import ROOT, make_command
from training.arguments import parse_arguments


pytestmark = pytest.mark.usefixtures("datasets_cache", "fresh_accelerate_state")


def parse_error(arguments: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as stop:
        parse_arguments(arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"learning_rat": 1}, "unknown arguments: --learning_rat 1"),
        ({"num_train_epoch": 3}, "unknown arguments: --num_train_epoch 3"),  # no abbreviations
        ({"model": "somewhere"}, "Give either --model"),
        ({"from_scratch": None, "config": None}, "Give either --model"),
        ({"from_scratch": None, "model": "somewhere"}, "--config describes a network for --from_scratch"),
        ({"num_train_epochs": -1}, "--num_train_epochs must be at least 0, got -1"),
        ({"num_train_epochs": 0}, "--num_train_epochs 0 calibrates the weights of --model"),
        ({"num_train_epochs": "many"}, "invalid int value: 'many'"),
        ({"per_device_train_batch_size": 1}, "--per_device_train_batch_size must be at least 2"),
        ({"gradient_accumulation_steps": 0}, "--gradient_accumulation_steps must be at least 1"),
        ({"checkpoints_total_limit": 0}, "--checkpoints_total_limit must be at least 1"),
        ({"checkpointing_steps": "0"}, "--checkpointing_steps must be a number of updates or epoch, got 0"),
        ({"checkpointing_steps": "-3"}, "--checkpointing_steps must be"),
        ({"learning_rate": -0.1}, "--learning_rate must be above 0, got -0.1"),
        ({"learning_rate": "nan"}, "--learning_rate must be above 0, got nan"),
        ({"warmup_ratio": 1.5}, "--warmup_ratio must be in 0–1"),
        ({"weight_decay": -1}, "--weight_decay must be at least 0"),
        ({"max_grad_norm": -1}, "--max_grad_norm must be at least 0"),
        ({"early_stopping_patience": -1}, "--early_stopping_patience must be at least 0"),
        ({"ema_decay": 1}, "--ema_decay must be in [0, 1), got 1.0"),
        ({"lr_scheduler_type": "staircase"}, "--lr-scheduler-type: invalid choice: 'staircase' (choose from 'linear'"),
        ({"mixed_precision": "int4"}, "--mixed-precision: invalid choice: 'int4' (choose from 'no'"),
        ({"metric_for_best_model": "f1"}, "--metric-for-best-model: invalid choice: 'f1' (choose from 'loss'"),
        ({"report_to": "paper"}, "--report-to: invalid choice: 'paper' (choose from 'tensorboard'"),
        ({"hub_strategy": "all"}, "--hub-strategy: invalid choice: 'all' (choose from 'end'"),
        ({"validation_share": 1.5}, "--validation_share must be between 0 and 1, got 1.5"),
        ({"extra_share": 1}, "--extra_share must be between 0 and 1, got 1.0"),
        ({"age_balance": -0.1}, "--age_balance must be in 0–1, got -0.1"),
        ({"teacher_weight": 1.1}, "--teacher_weight must be in 0–1, got 1.1"),
        ({"start_share": 1.1}, "--start_share must be in 0–1, got 1.1"),
        ({"start_share": 0.5}, "--start_share averages with the weights of --model"),
        ({"dataloader_num_workers": -1}, "--dataloader_num_workers must be at least 0"),
        ({"seed": -1}, "--seed must be at least 0"),
        ({"flip": 2}, "flip must be in 0–1, got 2.0"),
        ({"data_dir": None}, "the following arguments are required: --data_dir"),
    ],
)
def test_bad_arguments_are_refused_in_a_sentence(tmp_path, capsys, changes, sentence):
    assert sentence in parse_error(make_command(tmp_path, tmp_path / "x.json", tmp_path, **changes), capsys)


def test_a_tracker_that_is_not_installed_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("training.arguments.find_spec", lambda name: None)
    command = make_command(tmp_path, tmp_path / "x.json", tmp_path, report_to="trackio")
    assert "--report_to trackio needs a package: pip install trackio" in parse_error(command, capsys)


@pytest.mark.parametrize("option", [{"hub_model_id": "a/b"}, {"hub_private_repo": True}, {"hub_strategy": "best"}])
def test_options_of_an_upload_need_one(tmp_path, capsys, option):
    command = make_command(tmp_path, tmp_path / "x.json", tmp_path, **option)
    assert "need --push_to_hub" in parse_error(command, capsys)


def test_flags_and_defaults():
    arguments = parse_arguments(
        "--from_scratch --data_dir d --output_dir o --torch_compile --gradient_checkpointing --push_to_hub "
        "--hub_model_id a/b --mixed_precision bf16 --checkpointing_steps 500 --seed 3".split()
    )
    assert arguments.train.torch_compile and arguments.train.gradient_checkpointing and arguments.train.push_to_hub
    assert arguments.model.config == ROOT / "configs" / "mobilenet.json"
    values = arguments.to_dict()
    assert (values["hub_model_id"], values["mixed_precision"], values["seed"]) == ("a/b", "bf16", 3)
    assert values["checkpointing_steps"] == "500" and values["output_dir"] == "o"


def test_a_file_beside_the_script_is_no_second_command_line(tmp_path, monkeypatch):
    (tmp_path / "train.args").write_text("--seed 5")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "train.py")])
    assert parse_arguments(["--from_scratch", "--data_dir", "d", "--output_dir", "o"]).train.seed == 0


def test_repeated_lists_add_up():
    arguments = parse_arguments(
        "--from_scratch --data_dir d --output_dir o --extra_data a b --teacher x --extra_data c --teacher y "
        "--config_overrides depths=[1,2] --config_overrides hidden_act=relu".split()
    )
    assert arguments.data.extra_data == ["a", "b", "c"] and arguments.model.teacher == ["x", "y"]
    assert arguments.model.config_overrides == ["depths=[1,2]", "hidden_act=relu"]
    assert parse_arguments("--from_scratch --data_dir d --output_dir o".split()).data.extra_data == []
