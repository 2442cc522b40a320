"""Reads the photos in files and zip archives, without unpacking archives to the disk."""

import io
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath

from PIL import Image

from photos.reading import PhotoError, read_picture


NOT_A_ZIP = "This archive is broken."
NO_MEMBERS = "This archive holds no files."
TOO_MANY_MEMBERS = "This archive lists too many files: choose one with at most about 10,000."
NESTED = "Archives inside archives are not read."
ENCRYPTED = "This file is encrypted."
UNKNOWN_PACKING = "This file is broken, or packed with an unknown method."
TOO_MUCH_DATA = "This file is too large: at most {} MB of one are read."
TOO_MUCH_IN_ALL = "This file and all after it are not read: one upload may hold at most {} GB."
TOO_MANY_FILES = "Only the first {:,} files are read."
TOO_LONG = "The files from here on are not read: one upload may take at most {:.0f} minutes."
MAX_MEMBER_BYTES = 50 * 10**6
MAX_TOTAL_BYTES = 2 * 10**9
MAX_SECONDS = 1800.0
# zipfile reads the whole directory into memory, where it takes about ten times its size.
MAX_DIRECTORY_BYTES = 2 * 10**6
CHUNK_BYTES = 2**16
ZIP_START = b"PK\x03\x04"
# ValueError: a name that is not UTF-8, or an offset outside the file.
ZIP_ERRORS = (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error, struct.error)
# A path, the content of a file, or the reason why there is no content.
FileOrReason = Path | bytes | ValueError


def read_pictures(
    files: Iterable[str | Path | tuple[str, FileOrReason]], max_files: int = 1000
) -> Iterator[tuple[str, Image.Image | ValueError]]:
    """
    Reads the pictures of several files and zip archives, one at a time.

    Args:
        files: Paths, or pairs of a name to show and a `FileOrReason`, of pictures and zip archives of pictures.
        max_files: Number of pictures after which reading stops.

    Yields:
        The name to show, and the picture or a ValueError with a sentence for the visitor. The last pair carries such an
        error if there are more than `max_files` pictures, or if reading and the caller's work on the pictures take longer
        than `MAX_SECONDS`.
    """
    end = time.monotonic() + MAX_SECONDS
    for count, (name, source) in enumerate(expand_archives(files)):
        if count == max_files or time.monotonic() > end:
            reason = TOO_MANY_FILES.format(max_files) if count == max_files else TOO_LONG.format(MAX_SECONDS / 60)
            yield "…", PhotoError(reason)
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
    """Counts what `read_pictures` yields within `MAX_SECONDS`; reads only the directories of archives."""
    return sum(1 for _ in islice(expand_archives(paths), max_files + 1))


def expand_archives(
    files: Iterable[str | Path | tuple[str, FileOrReason]],
) -> Iterator[tuple[str, FileOrReason | Callable[[], bytes]]]:
    """
    Yields the name and the source of each file, including the members of archives.

    The source of a member is a function that reads it. Call it before advancing the iterator.

    The declared sizes of members count towards `MAX_TOTAL_BYTES`, and no member is unpacked beyond its own. So the number
    of pairs does not depend on the content of the members.
    """
    left = MAX_TOTAL_BYTES
    for file in files:
        name, source = file if isinstance(file, tuple) else (Path(file).name, Path(file))
        if isinstance(source, ValueError):
            yield name, source
            continue
        is_zip = False
        try:
            with BoundedReader(io.BytesIO(source) if isinstance(source, bytes) else io.FileIO(source)) as opened:
                is_zip = opened.peek().startswith(ZIP_START)
                archive = zipfile.ZipFile(opened)
                members = list_members(archive)
                for member_name, member in members:
                    if left <= 0:
                        yield member_name, PhotoError(TOO_MUCH_IN_ALL.format(MAX_TOTAL_BYTES // 10**9))
                        return
                    yield member_name, partial(read_member, archive, member, min(left, MAX_MEMBER_BYTES))
                    left -= min(member.file_size, MAX_MEMBER_BYTES)
                if not members:
                    yield name, PhotoError(NO_MEMBERS)
        except PhotoError as error:
            yield name, error
        except ZIP_ERRORS:
            yield name, PhotoError(NOT_A_ZIP) if is_zip else source


class BoundedReader(io.BufferedReader):
    """Refuses to read more than `MAX_DIRECTORY_BYTES` at once."""

    def read(self, size=-1):
        if size is not None and size > MAX_DIRECTORY_BYTES:
            raise PhotoError(TOO_MANY_MEMBERS)
        return super().read(size)


def list_members(archive: zipfile.ZipFile) -> list[tuple[str, zipfile.ZipInfo]]:
    """Lists the files of an archive with the names to show, without hidden files and those of operating systems."""
    members = []
    for member in archive.infolist():
        # The name is only shown, and nothing in it leads out of the archive.
        path = PurePosixPath(member.filename.replace("\\", "/"))
        name = "/".join(part for part in path.parts if part not in ("..", "/"))
        is_hidden = "__MACOSX" in name or path.name.startswith(".")
        if name and not is_hidden and not member.is_dir():
            members.append((name, member))
    return members


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, max_bytes: int) -> bytes:
    """
    Reads the content of a member.

    Args:
        max_bytes: Maximum size of the unpacked content, since the declared size may be wrong.

    Raises:
        PhotoError: if the member cannot be read or is too large.
    """
    if member.flag_bits & 1:
        raise PhotoError(ENCRYPTED)
    # Other methods cannot be limited: a few bytes of bzip2 become hundreds of megabytes in one step.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise PhotoError(UNKNOWN_PACKING)
    content = bytearray()
    try:
        with archive.open(member) as file:
            while len(content) <= max_bytes and (chunk := file.read(CHUNK_BYTES)):
                content += chunk
    except ZIP_ERRORS as error:
        raise PhotoError(UNKNOWN_PACKING) from error
    if len(content) > max_bytes:
        raise PhotoError(TOO_MUCH_DATA.format(max_bytes // 10**6))
    if content.startswith(ZIP_START):
        raise PhotoError(NESTED)
    return bytes(content)
