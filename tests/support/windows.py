"""Rules of Windows for files, where they differ from those of Linux."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def find_open_files() -> set[str]:
    """Returns the paths of the files that this process holds open or has mapped into its memory."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    paths = {line.split(maxsplit=5)[5] for line in lines if line.count("/")}
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            paths.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        except FileNotFoundError:  # the listing's own
            continue
    return paths


def refuse_open_files(function: Callable, folder: Path) -> Callable:
    """Wraps a function that renames or deletes files: below a folder it refuses those that are open."""

    def wrapped(*paths, **options):
        directory = options.get("dir_fd")
        start = os.getcwd() if directory is None else os.readlink(f"/proc/self/fd/{directory}")
        full = [Path(os.path.normpath(os.path.join(start, os.fsdecode(path)))) for path in paths]
        if any(path.is_relative_to(folder) and str(path) in find_open_files() for path in full):
            raise PermissionError(errno.EACCES, "The process cannot access the file", str(full[0]))
        return function(*paths, **options)

    return wrapped


def follow_windows_rules(patch: pytest.MonkeyPatch, folder: Path):
    """
    Makes `os` refuse what Windows refuses.

    It flushes no descriptor that is opened for reading, opens no folders, renames and deletes no open files, and renames
    nothing to the name of an existing file by `os.rename`. Below `folder`, since libraries have other ways on Windows.
    """
    open_file, fsync, rename = os.open, os.fsync, os.rename

    def refuse_folders(path, flags, *arguments, **options):
        # With `dir_fd` it is `shutil.rmtree`, which works otherwise on Windows.
        if "dir_fd" not in options and Path(os.fsdecode(path)).is_relative_to(folder) and os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return open_file(path, flags, *arguments, **options)

    def refuse_reading(descriptor):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        return fsync(descriptor)

    def refuse_existing(source, target, **options):
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, "Cannot create a file when that file already exists", target)
        return rename(source, target, **options)

    patch.setattr(os, "open", refuse_folders)
    patch.setattr(os, "fsync", refuse_reading)
    patch.setattr(os, "rename", refuse_open_files(refuse_existing, folder))
    patch.setattr(os, "replace", refuse_open_files(os.replace, folder))
    patch.setattr(os, "unlink", refuse_open_files(os.unlink, folder))
    patch.setattr(os, "remove", refuse_open_files(os.remove, folder))
