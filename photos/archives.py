"""Reads the photos in files and zip archives, without unpacking archives to the disk."""

import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path

from PIL import Image

from files.archives import ARCHIVE_ERRORS, ZIP_STARTS, Member, find_pictures, read_zip
from files.pictures import PassedOver, PhotoError, read_start, refuse
from image_formats import name_format
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
# The path or the content of a file, or the reason why there is no content.
FileOrReason = Path | bytes | ValueError


class Note(PhotoError):
    """Says which files of an archive were passed over; the others have been read."""


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
    for count, (name, read) in enumerate(expand_archives(files)):
        if count == max_files or time.monotonic() > end:
            reason = TOO_MANY_FILES.format(max_files) if count == max_files else TOO_LONG.format(MAX_SECONDS / 60)
            yield "…", PhotoError(reason)
            return
        try:
            answer = read()
        except ValueError as error:
            answer = error
        yield name, answer


def count_pictures(paths: Iterable[str | Path], max_files: int = 1000) -> int:
    """Counts what `read_pictures` yields within `MAX_SECONDS`, without decoding a picture."""
    return sum(1 for _ in islice(expand_archives(paths), max_files + 1))


def expand_archives(
    files: Iterable[str | Path | tuple[str, FileOrReason]],
) -> Iterator[tuple[str, Callable[[], Image.Image]]]:
    """
    Yields the name and a reader of each file, including the pictures in archives.

    Call the reader before advancing the iterator. It raises a ValueError with a sentence.

    The declared sizes of members count towards `MAX_TOTAL_BYTES`, and no member is unpacked beyond its own. So the number
    of pairs does not depend on the content of the pictures.
    """
    left = MAX_TOTAL_BYTES
    for file in files:
        name, source = file if isinstance(file, tuple) else (Path(file).name, Path(file))
        start = b""
        if isinstance(source, ValueError):
            yield name, partial(refuse, str(source))
            continue
        with suppress(OSError):  # which its reader explains
            start = read_start(source)
        if not start.startswith(ZIP_STARTS):
            is_archive = name_format(start) == "archive"
            yield name, partial(refuse, OTHER_ARCHIVE) if is_archive else partial(read_picture, source)
            continue
        for member in list_members(name, source):
            if left <= 0:
                yield member.name, partial(refuse, TOO_MUCH_IN_ALL.format(MAX_TOTAL_BYTES // 10**9))
                return
            yield member.name, partial(read_member, member, min(left, MAX_MEMBER_BYTES))
            left -= min(member.size, MAX_MEMBER_BYTES)


def read_member(member: Member, max_bytes: int) -> Image.Image:
    """Reads the picture in a member, whose declared size may be wrong."""
    content = member.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise PhotoError(TOO_MUCH_DATA.format(max_bytes // 10**6))
    return read_picture(content)


def list_members(name: str, source: Path | bytes) -> Iterator[Member]:
    """Yields the pictures of a zip archive, then one that raises what is to be said about the archive itself."""
    passed_over, said = PassedOver(), PhotoError(NO_MEMBERS)
    try:
        members = read_zip(source, MAX_DIRECTORY_BYTES, METHODS)
        for member in find_pictures(members, passed_over):
            said = None
            yield member
        said = Note(passed_over) if passed_over else said
    except PhotoError as error:
        said = error
    except ARCHIVE_ERRORS:
        said = PhotoError(NOT_A_ZIP)
    if said:
        yield Member(name, 0, partial(refuse, said))
