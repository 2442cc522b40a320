"""Augmentation: each transform can be turned off, and the same seed gives the same pixels."""

from dataclasses import fields

import pytest
import torch

from data.augmentation import AugmentationArguments, Degradation, FaceAugmentation
from data.transforms import Normalization
from image_processing_agegender import AgeGenderImageProcessor


PARTS = [argument.name for argument in fields(AugmentationArguments) if argument.name != "unchanged"]
OFF = dict.fromkeys(PARTS, 0.0)


@pytest.fixture
def images() -> torch.Tensor:
    """Eight smooth colour pictures, which rotation, blur and colour all change."""
    small = torch.rand(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(small, size=48, mode="bilinear")


def augment(images: torch.Tensor, seed: int = 0, **strengths) -> torch.Tensor:
    return FaceAugmentation(AugmentationArguments(**(OFF | strengths)), height=48)(images, seed=seed)


def test_all_off_changes_no_pixel(images):
    assert torch.equal(augment(images), images)


@pytest.mark.parametrize("part", PARTS)
def test_each_part_works_alone(images, part):
    strength = 30.0 if part == "rotation" else 1.0 if part in ("flip", "grayscale", "blur", "jpeg", "erasing") else 0.3
    changed = augment(images, **{part: strength})
    assert changed.shape == images.shape and changed.dtype == images.dtype
    assert 0 <= changed.min() and changed.max() <= 1
    assert not torch.allclose(changed, images, atol=0.01)


def test_parts_do_what_they_say(images):
    assert torch.equal(augment(images, flip=1.0), images.flip(-1))
    grey = augment(images, grayscale=1.0)
    assert torch.allclose(grey[:, 0], grey[:, 1]) and torch.allclose(grey[:, 1], grey[:, 2])
    blurred = augment(images, blur=1.0)
    assert blurred.diff(dim=-1).abs().mean() < images.diff(dim=-1).abs().mean()
    erased = augment(images, erasing=1.0) != images
    assert 0.01 < erased.any(dim=1).float().mean() < 0.2


def test_a_share_of_the_images_is_left_unchanged(images):
    whole = augment(images.repeat(50, 1, 1, 1), erasing=1.0, grayscale=1.0)
    mixed = augment(images.repeat(50, 1, 1, 1), erasing=1.0, grayscale=1.0, unchanged=0.3)
    unchanged = (mixed == images.repeat(50, 1, 1, 1)).flatten(1).all(dim=1)
    assert 0.2 < unchanged.float().mean() < 0.4
    assert torch.equal(mixed[~unchanged], whole[~unchanged])


@pytest.mark.parametrize("part", PARTS)
def test_a_part_switched_off_is_absent(part):
    """The defaults with one part at 0 hold one transform less, or, for the affine parts, one range less."""
    whole = FaceAugmentation(AugmentationArguments(jpeg=0.1)).transforms
    less = FaceAugmentation(AugmentationArguments(**({"jpeg": 0.1} | {part: 0.0}))).transforms
    if part in ("rotation", "scale", "shift"):
        assert len(less) == len(whole) and str(less) != str(whole)
    else:
        assert len(less) == len(whole) - 1


def test_the_seed_decides_and_the_global_generator_stays(images):
    augmentation = FaceAugmentation(AugmentationArguments(), height=48)
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first = augmentation(images, seed=5)
    assert torch.equal(torch.rand(1), expected)
    torch.manual_seed(99)
    assert torch.equal(augmentation(images, seed=5), first)
    assert not torch.equal(augmentation(images, seed=6), first)


def test_each_image_has_its_own_changes(images):
    same = images[:1].repeat(8, 1, 1, 1)
    changed = augment(same, rotation=20.0, color=0.3)
    assert all(not torch.allclose(changed[0], other, atol=0.01) for other in changed[1:])


@pytest.mark.parametrize(("part", "value"), [("flip", 1.5), ("rotation", -1.0), ("scale", 2.0)])
def test_impossible_strengths_are_refused(part, value):
    with pytest.raises(ValueError, match=part):
        AugmentationArguments(**{part: value})


def test_degraded_images_are_normalized_like_the_model_input(images):
    processor = AgeGenderImageProcessor(size={"height": 48, "width": 48})
    normalize = Normalization(processor)
    degradation = Degradation(processor)
    degraded = degradation(normalize(images))
    pixels = degraded * normalize.std + normalize.mean
    assert degraded.shape == images.shape and -1e-4 <= pixels.min() and pixels.max() <= 1 + 1e-4
    assert (pixels - images).abs().mean() > 0.01
    assert torch.equal(Degradation(processor)(normalize(images)), degraded)
    assert not torch.equal(degradation(normalize(images)), degraded)
