"""Reads pictures, with labels or without, from what people have: folders, archives, Parquet files, the Hub's data sets."""

import glob
import hashlib
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePath
from typing import NamedTuple

import datasets

from data.tables import SPLIT_NAMES, Entry, check_age, load_table, read_table


# Of photos that cannot be read here (HEIC) too: whoever has them is told so.
IMAGE_SUFFIXES = {
    ".jpg",
    ".jpeg",
    ".jfif",
    ".png",
    ".webp",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".avif",
    ".heic",
    ".heif",
}
# What reading one image from a folder or an archive may raise.
READING_ERRORS = (OSError, EOFError, RuntimeError, ValueError, tarfile.TarError, zipfile.BadZipFile, zlib.error)


class Record(NamedTuple):
    """The content of an [`Entry`]."""

    name: str
    data: bytes
    labels: dict | None = None
    split: str | None = None


def is_image(name: str) -> bool:
    """Whether a file's name says that it is an image."""
    return PurePath(name).suffix.lower() in IMAGE_SUFFIXES


def list_files(folder: str, above: tuple[str, ...] = ()) -> Iterator[str]:
    """
    The files of a folder and of all folders below it, in the order of the parts of their paths.

    Args:
        above: The folders that it lies in, as far as they are listed: a link to one of them is not followed for ever.
    """
    above = (*above, os.path.realpath(folder))
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir():
            if os.path.realpath(entry.path) not in above:
                yield from list_files(entry.path, above)
        elif entry.is_file():
            yield entry.path


def read_files(files: list[str], root: str) -> Iterator[Entry]:
    """Files by their paths below a folder, or where there is none as they are."""
    for file in files:
        yield Entry(os.path.relpath(file, root) if root else file, os.path.basename(file), Path(file).read_bytes)


def read_tar(path: Path) -> Iterator[Entry]:
    """The images of a tar archive, compressed or not, without unpacking it."""
    with tarfile.open(path) as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # which would grow
            if member.isfile() and is_image(member.name):
                read = partial(read_member, archive, member)
                yield Entry(member.name, Path(member.name).name, read)


def read_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    return archive.extractfile(member).read()


def read_zip(path: Path) -> Iterator[Entry]:
    """The images of a zip archive, without unpacking it."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.is_dir() and is_image(member.filename):
                yield Entry(member.filename, Path(member.filename).name, partial(archive.read, member))


@contextmanager
def explain_damage(path: str):
    """Turns what a damaged archive raises into a ValueError."""
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{path} is damaged ({error}): fetch it again.") from error


class Source:
    """
    Where images come from: chooses the reader for a path and tells when its content has changed.

    Args:
        data_dir: A folder of images, a tar or zip archive, a Parquet file, a folder of them, or a Hub id.
        labelled: False takes tables without ages too, and one image or a pattern of paths, as in `photos/*.jpg`.
        table: Splits of the data set at `data_dir`, where they are loaded already.
        left_out: Start of the paths of files that do not count, as of results that lie among the images.

    Raises:
        ValueError: if it is none of these, or a folder of both images and tables where it is not clear which are meant.
    """

    def __init__(
        self,
        data_dir: str | Path,
        labelled: bool = True,
        table: datasets.DatasetDict | None = None,
        left_out: Path | None = None,
    ):
        path = Path(data_dir)
        # Resolved, so that the cache knows a path however it is written.
        self.data_dir = str(path.resolve()) if path.exists() else str(data_dir)
        if table is not None:
            self.files, self.table, self._read = [], table, partial(read_table, table, has_splits=True)
            return
        self.files, self.table = self._find_files(labelled), None
        if left_out is not None:
            start = os.path.join(os.path.realpath(left_out.parent), left_out.name)
            self.files = [file for file in self.files if not os.path.abspath(file).startswith(start)]
        tables = [file for file in self.files if file.lower().endswith(".parquet")]
        images = list(filter(is_image, self.files))
        if tables and images and not labelled:
            raise ValueError(
                f"{data_dir} holds both images and Parquet files, such as {images[0]} and {tables[0]}: give one of them "
                "alone, as a path or as a pattern in quotes ('photos/**/*.jpg')."
            )
        if path.is_dir() and not tables:
            self.files, self._read = images, partial(read_files, images, self.data_dir)
        elif path.is_file() and tarfile.is_tarfile(path):
            self._read = partial(read_tar, path)
        elif path.is_file() and zipfile.is_zipfile(path):
            self._read = partial(read_zip, path)
        elif self.files and not tables:
            if labelled:
                raise ValueError(f"{data_dir} is neither a tar or zip archive nor a Parquet file.")
            self._read = partial(read_files, self.files, "")
        else:
            self.table = load_table(self.data_dir, tables)
            if labelled:
                if len(self.table) > 1 and not set(self.table) <= set(SPLIT_NAMES):
                    known = ", ".join(SPLIT_NAMES)
                    raise ValueError(f"{self.data_dir!r} has the splits {sorted(self.table)}; known are {known}.")
                check_age(self.data_dir, next(iter(self.table.values())).features)
            self.files, self._read = [], partial(read_table, self.table, has_splits=len(self.table) > 1)

    def _find_files(self, labelled: bool) -> list[str]:
        """All files of a folder, the file itself, or those of a pattern; none where there must be a data set of the Hub."""
        if os.path.isdir(self.data_dir):
            return list(list_files(self.data_dir))
        if os.path.exists(self.data_dir):
            return [self.data_dir]
        if labelled or not glob.has_magic(self.data_dir):
            return []
        files = [file for file in sorted(glob.glob(self.data_dir, recursive=True)) if not os.path.isdir(file)]
        if not files:
            raise ValueError(f"No file has a path like {self.data_dir}.")
        return files

    def entries(self) -> Iterator[Entry]:
        """
        All images of the source, always in the same order.

        Raises:
            ValueError: if an archive is damaged.
        """
        with explain_damage(self.data_dir):
            yield from self._read()

    def records(self) -> Iterator[Record]:
        """The same with their content, in which damage is an error too."""
        for entry in self.entries():
            with explain_damage(self.data_dir):
                record = Record(entry.name, entry.read(), entry.labels, entry.split)
            yield record

    def fingerprint(self) -> str:
        """Changes with the name, size or date of any file, or with the content of a table."""
        digest = hashlib.sha256(os.fsencode(self.data_dir))
        for file in self.files:
            status = os.stat(file)
            digest.update(os.fsencode(f"{file}|{status.st_size}|{status.st_mtime_ns}\n"))
        if self.table:
            digest.update("".join(split._fingerprint for split in self.table.values()).encode())
        return digest.hexdigest()[:16]
