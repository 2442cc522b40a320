"""Turning published face networks into AgeGenderModel folders to start a training from: what the converters share."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from configuration_agegender import AgeGenderConfig
from data.utkface import load_utkface
from image_processing_agegender import AgeGenderImageProcessor
from modeling_agegender import AgeGenderConvLayer, AgeGenderModel
from training.initial_model import load_config


BATCH_SIZE = 50


def list_layers(model: AgeGenderModel) -> list[AgeGenderConvLayer]:
    """The model's convolution layers from input to output."""
    return [module for module in model.modules() if isinstance(module, AgeGenderConvLayer)]


def load_layer(name: str, layer: AgeGenderConvLayer, kernel: np.ndarray, scale: np.ndarray | float, shift: np.ndarray):
    """
    Fills a layer whose batch normalisation was saved as a scale and a shift of each channel.

    The kernel gets the size of a new one, and the scale undoes that: Adam's steps are as large for a small kernel as for a
    large one, and one made for pixels of 0–255 would be lost in a few of them.

    Args:
        name: Of the layer in the network that is converted, for the message.
        layer: Of a model in eval mode.
        kernel: (out_channels, in_channels per group, height, width).
        scale: (out_channels,), or one number for all.
        shift: (out_channels,).

    Raises:
        ValueError: if the layer is of another shape.
    """
    if kernel.shape != tuple(layer.convolution.weight.shape):
        raise ValueError(
            f"{name} has the shape {kernel.shape}, the config makes {tuple(layer.convolution.weight.shape)}."
        )
    normalization = layer.normalization
    factor = math.sqrt(2 / kernel[0].size / np.square(kernel).mean())
    layer.convolution.weight.copy_(torch.from_numpy(factor * kernel))
    normalization.weight.copy_(torch.as_tensor(np.broadcast_to(scale / factor, shift.shape).copy()))
    normalization.bias.copy_(torch.from_numpy(shift.copy()))
    normalization.running_mean.fill_(0)
    normalization.running_var.fill_(1 - normalization.eps)


@torch.no_grad()
def restore_batch_normalization(model: AgeGenderModel, images: list):
    """
    Gives each batch normalisation the statistics of its input, with scale and shift that undo them.

    The outputs stay as they were; what changes is that the network now learns several times faster.

    Args:
        model: In eval mode.
        images: Face crops, PIL images; their mirror images, which training sees too, count as well.
    """
    sums = {}

    def add_statistics(module: nn.Module, inputs: tuple, output: torch.Tensor):
        output = output.double()
        count, total, squares = sums.get(module, (0, 0, 0))
        count = count + output.numel() / output.shape[1]
        sums[module] = count, total + output.sum(dim=(0, 2, 3)), squares + output.square().sum(dim=(0, 2, 3))

    layers = list_layers(model)
    hooks = [layer.convolution.register_forward_hook(add_statistics) for layer in layers]
    size = {"height": model.config.image_size, "width": model.config.image_size}
    processor = AgeGenderImageProcessor(size=size)
    for start in range(0, len(images), BATCH_SIZE):
        batch = processor(images[start : start + BATCH_SIZE], return_tensors="pt").pixel_values
        for pixel_values in (batch, batch.flip(-1)):
            model.encoder(pixel_values)
    for hook in hooks:
        hook.remove()
    for layer in layers:
        count, total, squares = sums[layer.convolution]
        mean = total / count
        variance = (squares / count - mean.square()).clamp(min=0)
        normalization = layer.normalization
        # Before: scale x + shift. After: weight (x - mean) / deviation + bias.
        scale = normalization.weight / (normalization.running_var + normalization.eps).sqrt()
        normalization.bias.add_(scale * (mean - normalization.running_mean))
        normalization.weight.copy_(scale * (variance + normalization.eps).sqrt())
        normalization.running_mean.copy_(mean)
        normalization.running_var.copy_(variance)


@torch.no_grad()
def convert(
    load: Callable[[AgeGenderModel, Any], None], weights: Any, config: AgeGenderConfig, images: list
) -> AgeGenderModel:
    """
    Builds a model with the body of a published network and new heads.

    Args:
        load: Copies weights into the layers of a model, see `load_layer`.
        weights: Of the published network, as `load` takes them.
        config: A network whose stages are those of the published one.
        images: Face crops, PIL images, from which the statistics of the batch normalisations are taken.
    """
    torch.manual_seed(0)
    model = AgeGenderModel(config).eval()
    load(model, weights)
    restore_batch_normalization(model, images)
    return model


def run_conversion(
    name: str,
    file: str,
    config: Path,
    read: Callable[[Path], Any],
    load: Callable[[AgeGenderModel, Any], None],
    card: str,
):
    """
    A converter's program: takes the command line, converts, saves.

    Args:
        name: Of the network that is converted.
        file: Which file of it to give.
        config: JSON file of the network that it becomes, unless another is given.
        read: Reads the weights from that file.
        load: See `convert`.
        card: README of the folder.
    """
    parser = argparse.ArgumentParser(description=f"Converts {name} into an AgeGenderModel folder.", allow_abbrev=False)
    parser.add_argument("weights", type=Path, help=f"Path of {file}.")
    parser.add_argument("--data_dir", required=True, help="UTKFace: folder, archive, Parquet folder or data set id.")
    parser.add_argument("--output_dir", type=Path, required=True, help="Folder for the model.")
    parser.add_argument("--config", type=Path, default=config, help=f"Network. Default: configs/{config.name}.")
    parser.add_argument(
        "--num_images", type=int, default=500, help="Training images to take statistics of. Default: 500."
    )
    arguments = parser.parse_args()
    weights = read(arguments.weights)  # before the data, which take longer
    config = load_config(arguments.config)
    train = load_utkface(arguments.data_dir)["train"].shuffle(seed=0)
    images = train.select(range(min(arguments.num_images, len(train))))["image"]
    model = convert(load, weights, config, list(images))
    model.save_pretrained(arguments.output_dir)
    size = {"height": config.image_size, "width": config.image_size}
    AgeGenderImageProcessor(size=size).save_pretrained(arguments.output_dir)
    (arguments.output_dir / "README.md").write_text(card)
    print(f"Wrote {arguments.output_dir}: {model.num_parameters():,} parameters, statistics of {len(images)} images.")
