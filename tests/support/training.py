"""Tiny data, a tiny network and commands for trainings, and comparisons of their results."""

import json
from pathlib import Path

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from safetensors.torch import load_file

from data.loaders import make_evaluation_dataloader
from data.utkface import load_utkface
from image_processing_agegender import AgeGenderImageProcessor
from metrics.prediction import evaluate_model
from modeling_agegender import AgeGenderModel
from tests.support.models import BODIES
from training.checkpoints import find_checkpoints
from training.setup import draw_calibrating


ROOT = Path(__file__).parents[2]
NETWORK = BODIES | {"depths": [1, 1], "age_head_dropout": 0.3, "gender_head_dropout": 0.3}
TRAIN_IMAGES, BATCH_SIZE = 30, 4
SCHEDULER, STATE, AVERAGE = (f"custom_checkpoint_{index}.pkl" for index in range(3))
BATCHES = TRAIN_IMAGES // BATCH_SIZE
# The changes of `make_command` in the fixture `trained`.
TRAINED = {"num_train_epochs": 3, "checkpointing_steps": 5, "checkpoints_total_limit": 9}


def draw_face(age: int, gender: int, seed: int) -> Image.Image:
    """A random texture, unlike any other, the brighter the older, redder or bluer by gender."""
    generator = np.random.default_rng(seed)
    texture = generator.normal(40 + 1.5 * age, 30, (8, 8, 3))
    texture[..., 2 * gender] += 40
    return Image.fromarray(texture.clip(0, 255).astype(np.uint8)).resize((64, 64))


def write_faces(folder: Path, count: int, test_count: int = 0) -> Path:
    """UTKFace-like files, the last of them with names of the published test split."""
    folder.mkdir(parents=True)
    names = [f"{5 + 13 * i % 80}_{i % 2}_{i % 5}_{20170116181301976 + i}.jpg.chip.jpg" for i in range(count)]
    names += (ROOT / "splits" / "utkface_test.txt").read_text().split()[:test_count]
    for seed, name in enumerate(names):
        age, gender = name.split("_")[:2]
        draw_face(int(age), int(gender), seed).save(folder / name, quality=95)
    return folder


def make_command(faces: Path, network: Path, output_dir: Path, **changes) -> list[str]:
    """A command line without `python train.py`; None takes an argument out, True makes it a flag."""
    values = {
        "from_scratch": True,
        "config": network,
        "data_dir": faces,
        "output_dir": output_dir,
        "validation_share": 0.25,
        "num_train_epochs": 2,
        "per_device_train_batch_size": BATCH_SIZE,
        "per_device_eval_batch_size": 8,
        "learning_rate": 0.01,
        "ema_decay": 0.9,
        "dataloader_num_workers": 0,
    } | changes
    pairs = ((f"--{name}", value) for name, value in values.items() if value is not None)
    return [word for name, value in pairs for word in ([name] if value is True else [name, str(value)])]


def read_results(output_dir: Path) -> dict:
    return json.loads((output_dir / "train_results.json").read_text())


def latest_checkpoint(output_dir: Path) -> Path:
    checkpoints = find_checkpoints(output_dir)
    return checkpoints[max(checkpoints)]


def read_state(checkpoint: Path) -> dict:
    """The progress of a training that a checkpoint holds."""
    return torch.load(checkpoint / STATE, weights_only=False)


def read_checkpoint(folder: Path) -> dict:
    """The tensors and numbers of a checkpoint, by name; clock times left out."""
    network = load_file(folder / "model.safetensors")
    values = {f"model.{name}": value for name, value in network.items()}
    for file in ("optimizer.bin", SCHEDULER, STATE, AVERAGE):
        values |= flatten(torch.load(folder / file, weights_only=False), file)
    return {name: value for name, value in values.items() if not name.endswith("seconds")}


def flatten(value, name: str) -> dict:
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {key: leaf for part, item in items for key, leaf in flatten(item, f"{name}.{part}").items()}
    return {name: value}


def assert_same(first: dict, second: dict):
    """Equal bit for bit."""
    assert first.keys() == second.keys()
    differing = [
        name
        for name, value in first.items()
        if not (torch.equal(value, second[name]) if isinstance(value, torch.Tensor) else value == second[name])
    ]
    assert differing == []


def assert_same_end(first: Path, second: Path):
    """Two output folders hold the same weights, history and metrics."""
    assert_same(load_file(first / "model.safetensors"), load_file(second / "model.safetensors"))
    first_results, second_results = read_results(first), read_results(second)
    for key in ("history", "metrics", "best_epoch", "weights_sha256"):
        assert first_results[key] == second_results[key]


def measure_choosing_images(model_folder: Path, faces: Path) -> dict:
    """The metrics of an exported model on the validation images by which its epoch was chosen."""
    validation = load_utkface(faces, validation_share=0.25)["validation"]
    choosing = validation.select(np.flatnonzero(~draw_calibrating(validation, None)))
    accelerator = Accelerator(cpu=True)
    processor = AgeGenderImageProcessor.from_pretrained(model_folder)
    dataloader = accelerator.prepare(make_evaluation_dataloader(choosing, processor, batch_size=8, num_workers=0))
    return evaluate_model(AgeGenderModel.from_pretrained(model_folder), dataloader, accelerator)


def write_table(folder: Path, images: list, ages: list) -> Path:
    """A Parquet file of faces without gender."""
    folder.mkdir()
    table = datasets.Dataset.from_dict({"image": images, "age": ages}).cast_column("image", datasets.Image())
    table.to_parquet(folder / "faces.parquet")
    return folder / "faces.parquet"
