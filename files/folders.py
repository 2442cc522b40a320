"""Lists the files of a folder or of a pattern of paths."""

import glob
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from files.pictures import FileError


class Found(NamedTuple):
    """A file, or a folder or link that could not be followed."""

    path: str
    error: FileError | None = None
    is_regular: bool = (
        True  # False for pipes, sockets and devices, which must not be opened: reading could wait for ever
    )


def explain_unlisted(error: OSError) -> FileError:
    """Returns the sentence for a path that could not be looked up."""
    return FileError(f"This file or folder cannot be opened ({error.strerror}).")


def look_up(path: str) -> Found | None:
    """Returns what is at a path; None for a folder."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:  # for instance a link to nothing, or to itself
        return Found(path, explain_unlisted(error))
    return None if stat.S_ISDIR(mode) else Found(path, is_regular=stat.S_ISREG(mode))


def list_files(folder: str) -> Iterator[Found]:
    """
    Lists the files in and below a folder by sorted paths.

    A link to a folder above is not followed. A folder that cannot be listed is yielded with its error.
    """
    waiting = [(folder, frozenset())]  # not a recursion: folders may be nested a thousand deep
    while waiting:
        path, above = waiting.pop()
        if (found := look_up(path)) is not None:
            yield found
            continue
        place = os.path.realpath(path)
        if place in above:
            continue
        names = []
        try:
            with os.scandir(path) as entries:
                names.extend(entry.name for entry in entries)
        except OSError as error:
            yield Found(path, explain_unlisted(error))
        above |= {place}
        waiting += [(os.path.join(path, name), above) for name in sorted(names, reverse=True)]


def expand_home(path: str) -> str:
    """Replaces `~` by the home folder, as a shell does without quotes."""
    return path if os.path.lexists(path) else os.path.expanduser(path)


def split_pattern(path: str) -> tuple[str, str]:
    """Returns the longest beginning of a pattern that exists as it is written, and the rest."""
    parts = Path(path).parts
    for length in range(len(parts), 0, -1):
        start = os.path.join(*parts[:length])
        if os.path.lexists(start):
            return start, os.path.join("", *parts[length:])
    return "", path


def list_matches(pattern: str) -> Iterator[Found]:
    """Lists the files that match a pattern, and those in and below folders that match it; a file may come twice."""
    for match in sorted(glob.glob(pattern, recursive=True)):
        yield from list_files(match)
    # `glob` passes over folders that it cannot list.
    for folder in filter(os.path.isdir, sorted(glob.glob(os.path.dirname(pattern), recursive=True))):
        try:
            os.scandir(folder).close()
        except OSError as error:
            yield Found(folder, explain_unlisted(error))


def find_files(path: str) -> tuple[str, list[Found]]:
    """
    Lists the files of a folder, a file or a pattern of paths.

    A path that exists is no pattern, whatever characters it holds, and so is the beginning of a pattern.

    Returns:
        The folder that holds them all, and the files; none if the path is the id of a data set.

    Raises:
        ValueError: if no file matches a pattern.
        OSError: if the path is a folder that cannot be listed.
    """
    if os.path.isdir(path):
        os.scandir(path).close()
        return path, list(list_files(path))
    if os.path.lexists(path) or not glob.has_magic(path):
        return os.path.dirname(path), [look_up(path)] if os.path.lexists(path) else []
    root, rest = split_pattern(path)
    files = {file.path: file for file in list_matches(os.path.join(glob.escape(root), rest))}
    if not files:
        raise ValueError(f"No file has a path like {path}.")
    return root, list(files.values())
