"""What a training is made of: accelerator, optimizer, averaged weights, and the count of its errors."""

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, ProjectConfiguration, TorchDynamoPlugin
from torch.optim.swa_utils import AveragedModel

from data.loaders import PATIENCE
from modeling_agegender import AgeGenderModel, AgeGenderOutput
from training.arguments import TrainArguments


def build_accelerator(arguments: TrainArguments) -> Accelerator:
    """
    The accelerator, with its checkpoints below the output folder.

    Raises:
        ValueError: if batch normalisation is to be synchronised where torch cannot do it.
    """
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),  # else the processes of torchrun would not find each other on CPUs
        mixed_precision=arguments.mixed_precision,
        gradient_accumulation_steps=arguments.gradient_accumulation_steps,
        log_with=arguments.report_to,
        kwargs_handlers=[PATIENCE],
        # Batches have one of two sizes: compiled for each, not once for any.
        dynamo_plugin=TorchDynamoPlugin(backend="inductor", dynamic=False) if arguments.torch_compile else None,
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=arguments.seed),
        project_config=ProjectConfiguration(
            project_dir=str(arguments.output_dir), logging_dir=str(arguments.output_dir / "logs")
        ),
    )
    if arguments.sync_batchnorm and accelerator.device.type in ("cpu", "mps"):
        raise ValueError(
            f"--sync_batchnorm needs GPUs: torch has no synchronised batch normalisation on {accelerator.device.type}."
        )
    return accelerator


def build_optimizer(model: AgeGenderModel, arguments: TrainArguments) -> torch.optim.Optimizer:
    """AdamW; biases and normalisations, which have one dimension, do not decay."""
    decaying = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": decaying}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=arguments.learning_rate, weight_decay=arguments.weight_decay)


def build_average(model: AgeGenderModel, decay: float) -> AveragedModel:
    """The moving average of weights and buffers; young averages decay faster, else they would remember the start."""

    def update(average: torch.Tensor, value: torch.Tensor, num_averaged: torch.Tensor) -> torch.Tensor:
        count = float(num_averaged)
        return value.lerp(average, min(decay, (1 + count) / (10 + count))) if value.is_floating_point() else value

    return AveragedModel(model, avg_fn=update, use_buffers=True)


def count_errors(output: AgeGenderOutput, batch: dict) -> tuple[torch.Tensor, ...]:
    """Years of error, known ages, right genders and known genders of a batch, each a float32 scalar."""
    errors = (output.age - batch["age_labels"]).abs()
    right = output.gender_logits.argmax(dim=-1) == batch["gender_labels"]  # never where the label is -100
    known_ages, known_genders = errors.isfinite(), batch["gender_labels"] != -100
    return tuple(count.float() for count in (errors.nansum(), known_ages.sum(), right.sum(), known_genders.sum()))
