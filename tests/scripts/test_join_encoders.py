"""Trained encoders side by side in a network with new heads."""

import pytest
import torch
from PIL import Image

from hub.loading import load_model
from scripts import join_encoders
from tests.support.models import make_model
from tests.support.networks import OTHER, combine, save_member


def save(folder, seed: int, processor: dict | None = None, **changes) -> str:
    return save_member(folder, make_model(seed, **{"more_encoders": []} | changes), processor)


@pytest.fixture
def join(tmp_path, monkeypatch):
    """Runs join_encoders.py; returns the folder that it wrote."""
    images = [Image.effect_noise((40, 40), 20 + 2 * index).convert("RGB") for index in range(50)]
    monkeypatch.setattr(join_encoders, "load_images", lambda data_dir, num_images: images[:num_images])

    def run(*models: str):
        config = {"gender_head_sizes": [4], "normalize_features": True}
        return combine(join_encoders, monkeypatch, tmp_path, models, config, "--data_dir", "faces")

    return run


def test_features_are_those_of_the_encoders(join, tmp_path, capsys):
    names = [
        save(tmp_path / "first", 0, {"image_std": [0.5] * 3}, gender_temperature=0.5),
        save(tmp_path / "second", 1, {"image_std": [0.5] * 3}, **OTHER),
        save(tmp_path / "third", 2, {"image_std": [0.5] * 3}, **OTHER),
    ]
    joined, processor = load_model(str(join(*names)))
    encoders = [load_model(name)[0].encoder for name in names]
    images = torch.randn(2, 3, 26, 26)
    for encoder, expected in zip((joined.encoder, *joined.more_encoders), encoders, strict=True):
        assert torch.equal(encoder(images), expected(images))
    noise = [Image.effect_noise((40, 40), 20 + 2 * index).convert("RGB") for index in range(50)]
    features = joined.encode(processor(noise).pixel_values).detach()
    variances = joined.feature_normalization.running_var
    shares = (
        variances / (variances + joined.feature_normalization.eps)
    ).sqrt()  # epsilon makes small features smaller
    assert features.mean().abs() < 0.1 and (features.std(dim=0) / shares).mean() == pytest.approx(1, abs=0.2)
    assert processor.size["height"] == 32 and list(processor.image_std) == [0.5] * 3
    assert joined.config.gender_head_sizes == [4] and joined.config.gender_temperature == 1
    assert f"{joined.num_parameters():,} parameters of 3 models" in capsys.readouterr().out
    assert "`first`, `second`, `third`" in (tmp_path / "made" / "README.md").read_text()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hidden_sizes": [4, 9]}, "Encoder 3 of the models is not the one that the config describes"),
        ({"more_encoders": [OTHER]}, "describes 3 encoders, but the models have 4"),
        ({"processor": {"image_std": [0.5, 0.5, 0.5]}}, "image_std"),
    ],
)
def test_models_that_do_not_fit_are_refused(join, tmp_path, changes, reason):
    names = [save(tmp_path / "first", 0), save(tmp_path / "second", 1, **OTHER)]
    with pytest.raises(ValueError, match="describes 3 encoders, but the models have 2"):
        join(*names)
    names.append(save(tmp_path / "third", 2, **OTHER | changes))
    with pytest.raises(ValueError, match=reason):
        join(*names)
    assert not (tmp_path / "made").exists()
