"""Trained models as one: its answers are the mean of theirs."""

import sys

import pytest
import torch
from torch.nn import functional as F

from hub.loading import load_model
from image_processing_agegender import AgeGenderImageProcessor
from scripts import join_models
from tests.support.models import make_model


SECOND = {
    "image_size": 16,
    "block_types": ["conv", "depthwise_separable"],
    "hidden_sizes": [6, 10],
    "hidden_act": "relu",
    "gender_temperature": 2.0,
}


def save(folder, seed: int, processor: dict | None = None, **changes) -> str:
    model = make_model(seed, **{"age_head_sizes": [], "more_encoders": []} | changes)
    model.save_pretrained(folder)
    size = {"height": model.config.image_size, "width": model.config.image_size}
    AgeGenderImageProcessor(size=size, **(processor or {})).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def join(tmp_path, monkeypatch):
    """Runs join_models.py; returns the folder that it wrote."""

    def run(*models: str):
        monkeypatch.setattr(sys, "argv", ["join_models.py", *models, "--output_dir", str(tmp_path / "joined")])
        join_models.main()
        return tmp_path / "joined"

    return run


def test_logits_are_the_mean(join, tmp_path, pixel_values, capsys):
    names = [
        save(tmp_path / "first", 0, gender_temperature=0.5, age_interval_levels=[0.8]),
        save(tmp_path / "second", 1, **SECOND),
        save(tmp_path / "third", 2, **SECOND | {"hidden_act": "prelu", "mirror_averaging": False}),
    ]
    joined, processor = load_model(str(join(*names)))
    models = [load_model(name)[0] for name in names]
    for model in models:
        model.config.gender_temperature = 1.0
    models[1].config.mirror_averaging = False
    small = F.interpolate(pixel_values, (16, 16), mode="bilinear", antialias=True)
    outputs = [model(images) for model, images in zip(models, (pixel_values, small, small))]
    output = joined(pixel_values)
    for name in ("age_logits", "gender_logits"):
        expected = sum(output[name] for output in outputs) / 3
        torch.testing.assert_close(output[name], expected, rtol=1e-4, atol=1e-5)
        assert (outputs[0][name] - outputs[1][name]).abs().max() > 1e-2
    assert processor.size["height"] == 32
    assert [encoder["hidden_act"] for encoder in joined.config.more_encoders] == ["relu", "prelu"]
    assert joined.config.gender_temperature == 1 and list(joined.config.age_interval_levels) == [0.9]
    assert f"{joined.num_parameters():,} parameters" in capsys.readouterr().out
    assert "`first`, `second`, `third`" in (tmp_path / "joined" / "README.md").read_text()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_age_classes": 91}, "num_age_classes"),
        ({"id2label": {0: "m", 1: "f"}}, "id2label"),
        ({"age_head_sizes": [8]}, "more than one layer"),
        ({"more_encoders": [{}]}, "several encoders already"),
        ({"processor": {"image_std": [0.5, 0.5, 0.5]}}, "image_std"),
    ],
)
def test_models_that_do_not_fit_are_refused(join, tmp_path, changes, reason):
    names = [save(tmp_path / "first", 0), save(tmp_path / "second", 1, **changes)]
    with pytest.raises(ValueError, match=reason):
        join(*names)
    assert not (tmp_path / "joined").exists()
