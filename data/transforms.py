"""Converts rows of a data set to inputs of the model."""

import math
from collections.abc import Callable
from functools import partial

import torch
from PIL import Image
from torch import nn

from image_processing_agegender import AgeGenderImageProcessor
from image_reading import to_rgb


def decode_image(image: dict | Image.Image) -> Image.Image:
    """Decodes an image of a column with `datasets.Image(decode=False)` as the pipeline and the page do."""
    if isinstance(image, dict):
        image = image["path"] if image["bytes"] is None else image["bytes"]
    return to_rgb(image)


def to_model_inputs(processor, do_normalize: bool) -> Callable[[dict], dict]:
    """
    Makes a transform for `Dataset.with_transform` that returns inputs of [`AgeGenderModel`].

    It can be pickled, since Windows and macOS hand it to new processes.

    The column `image` should be `datasets.Image(decode=False)`: then the images are decoded as by the pipeline.

    Args:
        processor: The image processor, which sets size and normalization.
        do_normalize: False for training, where the augmentation takes 0–1 pixels and normalization follows it.

    Returns:
        A function from rows to `pixel_values` (rows, 3, height, width), `age_labels` (rows, 2), first and last
        age, NaN if unknown, and `gender_labels` (rows,), -100 if unknown.
    """
    return partial(convert_rows, processor=processor, do_normalize=do_normalize)


def convert_rows(rows: dict, processor, do_normalize: bool) -> dict[str, torch.Tensor]:
    """Converts rows as `to_model_inputs` describes."""
    images = [decode_image(image) for image in rows["image"]]
    bands = [[math.nan if age is None else age for age in band] for band in zip(rows["age_low"], rows["age_high"])]
    genders = [-100 if gender is None else gender for gender in rows["gender"]]
    return {
        "pixel_values": processor(images, do_normalize=do_normalize, return_tensors="pt").pixel_values,
        "age_labels": torch.tensor(bands, dtype=torch.float32),
        "gender_labels": torch.tensor(genders, dtype=torch.long),
    }


class Normalization(nn.Module):
    """Normalizes 0–1 pixels (batch, 3, height, width) on their device, as an image processor does after rescaling."""

    def __init__(self, processor: AgeGenderImageProcessor):
        super().__init__()
        for name, values in (("mean", processor.image_mean), ("std", processor.image_std)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return ((pixels - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
