"""The arguments of train.py."""

import math
from dataclasses import dataclass, field, fields
from pathlib import Path

from accelerate.utils import is_tensorboard_available, is_trackio_available, is_wandb_available
from transformers import HfArgumentParser

from data.augmentation import AugmentationArguments
from metrics.age_gender import HIGHER_IS_BETTER


# Of the names that transformers.get_scheduler knows, those that need no further argument.
SCHEDULERS = ("linear", "cosine", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt")
# Accelerate leaves a tracker out in silence where its package is missing.
TRACKERS = {
    "tensorboard": is_tensorboard_available,
    "wandb": is_wandb_available,
    "trackio": is_trackio_available,
}


@dataclass
class ModelArguments:
    """What to train."""

    model: str | None = field(
        default=None, metadata={"help": "Start from this AgeGenderModel: a folder or a Hub id. Its network is kept."}
    )
    config: Path | None = field(
        default=None,
        metadata={"help": "With --from_scratch: JSON file of the network. Default: configs/mobilenet.json."},
    )
    from_scratch: bool = field(default=False, metadata={"help": "Start from random weights."})
    config_overrides: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Other values of config fields, as in gender_loss_weight=2.0 pool_sizes=[1,1,2]",
            "action": "extend",
        },
    )

    teacher: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Learn also from what these AgeGenderModels say of an image: folders or Hub ids.",
            "action": "extend",
        },
    )
    teacher_weight: float = field(
        default=0.5, metadata={"help": "Weight of the teachers beside the labels, 0–1; 1 is the teachers alone."}
    )

    def __post_init__(self):
        if not 0 <= self.teacher_weight <= 1:
            raise ValueError(f"--teacher_weight must be in 0–1, got {self.teacher_weight}.")
        if self.from_scratch == (self.model is not None):
            raise ValueError("Give either --model FOLDER_OR_ID to start from, or --from_scratch.")
        if self.config and not self.from_scratch:
            raise ValueError("--config describes a network for --from_scratch; --model brings its own.")
        if self.from_scratch and self.config is None:
            self.config = Path(__file__).parents[1] / "configs" / "mobilenet.json"


@dataclass
class DataArguments:
    """What to train on."""

    data_dir: str = field(
        metadata={"help": "UTKFace or faces of yours: folder, tar or zip archive, Parquet folder or data set id."}
    )
    extra_data: list[str] = field(
        default_factory=list,
        metadata={
            "help": "More faces to train on, in the same forms as --data_dir; labels may be missing.",
            "action": "extend",
        },
    )
    extra_share: float = field(
        default=0.3, metadata={"help": "Share of the images of an epoch that is from --extra_data, 0–1."}
    )
    strict: bool = field(default=False, metadata={"help": "Stop at the first unusable image instead of skipping it."})
    split_seed: int | None = field(
        default=None, metadata={"help": "Of another draw of validation images than the one in splits/."}
    )
    validation_share: float | None = field(
        default=None, metadata={"help": "Share of validation images, 0–1, in a draw of them. Default: 0.1."}
    )
    streaming: bool = field(
        default=False,
        metadata={"help": "Read training images as they are needed, from Parquet files or the Hub, without building."},
    )
    shuffle_buffer_size: int = field(
        default=5000, metadata={"help": "With --streaming: images to draw from, encoded, in memory, per device."}
    )
    dataloader_num_workers: int = field(default=2, metadata={"help": "Processes that decode images, per device."})

    def __post_init__(self):
        if self.validation_share is not None and not 0 < self.validation_share < 1:
            raise ValueError(f"--validation_share must be between 0 and 1, got {self.validation_share}.")
        if not 0 < self.extra_share < 1:
            raise ValueError(f"--extra_share must be between 0 and 1, got {self.extra_share}.")
        if self.streaming:
            for name in ("extra_data", "split_seed", "validation_share"):
                if getattr(self, name) not in (None, []):
                    raise ValueError(f"--{name} needs a data set that is built, but --streaming takes it as it is.")
        if self.shuffle_buffer_size < 1:
            raise ValueError(f"--shuffle_buffer_size must be at least 1, got {self.shuffle_buffer_size}.")
        for name in ("split_seed", "dataloader_num_workers"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"--{name} must be at least 0, got {getattr(self, name)}.")


@dataclass
class TrainArguments:
    """How to train. The defaults suit a training from the face-pretrained start, the first of README's recipe."""

    output_dir: Path = field(metadata={"help": "Folder for checkpoints, and at the end for the model."})
    num_train_epochs: int = field(default=10, metadata={"help": "Passes over the training images."})
    per_device_train_batch_size: int = field(
        default=64, metadata={"help": "Images in one step on one device; one less in some, so that an epoch has all."}
    )
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "Images in one evaluation step."})
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "Steps before each update of the weights."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Largest learning rate of AdamW."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": f"Decay: {', '.join(SCHEDULERS)}."})
    warmup_ratio: float = field(default=0.1, metadata={"help": "Share of the updates with a growing rate, 0–1."})
    weight_decay: float = field(default=0.05, metadata={"help": "Of AdamW, on kernels and matrices only."})
    max_grad_norm: float = field(default=5.0, metadata={"help": "Gradients are clipped to this norm; 0 is off."})
    ema_decay: float = field(default=0.999, metadata={"help": "Of the averaged weights, per update; 0 is off."})
    mixed_precision: str = field(
        default="no",
        metadata={"help": "no, bf16 or fp16; bf16 is two to three times as fast where the hardware has it."},
    )
    half_precision_weights: bool = field(
        default=False,
        metadata={"help": "Store the result's kernels as float16, which halves its file; it computes in float32."},
    )
    torch_compile: bool = field(default=False, metadata={"help": "Compile the network (some minutes at the start)."})
    gradient_checkpointing: bool = field(default=False, metadata={"help": "Less memory for more time."})
    sync_batchnorm: bool = field(
        default=False, metadata={"help": "Batch normalisation over the batches of all GPUs, for small batches."}
    )
    metric_for_best_model: str = field(
        default="loss", metadata={"help": f"Validation metric that chooses weights: {', '.join(HIGHER_IS_BETTER)}."}
    )
    early_stopping_patience: int = field(
        default=4, metadata={"help": "Epochs without improvement after which training stops; 0 is off."}
    )
    early_stopping_threshold: float = field(default=0.0, metadata={"help": "Smallest change that counts."})
    checkpointing_steps: str = field(default="epoch", metadata={"help": "Updates between checkpoints, or epoch."})
    checkpoints_total_limit: int = field(default=2, metadata={"help": "Checkpoints that stay."})
    resume_from_checkpoint: str | None = field(
        default=None, metadata={"help": "A checkpoint's path, or latest, which starts anew where there is none yet."}
    )
    report_to: str | None = field(default=None, metadata={"help": "tensorboard, wandb or trackio."})
    seed: int = field(default=0, metadata={"help": "Of weights, order and augmentation."})
    push_to_hub: bool = field(default=False, metadata={"help": "Upload the result to the Hub."})
    hub_model_id: str | None = field(default=None, metadata={"help": "user/name. Default: name of --output_dir."})
    hub_private_repo: bool = field(default=False, metadata={"help": "With --push_to_hub: make it a private repo."})
    hub_strategy: str = field(
        default="end",
        metadata={"help": "end: upload once, at the end. best: also each epoch that is the best so far."},
    )

    def __post_init__(self):
        checks = {
            "num_train_epochs": 1,
            "per_device_train_batch_size": 2,
            "per_device_eval_batch_size": 1,
            "gradient_accumulation_steps": 1,
            "checkpoints_total_limit": 1,
            "weight_decay": 0,
            "max_grad_norm": 0,
            "early_stopping_patience": 0,
            "early_stopping_threshold": 0,
            "seed": 0,
        }
        for name, least in checks.items():
            if not getattr(self, name) >= least:
                raise ValueError(f"--{name} must be at least {least}, got {getattr(self, name)}.")
        choices = {
            "lr_scheduler_type": SCHEDULERS,
            "mixed_precision": ("no", "bf16", "fp16"),
            "metric_for_best_model": HIGHER_IS_BETTER,
            "hub_strategy": ("end", "best"),
            "report_to": (None, *TRACKERS),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                names = ", ".join(str(value) for value in allowed if value)
                raise ValueError(f"--{name} must be one of {names}, got {getattr(self, name)}.")
        if (self.hub_model_id or self.hub_private_repo or self.hub_strategy != "end") and not self.push_to_hub:
            raise ValueError("--hub_model_id, --hub_private_repo and --hub_strategy need --push_to_hub.")
        if self.report_to and not TRACKERS[self.report_to]():
            raise ValueError(f"--report_to {self.report_to} needs a package: pip install {self.report_to}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"--learning_rate must be above 0, got {self.learning_rate}.")
        if not 0 <= self.warmup_ratio <= 1:
            raise ValueError(f"--warmup_ratio must be in 0–1, got {self.warmup_ratio}.")
        if self.checkpointing_steps != "epoch" and not (
            self.checkpointing_steps.isdigit() and int(self.checkpointing_steps) > 0
        ):
            raise ValueError(
                f"--checkpointing_steps must be a number of updates or epoch, got {self.checkpointing_steps}."
            )
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"--ema_decay must be in [0, 1), got {self.ema_decay}.")


@dataclass
class Arguments:
    """All arguments of a training, by group."""

    model: ModelArguments
    data: DataArguments
    train: TrainArguments
    augmentation: AugmentationArguments

    def to_dict(self) -> dict:
        """Names and values as on the command line."""
        groups = (getattr(self, group.name) for group in fields(self))
        values = {argument.name: getattr(group, argument.name) for group in groups for argument in fields(group)}
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def parse_arguments(arguments: list[str] | None = None) -> Arguments:
    """
    The command line as [`Arguments`].

    Raises:
        SystemExit: with a sentence, if an argument is not known or its value is out of range.
    """
    groups = (ModelArguments, DataArguments, TrainArguments, AugmentationArguments)
    parser = HfArgumentParser(groups, description="Trains an AgeGenderModel.", allow_abbrev=False)
    try:
        *values, unknown = parser.parse_args_into_dataclasses(
            arguments, return_remaining_strings=True, look_for_args_file=False
        )
    except ValueError as error:
        parser.error(str(error))
    if unknown:
        parser.error(f"unknown arguments: {' '.join(unknown)}")
    return Arguments(*values)
