"""Builds the parts of a training: accelerator, optimizer, schedule of the learning rate and averaged weights."""

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel
from transformers import get_scheduler

from data.loaders import PROCESS_GROUP_TIMEOUT
from data.splits import draw_calibration_half
from metrics.calibration import LEAST_LABELS
from modeling_agegender import AgeGenderModel
from training.arguments import TrainArguments


def build_accelerator(arguments: TrainArguments) -> Accelerator:
    """Builds the accelerator. Raises ValueError for `--sync_batchnorm` on a device without it."""
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),  # otherwise the processes of torchrun do not connect on CPUs
        mixed_precision=arguments.mixed_precision,
        gradient_accumulation_steps=arguments.gradient_accumulation_steps,
        log_with=arguments.report_to,
        kwargs_handlers=[PROCESS_GROUP_TIMEOUT],
        dynamo_backend="inductor" if arguments.torch_compile else None,
        project_config=ProjectConfiguration(
            project_dir=str(arguments.output_dir), logging_dir=str(arguments.output_dir / "logs")
        ),
    )
    if arguments.sync_batchnorm and accelerator.device.type in ("cpu", "mps"):
        raise ValueError(
            f"--sync_batchnorm needs GPUs: torch has no synchronized batch normalization on {accelerator.device.type}."
        )
    return accelerator


def draw_calibrating(validation: datasets.Dataset, seed: int | None) -> np.ndarray:
    """
    Chooses the validation images that calibrate the weights, `(images,)` bool; all others select the best epoch.

    These are half of the images, or none if that half is too small to calibrate.
    """
    half = draw_calibration_half(validation, seed)
    return half if half.sum() >= LEAST_LABELS else np.zeros_like(half)


def freeze_batch_norm(model: torch.nn.Module):
    """Keeps the running statistics of batch normalization as they are, until the next `model.train()`."""
    for module in model.modules():
        if isinstance(module, (torch.nn.BatchNorm2d, torch.nn.SyncBatchNorm)):
            module.eval()


def build_optimizer(model: AgeGenderModel, arguments: TrainArguments) -> torch.optim.Optimizer:
    """
    Builds AdamW without weight decay of biases and normalizations, which have one dimension.

    Encoders with a rate of 0 get no gradients.
    """
    encoder_rate = arguments.encoder_learning_rate
    rates = {
        "head": arguments.learning_rate,
        "encoder": arguments.learning_rate if encoder_rate is None else encoder_rate,
    }
    groups = []
    for part, rate in rates.items():
        parameters = [value for name, value in model.named_parameters() if part in name.split(".")[0]]
        for parameter in parameters:
            parameter.requires_grad_(rate > 0)
        decaying, others = ([each for each in parameters if (each.ndim > 1) == decays] for decays in (True, False))
        groups += [{"params": decaying, "lr": rate}, {"params": others, "lr": rate, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, weight_decay=arguments.weight_decay)


def build_scheduler(optimizer: torch.optim.Optimizer, epoch_updates: int, arguments: TrainArguments) -> LRScheduler:
    """Builds the schedule over all updates. It is not prepared by accelerate, which would step it once a process."""
    updates = epoch_updates * arguments.num_train_epochs
    return get_scheduler(
        arguments.lr_scheduler_type,
        optimizer,
        num_warmup_steps=int(updates * arguments.warmup_ratio),
        num_training_steps=updates,
    )


def build_average(model: AgeGenderModel, decay: float) -> AveragedModel:
    """Builds the moving average of weights and buffers; its decay grows at the start, to forget the initial weights."""

    def update(average: torch.Tensor, value: torch.Tensor, num_averaged: torch.Tensor) -> torch.Tensor:
        count = float(num_averaged)
        return value.lerp(average, min(decay, (1 + count) / (10 + count))) if value.is_floating_point() else value

    return AveragedModel(model, avg_fn=update, use_buffers=True)
