"""The arguments of train.py."""

import math
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from transformers.hf_argparser import HfArg, HfArgumentParser

from data.augmentation import AugmentationArguments
from metrics.age_gender import HIGHER_IS_BETTER


# Defaults of the arguments that depend on the start: face-pretrained or random weights, and a trained model.
DEFAULTS = {
    "num_train_epochs": (10, 3),
    "per_device_train_batch_size": (64, 16),
    "learning_rate": (1e-3, 1e-4),
    "freeze_batch_norm": (False, True),
    "teacher_weight": (0.5, 0.85),
}
FULL_TRAINING, FINE_TUNING = ({name: pair[start] for name, pair in DEFAULTS.items()} for start in range(2))
# The names of transformers.get_scheduler that need no further argument.
SCHEDULERS = ("linear", "cosine", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt")


def make_list(help: str):
    """Makes the field of a list whose values may also be given by repeating the argument."""
    return HfArg(default_factory=list, help=help, metadata={"action": "extend"})


def make_start_dependent(name: str, help: str, **metadata):
    """Makes the field of an argument whose default depends on the start."""
    help = f"{help} None: {FULL_TRAINING[name]}, from a trained model {FINE_TUNING[name]}."
    return HfArg(default=None, help=help, metadata=metadata)


def check_least(arguments, **least: float):
    """Raises ValueError if a number among the arguments is smaller than given; None is allowed."""
    for name, number in least.items():
        value = getattr(arguments, name)
        if value is not None and not value >= number:
            raise ValueError(f"--{name} must be at least {number}, got {value}.")


@dataclass
class ModelArguments:
    """The model to train."""

    model: str | None = HfArg(default=None, help="AgeGenderModel to start from: a folder or a Hub id.")
    config: Path | None = HfArg(default=None, help="JSON of the network. Default: configs/mobilenet.json.")
    from_scratch: bool = HfArg(default=False, help="Start from random weights.")
    config_overrides: list[str] = make_list("Other values of config fields, as in gender_loss_weight=2.0 depths=[1,2]")
    teacher: list[str] = make_list(
        "AgeGenderModels to learn from besides the labels: folders or Hub ids. A trained model learns from itself too."
    )
    teacher_weight: float | None = make_start_dependent(
        "teacher_weight", "Weight of the teachers beside the labels, 0–1."
    )
    start_share: float = HfArg(
        default=0.0, help="Average the trained weights with the start's, which have this share in the result, 0–1."
    )

    def __post_init__(self):
        if self.teacher_weight is not None and not 0 <= self.teacher_weight <= 1:
            raise ValueError(f"--teacher_weight must be in 0–1, got {self.teacher_weight}.")
        if not 0 <= self.start_share <= 1:
            raise ValueError(f"--start_share must be in 0–1, got {self.start_share}.")
        if self.start_share and self.from_scratch:
            raise ValueError(
                "--start_share averages with the weights of --model, but --from_scratch starts without any."
            )
        if self.from_scratch == (self.model is not None):
            raise ValueError("Give either --model FOLDER_OR_ID to start from, or --from_scratch.")
        if self.config and not self.from_scratch:
            raise ValueError("--config describes a network for --from_scratch; --model has its own.")
        if self.from_scratch and self.config is None:
            self.config = Path(__file__).parents[1] / "configs" / "mobilenet.json"


@dataclass
class DataArguments:
    """The images to train on."""

    data_dir: str = HfArg(
        help="UTKFace or your own faces: folder, tar or zip archive, table (CSV, Parquet) or data set id."
    )
    extra_data: list[str] = make_list("More faces, in the same forms as --data_dir; labels may be missing.")
    extra_share: float = HfArg(default=0.3, help="Share of the images of an epoch that is from --extra_data, 0–1.")
    age_balance: float = HfArg(
        default=0.0, help="Draw rare ages more often: 0 all images alike, 1 all ages alike, 0–1."
    )
    strict: bool = HfArg(default=False, help="Stop at the first unusable image instead of skipping it.")
    split_seed: int | None = HfArg(default=None, help="Seed of other validation images than those in splits/.")
    validation_share: float | None = HfArg(default=None, help="Share of validation images, 0–1. Default: 0.1.")
    streaming: bool = HfArg(default=False, help="Read training images from Parquet files or the Hub while training.")
    shuffle_buffer_size: int = HfArg(default=5000, help="With --streaming: images to shuffle in memory, per device.")
    dataloader_num_workers: int = HfArg(default=2, help="Processes that decode images, per device.")

    def __post_init__(self):
        if self.validation_share is not None and not 0 < self.validation_share < 1:
            raise ValueError(f"--validation_share must be between 0 and 1, got {self.validation_share}.")
        if not 0 < self.extra_share < 1:
            raise ValueError(f"--extra_share must be between 0 and 1, got {self.extra_share}.")
        if not 0 <= self.age_balance <= 1:
            raise ValueError(f"--age_balance must be in 0–1, got {self.age_balance}.")
        if self.streaming:
            for name in ("extra_data", "age_balance", "split_seed", "validation_share"):
                if getattr(self, name) not in (None, [], 0.0):
                    raise ValueError(f"--{name} needs a data set that is built, but --streaming takes it as it is.")
        check_least(self, shuffle_buffer_size=1, split_seed=0, dataloader_num_workers=0)


@dataclass
class TrainArguments:
    """The training. Arguments of None get their values from `Arguments.set_defaults`."""

    output_dir: Path = HfArg(help="Folder for checkpoints and, at the end, the model.")
    num_train_epochs: int | None = make_start_dependent(
        "num_train_epochs", "Passes over the training images; 0 calibrates --model."
    )
    per_device_train_batch_size: int | None = make_start_dependent(
        "per_device_train_batch_size", "Images in one step on one device."
    )
    per_device_eval_batch_size: int = HfArg(default=64, help="Images in one evaluation step.")
    gradient_accumulation_steps: int = HfArg(default=1, help="Steps before each update of the weights.")
    learning_rate: float | None = make_start_dependent("learning_rate", "Largest learning rate of AdamW.")
    encoder_learning_rate: float | None = HfArg(
        default=None,
        help="Rate of the encoders; 0 trains the heads alone, several times as fast, and with --unchanged 1 on features "
        "that are computed once. None: --learning_rate.",
    )
    freeze_batch_norm: bool | None = make_start_dependent(
        "freeze_batch_norm",
        "Keep the statistics of batch normalization, which few images blur.",
        nargs="?",
        const=True,
    )
    lr_scheduler_type: Literal[SCHEDULERS] = HfArg(default="cosine", help="Schedule of the learning rate.")
    warmup_ratio: float = HfArg(default=0.1, help="Share of the updates with a growing rate, 0–1.")
    weight_decay: float = HfArg(default=0.05, help="Weight decay of kernels and matrices.")
    max_grad_norm: float = HfArg(default=5.0, help="Largest norm of the gradients; 0 is off.")
    ema_decay: float = HfArg(default=0.999, help="Decay of the averaged weights per update; 0 is off.")
    mixed_precision: Literal["no", "bf16", "fp16"] = HfArg(default="no", help="bf16 is up to three times as fast.")
    half_precision_weights: bool = HfArg(
        default=False, help="Store kernels and matrices as float16, in half the space."
    )
    torch_compile: bool = HfArg(default=False, help="Compile the network (some minutes at the start).")
    gradient_checkpointing: bool = HfArg(default=False, help="Recompute activations: less memory, more time.")
    sync_batchnorm: bool = HfArg(default=False, help="Batch normalization over the batches of all GPUs.")
    metric_for_best_model: Literal[tuple(HIGHER_IS_BETTER)] = HfArg(default="loss", help="It selects the best epoch.")
    early_stopping_patience: int = HfArg(default=4, help="Epochs without improvement before stopping; 0 is off.")
    early_stopping_threshold: float = HfArg(default=0.0, help="Changes of the metric up to this are no improvement.")
    checkpointing_steps: str = HfArg(default="epoch", help="Updates between checkpoints, or epoch.")
    checkpoints_total_limit: int = HfArg(default=2, help="Number of checkpoints to keep.")
    resume_from_checkpoint: str | None = HfArg(
        default=None, help="Folder of a checkpoint, or latest, which starts a new training where there is none yet."
    )
    report_to: Literal["tensorboard", "wandb", "trackio"] | None = HfArg(default=None, help="Metrics tracker.")
    seed: int = HfArg(default=0, help="Seed of weights, order and augmentation.")
    push_to_hub: bool = HfArg(default=False, help="Upload the result to the Hub.")
    hub_model_id: str | None = HfArg(default=None, help="user/name. Default: name of --output_dir.")
    hub_private_repo: bool = HfArg(default=False, help="With --push_to_hub: make it a private repo.")
    hub_strategy: Literal["end", "best"] = HfArg(
        default="end", help="Upload once at the end, or also after each epoch that is the best so far."
    )

    def __post_init__(self):
        check_least(
            self,
            num_train_epochs=0,
            per_device_train_batch_size=2,
            per_device_eval_batch_size=1,
            gradient_accumulation_steps=1,
            checkpoints_total_limit=1,
            weight_decay=0,
            max_grad_norm=0,
            early_stopping_patience=0,
            early_stopping_threshold=0,
            encoder_learning_rate=0,
            seed=0,
        )
        if (self.hub_model_id or self.hub_private_repo or self.hub_strategy != "end") and not self.push_to_hub:
            raise ValueError("--hub_model_id, --hub_private_repo and --hub_strategy need --push_to_hub.")
        if self.report_to and not find_spec(self.report_to):  # accelerate would ignore it silently
            raise ValueError(f"--report_to {self.report_to} needs a package: pip install {self.report_to}")
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise ValueError(f"--learning_rate must be above 0, got {self.learning_rate}.")
        if not 0 <= self.warmup_ratio <= 1:
            raise ValueError(f"--warmup_ratio must be in 0–1, got {self.warmup_ratio}.")
        every = self.checkpointing_steps
        if every != "epoch" and not (every.isdigit() and int(every) > 0):
            raise ValueError(f"--checkpointing_steps must be a number of updates or epoch, got {every}.")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"--ema_decay must be in [0, 1), got {self.ema_decay}.")


@dataclass
class Arguments:
    """All arguments of a training, by group."""

    model: ModelArguments
    data: DataArguments
    train: TrainArguments
    augmentation: AugmentationArguments

    def __post_init__(self):
        if self.train.num_train_epochs == 0 and self.model.from_scratch:
            raise ValueError("--num_train_epochs 0 calibrates the weights of --model, but --from_scratch has none.")

    def set_defaults(self, is_trained: bool):
        """Sets what was not given, by the start: a trained model, which is also its own teacher, or other weights."""
        for name, value in (FINE_TUNING if is_trained else FULL_TRAINING).items():
            group = self.model if hasattr(self.model, name) else self.train
            if getattr(group, name) is None:
                setattr(group, name, value)
        if is_trained and not self.model.teacher and self.model.teacher_weight:
            self.model.teacher = [self.model.model]

    def have_fixed_features(self) -> bool:
        """Returns whether the encoders give the same features for an image in each epoch."""
        changes = self.train.encoder_learning_rate != 0 or self.augmentation.unchanged != 1
        return not (changes or self.data.streaming or self.model.teacher)

    def to_dict(self) -> dict:
        """Returns names and values as on the command line."""
        groups = (getattr(self, group.name) for group in fields(self))
        values = {argument.name: getattr(group, argument.name) for group in groups for argument in fields(group)}
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def parse_arguments(arguments: list[str] | None = None) -> Arguments:
    """
    Parses the command line.

    Raises:
        SystemExit: with a sentence, if an argument is not known or its value is out of range.
    """
    groups = (ModelArguments, DataArguments, TrainArguments, AugmentationArguments)
    parser = HfArgumentParser(groups, description="Trains an AgeGenderModel.", allow_abbrev=False)
    try:
        *values, unknown = parser.parse_args_into_dataclasses(
            arguments, return_remaining_strings=True, look_for_args_file=False
        )
        parsed = Arguments(*values)
    except ValueError as error:
        parser.error(str(error))
    if unknown:
        parser.error(f"unknown arguments: {' '.join(unknown)}")
    return parsed
