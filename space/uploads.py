"""A folder for what visitors send that does not outlive the process."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path


try:
    import fcntl
except ImportError:  # on Windows, where the folders of killed processes stay
    fcntl = None

VARIABLE = "GRADIO_TEMP_DIR"  # which gradio reads anew whenever it writes a file
PREFIX = "age-gender-page-"
OWN = {}  # the folders of this process, with what locks them


def use_own_folder():
    """
    Has gradio write into a folder of this process alone, which is deleted at its end.

    It lies where `GRADIO_TEMP_DIR` says, or where the system has such files. Folders of processes that were killed are
    deleted too.
    """
    parent = os.environ.get(VARIABLE) or tempfile.gettempdir()
    if parent in OWN:
        return
    Path(parent).mkdir(parents=True, exist_ok=True)
    delete_left_folders(Path(parent))
    folder = tempfile.mkdtemp(prefix=PREFIX, dir=Path(parent).resolve())  # as gradio writes its paths
    OWN[folder] = lock(Path(folder))
    os.environ[VARIABLE] = folder
    # Not sooner: threads that still work on an answer would make the folder anew.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def lock(folder: Path) -> int | None:
    """Holds a folder until the process ends, even by a kill; None where another holds it, or where that cannot be asked."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def delete_left_folders(parent: Path):
    """Deletes the folders in `parent` whose process is no more, also one of another machine or container."""
    for folder in parent.glob(f"{PREFIX}*"):
        descriptor = lock(folder)
        if descriptor is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)
