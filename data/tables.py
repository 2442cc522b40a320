"""Reads images and labels from tables: Parquet files and data sets of the Hub."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets.exceptions import DatasetGenerationError

from data.labels import UTKFACE_NAME, name_labels
from hub.errors import explain, find_cause


SPLIT_NAMES = ("train", "validation", "test")
SPLIT_ALIASES = {"training": "train", "val": "validation", "valid": "validation", "dev": "validation"}


class Entry(NamedTuple):
    """One image as a reader found it, not read yet; `labels` and `split` where the source carries them beside the name."""

    path: str  # in the folder or archive
    name: str  # the last part of the path, or what a table calls it
    read: Callable[[], bytes]  # only before the next entry is asked for
    labels: dict | None = None
    split: str | None = None


def name_row(row: dict, fallback: str) -> str:
    """What a row of a flattened table is called: by its column `file_name`, else by its image's path if that is UTKFace's."""
    name = Path(row.get("image.path") or "").name
    return row.get("file_name") or (name if UTKFACE_NAME.match(name) else fallback)


def read_table(dataset_dict: datasets.DatasetDict, has_splits: bool) -> Iterator[Entry]:
    """The rows of a Parquet folder or Hub data set, with the names of its splits where these mean anything."""
    for split_name, split in dataset_dict.items():
        features = split.features
        # A format may name columns, as it does after a concatenation, and not know those of the flattened table.
        split = split.cast_column("image", datasets.Image(decode=False)).flatten().with_format(None)
        images = split.select_columns(["image.bytes", "image.path"])
        for index, row in enumerate(split.remove_columns("image.bytes")):
            name, read = name_row(row, f"{split_name}-{index}"), partial(read_cell, images, index)
            yield Entry(name, name, read, name_labels(row, features), split_name if has_splits else None)


def read_cell(images: datasets.Dataset, index: int) -> bytes:
    """The content of the image in a row; nothing where the row has none."""
    data, path = images[index].values()
    return data if data is not None else Path(path).read_bytes() if path else b""


def find_split(file: Path) -> str:
    """The split that the first word of a file's name says, as in test-00000-of-00002.parquet, or its folder; else train."""
    for part in reversed(file.parts):
        word = re.match(r"[a-z]*", part.lower()).group()
        split = SPLIT_ALIASES.get(word, word)
        if split in SPLIT_NAMES:
            return split
    return "train"


def group_by_split(source: str, files: list[str]) -> dict[str, list[str]]:
    """Parquet files, at `source` or below it, by the splits that their names say."""
    by_split, root = {}, source if os.path.isdir(source) else os.path.dirname(files[0])
    for file in files:
        by_split.setdefault(find_split(Path(os.path.relpath(file, root))), []).append(file)
    return by_split


@contextmanager
def explain_absence(source: str):
    """Turns whatever keeps a data set of the Hub from being loaded into a ValueError."""
    try:
        yield
    except Exception as error:
        reason = explain(error) if find_cause(error) else error
        raise ValueError(
            f"{source!r} is no file or folder here, and it could not be loaded from the Hub either ({reason}). Give "
            "a folder of images, its .tar.gz or .zip, a folder of Parquet files, or a data set id."
        ) from error


def rename_splits(by_split: dict) -> dict:
    """The same under the names of SPLIT_NAMES where a split has another usual one."""
    return {SPLIT_ALIASES.get(name, name): split for name, split in by_split.items()}


@contextmanager
def explain_damaged_table(source: str, files: list[str]):
    """Turns what Parquet files that cannot be read raise into a ValueError that names the first of them."""
    try:
        yield
    except DatasetGenerationError as error:
        if find_cause(error):
            raise ValueError(f"{source} could not be read: {explain(error)}.") from error
        for file in files:
            try:
                pq.read_schema(file)
            except (OSError, pa.ArrowException) as damage:
                raise ValueError(f"{file} is no Parquet file, or a damaged one ({damage}).") from error
        raise ValueError(f"{source} could not be read: {error.__cause__ or error}") from error


def load_table(source: str, files: list[str]) -> datasets.DatasetDict:
    """Parquet files, by split, or where there is none a Hub data set. Raises ValueError if there is no such thing."""
    if files:
        with explain_damaged_table(source, files):
            table = datasets.load_dataset("parquet", data_files=group_by_split(source, files))
    else:
        with explain_absence(source):
            table = datasets.load_dataset(source)
        table = datasets.DatasetDict(rename_splits(table))
    check_image(source, next(iter(table.values())).features)
    return table


def check_image(source: str, features: datasets.Features):
    """Raises ValueError if a table has no images."""
    if "image" not in features:
        raise ValueError(f"{source!r} has the columns {sorted(features)}, but lacks ['image'].")


def check_age(source: str, features: datasets.Features):
    """Raises ValueError if a table cannot be trained or measured on."""
    if "age" not in features:
        raise ValueError(f"{source!r} has the columns {sorted(features)}, but lacks ['age'].")
    if isinstance(features["age"], datasets.ClassLabel):
        raise ValueError(f"{source!r} has classes of ages, {features['age'].names[:3]} and so on, but needs years.")
