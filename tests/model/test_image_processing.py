"""The image processor: from any image to the pixels that the network was trained with."""

from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from image_processing_agegender import AgeGenderImageProcessor


HEIGHT, WIDTH = 24, 20
# What the face-pretrained start subtracts from RGB pixels of 0–255.
MEAN = np.array([123.68, 116.779, 103.939])


@pytest.fixture
def processor() -> AgeGenderImageProcessor:
    return AgeGenderImageProcessor(size={"height": HEIGHT, "width": WIDTH})


def resized(image: Image.Image) -> np.ndarray:
    """(3, height, width), 0–255."""
    return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR), dtype=np.float64).transpose(2, 0, 1)


def test_values(processor, noise):
    pixel_values = processor(noise, return_tensors="pt").pixel_values
    assert pixel_values.shape == (1, 3, HEIGHT, WIDTH)
    assert pixel_values.dtype == torch.float32
    np.testing.assert_allclose(pixel_values[0], resized(noise) - MEAN[:, None, None], atol=1e-3)


def test_default_size_is_the_networks(noise):
    assert AgeGenderImageProcessor()(noise, return_tensors="pt").pixel_values.shape == (1, 3, 128, 128)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "LA", "CMYK", "1"])
def test_every_mode_becomes_rgb(processor, noise, mode):
    image = noise.convert(mode)
    pixel_values = processor(image, return_tensors="pt").pixel_values
    np.testing.assert_allclose(pixel_values[0], resized(image.convert("RGB")) - MEAN[:, None, None], atol=1e-3)


def test_16_bits_keep_their_whole_range(processor, noise):
    grey = noise.convert("L")
    image = Image.fromarray(np.asarray(grey, dtype=np.uint16) * 257)
    assert image.mode == "I;16"
    pixel_values = processor(image, return_tensors="pt").pixel_values
    np.testing.assert_allclose(pixel_values[0], resized(grey.convert("RGB")) - MEAN[:, None, None], atol=1e-3)


def test_transparent_pixels_are_white(processor, noise):
    noise = noise.copy()
    noise.putalpha(0)
    pixel_values = processor(noise, return_tensors="pt").pixel_values
    np.testing.assert_allclose(pixel_values[0].mean(dim=(1, 2)), 255 - MEAN, atol=1e-3)


@pytest.mark.parametrize("as_path", [str, Path, Path.read_bytes, lambda path: path.open("rb")])
def test_files_are_read_upright(processor, noise, tmp_path, as_path):
    path, exif = tmp_path / "turned.png", Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    noise.rotate(90, expand=True).save(path, exif=exif)
    expected = processor(noise).pixel_values
    assert torch.equal(processor(as_path(path)).pixel_values, expected)
    assert torch.equal(processor(Image.open(path)).pixel_values, expected)


def test_tensors_are_the_default(processor, noise):
    assert torch.equal(processor(noise).pixel_values, processor(noise, return_tensors="pt").pixel_values)
    assert isinstance(processor(noise, return_tensors="np").pixel_values, np.ndarray)
    assert isinstance(processor(noise, return_tensors=None).pixel_values, list)


@pytest.mark.parametrize(
    "gather",
    [
        tuple,
        iter,
        lambda images: (image for image in images),
        lambda images: datasets.Dataset.from_dict({"image": images})["image"],
        lambda images: np.stack([np.asarray(image) for image in images]),
    ],
    ids=["tuple", "iterator", "generator", "column of a data set", "batch"],
)
def test_iterables_are_several_images(processor, noise, gather):
    images = [noise, noise.rotate(180)]
    assert torch.equal(processor(gather(images)).pixel_values, processor(images).pixel_values)


@pytest.mark.parametrize("value", [None, 7, {"image": 1}, "nowhere.jpg", b"text", [[None]]], ids=repr)
def test_other_inputs_are_refused(processor, value):
    with pytest.raises(ValueError, match="cannot be read as an image"):
        processor(value)


def test_grey_array(processor, noise):
    grey = noise.convert("L")
    assert torch.equal(processor(np.asarray(grey)).pixel_values, processor(grey).pixel_values)


@pytest.mark.parametrize("kind", [np.asarray, lambda array: torch.from_numpy(array.copy())], ids=["array", "tensor"])
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1)], ids=["channels last", "channels first"])
def test_arrays_and_tensors(processor, noise, kind, axes):
    image = kind(np.asarray(noise).transpose(axes))
    expected = processor(noise, return_tensors="pt").pixel_values
    assert torch.equal(processor(image, return_tensors="pt").pixel_values, expected)


def test_list_of_different_images(processor, noise):
    flipped = noise.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((70, 30))
    together = processor([noise, np.asarray(flipped)], return_tensors="pt").pixel_values
    alone = [processor(image, return_tensors="pt").pixel_values for image in (noise, flipped)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("image", [np.random.rand(8, 8, 3), torch.rand(3, 8, 8), np.zeros((8, 8, 3), np.uint16)])
def test_other_dtypes_are_refused(processor, image):
    with pytest.raises(ValueError, match=str(image.dtype).removeprefix("torch.")):
        processor(image, return_tensors="pt")


def test_floats_pass_without_rescaling(processor, noise):
    floats = np.asarray(noise.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)) / np.float32(255)
    pixel_values = processor(floats, do_rescale=False, do_resize=False, return_tensors="pt").pixel_values
    torch.testing.assert_close(pixel_values, processor(noise, return_tensors="pt").pixel_values, rtol=0, atol=1e-3)


@pytest.mark.parametrize("empty", [[], (), iter([])], ids=["list", "tuple", "iterator"])
def test_no_image_is_refused(processor, empty):
    with pytest.raises(ValueError, match="no image to process"):
        processor(empty)


def test_without_normalization_pixels_are_0_to_1(processor, noise):
    pixel_values = processor(noise, do_normalize=False, return_tensors="pt").pixel_values
    np.testing.assert_allclose(pixel_values[0], resized(noise) / 255, atol=1e-6)


def test_save_and_load(noise, tmp_path):
    size = {"height": 16, "width": 18}
    processor = AgeGenderImageProcessor(size=size, image_mean=[0.1, 0.2, 0.3], image_std=[0.5, 0.6, 0.7])
    processor.save_pretrained(tmp_path)
    loaded = AgeGenderImageProcessor.from_pretrained(tmp_path)
    expected = processor(noise, return_tensors="pt").pixel_values
    assert expected.shape == (1, 3, 16, 18)
    assert torch.equal(loaded(noise, return_tensors="pt").pixel_values, expected)
