"""
Measures a model on one split of a face data set.

    python evaluation.py --model . --data_dir UTKFace.tar.gz --split validation --output results.json
"""

import argparse
import hashlib
import json
import os
import platform
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from torch.utils.data import DataLoader

from image_processing_agegender import AgeGenderImageProcessor
from metrics import AgeGenderMetric, format_metrics
from modeling_agegender import AgeGenderModel
from utkface import load_utkface, to_model_inputs


PACKAGES = ("torch", "transformers", "datasets", "accelerate", "evaluate", "kornia")


def make_dataloader(dataset: Dataset, processor, batch_size: int, num_workers: int = 0) -> DataLoader:
    """Batches of `pixel_values`, `age_labels` and `gender_labels` in the order of the data set."""
    dataset = dataset.with_transform(to_model_inputs(processor, do_normalize=True))
    return DataLoader(dataset, batch_size=batch_size, num_workers=num_workers)


@torch.no_grad()
def evaluate_model(model: AgeGenderModel, dataloader: DataLoader, accelerator: Accelerator) -> dict:
    """
    The metrics of a model, the same on all processes.

    Args:
        model: On the accelerator's device.
        dataloader: Prepared by the accelerator.
        accelerator: Gathers the predictions of all processes, each image once.

    Returns:
        The values of [`AgeGenderMetric`] and `loss`, the mean over the images.
    """
    was_training = model.training
    model.eval()
    metric = AgeGenderMetric()
    losses = []
    for batch in dataloader:
        pixel_values = batch["pixel_values"].contiguous(memory_format=torch.channels_last)
        with accelerator.autocast():
            output = model(pixel_values)
        logits, labels = (output.age_logits.float(), output.gender_logits.float()), batch
        ages, age_logits, gender_logits, age_labels, gender_labels = accelerator.gather_for_metrics(
            (output.age, *logits, labels["age_labels"], labels["gender_labels"])
        )
        if accelerator.is_main_process:
            losses.append(model.compute_loss(age_logits, gender_logits, age_labels, gender_labels) * len(ages))
            metric.add_batch(
                age_predictions=ages.cpu().numpy(),
                age_references=age_labels.cpu().numpy(),
                gender_predictions=gender_logits.argmax(dim=-1).cpu().numpy(),
                gender_references=gender_labels.cpu().numpy(),
            )
    model.train(was_training)
    results = [None]
    if accelerator.is_main_process:
        metrics = metric.compute()
        results = [metrics | {"loss": float(sum(losses) / metrics["num_images"])}]
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


def weights_sha256(folder: Path) -> str | None:
    """sha256 of the weights in a model folder; None where the model is no folder here but lies on the Hub."""
    file = Path(folder) / "model.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures a model on one split of a face data set.")
    parser.add_argument("--model", default=".", help="Model folder or Hub id. Default: this folder.")
    parser.add_argument("--data_dir", required=True, help="Folder, tar or zip archive, Parquet folder or data set id.")
    parser.add_argument("--split", default="validation", choices=["train", "validation", "test"])
    parser.add_argument("--per_device_eval_batch_size", type=int, default=64, help="Images in one forward pass.")
    parser.add_argument("--mixed_precision", default="no", choices=["no", "bf16", "fp16"])
    parser.add_argument("--output", type=Path, help="JSON file for the results.")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    accelerator = Accelerator(mixed_precision=arguments.mixed_precision)
    with accelerator.main_process_first():
        dataset = load_utkface(arguments.data_dir)
    if arguments.split not in dataset:
        raise SystemExit(f"{arguments.data_dir} has no images of the split {arguments.split}, only {sorted(dataset)}.")
    processor = AgeGenderImageProcessor.from_pretrained(arguments.model)
    model = AgeGenderModel.from_pretrained(arguments.model).to(accelerator.device, memory_format=torch.channels_last)
    dataloader = make_dataloader(dataset[arguments.split], processor, arguments.per_device_eval_batch_size)

    start = time.perf_counter()
    metrics = evaluate_model(model, accelerator.prepare(dataloader), accelerator)
    accelerator.print(f"{arguments.model} on the {arguments.split} split\n{format_metrics(metrics)}")
    if arguments.output and accelerator.is_main_process:
        results = {
            "model": arguments.model,
            "weights_sha256": weights_sha256(arguments.model),
            "split": arguments.split,
            "metrics": metrics,
            "seconds": round(time.perf_counter() - start, 1),
            **describe_machine(),
        }
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    accelerator.end_training()


if __name__ == "__main__":
    main()
