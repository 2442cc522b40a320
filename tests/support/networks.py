"""Programs that make one network of several models, run on tiny ones."""

import json
import sys
from pathlib import Path
from types import ModuleType

from image_processing_agegender import AgeGenderImageProcessor
from modeling_agegender import AgeGenderModel
from tests.support.models import BODIES


# The second encoder of the tiny network, as the first one of a model.
OTHER = BODIES["more_encoders"][0] | {"kernel_sizes": [3, 3], "hidden_act": "relu6"}


def save_member(folder: Path, model: AgeGenderModel, processor: dict | None) -> str:
    """Saves a model, and its image processor with these changes."""
    model.save_pretrained(folder)
    size = {"height": model.config.image_size, "width": model.config.image_size}
    AgeGenderImageProcessor(size=size, **(processor or {})).save_pretrained(folder)
    return str(folder)


def combine(module: ModuleType, monkeypatch, folder: Path, models: tuple[str, ...], config: dict, *options) -> Path:
    """Runs a program on models, for a network of three encoders with these changes; returns the folder that it wrote."""
    (folder / "config.json").write_text(json.dumps(BODIES | {"more_encoders": [OTHER, OTHER]} | config))
    words = [*models, "--config", folder / "config.json", "--output_dir", folder / "made", *options]
    monkeypatch.setattr(sys, "argv", ["program", *map(str, words)])
    module.main()
    return folder / "made"
