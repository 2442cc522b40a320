"""The model that a training starts from: saved weights, or random weights of a network described in JSON."""

import json
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

from configuration_agegender import AgeGenderConfig
from hub.loading import load_model, plain_loading_errors
from image_processing_agegender import AgeGenderImageProcessor
from metrics.calibration import CALIBRATED_FIELDS, find_calibration
from modeling_agegender import AgeGenderModel
from training.arguments import ModelArguments


CONFIG_FIELDS = {field.name for field in fields(AgeGenderConfig)}


class InitialModel(NamedTuple):
    """The model to train, its image processor and the calibration of a trained model, empty for other weights."""

    model: AgeGenderModel
    processor: AgeGenderImageProcessor
    calibration: dict


def load_config(file: Path) -> AgeGenderConfig:
    """Loads a network from a JSON file. Raises ValueError for unknown fields, which transformers accepts silently."""
    try:
        values = dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"{file} must hold the fields of AgeGenderConfig as JSON: {error}") from error
    for name in ("auto_map", "custom_pipelines", "model_type"):  # in the config.json of a saved model
        values.pop(name, None)
    unknown = sorted(values.keys() - CONFIG_FIELDS)
    if unknown:
        raise ValueError(f"{file} has the fields {unknown}, which AgeGenderConfig does not know.")
    return AgeGenderConfig(**values)


def override_config(config: AgeGenderConfig, overrides: list[str]) -> AgeGenderConfig:
    """
    Returns a copy of a config without its calibration and with other values of some fields.

    The overrides are words such as `gender_loss_weight=2.0` or `pool_sizes=[1,1,2]`, with the value as JSON.
    """
    values = {name: value for name, value in config.to_dict().items() if name not in CALIBRATED_FIELDS}
    for word in overrides:
        name, equals, value = word.partition("=")
        if not equals or name not in CONFIG_FIELDS:
            raise ValueError(f"--config_overrides {word}: expected a field of AgeGenderConfig, =, and its value.")
        try:
            values[name] = json.loads(value)
        except ValueError:
            values[name] = value  # a name such as relu
    return AgeGenderConfig(**values)


def load_initial_model(arguments: ModelArguments) -> InitialModel:
    """Loads the model to train, or makes one with random weights. The model itself is not calibrated."""
    if arguments.from_scratch:
        config = override_config(load_config(arguments.config), arguments.config_overrides)
        size = {"height": config.image_size, "width": config.image_size}
        return InitialModel(AgeGenderModel(config), AgeGenderImageProcessor(size=size), {})
    with plain_loading_errors(arguments.model):
        saved = AgeGenderConfig.from_pretrained(arguments.model)
    config = override_config(saved, arguments.config_overrides)
    model, processor = load_model(arguments.model, config=config)
    if config.image_size != saved.image_size:
        processor.size = {"height": config.image_size, "width": config.image_size}
    return InitialModel(model, processor, find_calibration(saved))
