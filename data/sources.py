"""Reads images, labelled or not, from folders, archives, Parquet files and data sets of the Hub."""

import glob
import hashlib
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePath
from typing import NamedTuple

import datasets

from data.labels import read_labels
from data.tables import SPLIT_NAMES, check_labelled_table, is_parquet, load_table, read_name


# HEIC too, though it cannot be decoded here: such photos are reported, not passed over.
IMAGE_SUFFIXES = ".jpg .jpeg .jfif .png .webp .bmp .gif .tif .tiff .avif .heic .heif".split()
READING_ERRORS = (OSError, RuntimeError, ValueError)


class Entry(NamedTuple):
    """An image that is not read yet. `labels` is None if the file name holds them, `split` if the source has no splits."""

    path: str  # in the folder or archive
    name: str  # the last part of the path, or the name of a table's row
    read: Callable[[], bytes]  # must be called before the next entry is taken; raises READING_ERRORS
    labels: dict | None = None
    split: str | None = None


def is_image(name: str) -> bool:
    return PurePath(name).suffix.lower() in IMAGE_SUFFIXES


def list_files(folder: str, above: tuple[str, ...] = ()) -> Iterator[str]:
    """Lists the files in and below a folder by sorted paths, but follows no link to a folder `above`."""
    above = (*above, os.path.realpath(folder))
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir():
            if os.path.realpath(entry.path) not in above:
                yield from list_files(entry.path, above)
        elif entry.is_file():
            yield entry.path


@contextmanager
def explain_damage(path: str) -> Iterator[None]:
    """Raises ValueError instead of the many errors of a damaged archive; works as a decorator too."""
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise ValueError(f"{path} is damaged ({error}): fetch it again.") from error


def find_files(path: str) -> list[str]:
    """Lists the files of a folder, a file or a pattern of paths; none if the path is the id of a data set."""
    if os.path.isdir(path):
        return list(list_files(path))
    if os.path.exists(path) or not glob.has_magic(path):
        return [path] if os.path.exists(path) else []
    files = list(filter(os.path.isfile, sorted(glob.glob(path, recursive=True))))
    if not files:
        raise ValueError(f"No file has a path like {path}.")
    return files


def read_files(files: list[str], root: str) -> Iterator[Entry]:
    """Yields files, their paths relative to `root` unless that is empty."""
    for file in files:
        yield Entry(os.path.relpath(file, root) if root else file, os.path.basename(file), Path(file).read_bytes)


def read_tar(path: str) -> Iterator[Entry]:
    """Yields the images of a tar archive, compressed or not, without unpacking it."""
    with tarfile.open(path) as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # which would grow
            if member.isfile() and is_image(member.name):
                read = explain_damage(path)(lambda member=member: archive.extractfile(member).read())
                yield Entry(member.name, Path(member.name).name, read)


def read_zip(path: str) -> Iterator[Entry]:
    """Yields the images of a zip archive without unpacking it."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.is_dir() and is_image(member.filename):
                read = explain_damage(path)(partial(archive.read, member))
                yield Entry(member.filename, Path(member.filename).name, read)


def read_table(table: datasets.DatasetDict, has_splits: bool) -> Iterator[Entry]:
    """Yields the rows of a table, with the names of its splits if `has_splits`."""
    for split_name, split in table.items():
        features = split.features
        # A concatenated data set has a format with column names, which flattening does not rename.
        split = split.cast_column("image", datasets.Image(decode=False)).flatten().with_format(None)
        images = split.select_columns(["image.bytes", "image.path"])
        for index, row in enumerate(split.remove_columns("image.bytes")):
            name, read = read_name(row, f"{split_name}-{index}"), partial(read_cell, images, index)
            yield Entry(name, name, read, read_labels(row, features), split_name if has_splits else None)


def read_cell(images: datasets.Dataset, index: int) -> bytes:
    """Reads the image of a row; returns no bytes where the row has none."""
    data, path = images[index].values()
    return data if data is not None else Path(path).read_bytes() if path else b""


class Source:
    """
    The images at a path, stored in any of the supported forms.

    Args:
        data_dir: A folder, a tar or zip archive, a Parquet file, a pattern of paths as `photos/*.jpg`, or a Hub id.
        labelled: If False, accepts also tables without ages, and images by their paths.
        table: The splits of the data set at `data_dir`, if they are loaded already.
        left_out: Prefix of paths to leave out, for instance of results that are written beside the images.

    Raises:
        ValueError: if the path is none of these, or if images and tables are mixed and `labelled` is False.
    """

    def __init__(
        self,
        data_dir: str | Path,
        labelled: bool = True,
        table: datasets.DatasetDict | None = None,
        left_out: Path | None = None,
    ):
        path = Path(data_dir)
        # Resolved, so that the cache finds a path however it is written.
        self.data_dir = str(path.resolve()) if path.exists() else str(data_dir)
        self.table, self.files = table, [] if table else find_files(self.data_dir)
        if left_out is not None:
            start = os.path.join(os.path.realpath(left_out.parent), left_out.name)
            self.files = [file for file in self.files if not os.path.abspath(file).startswith(start)]
        self._read = self._choose_reader(labelled)

    def _choose_reader(self, labelled: bool) -> Callable[[], Iterator[Entry]]:
        if self.table:
            return partial(read_table, self.table, has_splits=True)
        path, is_file = self.data_dir, os.path.isfile(self.data_dir)
        tables, images = list(filter(is_parquet, self.files)), list(filter(is_image, self.files))
        if tables and images and not labelled:
            raise ValueError(
                f"{path} holds both images and Parquet files, such as {images[0]} and {tables[0]}: give one of them "
                "alone, as a path or as a pattern in quotes ('photos/**/*.jpg')."
            )
        if os.path.isdir(path) and not tables:
            self.files = images
            return partial(read_files, images, path)
        if is_file and tarfile.is_tarfile(path):
            return partial(read_tar, path)
        if is_file and zipfile.is_zipfile(path):
            return partial(read_zip, path)
        if self.files and not tables:
            if labelled:
                raise ValueError(f"{path} is neither a tar or zip archive nor a Parquet file.")
            return partial(read_files, self.files, "")
        self.files, self.table = tables, load_table(path, tables)
        has_splits = len(self.table) > 1
        if labelled:
            check_labelled_table(path, self.table)
            if has_splits and not set(self.table) <= set(SPLIT_NAMES):
                known = ", ".join(SPLIT_NAMES)
                raise ValueError(f"{path!r} has the splits {sorted(self.table)}; known are {known}.")
        return partial(read_table, self.table, has_splits)

    def entries(self) -> Iterator[Entry]:
        """
        Yields all images, always in the same order.

        Raises:
            ValueError: if an archive is damaged.
        """
        with explain_damage(self.data_dir):
            yield from self._read()

    def fingerprint(self) -> str:
        """Returns a hash that changes with the name, size or date of any file."""
        digest = hashlib.sha256(os.fsencode(self.data_dir))
        for file in self.files:
            status = os.stat(file)
            digest.update(os.fsencode(f"{file}|{status.st_size}|{status.st_mtime_ns}\n"))
        for split in (self.table or {}).values():
            # `datasets` keeps a table in a folder named for its files and, of the Hub, their commit.
            digest.update("".join(file["filename"] for file in split.cache_files).encode())
        return digest.hexdigest()[:16]
