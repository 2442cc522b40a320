"""Reads the photos of files and zip archives, within bounds."""

import io
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath

from PIL import Image

from photos.reading import read_picture


NOT_A_ZIP = "This archive is broken."
NO_MEMBERS = "This archive holds no files."
TOO_MANY_MEMBERS = "This archive lists too many files: choose one with at most some 10,000."
NESTED = "Archives inside archives are not read."
ENCRYPTED = "This file is encrypted."
UNKNOWN_PACKING = "This file is broken, or packed in a way that is not known here."
TOO_MUCH_DATA = "This file is too large: at most {} MB of one are read."
TOO_MUCH_IN_ALL = "This and what follows is not read: {} GB of one upload are the most."
TOO_LONG = "The files from here on are not read: one upload may take at most {:.0f} minutes."
MAX_MEMBER_BYTES = 50 * 10**6
MAX_TOTAL_BYTES = 2 * 10**9
MAX_SECONDS = 1800.0
# Of the list of an archive's files, which is read whole and takes some ten times as much memory.
MAX_DIRECTORY_BYTES = 2 * 10**6
CHUNK_BYTES = 2**16
ZIP_START = b"PK\x03\x04"


def read_pictures(
    files: Iterable[str | Path | tuple[str, Path | ValueError]], max_files: int = 1000
) -> Iterator[tuple[str, Image.Image | ValueError]]:
    """
    The pictures of several files, one at a time; those of zip archives without unpacking them to the disk.

    Args:
        files: Pictures, or zip archives of pictures: the path of each, or the name to show and either the path or what
            says why there is none.
        max_files: The most files that are read.

    Yields:
        The name to show and either the picture or the ValueError with a sentence that says why there is none. If there are
        more than `max_files`, or they take longer than `MAX_SECONDS`, whatever is done with them included, the last one says
        so.
    """
    end = time.monotonic() + MAX_SECONDS
    for count, (name, source) in enumerate(find_sources(files)):
        if count == max_files:
            yield "…", ValueError(f"Only the first {max_files:,} files are read.")
            return
        if time.monotonic() > end:
            yield "…", ValueError(TOO_LONG.format(MAX_SECONDS / 60))
            return
        try:
            if isinstance(source, ValueError):
                raise source
            picture = read_picture(source() if callable(source) else source)
        except ValueError as error:
            yield name, error
        else:
            yield name, picture


def count_pictures(paths: Iterable[str | Path], max_files: int = 1000) -> int:
    """How many times `read_pictures` yields, from the directories of the archives alone."""
    return sum(1 for _ in islice(find_sources(paths), max_files + 1))


def find_sources(
    files: Iterable[str | Path | tuple[str, Path | ValueError]],
) -> Iterator[tuple[str, Path | Callable[[], bytes] | ValueError]]:
    """
    Names with the path of each file, or a function that reads a member of an archive as long as no other was asked for.

    What is taken from the bound on all archives together is the size that a member is said to have: no more is ever unpacked
    of it, and so the number of members does not hang on what is in them.
    """
    left = MAX_TOTAL_BYTES
    for file in files:
        shown, path = file if isinstance(file, tuple) else (Path(file).name, Path(file))
        if isinstance(path, ValueError) or not is_archive(path):
            yield shown, path
            continue
        try:
            with open_archive(path) as archive:
                members = list_members(archive)
                if not members:
                    raise BrokenArchive(NO_MEMBERS)
                for member in members:
                    name = clean_name(member.filename)
                    if left <= 0:
                        yield name, ValueError(TOO_MUCH_IN_ALL.format(MAX_TOTAL_BYTES // 10**9))
                        return
                    yield name, partial(read_member, archive, member, min(left, MAX_MEMBER_BYTES))
                    left -= min(member.file_size, MAX_MEMBER_BYTES)
        except BrokenArchive as error:
            yield shown, ValueError(str(error))


class BrokenArchive(Exception):
    """An archive of which no file can be read, with a sentence for the visitor."""


class BoundedFile(io.BufferedReader):
    """A file of which no more is read at once than the longest directory of an archive may hold."""

    def read(self, size=-1):
        if size is not None and size > MAX_DIRECTORY_BYTES:
            raise BrokenArchive(TOO_MANY_MEMBERS)
        return super().read(size)


def is_archive(path: Path) -> bool:
    """Whether a file ends as a zip archive does or, as one that was cut off, begins so."""
    try:
        if zipfile.is_zipfile(path):
            return True
        with open(path, "rb") as file:
            return file.read(len(ZIP_START)) == ZIP_START
    except zipfile.BadZipFile:  # one that spans several disks
        return True
    except OSError:
        return False


@contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """
    An archive whose directory is not too long.

    Raises:
        BrokenArchive: with a sentence for the visitor.
    """
    with BoundedFile(io.FileIO(path)) as file:
        try:
            archive = zipfile.ZipFile(file)
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
            raise BrokenArchive(NOT_A_ZIP) from error
        with archive:
            yield archive


def list_members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files of an archive without those that systems leave there."""
    return [
        member
        for member in archive.infolist()
        if not member.is_dir()
        and "__MACOSX" not in member.filename
        and (name := PurePosixPath(clean_name(member.filename)).name)
        and not name.startswith(".")
    ]


def clean_name(name: str) -> str:
    """The path of a member without what climbs out of the archive; it only serves to be shown."""
    return "/".join(part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("..", "/"))


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, max_bytes: int) -> bytes:
    """
    The content of a member.

    Args:
        max_bytes: Bound on what is unpacked, whatever the archive says of its size.

    Raises:
        ValueError: with a sentence for the visitor.
    """
    if member.flag_bits & 1:
        raise ValueError(ENCRYPTED)
    # Others unpack as much as they like at once: a few bytes of bzip2 become hundreds of megabytes before any are counted.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(UNKNOWN_PACKING)
    content = bytearray()
    try:
        with archive.open(member) as file:
            while len(content) <= max_bytes and (chunk := file.read(CHUNK_BYTES)):
                content += chunk
    # ValueError: a name that is no UTF-8, or a place outside the file.
    except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(UNKNOWN_PACKING) from error
    if len(content) > max_bytes:
        raise ValueError(TOO_MUCH_DATA.format(max_bytes // 10**6))
    if content.startswith(ZIP_START):
        raise ValueError(NESTED)
    return bytes(content)
