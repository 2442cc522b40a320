"""The model that a training starts from: overrides change the configuration, and calibration does not carry over."""

import json

import pytest

from image_processing_agegender import AgeGenderImageProcessor
from metrics.calibration import CALIBRATED_FIELDS
from tests.support.models import make_config, make_model
from training.arguments import ModelArguments
from training.initial_model import load_config, load_initial_model, override_config


@pytest.fixture
def folder(tmp_path) -> str:
    make_model(gender_temperature=1.5, age_interval_levels=[0.8]).save_pretrained(tmp_path)
    AgeGenderImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    return str(tmp_path)


def start(folder: str, *overrides: str):
    return load_initial_model(ModelArguments(model=folder, config_overrides=list(overrides)))


def test_a_start_is_not_calibrated(folder):
    model, _, calibration = start(folder)
    assert model.config.gender_temperature == 1.0 and list(model.config.age_interval_levels) == [0.9]
    assert calibration["age_interval_levels"] == [0.8] and calibration["gender_temperature"] == 1.5
    assert set(calibration) == set(CALIBRATED_FIELDS)


def test_the_processor_follows_the_image_size(folder):
    model, processor, _ = start(folder, "image_size=48", "age_loss_weight=0.5")
    assert model.config.image_size == 48 and dict(processor.size) == {"height": 48, "width": 48}
    assert model.config.age_loss_weight == 0.5


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("depths", "depths: expected a field of AgeGenderConfig, =, and its value"),
        ("depht=[1,2]", "depht=.*: expected a field"),
        ("depths=8,16", "depths"),
        ("hidden_act=sine", "hidden_act must be one of"),
    ],
)
def test_bad_overrides_are_named(word, sentence):
    with pytest.raises(ValueError, match=sentence):
        override_config(make_config(), [word])


def test_names_and_numbers_override():
    config = override_config(make_config(age_loss_weight=1), ["hidden_act=relu", "age_loss_weight=0.5"])
    assert (config.hidden_act, config.age_loss_weight) == ("relu", 0.5)


def test_the_config_of_a_saved_model_describes_a_network(folder, tmp_path):
    saved = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "network.json").write_text(json.dumps(saved | {"custom_pipelines": {}}))
    assert load_config(tmp_path / "network.json").hidden_sizes == saved["hidden_sizes"]
