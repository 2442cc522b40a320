"""
Evaluates a model on one split of a face data set, or calibrates its age intervals and probabilities.

    python evaluation.py --model . --data_dir UTKFace.tar.gz --output results.json
    python evaluation.py --model . --data_dir UTKFace.tar.gz --report report
    python evaluation.py --model . --data_dir UTKFace.tar.gz --calibrate
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset, disable_progress_bars
from transformers.utils.logging import disable_progress_bar

from configuration_agegender import AgeGenderConfig
from data.augmentation import Degradation
from data.labels import name_races
from data.loaders import PROCESS_GROUP_TIMEOUT, make_evaluation_dataloader
from data.splits import check_split, draw_calibration_half
from data.utkface import load_utkface
from files.writing import OutputParser
from hub.errors import run
from hub.loading import load_model
from image_processing_agegender import compute_interpolated_median_age
from metrics.age_gender import describe_errors, format_errors, format_metrics
from metrics.calibration import LEAST_LABELS, calibrate
from metrics.groups import describe_groups
from metrics.prediction import compute_metrics, compute_predictions
from metrics.report import write_report
from metrics.results import compute_weights_sha256, describe_machine, name_count, name_data, write_json
from metrics.tables import VALIDATION_NOTE, format_groups
from modeling_agegender import AgeGenderModel


def parse_arguments() -> argparse.Namespace:
    parser = OutputParser(description="Evaluates a model on one split of a face data set, or calibrates it.")
    parser.add_argument("--model", default=".", help="Model folder or Hub id. Default: the working directory.")
    parser.add_argument(
        "--data_dir", required=True, help="Folder, tar or zip archive, table (CSV, Parquet) or data set id."
    )
    parser.add_argument(
        "--split", default="validation", choices=["train", "validation", "test"], help="Default: validation."
    )
    parser.add_argument("--split_seed", type=int, help="As in training: seed of the validation images.")
    parser.add_argument("--validation_share", type=float, help="As in training: share of validation images, 0–1.")
    parser.add_argument("--per_device_eval_batch_size", type=int, default=64, help="Images in a batch. Default: 64.")
    parser.add_argument("--dataloader_num_workers", type=int, default=2, help="Decoding processes. Default: 2.")
    parser.add_argument("--mixed_precision", default="no", choices=["no", "bf16", "fp16"], help="Default: no.")
    parser.add_output(help="JSON file for the results. Default: they are only printed.")
    parser.add_output("--report", help="Folder for report.html, a page with tables and charts. Default: none.")
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="Fit age intervals, age thresholds and gender probabilities to half of the validation images and write them into the "
        "config.json of the model folder. The printed results are cross-fitted.",
    )
    arguments = parser.parse_args()
    if arguments.calibrate and arguments.split != "validation":
        parser.error("--calibrate takes validation images: leave out --split.")
    if arguments.calibrate and arguments.report:
        parser.error("--report is about a finished model: calibrate it first, then measure without --calibrate.")
    if arguments.calibrate and not (Path(arguments.model) / "config.json").is_file():
        parser.error(f"--calibrate writes into a model folder, but {arguments.model} is not one.")
    return arguments


def find_agreeing(images: Dataset) -> np.ndarray:
    """Returns which images have near-duplicates with the same ages and gender only, (images,) bool."""
    columns = images.select_columns(["age_low", "age_high", "gender", "group"]).to_dict()
    labels_by_group = {}
    for *labels, group in zip(*columns.values()):
        labels_by_group.setdefault(group, set()).add(tuple(labels))
    return np.array([len(labels_by_group[group]) == 1 for group in columns["group"]])


def report_metrics(arguments: argparse.Namespace, model: AgeGenderModel, predictions: dict, images: Dataset) -> dict:
    """Prints the metrics of a split and returns them."""
    agreeing = find_agreeing(images)
    # Within five years of a label lie eleven whole years but only ten years of fractions, which other models predict.
    fractions = compute_interpolated_median_age(torch.from_numpy(predictions["age_logits"])).numpy()
    values = {
        "metrics": compute_metrics(model, predictions),
        "metrics_where_duplicates_agree": compute_metrics(
            model, {name: values[agreeing] for name, values in predictions.items()}
        ),
        "metrics_of_interpolated_median": compute_metrics(model, predictions | {"ages": fractions}),
        "errors": describe_errors(predictions),
        "groups": describe_groups(predictions, name_races(images)),
    }
    print(f"{arguments.model} on the {arguments.split} split\n{format_metrics(values['metrics'])}")
    print(format_errors(values["errors"]))
    print("Without images whose near-duplicates have other labels:")
    print(format_metrics(values["metrics_where_duplicates_agree"]))
    print("With ages in fractions of years (interpolated median):")
    print(format_metrics(values["metrics_of_interpolated_median"]))
    print(f"\n{format_groups(values['groups'])}\n")
    if arguments.split == "validation":
        print(VALIDATION_NOTE)
    return values


def calibrate_folder(arguments: argparse.Namespace, predictions: dict, degraded: dict, images: Dataset) -> dict:
    """Calibrates the config.json of the model folder; prints the cross-fitted errors and returns them with the fields."""
    calibrating = draw_calibration_half(images, arguments.split_seed)
    saved = AgeGenderConfig.from_pretrained(arguments.model)
    fields, cross_fitted, text = calibrate(saved, predictions, degraded, calibrating, np.asarray(images["group"]))
    if not fields:
        raise ValueError(
            f"{name_count(calibrating.sum(), 'image')} cannot calibrate a model: it takes {LEAST_LABELS} labels."
        )
    print(text)
    errors = describe_errors(cross_fitted)
    print(f"{arguments.model}, calibrated on {name_count(calibrating.sum(), 'validation image')} (cross-fitted):")
    print(format_errors(errors))
    file = Path(arguments.model) / "config.json"
    file.write_text(
        json.dumps(json.loads(file.read_text(encoding="utf-8")) | fields, indent=2, sort_keys=True) + "\n",
        encoding="utf-8",
    )
    print(f"Wrote {', '.join(fields)} into {file}. Other files there are unchanged.")
    return {"calibration": fields, "errors": errors}


def main():
    # Of the files in which libraries keep weights and images.
    disable_progress_bar()
    disable_progress_bars()
    arguments = parse_arguments()
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),  # otherwise the processes of torchrun do not connect on CPUs
        mixed_precision=arguments.mixed_precision,
        kwargs_handlers=[PROCESS_GROUP_TIMEOUT],
    )
    with accelerator.main_process_first():
        dataset = load_utkface(
            arguments.data_dir, seed=arguments.split_seed, validation_share=arguments.validation_share
        )
    if arguments.split not in dataset:
        choice = "" if arguments.calibrate else f": choose --split {' or '.join(sorted(dataset))}"
        raise ValueError(f"{arguments.data_dir} has no {arguments.split} images{choice}.")
    images = dataset[arguments.split]
    if arguments.split == "validation":
        check_split(arguments.model, dataset)
    model, processor = load_model(arguments.model)
    model = model.to(accelerator.device, memory_format=torch.channels_last)
    if arguments.calibrate:
        model.config.gender_temperature = 1.0
    dataloader = accelerator.prepare(
        make_evaluation_dataloader(
            images, processor, arguments.per_device_eval_batch_size, arguments.dataloader_num_workers
        )
    )
    start, degraded = time.perf_counter(), None
    predictions = compute_predictions(model, dataloader, accelerator)
    if arguments.calibrate:
        degradation = Degradation(processor).to(accelerator.device)
        degraded = compute_predictions(model, dataloader, accelerator, degradation)
    if accelerator.is_main_process:
        if arguments.calibrate:
            values = calibrate_folder(arguments, predictions, degraded, images)
        else:
            values = report_metrics(arguments, model, predictions, images)
        settings = ("split", "split_seed", "validation_share", "mixed_precision")
        results = {
            "model": name_data(arguments.model) if Path(arguments.model).is_absolute() else arguments.model,
            "weights_sha256": compute_weights_sha256(arguments.model),
            "data_dir": name_data(arguments.data_dir),
            **{name: getattr(arguments, name) for name in settings},
            **values,
            "seconds": round(time.perf_counter() - start, 1),
            **describe_machine(),
        }
        if arguments.output:
            write_json(arguments.output, results)
            print(f"Wrote {arguments.output}")
        if arguments.report:
            print(f"Wrote {write_report(arguments.report, results)}")
    accelerator.end_training()


if __name__ == "__main__":
    run(main)
