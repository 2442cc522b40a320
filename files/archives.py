"""Reads the files in zip and tar archives, without unpacking them to the disk."""

import io
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from files.pictures import START_BYTES, PassedOver, PhotoError, is_picture, is_system_file, read_start, refuse, to_text


NESTED = "Archives inside archives are not read."
ENCRYPTED = "This file is encrypted."
UNKNOWN_PACKING = "This file is packed with a method that cannot be read here."
DAMAGED = "This file is damaged in its archive ({})."
TOO_MANY_MEMBERS = "This archive lists too many files: choose one with at most about 10,000."
LINK = "This is a link, which is not followed in an archive."
# ValueError: a name that is not UTF-8, or an offset outside the file. RuntimeError: a password.
ARCHIVE_ERRORS = (
    OSError, EOFError, RuntimeError, ValueError, struct.error, zlib.error, lzma.LZMAError,
    tarfile.TarError, zipfile.BadZipFile,
)  # fmt: skip
ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")  # with files, empty, and written in several parts
ARCHIVE_NAME = re.compile(r"\.(zip|7z|rar|tar(\.\w+)?|t(gz|bz2?|xz|zst))$", re.IGNORECASE)


class Member(NamedTuple):
    """A file in an archive."""

    name: str  # text with slashes; nothing in it leads out of the archive
    size: int  # declared, in bytes
    # Reads so many bytes from the beginning, all if -1. Call it before the next member is taken. Raises PhotoError.
    read: Callable[..., bytes]


def clean_name(name: str) -> str:
    """Returns a path as text, without what would lead out of a folder."""
    # Programs on Windows write backslashes, https://github.com/python/cpython/issues/91036
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("..", "/", "//")]
    return to_text("/".join(parts))


class BoundedReader(io.BufferedReader):
    """Refuses to read more than `max_bytes` at once, if they are set."""

    max_bytes: int | None = None

    def read(self, size=-1):
        if self.max_bytes and size and size > self.max_bytes:
            raise PhotoError(TOO_MANY_MEMBERS)
        return super().read(size)


def read_zip(
    source: str | Path | bytes, max_directory_bytes: int | None = None, methods: Collection[int] = ()
) -> Iterator[Member]:
    """
    Yields the files of a zip archive.

    Args:
        source: Path or content.
        max_directory_bytes: Maximum size of the directory, which zipfile reads into memory, where it takes about ten
            times its size.
        methods: Methods of compression to unpack; all that zipfile knows if empty.

    Raises:
        PhotoError: if the directory is too large.
        ARCHIVE_ERRORS: if it cannot be read.
    """
    opened = BoundedReader(io.BytesIO(source) if isinstance(source, bytes) else io.FileIO(source))
    opened.max_bytes = max_directory_bytes
    with opened, zipfile.ZipFile(opened) as archive:
        opened.max_bytes = None  # the directory is read
        for member in archive.infolist():
            name = clean_name(member.filename)
            if name and not member.filename.endswith(("/", "\\")):
                yield Member(name, member.file_size, partial(read_zip_member, archive, member, methods))


def read_zip_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, methods: Collection[int], size: int = -1
) -> bytes:
    if member.flag_bits & 1:
        raise PhotoError(ENCRYPTED)
    if methods and member.compress_type not in methods:
        raise PhotoError(UNKNOWN_PACKING)
    try:
        with archive.open(member) as file:
            return file.read(size)
    except NotImplementedError as error:
        raise PhotoError(UNKNOWN_PACKING) from error
    except ARCHIVE_ERRORS as error:
        raise PhotoError(DAMAGED.format(error)) from error


def is_archive(path: str) -> bool:
    """Returns whether the content of a file is that of a zip or tar archive, or begins like one that is cut off."""
    try:
        return read_start(path).startswith(ZIP_STARTS) or tarfile.is_tarfile(path) or zipfile.is_zipfile(path)
    except EOFError:  # of a compressed file
        return True


def read_archive(path: str) -> Iterator[Member]:
    """
    Yields the files of a zip or tar archive, whatever its name.

    Raises:
        ARCHIVE_ERRORS: if it cannot be read, or once its damage is reached.
    """
    yield from read_tar(path) if tarfile.is_tarfile(path) else read_zip(path)


def read_tar(path: str) -> Iterator[Member]:
    """Yields the files of a tar archive, as `read_archive` does."""
    with tarfile.open(path) as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # which would grow, but finds the files that links name
            if member.isreg():
                yield Member(
                    clean_name(member.name), member.size, partial(read_tar_member, archive.extractfile(member))
                )
            elif member.issym() or member.islnk():
                yield Member(clean_name(member.name), 0, partial(refuse, LINK))
        # tarfile takes a damaged header for the end, which is a block of zeros.
        archive.fileobj.seek(archive.offset)
        if any(archive.fileobj.read(tarfile.BLOCKSIZE)):
            raise tarfile.ReadError("the header of a file is damaged")


def read_tar_member(file: io.BufferedReader, size: int = -1) -> bytes:
    try:
        # To go back in a compressed archive, all before would be read once more.
        return file.read() if size < 0 else file.peek(size)[:size]
    except ARCHIVE_ERRORS as error:
        raise PhotoError(DAMAGED.format(error)) from error


def find_pictures(members: Iterator[Member], passed_over: PassedOver) -> Iterator[Member]:
    """Yields the pictures among members, and archives, which are refused when read; counts the others."""
    for member in members:
        if is_picture(member.name, partial(member.read, START_BYTES)):
            yield member
        elif ARCHIVE_NAME.search(member.name) and not is_system_file(member.name):
            yield member._replace(read=partial(refuse, NESTED))
        else:
            passed_over.append(member.name)
