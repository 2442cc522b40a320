"""Reads the files in zip and tar archives, without unpacking them to the disk."""

import io
import lzma
import posixpath
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pyarrow as pa

from files.pictures import START_BYTES, FileError, PassedOver, is_picture, is_system_file, read_start, to_text


NESTED = "Archives inside archives are not read."
ENCRYPTED = "This file is encrypted."
UNKNOWN_PACKING = "This file is packed with a method that cannot be read here."
DAMAGED = "This file is damaged in its archive ({})."
TOO_MUCH_DATA = "This file is too large: at most {} MB of one are read."
TOO_MANY_MEMBERS = "This archive lists too many files: choose one with at most about 10,000."
LOST_LINK = "This is a link to {}, which does not come before it in the archive."
# ValueError: a name that is not UTF-8, or an offset outside the file. RuntimeError: a password.
ARCHIVE_ERRORS = (
    OSError, EOFError, RuntimeError, ValueError, struct.error, zlib.error, lzma.LZMAError,
    tarfile.TarError, zipfile.BadZipFile,
)  # fmt: skip
ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")  # with files, empty, and written in several parts
ZSTD_START = b"\x28\xb5\x2f\xfd"
ARCHIVE_SUFFIXES = {".zip", ".tar", ".tgz", ".tbz", ".tbz2", ".txz", ".tzst", ".7z", ".rar"}
CHUNK_BYTES = 2**16


class Member(NamedTuple):
    """A file in an archive."""

    name: str  # text with slashes; nothing in it leads out of the archive
    size: int  # declared, in bytes
    # Takes `start_bytes`, in a zip also `max_bytes`. Call it before the next member is taken. Raises FileError.
    read: Callable[..., bytes]


def is_archive_name(name: str) -> bool:
    suffixes = [suffix.lower() for suffix in PurePosixPath(name).suffixes[-2:]]
    return ".tar" in suffixes or not ARCHIVE_SUFFIXES.isdisjoint(suffixes[-1:])


def clean_name(name: str) -> str:
    """Returns a path as text, without what would lead out of a folder."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("..", "/", "//")]
    return to_text("/".join(parts))


class BoundedReader(io.BufferedReader):
    """Refuses to read more than `max_bytes` at once."""

    def __init__(self, raw: io.RawIOBase | io.BytesIO, max_bytes: int | None):
        super().__init__(raw)
        self.max_bytes = max_bytes

    def read(self, size=-1):
        if self.max_bytes is not None and size is not None and size > self.max_bytes:
            raise FileError(TOO_MANY_MEMBERS)
        return super().read(size)


def read_zip(
    source: str | Path | bytes, max_directory_bytes: int | None = None, methods: Collection[int] | None = None
) -> Iterator[Member]:
    """
    Yields the files of a zip archive.

    Args:
        source: Path or content.
        max_directory_bytes: Maximum size of the directory, which zipfile reads into memory, where it takes about ten
            times its size.
        methods: Methods of compression to unpack; all that zipfile knows if None.

    Raises:
        FileError: if the directory is too large.
        ARCHIVE_ERRORS: if it cannot be read.
    """
    raw = io.BytesIO(source) if isinstance(source, bytes) else io.FileIO(source)
    with BoundedReader(raw, max_directory_bytes) as opened, zipfile.ZipFile(opened) as archive:
        for member in archive.infolist():
            # Programs on Windows write backslashes, https://github.com/python/cpython/issues/91036
            name = clean_name(member.filename.replace("\\", "/"))
            if name and not member.is_dir() and not member.filename.endswith("\\"):
                yield Member(name, member.file_size, partial(read_zip_member, archive, member, methods))


def read_zip_member(
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    methods: Collection[int] | None,
    start_bytes: int | None = None,
    max_bytes: int | None = None,
) -> bytes:
    """
    Reads the content of a member.

    Args:
        start_bytes: Number of bytes to read from the beginning; all if None.
        max_bytes: Maximum size of the unpacked content, since the declared size may be wrong.

    Raises:
        FileError: if the member cannot be read or is too large.
    """
    if member.flag_bits & 1:
        raise FileError(ENCRYPTED)
    if methods is not None and member.compress_type not in methods:
        raise FileError(UNKNOWN_PACKING)
    try:
        with archive.open(member) as file:
            return file.read(start_bytes) if start_bytes else read_whole(file, max_bytes)
    except FileError:
        raise
    except NotImplementedError as error:
        raise FileError(UNKNOWN_PACKING) from error
    except ARCHIVE_ERRORS as error:
        raise FileError(DAMAGED.format(error)) from error


def read_whole(file: io.BufferedIOBase, max_bytes: int | None) -> bytes:
    """Reads a file that may be longer than it says. Raises FileError if it exceeds `max_bytes`."""
    content = bytearray()
    while chunk := file.read(CHUNK_BYTES):
        content += chunk
        if max_bytes is not None and len(content) > max_bytes:
            raise FileError(TOO_MUCH_DATA.format(max_bytes // 10**6))
    return bytes(content)


def open_tar(path: str) -> tarfile.TarFile:
    """Opens a tar archive, whatever its compression. Raises tarfile.ReadError if it is none."""
    with open(path, "rb") as file:
        is_zstd = file.read(len(ZSTD_START)) == ZSTD_START
    if not is_zstd:
        return tarfile.open(path)
    return tarfile.open(fileobj=pa.input_stream(path, compression="zstd"), mode="r|")


def is_tar(path: str) -> bool:
    try:
        open_tar(path).close()
    except ARCHIVE_ERRORS:
        return False
    return True


def is_archive(path: str) -> bool:
    """Returns whether the content of a file is that of a zip or tar archive, or begins like one that is cut off."""
    start = read_start(path)
    return start.startswith(ZIP_STARTS) or start[257:262] == b"ustar" or is_tar(path) or zipfile.is_zipfile(path)


def read_archive(path: str) -> Iterator[Member]:
    """
    Yields the files of a zip or tar archive, whatever its name.

    Raises:
        ARCHIVE_ERRORS: if it cannot be read, or once its damage is reached.
    """
    return read_tar(path) if is_tar(path) else read_zip(path)


def read_tar(path: str) -> Iterator[Member]:
    """Yields the files of a tar archive, as `read_archive` does. A link has the content of the file that it names."""
    with open_tar(path) as archive:
        files = {}  # so far, by name: position and size
        while (member := archive.next()) is not None:
            archive.members.clear()  # which would grow faster
            if member.isreg() and not member.issparse():
                files[posixpath.normpath(member.name)] = member.offset_data, member.size
            content = find_target(member, files) if member.islnk() or member.issym() else member
            name = clean_name(member.name)
            if isinstance(content, str) and name:
                yield Member(name, 0, partial(refuse, LOST_LINK.format(to_text(content))))
            elif content.isreg() and name:
                yield Member(name, content.size, partial(read_tar_member, archive.extractfile(content)))
        check_end(archive)


def find_target(link: tarfile.TarInfo, files: dict[str, tuple[int, int]]) -> tarfile.TarInfo | str:
    """Returns the file that a link names, or its name if it is not among the files before the link."""
    folder = "" if link.islnk() else posixpath.dirname(link.name)
    name = posixpath.normpath(posixpath.join(folder, link.linkname))
    if name not in files:
        return name
    target = tarfile.TarInfo(name)
    target.offset_data, target.size = files[name]
    return target


def read_tar_member(file: io.BufferedReader, start_bytes: int | None = None) -> bytes:
    """Reads a member as `read_zip_member` does, or looks at its beginning, since a compressed archive cannot go back."""
    try:
        return file.peek(start_bytes)[:start_bytes] if start_bytes else file.read()
    except ARCHIVE_ERRORS as error:
        raise FileError(DAMAGED.format(error)) from error


def check_end(archive: tarfile.TarFile):
    """Raises tarfile.ReadError if no more members are found, but the archive does not end."""
    try:
        archive.fileobj.seek(archive.offset)
    except tarfile.StreamError:  # of a zstd file, which cannot go back
        return
    if any(archive.fileobj.read(tarfile.BLOCKSIZE)):
        raise tarfile.ReadError("the header of a file is damaged")


def find_pictures(members: Iterator[Member], passed_over: PassedOver) -> Iterator[Member]:
    """Yields the pictures among members, and archives, which are refused when read; counts the others."""
    for member in members:
        if is_picture(member.name, partial(member.read, start_bytes=START_BYTES)):
            yield member
        elif is_archive_name(member.name) and not is_system_file(member.name):
            yield member._replace(read=partial(refuse, NESTED))
        else:
            passed_over.add(member.name)


def refuse(reason: str, **limits) -> bytes:
    raise FileError(reason)
