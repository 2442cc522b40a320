"""Reads the photos in files and zip archives, without unpacking archives to the disk."""

import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from PIL import Image

from files.archives import ARCHIVE_ERRORS, ZIP_STARTS, Member, find_pictures, read_zip
from files.pictures import PassedOver, PhotoError, is_system_file, read_start
from image_reading import name_format
from photos.reading import read_picture


NOT_A_ZIP = "This archive is broken."
OTHER_ARCHIVE = "Of archives, only zip files are read here: pack the photos as a zip."
NO_MEMBERS = "This archive holds no files."
TOO_MUCH_DATA = "This file is too large: at most {} MB of one are read."
TOO_MUCH_IN_ALL = "This file and all after it are not read: one upload may hold at most {} GB."
TOO_MANY_FILES = "Only the first {:,} files are read."
TOO_LONG = "The files from here on are not read: one upload may take at most {:.0f} minutes."
MAX_MEMBER_BYTES = 50 * 10**6
MAX_TOTAL_BYTES = 2 * 10**9
MAX_SECONDS = 1800.0
MAX_DIRECTORY_BYTES = 2 * 10**6
# Other methods cannot be limited: a few bytes of bzip2 become hundreds of megabytes in one step.
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
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
        The name to show, and the picture or a ValueError with a sentence for the visitor, for an archive also about its
        files that are no pictures. The last pair carries such an error if there are more than `max_files` others, or if
        reading and the caller's work on the pictures take longer than `MAX_SECONDS`.
    """
    end = time.monotonic() + MAX_SECONDS
    for name, source in take_pictures(files, max_files):
        if time.monotonic() > end:
            yield "…", PhotoError(TOO_LONG.format(MAX_SECONDS / 60))
            return
        try:
            answer = (
                source if isinstance(source, ValueError) else read_picture(source() if callable(source) else source)
            )
        except ValueError as error:
            answer = error
        yield name, answer


def count_pictures(paths: Iterable[str | Path], max_files: int = 1000) -> int:
    """Counts what `read_pictures` yields within `MAX_SECONDS`, without decoding a picture."""
    return sum(1 for _ in take_pictures(paths, max_files))


def take_pictures(files: Iterable, max_files: int) -> Iterator[tuple[str, FileOrReason | Callable[[], bytes]]]:
    """Yields what `expand_archives` does, up to `max_files`; then an error if there is more."""
    for count, (name, source) in enumerate(expand_archives(files)):
        if count == max_files:
            yield "…", PhotoError(TOO_MANY_FILES.format(max_files))
            return
        yield name, source


def expand_archives(
    files: Iterable[str | Path | tuple[str, FileOrReason]],
) -> Iterator[tuple[str, FileOrReason | Callable[[], bytes]]]:
    """
    Yields the name and the source of each file, including the pictures in archives.

    The source of a member is a function that reads it. Call it before advancing the iterator. An error after the members
    counts those that are no pictures.

    The declared sizes of members count towards `MAX_TOTAL_BYTES`, and no member is unpacked beyond its own. So the number
    of pairs does not depend on the content of the pictures.
    """
    left = MAX_TOTAL_BYTES
    for file in files:
        name, source = file if isinstance(file, tuple) else (Path(file).name, Path(file))
        start = try_start(source)
        if not start.startswith(ZIP_STARTS):
            yield name, PhotoError(OTHER_ARCHIVE) if name_format(start) == "archive" else source
            continue
        for member_name, member in list_members(name, source):
            if isinstance(member, ValueError):
                yield member_name, member
            elif left <= 0:
                yield member_name, PhotoError(TOO_MUCH_IN_ALL.format(MAX_TOTAL_BYTES // 10**9))
                return
            else:
                yield member_name, partial(read_bounded, member, min(left, MAX_MEMBER_BYTES))
                left -= min(member.size, MAX_MEMBER_BYTES)


def read_bounded(member: Member, max_bytes: int) -> bytes:
    """Reads a member, whose declared size may be wrong. Raises PhotoError if it exceeds `max_bytes`."""
    content = member.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise PhotoError(TOO_MUCH_DATA.format(max_bytes // 10**6))
    return content


def try_start(source: FileOrReason) -> bytes:
    """Returns the first bytes of a file; none if it cannot be opened, whose reason comes from reading it."""
    try:
        return b"" if isinstance(source, ValueError) else read_start(source)
    except OSError:
        return b""


def list_members(name: str, source: Path | bytes) -> Iterator[tuple[str, Member | ValueError]]:
    """Yields the pictures of a zip archive with their names, then what is to be said about the archive itself."""
    passed_over, is_empty = PassedOver(), True
    try:
        members = read_zip(source, MAX_DIRECTORY_BYTES, METHODS)
        # What a system added is no file of the visitor, who need not hear of it.
        members = (member for member in members if not is_system_file(member.name))
        for member in find_pictures(members, passed_over):
            is_empty = False
            yield member.name, member
    except PhotoError as error:
        yield name, error
    except ARCHIVE_ERRORS:
        yield name, PhotoError(NOT_A_ZIP)
    else:
        if passed_over.count:
            yield name, PhotoError(passed_over)
        elif is_empty:
            yield name, PhotoError(NO_MEMBERS)
