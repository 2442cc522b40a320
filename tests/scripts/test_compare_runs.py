"""The comparison of trainings: a row each, with the options that made the difference, and a picture."""

import sys

import pytest
from PIL import Image

from scripts import compare_runs


pytestmark = pytest.mark.usefixtures("datasets_cache", "fresh_accelerate_state")


def test_two_trainings(run_train, tmp_path, monkeypatch, capsys):
    run_train(tmp_path / "plain", num_train_epochs=2)
    run_train(tmp_path / "flat", num_train_epochs=2, flip=0, config_overrides="depths=[2,1]", torch_compile=None)
    capsys.readouterr()
    picture = tmp_path / "curves.png"
    command = ["compare_runs.py", str(tmp_path / "plain"), str(tmp_path / "flat"), "--output", str(picture)]
    monkeypatch.setattr(sys, "argv", command)
    compare_runs.main()
    header, rule, plain, flat, _ = capsys.readouterr().out.splitlines()
    assert {line.count("|") for line in (header, rule, plain, flat)} == {len(compare_runs.HEADERS) + 1}
    assert "--flip 0" in flat and "--config_overrides 'depths=[2,1]'" in flat and "--flip" not in plain
    assert "--learning_rate 0.01" in plain and "--from_scratch" in plain and "--output_dir" not in plain
    results = compare_runs.read_run(tmp_path / "plain")
    assert f"| {results['metrics']['validation']['age_mae']:.2f} |" in plain
    assert f"| {results['history'][-1]['train_gender_accuracy']:.1%} |" in plain
    with Image.open(picture) as image:
        assert len(image.convert("RGB").getcolors(2**20)) > 10


def test_an_unfinished_training_is_named(tmp_path):
    with pytest.raises(ValueError, match="has no train_results.json: is the training finished"):
        compare_runs.read_run(tmp_path)
