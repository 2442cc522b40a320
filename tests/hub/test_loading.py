"""Loading a saved model: what does not fill the network is refused."""

import json

import pytest

from configuration_agegender import AgeGenderConfig
from hub.loading import load_model, split_revision
from image_processing_agegender import AgeGenderImageProcessor
from tests.support.models import make_model


@pytest.fixture
def folder(tmp_path) -> str:
    make_model(gender_temperature=1.5, age_interval_levels=[0.8]).save_pretrained(tmp_path)
    AgeGenderImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    return str(tmp_path)


def load_with(folder: str, **changes):
    config = AgeGenderConfig.from_pretrained(folder)
    return load_model(folder, config=AgeGenderConfig(**config.to_dict() | changes))


def test_saved_model(folder):
    model, processor = load_model(folder)
    assert model.config.gender_temperature == 1.5 and not model.training
    assert dict(processor.size) == {"height": 32, "width": 32}


def test_missing_weights_are_refused(folder):
    with pytest.raises(ValueError, match="is no AgeGender model of this network: it lacks encoder.stages.1.blocks.2"):
        load_with(folder, depths=[1, 3])


def test_weights_of_another_shape_are_refused(folder):
    with pytest.raises(ValueError, match="No model could be loaded from"):
        load_with(folder, num_age_classes=81)


def test_no_model_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match="No model could be loaded from .*; give a folder or a Hub id: .*model.safetensors"
    ):
        load_model(str(tmp_path))


def test_invalid_configuration_and_damaged_weights_are_named(folder, tmp_path):
    file = tmp_path / "config.json"
    content = file.read_text()
    file.write_text(json.dumps(json.loads(content) | {"depths": [1, 0]}))
    with pytest.raises(ValueError, match="give a folder or a Hub id: depths must be at least 1"):
        load_model(folder)
    file.write_text(content)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="No model could be loaded from"):
        load_model(folder)


def test_revision_follows_the_id(tmp_path):
    folder = tmp_path / "run@1"
    folder.mkdir()
    assert split_revision(str(folder)) == (str(folder), None)
    assert split_revision("user/name@v1") == ("user/name", "v1")
    assert split_revision("user/name") == ("user/name", None)
