"""One network that answers as the average of several."""

import json
import sys

import pytest
import torch

from hub.loading import load_model
from image_processing_agegender import AgeGenderImageProcessor, resize
from scripts import average_models
from tests.support.models import BODIES, make_model


# The second encoder of the tiny network, as the first one of a model.
OTHER = BODIES["more_encoders"][0] | {"kernel_sizes": [3, 3], "hidden_act": "relu6"}
HEADS = {"normalize_features": True, "age_head_sizes": [5], "gender_head_sizes": [3]}


def save(folder, seed: int, processor: dict | None = None, **changes) -> str:
    model = make_model(seed, **HEADS | changes)
    if model.config.normalize_features:
        model.feature_normalization.running_mean.normal_()
        model.feature_normalization.running_var.uniform_(0.5, 2)
    model.save_pretrained(folder)
    size = {"height": model.config.image_size, "width": model.config.image_size}
    AgeGenderImageProcessor(size=size, **(processor or {})).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def average(tmp_path, monkeypatch):
    """Runs average_models.py; returns the folder that it wrote."""

    def run(*models: str, **changes):
        config = BODIES | {"more_encoders": [OTHER, OTHER]} | HEADS | {"age_head_sizes": [9], "gender_head_sizes": [6]}
        (tmp_path / "config.json").write_text(json.dumps(config | changes))
        options = ("--config", tmp_path / "config.json", "--output_dir", tmp_path / "made")
        monkeypatch.setattr(sys, "argv", ["average_models.py", *map(str, (*models, *options))])
        average_models.main()
        return tmp_path / "made"

    return run


def test_scores_are_the_mean(average, tmp_path, capsys):
    names = [
        save(tmp_path / "first", 0, more_encoders=[], gender_temperature=2.0),
        save(tmp_path / "second", 1, **OTHER, more_encoders=[OTHER], age_head_sizes=[4]),
    ]
    averaged, _ = load_model(str(average(*names)))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        pairs = zip(names, (images, resize(images, 26 / 32)))
        outputs = [load_model(name)[0].eval()(pixel_values) for name, pixel_values in pairs]
        output = averaged.eval()(images)
    torch.testing.assert_close(output.age_logits, (outputs[0].age_logits + outputs[1].age_logits) / 2)
    gender_logits = (2 * outputs[0].gender_logits + outputs[1].gender_logits) / 2
    torch.testing.assert_close(output.gender_logits, gender_logits)
    assert f"{averaged.num_parameters():,} parameters of 2 models" in capsys.readouterr().out
    assert "`first`, `second`" in (tmp_path / "made" / "README.md").read_text()


@pytest.mark.parametrize(
    ("changes", "config", "reason"),
    [
        ({}, {"age_head_sizes": [8]}, "heads of the models do not fit"),
        ({"age_head_sizes": [2, 2]}, {}, "heads of the models do not fit"),
        ({"normalize_features": False}, {}, "normalize_features"),
        ({"hidden_sizes": [4, 9]}, {}, "Encoder 2 of the models"),
        ({"more_encoders": []}, {}, "describes 3 encoders, but the models have 2"),
        ({"processor": {"image_std": [0.5, 0.5, 0.5]}}, {}, "image_std"),
    ],
)
def test_models_that_do_not_fit_are_refused(average, tmp_path, changes, config, reason):
    names = [save(tmp_path / "first", 0, more_encoders=[])]
    model = {"more_encoders": [OTHER], "age_head_sizes": [4]} | OTHER | changes
    names.append(save(tmp_path / "second", 1, **model))
    with pytest.raises(ValueError, match=reason):
        average(*names, **config)
    assert not (tmp_path / "made").exists()
