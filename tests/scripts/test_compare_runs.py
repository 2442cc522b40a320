"""The comparison of trainings: a row for each with its options, and a picture."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from metrics.results import name_paths, write_json
from scripts import compare_runs
from training.arguments import parse_arguments


def write_run(folder: Path, age_mae: float, *options: str):
    """Writes the results of a training of two epochs."""
    words = ["--from_scratch", "--data_dir", "faces", "--output_dir", str(folder), "--learning_rate", "0.01", *options]
    values = {"age_mae": age_mae, "age_cs5": 0.7, "gender_accuracy": 0.9}
    last = {"age_mae": 4.6, "gender_accuracy": 0.91, "train_age_mae": 4.4, "train_gender_accuracy": 0.925}
    results = {
        "arguments": name_paths(parse_arguments(words).to_dict()),
        "metrics": {"validation": values | {f"{key}_21_60": value + 0.05 for key, value in values.items()}},
        "history": [{"epoch": 1, "age_mae": 9.0, "gender_accuracy": 0.6}, {"epoch": 2, **last}],
        "training_seconds": 90,
    }
    write_json(folder / "train_results.json", results)


def test_two_trainings(tmp_path, monkeypatch, capsys):
    write_run(tmp_path / "plain", 4.5)
    write_run(tmp_path / "flat", float("nan"), "--flip", "0", "--config_overrides", "depths=[2,1]")
    picture = tmp_path / "curves.png"
    command = ["compare_runs.py", str(tmp_path / "plain"), str(tmp_path / "flat"), "--output", str(picture)]
    monkeypatch.setattr(sys, "argv", command)
    compare_runs.main()
    header, rule, plain, flat, _ = capsys.readouterr().out.splitlines()
    assert {line.count("|") for line in (header, rule, plain, flat)} == {len(compare_runs.HEADERS) + 1}
    cells = [cell.strip() for cell in plain.strip("| ").split("|")]
    assert cells[2:] == ["2", "4.50", "70.0%", "90.0%", "4.55", "95.0%", "4.60", "91.0%", "4.40", "92.5%"]
    assert "--flip 0" in flat and "--config_overrides 'depths=[2,1]'" in flat and "| – |" in flat
    assert "--learning_rate 0.01" in plain and "--from_scratch" in plain
    assert "--flip" not in plain and "--output_dir" not in plain
    with Image.open(picture) as image:
        assert len(image.convert("RGB").getcolors(2**20)) > 10


def test_an_unfinished_training_is_named(tmp_path):
    with pytest.raises(ValueError, match="has no train_results.json: is the training finished"):
        compare_runs.read_run(tmp_path)
