"""Converts rows of a data set to inputs of the model."""

import math
from functools import partial

import datasets
import torch
from torch import nn

from image_processing_agegender import AgeGenderImageProcessor
from image_reading import to_rgb
from modeling_agegender import AgeGenderModel


def to_model_inputs(rows: dict, processor: AgeGenderImageProcessor, do_normalize: bool) -> dict[str, torch.Tensor]:
    """
    Converts rows of a data set to inputs of [`AgeGenderModel`]; a `partial` of it is for `Dataset.with_transform`.

    Args:
        rows: Lists of `age_low`, `age_high`, `gender` and `image`, a column of `datasets.Image(decode=False)`, since images are
            decoded as by the pipeline.
        processor: Sets size and normalization.
        do_normalize: False for training, where the augmentation takes 0–1 pixels and normalization follows it.

    Returns:
        `pixel_values` (rows, 3, height, width), `age_labels` (rows, 2), first and last age, NaN if unknown, and
        `gender_labels` (rows,), -100 if unknown.
    """
    images = [to_rgb(image["bytes"] or image["path"]) for image in rows["image"]]
    bands = [[math.nan if age is None else age for age in band] for band in zip(rows["age_low"], rows["age_high"])]
    genders = [-100 if gender is None else gender for gender in rows["gender"]]
    return {
        "pixel_values": processor(images, do_normalize=do_normalize, return_tensors="pt").pixel_values,
        "age_labels": torch.tensor(bands, dtype=torch.float32),
        "gender_labels": torch.tensor(genders, dtype=torch.long),
    }


def set_model_inputs(
    images: datasets.Dataset, processor: AgeGenderImageProcessor, do_normalize: bool
) -> datasets.Dataset:
    """Returns the data set with rows of [`to_model_inputs`], which are computed when they are read if they are not yet."""
    if "image" not in images.column_names:  # as `compute_features` returns them
        return images.with_format("torch", columns=["pixel_values", "age_labels", "gender_labels"])
    images = images.cast_column("image", datasets.Image(decode=False))
    return images.with_transform(partial(to_model_inputs, processor=processor, do_normalize=do_normalize))


def compute_features(images: datasets.Dataset, model: AgeGenderModel, processor) -> datasets.Dataset:
    """Adds inputs of the model, with the features of its encoders in place of pixels, and drops the images."""

    @torch.no_grad()
    def compute(rows: dict) -> dict:
        inputs = to_model_inputs(rows, processor, do_normalize=True)
        return inputs | {"pixel_values": model.encode(inputs["pixel_values"].to(model.device)).cpu()}

    images = images.cast_column("image", datasets.Image(decode=False))
    return images.map(compute, batched=True, batch_size=64, remove_columns="image", desc="Computing features")


class Normalization(nn.Module):
    """Normalizes 0–1 pixels (batch, 3, height, width) on their device, as an image processor does after rescaling."""

    def __init__(self, processor: AgeGenderImageProcessor):
        super().__init__()
        for name, values in (("mean", processor.image_mean), ("std", processor.image_std)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return ((pixels - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
