"""Converts published face networks to AgeGenderModel folders with initial weights: code shared by the converters."""

import hashlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from configuration_agegender import AgeGenderConfig
from data.utkface import load_utkface
from files.writing import OutputParser
from image_processing_agegender import AgeGenderImageProcessor
from metrics.results import name_count
from modeling_agegender import AgeGenderConvLayer, AgeGenderModel
from training.initial_model import load_config


BATCH_SIZE = 50
CONFIGS = Path(__file__).parents[1] / "configs"
CARD = """---
library_name: transformers
---

# Face-pretrained initial weights

The encoder of {source}, with batch normalization restored and new heads.
"""


def check_sha256(file: Path, data: bytes, expected: str, source: str) -> bytes:
    """Returns the content of a file. Raises ValueError if it is not the expected one."""
    digest = hashlib.sha256(data).hexdigest()
    if digest != expected:
        raise ValueError(f"{file} has the SHA-256 {digest}, expected {expected}: use {source}.")
    return data


def list_layers(model: AgeGenderModel) -> list[AgeGenderConvLayer]:
    """Returns the model's convolution layers from input to output."""
    return [module for module in model.modules() if isinstance(module, AgeGenderConvLayer)]


def load_layer(name: str, layer: AgeGenderConvLayer, kernel: np.ndarray, scale: np.ndarray | float, shift: np.ndarray):
    """
    Loads a convolution and the scale and shift of each output channel after it.

    The kernel is scaled to the size of a newly initialized one, and the batch normalization undoes that: the steps of Adam
    have the same size for all kernels and would destroy a small one, made for pixels of 0 to 255, within a few steps.

    Args:
        name: Name of the layer in the published network, for the error message.
        layer: Layer of a model in eval mode.
        kernel: Shape `(out_channels, in_channels / groups, height, width)`.
        scale: Shape `(out_channels,)`, or one number.
        shift: Shape `(out_channels,)`.

    Raises:
        ValueError: if the layer has another shape.
    """
    expected = tuple(layer.convolution.weight.shape)
    if kernel.shape != expected:
        raise ValueError(f"{name} has the shape {kernel.shape}, but the config makes {expected}.")
    normalization = layer.normalization
    factor = math.sqrt(2 / kernel[0].size / np.square(kernel).mean())
    layer.convolution.weight.copy_(torch.from_numpy(factor * kernel))
    normalization.weight.copy_(torch.as_tensor(np.broadcast_to(scale / factor, shift.shape).copy()))
    normalization.bias.copy_(torch.from_numpy(shift.copy()))
    normalization.running_mean.fill_(0)
    normalization.running_var.fill_(1 - normalization.eps)


def read_batches(processor: AgeGenderImageProcessor, images: list) -> Iterator[torch.Tensor]:
    """Yields the `pixel_values` of PIL images in batches."""
    for start in range(0, len(images), BATCH_SIZE):
        yield processor(images[start : start + BATCH_SIZE]).pixel_values


@torch.no_grad()
def set_feature_statistics(model: AgeGenderModel, processor: AgeGenderImageProcessor, images: list):
    """Sets the statistics of the normalized features, if there are any, to those of images, PIL images."""
    if model.config.normalize_features:
        normalization = model.feature_normalization.train()
        momentum, normalization.momentum = normalization.momentum, None  # averages all batches
        for pixel_values in read_batches(processor, images):
            model.encode(pixel_values)
        normalization.momentum = momentum
        normalization.eval()


@torch.no_grad()
def restore_batch_normalization(model: AgeGenderModel, images: list):
    """
    Sets the running statistics of each batch normalization to those of its inputs and adapts weight and bias, so that the
    outputs stay the same. The network then learns several times faster.

    Args:
        model: A model in eval mode.
        images: Face crops, PIL images. Their mirror images, which training uses too, are added.
    """
    sums = {}

    def add_statistics(module: nn.Module, inputs: tuple, output: torch.Tensor):
        output = output.double()
        values = output.numel() / output.shape[1], output.sum(dim=(0, 2, 3)), output.square().sum(dim=(0, 2, 3))
        sums[module] = [total + value for total, value in zip(sums.get(module, (0, 0, 0)), values)]

    layers = list_layers(model)
    hooks = [layer.convolution.register_forward_hook(add_statistics) for layer in layers]
    for batch in read_batches(AgeGenderImageProcessor.of_model(model.config), images):
        for pixel_values in (batch, batch.flip(-1)):
            model.encoder.compute_maps(pixel_values)
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
    Builds a model with the encoder of a published network and new heads.

    Args:
        load: Copies the weights to a model with `load_layer`.
        weights: Weights of the published network.
        config: Configuration with the stages of the published network.
        images: Face crops, PIL images, for `restore_batch_normalization`.
    """
    torch.manual_seed(0)
    model = AgeGenderModel(config).eval()
    load(model, weights)
    restore_batch_normalization(model, images)
    set_feature_statistics(model, AgeGenderImageProcessor.of_model(config), images)
    return model


def save_start(model: AgeGenderModel, processor: AgeGenderImageProcessor, card: str, output_dir: Path):
    """Saves a model with initial weights, its image processor and its card, in Markdown."""
    model.save_pretrained(output_dir)
    processor.save_pretrained(output_dir)
    (output_dir / "README.md").write_text(card, encoding="utf-8")


def load_images(data_dir: str, num_images: int) -> list:
    """Loads so many of the training images, chosen at random: PIL images."""
    train = load_utkface(data_dir)["train"].shuffle(seed=0)
    return list(train.select(range(min(num_images, len(train))))["image"])


def run_conversion(
    file: str, config: Path, read: Callable[[Path], Any], load: Callable[[AgeGenderModel, Any], None], source: str
):
    """
    Runs a converter: parses the command line, converts and saves.

    Args:
        file: Name of the file to convert, for the help text.
        config: Default JSON file of the network.
        read: Reads the weights from the file.
        load: See `convert`.
        source: The published network, its author and licence, for the model card.
    """
    parser = OutputParser(description=f"Converts {file} to an AgeGenderModel folder.")
    parser.add_argument("weights", type=Path, help=f"Path of {file}.")
    parser.add_argument("--data_dir", required=True, help="UTKFace: folder, archive, Parquet folder or data set id.")
    parser.add_output("--output_dir", required=True, help="Folder for the model.")
    parser.add_argument("--config", type=Path, default=config, help=f"Network. Default: configs/{config.name}.")
    parser.add_argument("--num_images", type=int, default=500, help="Training images for statistics. Default: 500.")
    arguments = parser.parse_args()
    weights = read(arguments.weights)  # before the data, which take longer
    config = load_config(arguments.config)
    images = load_images(arguments.data_dir, arguments.num_images)
    model = convert(load, weights, config, images)
    save_start(model, AgeGenderImageProcessor.of_model(config), CARD.format(source=source), arguments.output_dir)
    print(
        f"Wrote {arguments.output_dir}: {model.num_parameters():,} parameters, statistics of {name_count(len(images), 'image')}."
    )
