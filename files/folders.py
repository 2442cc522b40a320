"""Lists the files of a folder or of a pattern of paths."""

import glob
import os
import stat
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from files.pictures import FileError


class Found(NamedTuple):
    """A file, or a folder or link that could not be followed."""

    path: str
    error: FileError | None = None
    # False for pipes, sockets and devices, which must not be opened: reading them could wait for ever.
    is_regular: bool = True


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


def list_files(folder: str, pattern: tuple[str, ...] = ()) -> Iterator[Found]:
    """
    Lists the files in and below a folder by sorted paths.

    A link to a folder above is not followed. A folder that cannot be listed is yielded with its error.

    Args:
        folder: Its path; "" is the working directory.
        pattern: The parts of a pattern below the folder, as for `match_pattern`; all files match ().
    """
    waiting = [(folder, (), frozenset())]  # not a recursion: folders may be nested a thousand deep
    while waiting:
        path, names, above = waiting.pop()
        matches, found = match_pattern(names, pattern), look_up(path or ".")
        if matches is False:
            continue
        if found is not None:
            if matches or found.error:
                yield found
            continue
        place = os.path.realpath(path)
        if place in above:
            continue
        inside = []
        try:
            with os.scandir(path or ".") as entries:
                inside.extend(entry.name for entry in entries)
        except OSError as error:
            yield Found(path, explain_unlisted(error))
        above |= {place}
        waiting += [(os.path.join(path, name), (*names, name), above) for name in sorted(inside, reverse=True)]


def match_pattern(names: tuple[str, ...], pattern: tuple[str, ...]) -> bool | None:
    """
    Matches a path with a pattern, in which `**` stands for any number of folders.

    `glob` would follow links in circles and pass over folders that it cannot list.

    Args:
        names: The parts of the path.
        pattern: The parts of the pattern.

    Returns:
        True if the path or a folder above it matches, None if only something below it can, False otherwise.
    """
    positions = {0}  # in the pattern, of all ways to match the names so far
    for name in (None, *names):
        if name is not None:
            positions = {
                position + (pattern[position] != "**")
                for position in positions
                if pattern[position] == "**" or fnmatch(name, pattern[position])
            }
        for position in sorted(positions):
            while position < len(pattern) and pattern[position] == "**":
                position += 1
                positions.add(position)
        if len(pattern) in positions:
            return True
    return None if positions else False


def expand_home(path: str) -> str:
    """Replaces `~` by the home folder, as a shell does without quotes."""
    return path if os.path.lexists(path) else os.path.expanduser(path)


def split_pattern(path: str) -> tuple[str, tuple[str, ...]]:
    """Returns the longest beginning of a pattern that exists as it is written, and the parts of the rest."""
    parts = Path(path).parts
    for length in range(len(parts), 0, -1):
        start = os.path.join(*parts[:length])
        if os.path.lexists(start):
            return start, parts[length:]
    return "", parts


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
    if os.path.lexists(path):
        return os.path.dirname(path), [look_up(path)]
    if not glob.has_magic(path):
        return "", []
    root, pattern = split_pattern(path)
    files = list(list_files(root, pattern))
    if not files:
        raise ValueError(f"No file has a path like {path}.")
    return root, files
