"""Reads tables that name images and hold their labels: CSV, TSV and JSON lines, beside the images or elsewhere."""

import codecs
import io
import os
import posixpath
import unicodedata
import warnings
from collections.abc import Collection, Iterable
from pathlib import PurePath, PurePosixPath
from typing import NamedTuple

import datasets
import pandas

from data.labels import clean_column, find_labels, read_labels
from data.tables import check_genders, check_label_columns


LABEL_FILE_SUFFIXES = (".csv", ".tsv", ".jsonl")
# `file_name` is the column of a `datasets` imagefolder, `file` that of FairFace. The first that a table has counts.
PATH_COLUMNS = ("filename", "image", "file", "path", "imagepath", "filepath", "imagename")
# Only tables of predict.py have it, and its answers are no labels.
PREDICTED_COLUMN = "detection_score"


class Row(NamedTuple):
    """A row of a table of labels."""

    table: str  # its path, with slashes
    image: str  # the path as it is written in the table, with slashes
    labels: dict


def is_label_file(name: str) -> bool:
    return name.lower().endswith(LABEL_FILE_SUFFIXES)


def decode(data: bytes) -> str:
    """Decodes a table as spreadsheets write it: UTF-8, UTF-16 with a byte order mark, or Windows' Western European."""
    is_utf_16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if is_utf_16 else "utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def read_label_file(name: str, data: bytes) -> list[Row]:
    """
    Reads a table of labels. Fields are separated by commas, semicolons or tabs, whichever the first line has most of.

    Raises:
        ValueError: if it is no table, or if it has no column of paths or of ages.
    """
    try:
        if name.lower().endswith(".jsonl"):
            frame = pandas.read_json(io.BytesIO(data), lines=True, dtype=False)
        else:
            text = decode(data)
            separator = max(",;\t", key=text.partition("\n")[0].count)
            with warnings.catch_warnings(action="error", category=pandas.errors.ParserWarning):
                # Without an index, which pandas takes from lines with more fields than the first.
                frame = pandas.read_csv(
                    io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, index_col=False
                )
    except pandas.errors.ParserWarning as error:
        raise ValueError(f"{name} has lines with more fields than its first line: put texts in quotes.") from error
    except ValueError as error:
        raise ValueError(f"{name} cannot be read as a table ({error}).") from error
    # As text, which is how labels are read: a column of numbers with gaps would hold fractions.
    table = datasets.Dataset.from_pandas(frame.astype(str), preserve_index=False)
    columns = {clean_column(column): column for column in reversed(table.column_names)}
    column = next((columns[path] for path in PATH_COLUMNS if path in columns), None)
    if column is None:
        raise ValueError(
            f"{name} has the columns {table.column_names}, but no column file_name with the paths of images."
        )
    if PREDICTED_COLUMN in columns.values():
        raise ValueError(
            f"{name} holds answers of predict.py: to train on them, delete its column {PREDICTED_COLUMN}."
        )
    check_label_columns(name, table.features)
    check_genders(name, datasets.DatasetDict(train=table))
    labels = {label: table.features[label] for label in find_labels(table.features)}
    return [
        Row(name, row[column].strip().replace("\\", "/"), read_labels(row, labels))
        for row in table.select_columns([column, *labels]).to_list()
    ]


def make_key(path: str) -> str:
    """Returns a path in the form that compares: macOS writes accents as characters of their own."""
    return unicodedata.normalize("NFC", path)


class ImageFinder:
    """
    Finds the images that rows name.

    Args:
        images: Paths of all images in a folder or archive, relative to it and with slashes.
        root: The folder. Rows may name images elsewhere on the disk too. None for an archive.
    """

    def __init__(self, images: Iterable[str], root: str | None):
        self.root = None if root is None else os.path.abspath(root)
        self.images = {make_key(image): image for image in images}
        self.by_name = {}
        for key in self.images:
            self.by_name.setdefault(posixpath.basename(key), []).append(key)
        self.folders = {str(folder) for key in self.images for folder in PurePosixPath(key).parents}

    def find(self, row: Row) -> str:
        """
        Returns the path of the image of a row, relative to the root.

        A path in a table is relative to the table or absolute. It may lack its first folders if one image has it.

        Raises:
            ValueError: if there is no such image, or more than one.
        """
        if row.image in ("", "nan", "None"):
            raise ValueError("the row names no image")
        folder = posixpath.dirname(row.table)
        path = os.path.normpath(os.path.join(self.root or "", folder, row.image))
        key = make_key(PurePath(path.removeprefix(os.path.join(self.root or "", ""))).as_posix())
        if key in self.images:
            return self.images[key]
        if self.root is not None and os.path.isfile(path):
            return PurePath(os.path.relpath(path, self.root)).as_posix()
        # The images of a table in a folder of its own lie elsewhere.
        below = f"{make_key(folder)}/" if make_key(folder) in self.folders else ""
        end = f"/{make_key(posixpath.normpath(row.image))}"
        found = [image for image in self.by_name.get(posixpath.basename(end), ()) if f"/{image}".endswith(end)]
        found = [image for image in found if image.startswith(below)]
        if not found:
            raise ValueError(f"{row.table} names it, but there is no such file: paths begin at the table")
        if len(found) > 1:
            raise ValueError(f"{row.table} names it, but several files end so: write their folders too")
        return self.images[found[0]]


class NamedImages:
    """
    Reads the tables of labels in a folder or archive, and finds the images that they name.

    Args:
        files: Content of each table by its path, relative to the folder or archive and with slashes.
        images, root: As in `ImageFinder`.

    Attributes:
        rows: Rows by the path of their image.
        unusable: Image and reason of each other row.
        tables: Paths of the tables that were read.
        refused: A sentence for each table that was not read.
        unnamed: Images without a row, if tables were read.
    """

    def __init__(self, files: dict[str, bytes], images: Collection[str], root: str | None = None):
        self.rows, self.unusable, self.tables, self.refused = {}, [], [], []
        finder = ImageFinder(images, root)
        for name, data in files.items():
            try:
                rows = read_label_file(name, data)
            except ValueError as error:
                self.refused.append(str(error))
                continue
            self.tables.append(name)
            for row in rows:
                try:
                    path = finder.find(row)
                    if path in self.rows:
                        raise ValueError(f"{name} names it again: only the first row with an image counts")
                    self.rows[path] = row
                except ValueError as error:
                    self.unusable.append((row.image, str(error)))
        self.unnamed = [image for image in images if image not in self.rows] if self.tables else []


def describe_label_files(parts: Iterable[NamedImages]) -> tuple[str, list[str]]:
    """Returns the names of tables of labels, "" if there are none, and sentences about what was not used."""
    parts = list(parts)
    tables, refused, unnamed = (
        [value for part in parts for value in getattr(part, name)] for name in ("tables", "refused", "unnamed")
    )
    if unnamed:
        count = "1 image is" if len(unnamed) == 1 else f"{len(unnamed):,} images are"
        refused.append(f"{count} in no table and passed over, such as {unnamed[0]}.")
    return ", ".join(tables[:3]) + (" …" if len(tables) > 3 else ""), refused
