"""What a training reads: the faces of a data set, more faces beside them, and the batches of both."""

import hashlib
import json
from dataclasses import dataclass

import datasets
import numpy as np
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list

from data.near_duplicates import find_near_duplicates, read_thumbnails
from data.sampling import MixingSampler, count_steps
from data.splits import describe_split
from data.streaming import Shards, choose_strategy, load_streamed_faces
from data.utkface import load_utkface
from training.arguments import Arguments, DataArguments


logger = datasets.logging.get_logger(__name__)


def load_extra_faces(arguments: DataArguments, dataset: datasets.DatasetDict) -> datasets.Dataset | None:
    """
    The faces of `--extra_data` without near-duplicates of images that measure; None where there is no such argument.

    Raises:
        ValueError: if a path holds no image to train on.
    """
    if not arguments.extra_data:
        return None
    parts = []
    for path in arguments.extra_data:
        source = load_utkface(path, arguments.strict, validation_share=0.0, test_share=0.0)
        if "train" not in source:
            raise ValueError(f"--extra_data {path} holds no training images, only {sorted(source)}.")
        parts.append(source["train"])
    extra = datasets.concatenate_datasets(parts)
    held_out = datasets.concatenate_datasets([split for name, split in dataset.items() if name != "train"])
    leaks = find_near_duplicates(read_thumbnails(extra), read_thumbnails(held_out))
    if leaks.any():
        logger.warning(f"{leaks.sum()} of {len(extra)} extra images resemble one that measures and are left out.")
    return extra.select(np.flatnonzero(~leaks))


def check_splits(dataset: datasets.DatasetDict, arguments: Arguments, num_processes: int):
    """Raises ValueError if there are not enough images to train on, or none to validate on."""
    for split in ("train", "validation"):
        if split not in dataset:
            raise ValueError(
                f"{arguments.data.data_dir} has no {split} images, only {sorted(dataset)}: it takes more images or "
                "another --validation_share."
            )
    images, batch_size = len(dataset["train"]), arguments.train.per_device_train_batch_size
    if images < batch_size * num_processes:
        raise ValueError(
            f"{images} training images do not fill one batch of {batch_size} on each of {num_processes} devices: lower "
            "--per_device_train_batch_size."
        )


def hash_content(images: datasets.Dataset) -> str:
    """
    Sum of the rows' sha256, of file name, age, gender and the image as it is encoded, whatever the order of the rows.

    Where there is no column image, as in what is known of a stream before it is read, the labels have to do.
    """
    columns = [name for name in ("file_name", "age", "gender", "image") if name in images.column_names]
    images = images.select_columns(columns)
    if "image" in columns:
        images = images.cast_column("image", datasets.Image(decode=False))
    total = 0  # of the rows' hashes, which no order changes and nothing of which has to be kept
    for batch in images.iter(1000):
        if "image" in columns:
            batch["image"] = [hashlib.sha256(image["bytes"]).hexdigest() for image in batch["image"]]
        for row in zip(*(batch[name] for name in columns)):
            total += int.from_bytes(hashlib.sha256(json.dumps(row).encode()).digest())
    return f"{total % 2**256:064x}"


@dataclass
class TrainingData:
    """
    All images of a training.

    Args:
        splits: train, validation and maybe test; of a stream, train has only names, ages and genders.
        extra: More images to train on.
        mixer: Draws an epoch from both; only where there are extra ones.
        shards: Where a stream reads its training images.
    """

    splits: datasets.DatasetDict
    extra: datasets.Dataset | None = None
    mixer: MixingSampler | None = None
    shards: Shards | None = None

    @property
    def num_extra_images(self) -> int:
        return 0 if self.extra is None else len(self.extra)

    @property
    def epoch_images(self) -> int:
        return len(self.mixer or self.splits["train"])

    def count_steps(self, batch_size: int, num_processes: int) -> int:
        """Steps of an epoch, each of one batch on each process."""
        if self.shards:
            return choose_strategy(self.shards.sizes, batch_size, num_processes)[1]
        return count_steps(self.epoch_images, batch_size, num_processes)

    def has_own_files(self, batch_size: int, num_processes: int) -> bool:
        """True if each of several processes reads files of its own; else all have done the first images of one order."""
        shards = self.shards
        return bool(shards and num_processes > 1) and (
            choose_strategy(shards.sizes, batch_size, num_processes)[0] == "shards"
        )

    def describe(self) -> dict:
        """What tells these images, and the order in which they come, from others; read by the main process, told to all."""
        return broadcast_object_list([self._describe() if PartialState().is_main_process else None])[0]

    def _describe(self) -> dict:
        description = describe_split(self.splits) | {"extra_images": self.num_extra_images}
        for split in ("train", "validation"):
            description[f"{split}_content_sha256"] = hash_content(self.splits[split])
        if self.extra is not None:
            description["extra_content_sha256"] = hash_content(self.extra)
        if self.shards:
            description["shards"] = self.shards.sizes
        return description


def load_training_data(arguments: Arguments, accelerator: Accelerator) -> TrainingData:
    """
    Builds the data set, or takes it from the cache; with `--streaming` finds out what there is to read.

    Raises:
        ValueError: if there is nothing to train or to validate on, or if it cannot be read in the way that was asked for.
    """
    data, shards = arguments.data, None
    with accelerator.main_process_first():
        if data.streaming:
            splits, shards = load_streamed_faces(data)
        else:
            splits = load_utkface(data.data_dir, data.strict, data.split_seed, data.validation_share)
    check_splits(splits, arguments, accelerator.num_processes)
    with accelerator.main_process_first():
        extra = load_extra_faces(data, splits)
    if extra is None:
        return TrainingData(splits, shards=shards)
    mixer = MixingSampler(len(splits["train"]), len(extra), data.extra_share, arguments.train.seed)
    return TrainingData(splits, extra, mixer)
