"""The model that a training starts from: saved before, or random weights and a network described in JSON."""

import json
from dataclasses import fields
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError

from calibration import CALIBRATED_FIELDS
from configuration_agegender import AgeGenderConfig
from image_processing_agegender import AgeGenderImageProcessor
from modeling_agegender import AgeGenderModel
from training_arguments import ModelArguments


def load_config(file: Path) -> AgeGenderConfig:
    """
    The network that a JSON file describes.

    Raises:
        ValueError: if a field is not known (transformers would take it in silence) or its value is not usable.
    """
    try:
        values = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{file} must hold the fields of AgeGenderConfig, got a {type(values).__name__}.")
    unknown = set(values) - {known.name for known in fields(AgeGenderConfig)}
    if unknown:
        raise ValueError(f"{file} has the fields {sorted(unknown)}, which AgeGenderConfig does not know.")
    return AgeGenderConfig(**values)


def override_config(config: AgeGenderConfig, overrides: str | None) -> AgeGenderConfig:
    """
    The config with the fields changed that `overrides` names, as in `gender_loss_weight=2.0,age_label_sigma=3.0`.

    Raises:
        ValueError: if a field is not known or a value is not usable.
    """
    if not overrides:
        return config
    try:
        config.update_from_string(overrides)
    except (TypeError, ValueError, StrictDataclassError) as error:
        raise ValueError(f"--config_overrides {overrides}: {error}") from error
    return AgeGenderConfig(**config.to_dict())  # checks the values together


def load_start(arguments: ModelArguments) -> tuple[AgeGenderModel, AgeGenderImageProcessor]:
    """The model to train, as saved before or with random weights, not calibrated yet, and its image processor."""
    if arguments.from_scratch:
        config = override_config(load_config(arguments.config), arguments.config_overrides)
        size = {"height": config.image_size, "width": config.image_size}
        return AgeGenderModel(config), AgeGenderImageProcessor(size=size)
    saved = AgeGenderConfig.from_pretrained(arguments.model)
    for name in CALIBRATED_FIELDS:
        setattr(saved, name, getattr(AgeGenderConfig(), name))
    saved_size = saved.image_size
    config = override_config(saved, arguments.config_overrides)
    model = AgeGenderModel.from_pretrained(arguments.model, config=config, dtype=torch.float32)
    processor = AgeGenderImageProcessor.from_pretrained(arguments.model)
    if config.image_size != saved_size:
        processor.size = {"height": config.image_size, "width": config.image_size}
    return model, processor
