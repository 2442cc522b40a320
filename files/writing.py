"""Makes sure that nothing is replaced unasked, and that what is written reaches the disk."""

import argparse
import os
from pathlib import Path


EXISTS = "{} already exists: choose another {}, or replace it with --overwrite."


class OutputParser(argparse.ArgumentParser):
    """
    A parser for programs that write files: it refuses an output that exists, unless `--overwrite` is given.

    An empty folder may exist. Abbreviated arguments are refused too.
    """

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, **options)
        self.add_argument("--overwrite", action="store_true", help="Replace an output that exists, file by file.")
        self._outputs = []

    def add_output(self, name: str = "--output", **options):
        """Adds the argument for a file or folder to write; `options` as in `add_argument`."""
        self._outputs.append(self.add_argument(name, type=Path, **options).dest)

    def parse_args(self, args: list[str] | None = None, namespace: argparse.Namespace | None = None):
        arguments = super().parse_args(args, namespace)
        for name in self._outputs:
            path = getattr(arguments, name)
            if path and not arguments.overwrite and (any(path.iterdir()) if path.is_dir() else path.exists()):
                self.error(EXISTS.format(path, f"--{name}"))
        return arguments


def flush_to_disk(path: Path):
    """Waits until a file, or the list of files of a folder, is on the disk, even if the machine fails afterwards."""
    try:
        # Windows flushes nothing that is opened for reading only, and opens no folders.
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except PermissionError:
        if path.is_dir():
            return
        raise
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
