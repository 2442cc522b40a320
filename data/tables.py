"""Loads tables of faces: Parquet files and data sets of the Hub."""

import glob
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePath

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets.exceptions import DatasetGenerationError

from data.labels import UTKFACE_NAME, find_labels, read_word
from hub.errors import plain_errors
from image_reading import is_address


logger = datasets.logging.get_logger(__name__)

SPLIT_NAMES = ("train", "validation", "test")
LABEL_LIKE = re.compile(r"^age|[\W_]ages?$|gender|male|\bsex|_sex|^years?$|^labels?$|^class$", re.IGNORECASE)
SPLIT_ALIASES = {"training": "train", "val": "validation", "valid": "validation", "dev": "validation"}


def is_parquet(file: str) -> bool:
    return file.lower().endswith(".parquet")


def read_name(row: dict, fallback: str) -> str:
    """Returns the name of a flattened row: its `file_name`, or the file name of its image if UTKFace has such names."""
    name = Path(row.get("image.path") or "").name
    return row.get("file_name") or (name if UTKFACE_NAME.match(name) else fallback)


def find_split(file: PurePath) -> str | None:
    """Returns the split that a file or folder is named for, as in test-00000-of-00002.parquet; None for “test photos”."""
    for part in reversed(file.parts):
        word = re.match(r"([a-z]+(?![a-z\s']))?", part.lower()).group()
        split = SPLIT_ALIASES.get(word, word)
        if split in SPLIT_NAMES:
            return split
    return None


def group_by_split(source: str, files: list[str]) -> dict[str, list[str]]:
    """Groups Parquet files by their splits; `source` is their folder, a pattern or a single file."""
    by_split, root = {}, source if os.path.isdir(source) else os.path.dirname(files[0])
    for file in files:
        by_split.setdefault(find_split(Path(os.path.relpath(file, root))) or "train", []).append(file)
    return by_split


def escape_files(by_split: dict[str, list[str]]) -> dict[str, list[str]]:
    """Escapes what `datasets` would take for patterns in the names of files."""
    return {split: [glob.escape(file) for file in files] for split, files in by_split.items()}


def rename_splits(by_split: dict) -> dict:
    """Replaces the usual other names of splits by those of `SPLIT_NAMES`."""
    return {SPLIT_ALIASES.get(name, name): split for name, split in by_split.items()}


def explain_absence(source: str) -> AbstractContextManager:
    """Returns a context that raises ValueError if a data set of the Hub cannot be loaded. Raises it for an address."""
    if is_address(source):
        raise ValueError(
            f"{source!r} is an address, of which only the page and the pipeline read photos: download it first."
        )
    return plain_errors(
        f"{source!r} is no file or folder here, and it could not be loaded from the Hub either",
        "Give a folder of images, its .tar.gz or .zip, a table (Parquet, with labels also CSV), or a data set id.",
    )


@contextmanager
def raise_cause() -> Iterator[None]:
    """Raises the cause of a DatasetGenerationError, whose own message does not tell it."""
    try:
        yield
    except DatasetGenerationError as error:
        raise (error.__cause__ or error) from None


def load_table(source: str, files: list[str]) -> datasets.DatasetDict:
    """
    Loads Parquet files by split, or a data set of the Hub if there are no files.

    Raises:
        ValueError: if there is no such data set, if a file is damaged, or if there is no column of images.
    """
    for file in files:
        try:
            pq.read_schema(file)
        except (OSError, pa.ArrowException) as error:  # which does not name the file
            raise ValueError(f"{file} is no Parquet file, or a damaged one ({error}).") from error
    with raise_cause():
        if files:
            table = datasets.load_dataset("parquet", data_files=escape_files(group_by_split(source, files)))
        else:
            with explain_absence(source):
                table = datasets.load_dataset(source)
            table = datasets.DatasetDict(rename_splits(table))
    check_columns(source, next(iter(table.values())).features, "image")
    return table


def check_columns(source: str, features: datasets.Features, *columns: str):
    """Raises ValueError if a table lacks a column."""
    missing = [column for column in columns if column not in features]
    if missing:
        raise ValueError(f"{source!r} has the columns {sorted(features)}, but lacks {missing}.")


def check_label_columns(source: str, features: datasets.Features):
    """
    Logs the columns that look like labels but are not read.

    Raises:
        ValueError: if a table has no ages, or two columns for the same label.
    """
    labels = find_labels(features)
    if len(set(labels.values())) < len(labels):
        raise ValueError(f"{source!r} has two columns for one label, {labels}: keep one of them.")
    if not {"age", "age_low", "age_high"} & set(labels.values()):
        check_columns(source, features, "age")
    if unread := [column for column in features if LABEL_LIKE.search(column) and column not in labels]:
        logger.warning(
            f"{source} has the columns {unread}, which are not read: labels are age, age_low, age_high, gender."
        )


def check_genders(source: str, table: datasets.DatasetDict):
    """Raises ValueError if a table numbers genders 1 and 2, of which 1 may be male there."""
    for split in table.values():
        for column in (name for name, label in find_labels(split.features).items() if label == "gender"):
            feature = split.features[column]
            values = getattr(feature, "names", ())
            if isinstance(feature, datasets.Value):
                values = split.unique(column)
            if "2" in (words := set(map(read_word, values))) and "0" not in words:
                raise ValueError(
                    f"{source!r} numbers the genders of its column {column!r} 1 and 2. Here 0 is male and 1 is female, so "
                    "write them as words."
                )
