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
        The values of [`AgeGenderMetric`] and `loss`, the mean over the labels that are known.
    """
    was_training = model.training
    model.eval()
    gathered = []
    for batch in dataloader:
        pixel_values = batch["pixel_values"].contiguous(memory_format=torch.channels_last)
        with accelerator.autocast():
            output = model(pixel_values)
        logits = (output.age_logits.float(), output.gender_logits.float())
        values = accelerator.gather_for_metrics((output.age, *logits, batch["age_labels"], batch["gender_labels"]))
        if accelerator.is_main_process:
            gathered.append([value.cpu() for value in values])
    model.train(was_training)
    results = [None]
    if accelerator.is_main_process:
        # One loss over all images: the mean of the batches' losses would weigh missing labels by their batch.
        ages, age_logits, gender_logits, age_labels, gender_labels = (torch.cat(values) for values in zip(*gathered))
        metrics = AgeGenderMetric().compute(
            age_predictions=ages.numpy(),
            age_references=age_labels.numpy(),
            gender_predictions=gender_logits.argmax(dim=-1).numpy(),
            gender_references=gender_labels.numpy(),
        )
        loss = model.compute_loss(age_logits, gender_logits, age_labels, gender_labels)
        results = [metrics | {"loss": loss.item()}]
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


def weights_sha256(folder: Path) -> str | None:
    """sha256 of the weights in a model folder; None where the model is no folder here but lies on the Hub."""
    file = Path(folder) / "model.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Measures a model on one split of a face data set.", allow_abbrev=False
    )
    parser.add_argument("--model", default=".", help="Model folder or Hub id. Default: this folder.")
    parser.add_argument("--data_dir", required=True, help="Folder, tar or zip archive, Parquet folder or data set id.")
    parser.add_argument("--split", default="validation", choices=["train", "validation", "test"])
    parser.add_argument("--split_seed", type=int, default=0, help="As in training: of the draw of validation images.")
    parser.add_argument("--validation_share", type=float, default=0.1, help="As in training: share of them, 0–1.")
    parser.add_argument("--per_device_eval_batch_size", type=int, default=64, help="Images in one forward pass.")
    parser.add_argument("--mixed_precision", default="no", choices=["no", "bf16", "fp16"])
    parser.add_argument("--output", type=Path, help="JSON file for the results. Default: evaluation_SPLIT.json.")
    arguments = parser.parse_args()
    arguments.output = arguments.output or Path(f"evaluation_{arguments.split}.json")
    return arguments


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
    processor = AgeGenderImageProcessor.from_pretrained(arguments.model)
    model = AgeGenderModel.from_pretrained(arguments.model).to(accelerator.device, memory_format=torch.channels_last)
    dataloader = make_dataloader(dataset[arguments.split], processor, arguments.per_device_eval_batch_size)

    start = time.perf_counter()
    metrics = evaluate_model(model, accelerator.prepare(dataloader), accelerator)
    accelerator.print(f"{arguments.model} on the {arguments.split} split\n{format_metrics(metrics)}")
    if accelerator.is_main_process:
        results = {
            "model": arguments.model,
            "weights_sha256": weights_sha256(arguments.model),
            "data_dir": name_data(arguments.data_dir),
            "split": arguments.split,
            "split_seed": arguments.split_seed,
            "validation_share": arguments.validation_share,
            "metrics": metrics,
            "seconds": round(time.perf_counter() - start, 1),
            **describe_machine(),
        }
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")
        print(f"Wrote {arguments.output}")
    accelerator.end_training()


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        raise SystemExit(f"evaluation.py: error: {error}")
