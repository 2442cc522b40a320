"""Writes the best weights of a training as a complete model folder, with results, curves and model card."""

from functools import partial

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from data.augmentation import Degradation
from data.labels import is_utkface, name_races
from data.loaders import make_evaluation_dataloader
from data.splits import describe_split
from data.training_set import TrainingData
from hub.model_card import describe_start, write_results
from image_processing_agegender import AgeGenderImageProcessor
from metrics.age_gender import (
    compare_errors,
    describe_errors,
    format_comparison,
    format_errors,
    format_metrics,
)
from metrics.calibration import apply_calibration, calibrate, find_calibration
from metrics.groups import describe_groups
from metrics.prediction import compute_metrics, compute_predictions
from metrics.results import compute_weights_sha256, describe_machine, name_count, name_paths
from modeling_agegender import AgeGenderModel
from pipeline_agegender import AgeGenderPipeline
from training.arguments import Arguments, TrainArguments
from training.checkpoints import explain_failed_writing
from training.initial_model import InitialModel, load_initial_model
from training.report import describe_gain
from training.setup import draw_calibrating
from training.state import TrainerState


@torch.no_grad()
def round_kernels(model: AgeGenderModel):
    """Rounds kernels and matrices to float16 values; they stay float32 tensors."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.copy_(parameter.half())


def save_model(model: AgeGenderModel, processor: AgeGenderImageProcessor, arguments: TrainArguments):
    """Writes a complete model folder; with `--half_precision_weights` stores kernels and matrices as float16."""
    # The results of earlier weights go first and the new ones come last, so a kill does not leave a mixture.
    (arguments.output_dir / "train_results.json").unlink(missing_ok=True)
    AgeGenderPipeline(model=model, image_processor=processor).save_pretrained(arguments.output_dir)
    if arguments.half_precision_weights:
        file = arguments.output_dir / "model.safetensors"
        # Loading makes them float32 again, as the configuration says. Variances may exceed float16, so they stay.
        tensors = {name: values.half() if values.ndim > 1 else values for name, values in load_file(file).items()}
        save_file(tensors, file, metadata={"format": "pt"})


def export(
    arguments: Arguments,
    accelerator: Accelerator,
    data: TrainingData,
    start: InitialModel,
    state: TrainerState,
):
    """Calibrates the best weights, writes the model folder and prints its metrics. Raises ValueError if there are none."""
    train, output_dir = arguments.train, arguments.train.output_dir
    if state.best_epoch is None:
        raise ValueError(
            f"No epoch gave a finite {train.metric_for_best_model} on the validation images, so there are no best "
            "weights: lower --learning_rate or choose another --metric_for_best_model."
        )
    model = AgeGenderModel.from_pretrained(output_dir / "best").to(accelerator.device)
    if train.half_precision_weights:
        round_kernels(model)  # before the evaluation
    options = (start.processor, train.per_device_eval_batch_size, arguments.data.dataloader_num_workers)
    dataloaders = {
        split: accelerator.prepare(make_evaluation_dataloader(data.splits[split], *options))
        for split in ("validation", "test")
        if split in data.splits
    }
    # In float32, so that evaluation.py gives the same figures.
    predict = partial(compute_predictions, accelerator=accelerator, autocast=False)
    predictions = {split: predict(model, loader) for split, loader in dataloaders.items()}
    degradation = Degradation(start.processor).to(accelerator.device)
    degraded = predict(model, dataloaders["validation"], change=degradation)
    before, compared = None, list(dataloaders)[-1]  # the test images where there are any: they chose nothing
    if arguments.model.model:
        former = load_initial_model(arguments.model).model.to(accelerator.device, memory_format=torch.channels_last)
        before = predict(former, dataloaders[compared])
    if not accelerator.is_main_process:
        return
    comparison = compare_errors(before, predictions[compared]) if before else None
    predictions, text = calibrate_model(model, predictions, degraded, data, start, arguments.data.split_seed)
    results = {
        "metrics": {split: compute_metrics(model, values) for split, values in predictions.items()},
        "errors": {split: describe_errors(values) for split, values in predictions.items()},
        "groups": {
            split: describe_groups(values, name_races(data.splits[split])) for split, values in predictions.items()
        },
        "calibration": find_calibration(model.config),
        "comparison": comparison,
    }
    with explain_failed_writing(output_dir):
        save_model(model, start.processor, train)
        write_results(output_dir, describe_result(arguments, accelerator, data, state) | results)
    for split, metrics in results["metrics"].items():
        print(f"Best weights (epoch {state.best_epoch}) on the {split} split\n{format_metrics(metrics)}")
        print(format_errors(results["errors"][split]))
    print(text)
    if comparison:
        choosers = ", which also chose the epoch" * (compared == "validation")
        print(f"Before and after training, on the {name_count(len(before['ages']), f'{compared} image')}{choosers}:")
        print(format_comparison(comparison))
        print(describe_gain(comparison, state.best_epoch, train))


def calibrate_model(
    model: AgeGenderModel,
    predictions: dict,
    degraded: dict,
    data: TrainingData,
    start: InitialModel,
    split_seed: int | None,
) -> tuple[dict, str]:
    """Calibrates the configuration of a model; returns the calibrated predictions by split, and sentences for the log."""
    validation = data.splits["validation"]
    calibrating = draw_calibrating(validation, split_seed)
    for name, value in start.calibration.items():  # where labels are missing
        setattr(model.config, name, value)
    *_, cross_fitted, text = calibrate(
        model.config, predictions["validation"], degraded, calibrating, np.asarray(validation["group"])
    )
    if not calibrating.any():
        text += (
            f" Half of the {len(calibrating):,} validation images would be too few, so all of them chose the epoch."
        )
    fields = find_calibration(model.config)
    calibrated = {split: apply_calibration(values, fields) for split, values in predictions.items()}
    return calibrated | {"validation": cross_fitted}, text


def describe_result(arguments: Arguments, accelerator: Accelerator, data: TrainingData, state: TrainerState) -> dict:
    """Returns what the weights in the output folder depend on."""
    return {
        "arguments": name_paths(arguments.to_dict()),
        "start": describe_start(arguments.model.model, arguments.model.config),
        "split_images": {name: len(split) for name, split in data.splits.items()},
        "is_utkface": is_utkface(data.splits["train"]["file_name"]),
        "split": describe_split(data.splits),
        "extra_images": len(data.extra or ()),
        "best_epoch": state.best_epoch,
        "history": state.history,
        "training_seconds": round(state.seconds),
        "num_processes": accelerator.num_processes,
        "weights_sha256": compute_weights_sha256(arguments.train.output_dir),
        **describe_machine(),
    }
