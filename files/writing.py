"""Makes sure that what is written reaches the disk."""

import os
from pathlib import Path


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
