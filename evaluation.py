"""
Measures a model on one split of a face data set, or calibrates its age intervals and gender probabilities.

    python evaluation.py --model . --data_dir UTKFace.tar.gz --split validation --output results.json
    python evaluation.py --model . --data_dir UTKFace.tar.gz --calibrate
"""

import argparse
import hashlib
import json
import math
import os
import platform
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from torch.utils.data import DataLoader

from calibration import NEAREST_IMAGES, calibrate
from metrics import AgeGenderMetric, describe_errors, format_errors, format_metrics
from model_loading import load_model
from modeling_agegender import AgeGenderModel
from utkface import draw_calibration_half, load_utkface, to_model_inputs


PACKAGES = ("torch", "transformers", "datasets", "accelerate", "evaluate", "kornia")


def make_dataloader(dataset: Dataset, processor, batch_size: int, num_workers: int) -> DataLoader:
    """Batches of `pixel_values`, `age_labels` and `gender_labels` in the order of the data set."""
    dataset = dataset.with_transform(to_model_inputs(processor, do_normalize=True))
    return DataLoader(dataset, batch_size=batch_size, num_workers=num_workers)


@torch.no_grad()
def predict(model: AgeGenderModel, dataloader: DataLoader, accelerator: Accelerator) -> dict[str, np.ndarray] | None:
    """
    What a model says of all images of a data loader, in their order.

    Args:
        model: On the accelerator's device.
        dataloader: Prepared by the accelerator.
        accelerator: Gathers the predictions of all processes, each image once.

    Returns:
        On the main process `ages` (years), `age_intervals` (images, 2), `age_logits` (images, num_age_classes),
        `gender_logits` (images, 2), `age_labels` (NaN where not known) and `gender_labels` (-100); elsewhere None.
    """
    was_training = model.training
    model.eval()
    gathered = []
    for batch in dataloader:
        pixel_values = batch["pixel_values"].contiguous(memory_format=torch.channels_last)
        with accelerator.autocast():
            output = model(pixel_values)
        values = {
            "ages": output.age,
            "age_intervals": output.age_interval,
            "age_logits": output.age_logits.float(),
            "gender_logits": output.gender_logits.float(),
            "age_labels": batch["age_labels"],
            "gender_labels": batch["gender_labels"],
        }
        values = accelerator.gather_for_metrics(values)
        if accelerator.is_main_process:
            gathered.append({name: value.cpu().numpy() for name, value in values.items()})
    model.train(was_training)
    if not accelerator.is_main_process:
        return None
    return {name: np.concatenate([values[name] for values in gathered]) for name in gathered[0]}


def compute_metrics(model: AgeGenderModel, predictions: dict[str, np.ndarray]) -> dict:
    """The values of [`AgeGenderMetric`] and `loss`, the mean over the labels that are known."""
    metrics = AgeGenderMetric().compute(
        age_predictions=predictions["ages"],
        age_references=predictions["age_labels"],
        gender_predictions=predictions["gender_logits"].argmax(axis=-1),
        gender_references=predictions["gender_labels"],
    )
    # One loss over all images: the mean of the batches' losses would weigh missing labels by their batch.
    names = ("age_logits", "gender_logits", "age_labels", "gender_labels")
    loss = model.compute_loss(*(torch.from_numpy(predictions[name]) for name in names))
    return metrics | {"loss": loss.item()}


def evaluate_model(model: AgeGenderModel, dataloader: DataLoader, accelerator: Accelerator) -> dict:
    """The result of `compute_metrics`, the same on all processes; arguments as in `predict`."""
    predictions = predict(model, dataloader, accelerator)
    results = [compute_metrics(model, predictions) if predictions else None]
    return broadcast_object_list(results)[0]


def describe_machine() -> dict:
    """What a result depends on beside the command: date, hardware and versions."""
    processor = platform.processor() or platform.machine()
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        names = [line.split(":")[1].strip() for line in cpu_info.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    hardware = {"cpu": processor, "cpu_cores": os.cpu_count()}
    if torch.cuda.is_available():
        hardware["gpu"] = torch.cuda.get_device_name()
    return {
        "date": date.today().isoformat(),
        "hardware": hardware,
        "versions": {"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
    }


def name_data(data_dir: str) -> str:
    """The name of a file or folder without the path, which says nothing elsewhere; a Hub id as it is."""
    return Path(data_dir).resolve().name if Path(data_dir).exists() else data_dir


def name_paths(values: dict) -> dict:
    """The arguments with files and folders by name alone, since their paths say nothing elsewhere."""

    def name(value):
        if isinstance(value, list):
            return [name(item) for item in value]
        return name_data(value) if isinstance(value, str) else value

    return {key: name(value) for key, value in values.items()}


def weights_sha256(folder: Path) -> str | None:
    """sha256 of the weights in a model folder; None where the model is no folder here but lies on the Hub."""
    file = Path(folder) / "model.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def write_json(file: Path, values: dict):
    """Writes results; a number that could not be measured (NaN), which JSON lacks, becomes null."""

    def replace(value):
        if isinstance(value, dict):
            return {key: replace(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [replace(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(replace(values), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Measures a model on one split of a face data set, or calibrates it.", allow_abbrev=False
    )
    parser.add_argument("--model", default=".", help="Model folder or Hub id. Default: the working directory.")
    parser.add_argument("--data_dir", required=True, help="Folder, tar or zip archive, Parquet folder or data set id.")
    parser.add_argument("--split", default="validation", choices=["train", "validation", "test"])
    parser.add_argument("--split_seed", type=int, default=0, help="As in training: of the draw of validation images.")
    parser.add_argument("--validation_share", type=float, default=0.1, help="As in training: share of them, 0–1.")
    parser.add_argument("--per_device_eval_batch_size", type=int, default=64, help="Images in one forward pass.")
    parser.add_argument("--dataloader_num_workers", type=int, default=2, help="Processes that decode images.")
    parser.add_argument("--mixed_precision", default="no", choices=["no", "bf16", "fp16"])
    parser.add_argument("--output", type=Path, help="JSON file for the results. Default: evaluation_SPLIT.json.")
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="Fit age intervals and gender probabilities to half of the validation images and write them into the "
        "configuration in the model folder. What is printed is cross-fitted.",
    )
    arguments = parser.parse_args()
    if arguments.calibrate and arguments.split != "validation":
        parser.error("--calibrate takes validation images: leave out --split.")
    if arguments.calibrate and not (Path(arguments.model) / "config.json").is_file():
        parser.error(f"--calibrate writes into a model folder, and {arguments.model} is none.")
    name = "calibration" if arguments.calibrate else arguments.split
    arguments.output = arguments.output or Path(f"evaluation_{name}.json")
    return arguments


def write_calibration(folder: Path, fields: dict):
    """Changes the fields in the configuration of a model folder and nothing else."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields, indent=2, sort_keys=True) + "\n")


def main():
    arguments = parse_arguments()
    # On CPUs the processes of torchrun find each other only if told so.
    accelerator = Accelerator(cpu=not torch.accelerator.is_available(), mixed_precision=arguments.mixed_precision)
    with accelerator.main_process_first():
        dataset = load_utkface(
            arguments.data_dir, seed=arguments.split_seed, validation_share=arguments.validation_share
        )
    if arguments.split not in dataset:
        raise ValueError(f"{arguments.data_dir} has no images of the split {arguments.split}, only {sorted(dataset)}.")
    images = dataset[arguments.split]
    model, processor = load_model(arguments.model)
    model = model.to(accelerator.device, memory_format=torch.channels_last)
    if arguments.calibrate:
        images = images.select(np.flatnonzero(draw_calibration_half(images, arguments.split_seed)))
        model.config.gender_temperature = 1.0
    dataloader = make_dataloader(
        images, processor, arguments.per_device_eval_batch_size, arguments.dataloader_num_workers
    )

    start = time.perf_counter()
    predictions = predict(model, accelerator.prepare(dataloader), accelerator)
    if accelerator.is_main_process:
        results = {
            "model": arguments.model,
            "weights_sha256": weights_sha256(arguments.model),
            "data_dir": name_data(arguments.data_dir),
            "split": arguments.split,
            "split_seed": arguments.split_seed,
            "validation_share": arguments.validation_share,
            "mixed_precision": arguments.mixed_precision,
        }
        if arguments.calibrate:
            calibration = calibrate(model, predictions, np.asarray(images["group"]))
            if not calibration["fields"]:
                raise ValueError(f"{len(images)} images are too few to calibrate on: it takes {NEAREST_IMAGES}.")
            print(f"{arguments.model}, cross-fitted on {len(images):,} images of the validation split")
            print(format_errors(calibration["cross_fitted"]))
            write_calibration(Path(arguments.model), calibration["fields"])
            print(f"Wrote {', '.join(calibration['fields'])} into {Path(arguments.model) / 'config.json'}")
            results["calibration"] = calibration
        else:
            metrics, errors = compute_metrics(model, predictions), describe_errors(predictions)
            print(f"{arguments.model} on the {arguments.split} split\n{format_metrics(metrics)}")
            print(format_errors(errors))
            results |= {"metrics": metrics, "errors": errors}
        results |= {"seconds": round(time.perf_counter() - start, 1), **describe_machine()}
        write_json(arguments.output, results)
        print(f"Wrote {arguments.output}")
    accelerator.end_training()


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        raise SystemExit(f"evaluation.py: error: {error}")
