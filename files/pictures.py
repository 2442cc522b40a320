"""Tells which files are pictures or films, by their names and first bytes, and counts the others."""

import io
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from image_formats import START_BYTES, find_picture_suffixes, looks_like_picture


# What the systems of phones and computers lay beside photos. macOS puts a `._` file beside each one.
SYSTEM_FILES = {"thumbs.db", "desktop.ini", "icon\r"}
SYSTEM_FOLDERS = {"__MACOSX", "@eaDir"}
FILM_SUFFIXES = {".3gp", ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"}


class PhotoError(ValueError):
    """A photo, archive or address that cannot be read. The message is a sentence that needs no name of the file."""


def refuse(reason: str | PhotoError, size: int = -1) -> bytes:
    """Stands for the reader of a file that cannot be read. Raises PhotoError."""
    raise reason if isinstance(reason, PhotoError) else PhotoError(reason)


class PassedOver(list):
    """The names of files that are not what is read, without those that nobody put there: see `is_system_file`."""

    def append(self, name: str):
        if not is_system_file(name):
            super().append(name)

    def __str__(self) -> str:
        """Returns a sentence; empty if there are none."""
        files = "1 other file was" if len(self) == 1 else f"{len(self):,} other files were"
        return f"{files} passed over, such as {self[0]}." if self else ""


def to_text(name: str) -> str:
    """Returns a name as text that can be stored: bytes that are not UTF-8 are escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def read_start(source: str | Path | bytes) -> bytes:
    """Returns the first `START_BYTES` of a file or of a content."""
    with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
        return file.read(START_BYTES)


def is_system_file(name: str) -> bool:
    """Returns whether a path, relative to a folder or archive and with slashes, is hidden or written by a system."""
    path = PurePosixPath(name)
    is_hidden = any(part.startswith(".") and part != ".." for part in path.parts)
    return is_hidden or not SYSTEM_FOLDERS.isdisjoint(path.parts) or path.name.lower() in SYSTEM_FILES


def is_film(name: str) -> bool:
    """Returns whether a file is a film by its name, which is as for `is_system_file`."""
    return not is_system_file(name) and PurePosixPath(name).suffix.lower() in FILM_SUFFIXES


def is_picture(name: str, read_start: Callable[[], bytes]) -> bool:
    """
    Returns whether a file is a picture.

    Args:
        name: As for `is_system_file`. Known suffixes decide, so a damaged photo is a picture.
        read_start: Reads the first `START_BYTES` of a file whose suffix is unknown. If it fails, the file counts as a
            picture: to read it raises the reason.
    """
    if is_system_file(name):
        return False
    if PurePosixPath(name).suffix.lower() in find_picture_suffixes():
        return True
    try:
        return looks_like_picture(read_start())
    except (OSError, ValueError):
        return True
