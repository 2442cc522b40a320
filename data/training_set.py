"""The images of a training: the splits of a data set, and extra faces beside them."""

import hashlib
from dataclasses import dataclass

import datasets
import numpy as np
from accelerate import PartialState

from data.near_duplicates import find_near_duplicates, read_thumbnails
from data.streaming import Shards, load_streamed_faces
from data.utkface import load_utkface


logger = datasets.logging.get_logger(__name__)


@dataclass
class TrainingData:
    """
    The images of a training.

    Args:
        splits: train, validation and optionally test. If the training images are streamed, train has only their names
            and labels.
        extra: Extra training images.
        shards: The files of the training images, if they are streamed.
    """

    splits: datasets.DatasetDict
    extra: datasets.Dataset | None = None
    shards: Shards | None = None

    def describe(self) -> dict:
        """Returns hashes of names and labels, which identify the images."""
        images = {"train": self.splits["train"], "validation": self.splits["validation"], "extra": self.extra}
        return {f"{name}_sha256": hash_labels(part) if part else None for name, part in images.items()}

    def find_ages(self) -> np.ndarray:
        """
        Returns the ages of the training images, then of the extra ones, in whole years: int, shape `(num_images,)`.

        The age of a band is its middle, and -1 stands for an unknown one.
        """
        parts = [self.splits["train"]] + ([self.extra] if self.extra else [])
        low, high = (
            np.array([age for part in parts for age in part[name]], float) for name in ("age_low", "age_high")
        )
        return np.nan_to_num((low + high) / 2, nan=-1).round().astype(int)


def hash_labels(images: datasets.Dataset) -> str:
    """Returns the SHA-256 of file names, ages or bands of ages, and genders, whatever the order of the rows."""
    columns = [images[name] for name in ("file_name", "age_low", "age_high", "gender")]
    rows = [(name, low if low == high else (low, high), gender) for name, low, high, gender in zip(*columns)]
    return hashlib.sha256("\n".join(sorted(map(str, rows))).encode()).hexdigest()


def load_extra_faces(paths: list[str], held_out: list[datasets.Dataset], strict: bool) -> datasets.Dataset:
    """
    Loads extra training images, without near-duplicates of the evaluation images.

    Raises:
        ValueError: if a path holds no training image.
    """
    parts = []
    for path in paths:
        splits = load_utkface(path, strict, validation_share=0.0, test_share=0.0)
        if "train" not in splits:
            raise ValueError(f"--extra_data {path} holds no training images, only {sorted(splits)}.")
        parts.append(splits["train"])
    extra = datasets.concatenate_datasets(parts)
    thumbnails = [read_thumbnails(images) for images in (extra, datasets.concatenate_datasets(held_out))]
    leaks = find_near_duplicates(*thumbnails)
    if leaks.any():
        logger.warning(f"{leaks.sum()} of {len(extra)} extra images resemble an evaluation image and are left out.")
    return extra.select(np.flatnonzero(~leaks))


def load_training_data(
    data_dir: str,
    *,
    extra_data: list[str],
    strict: bool,
    split_seed: int | None,
    validation_share: float | None,
    streaming: bool,
) -> TrainingData:
    """
    Loads the images of a training. The main process builds what the cache does not hold; the others wait for it.

    Args:
        data_dir, strict, split_seed, validation_share: As in `load_utkface`.
        extra_data: Sources of extra training images, in the same forms.
        streaming: If True, leaves the training images to `make_streaming_dataloader`.

    Raises:
        ValueError: if there are no training or validation images, or if the data cannot be read.
    """
    shards = extra = None
    with PartialState().main_process_first():
        if streaming:
            splits, shards = load_streamed_faces(data_dir, strict)
        else:
            splits = load_utkface(data_dir, strict, split_seed, validation_share)
        for split in ("train", "validation"):
            if split not in splits:
                raise ValueError(
                    f"{data_dir} has no {split} images, only {sorted(splits)}: it takes more images or another "
                    "--validation_share."
                )
        if extra_data:
            held_out = [images for name, images in splits.items() if name != "train"]
            extra = load_extra_faces(extra_data, held_out, strict)
    return TrainingData(splits, extra, shards)
