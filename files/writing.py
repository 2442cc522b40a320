"""Makes sure that what is written reaches the disk."""

import os
from pathlib import Path


def flush_to_disk(path: Path):
    """Waits until a file, or the list of files of a folder, is on the disk, even if the machine fails afterwards."""
    if path.is_dir():
        if os.name == "nt":  # Windows opens no folders
            return
        descriptor = os.open(path, os.O_RDONLY)
    else:
        descriptor = os.open(path, os.O_RDWR)  # Windows flushes nothing that is opened for reading only
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
