"""Lists the files of a folder or of a pattern of paths."""

import glob
import os
import stat
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple


class Found(NamedTuple):
    """A file, or a folder or link that could not be followed."""

    path: str
    error: str = ""  # a sentence
    # False for pipes, sockets and devices, which must not be opened: reading them could wait for ever.
    is_regular: bool = True


def list_files(root: str, pattern: tuple[str, ...] = ()) -> Iterator[Found]:
    """
    Lists a file, or the files in and below a folder by sorted paths.

    A link to a folder above is not followed. A folder that cannot be listed is yielded with its error.

    Args:
        root: Path of the file or folder; "" is the working directory.
        pattern: The parts of a pattern below the folder, as for `match_pattern`; all files match ().
    """
    waiting = [(root, (), frozenset())]  # not a recursion: folders may be nested a thousand deep
    while waiting:
        path, names, above = waiting.pop()
        matches = match_pattern(names, pattern)
        if matches is False:
            continue
        try:
            mode = os.stat(path or ".").st_mode
            inside = sorted(os.listdir(path or "."), reverse=True) if stat.S_ISDIR(mode) else None
        except OSError as error:  # for instance a link to nothing, or to itself
            yield Found(path, f"This file or folder cannot be opened ({error.strerror}).")
            continue
        place = os.path.realpath(path)
        if inside is not None and place not in above:
            waiting += [(os.path.join(path, name), (*names, name), above | {place}) for name in inside]
        elif inside is None and matches:
            yield Found(path, is_regular=stat.S_ISREG(mode))


def match_pattern(names: tuple[str, ...], pattern: tuple[str, ...]) -> bool | None:
    """
    Matches the parts of a path with those of a pattern, in which `**` stands for any number of folders.

    `glob` would follow links in circles and pass over folders that it cannot list.

    Returns:
        True if the path or a folder above it matches, None if only something below it can, False otherwise.
    """
    if not pattern or not names:
        return None if pattern else True
    if pattern[0] == "**":
        return match_pattern(names, pattern[1:]) or match_pattern(names[1:], pattern)
    return fnmatch(names[0], pattern[0]) and match_pattern(names[1:], pattern[1:])


def expand_home(path: str) -> str:
    """Replaces `~` by the home folder, as a shell does without quotes."""
    return path if os.path.lexists(path) else os.path.expanduser(path)


def find_files(path: str) -> tuple[str, list[Found]]:
    """
    Lists the files of a folder, a file or a pattern of paths.

    What exists is no pattern, whatever characters it holds: neither a path nor the beginning of one.

    Returns:
        The beginning of the path that exists, and the files; none if the path is the id of a data set.

    Raises:
        ValueError: if no file matches a pattern.
    """
    parts = Path(path).parts
    starts = [os.path.join("", *parts[:length]) for length in range(len(parts) + 1)]
    length = max(length for length, start in enumerate(starts) if not start or os.path.lexists(start))
    root, pattern = starts[length], parts[length:]
    if not path or (pattern and not glob.has_magic(path)):
        return "", []
    files = list(list_files(root, pattern))
    if pattern and not files:
        raise ValueError(f"No file has a path like {path}.")
    return root, files
