"""A folder for visitors' files: old files are deleted every minute, the folder when the process ends."""

import atexit
import os
import shutil
import tempfile
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from threading import Thread

from PIL import Image

from hub.errors import DISK_ERRORS, find_cause, plain_errors


try:
    import fcntl
except ImportError:  # on Windows, where the folders of killed processes stay
    fcntl = None

VARIABLE = "GRADIO_TEMP_DIR"  # Gradio reads it whenever it writes a file
PREFIX = "age-gender-page-"
REMEDY = f"Set {VARIABLE} to a folder that can be written to and has room for visitors' files."
NO_ROOM = "The disk of this page is full: try again in some minutes."  # when old files are deleted
MAX_AGE, INTERVAL = 600, 60  # seconds: the age at which files are deleted, and the time between two rounds
LOCKS: dict[str, int | None] = {}  # the folders of this process, with the descriptors that lock them
PAGE_FILES: set[Path] = set()  # files of the page itself, such as its examples, which are never deleted


def use_own_folder():
    """
    Makes Gradio write into a folder of this process, whose old files are deleted every minute.

    The folder lies in `GRADIO_TEMP_DIR`, or else where the system keeps temporary files. It is deleted when the process
    ends. Folders of killed processes are deleted now.

    Raises:
        ValueError: if nothing can be written there.
    """
    parent = os.environ.get(VARIABLE) or tempfile.gettempdir()
    if parent in LOCKS:
        return
    with explain_disk(parent):
        Path(parent).mkdir(parents=True, exist_ok=True)
        delete_left_folders(Path(parent))
        folder = tempfile.mkdtemp(prefix=PREFIX, dir=Path(parent).resolve())  # as Gradio writes its paths
    LOCKS[folder] = lock(Path(folder))
    os.environ[VARIABLE] = folder
    # Not earlier: threads that still answer a call would create the folder again.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Thread(target=keep_deleting, args=[Path(folder)], daemon=True).start()


def explain_disk(folder: str) -> AbstractContextManager:
    """Returns a context that raises ValueError if the files of the page cannot be written to a folder."""
    return plain_errors(f"The page cannot write to {folder}", REMEDY, errors=(OSError,))


def is_of_disk(error: Exception) -> bool:
    """Returns whether an error, which Gradio may have wrapped, comes from a full or read-only disk."""
    return getattr(find_cause(error), "errno", None) in DISK_ERRORS


def find_own_folder() -> Path:
    """Returns the folder that `use_own_folder` has chosen."""
    return Path(os.environ[VARIABLE]).resolve()


def keep_page_files():
    """Exempts the page's own files, such as its examples, from deletion. Call it before visitors come."""
    PAGE_FILES.update(find_own_folder().rglob("*"))


def keep_deleting(folder: Path):
    """Deletes old files every minute for as long as the process runs."""
    while True:
        time.sleep(INTERVAL)
        delete_old_files(folder, MAX_AGE)


def delete_old_files(folder: Path, max_age: float):
    """Deletes the files below a folder that are older than `max_age` seconds, and empty folders as old as that."""
    for parent, folders, files in os.walk(folder, topdown=False):
        for name in files + folders:
            path = Path(parent, name)
            with suppress(OSError):  # a folder that is not empty, or a file that has gone meanwhile
                if path not in PAGE_FILES and time.time() - path.lstat().st_ctime > max_age:
                    path.rmdir() if name in folders else path.unlink()


def make_file(path: str) -> dict:
    """Returns a file in the form in which Gradio, browsers and programs send it to one another."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def save_picture(picture: Image.Image) -> dict:
    """Saves a picture as a JPEG that is deleted as uploads are; returns it as `make_file` does."""
    find_own_folder().mkdir(exist_ok=True)  # programs that tidy up may have deleted it
    descriptor, path = tempfile.mkstemp(dir=find_own_folder(), suffix=".jpg")
    with open(descriptor, "wb") as file:
        picture.save(file, "JPEG")
    return make_file(path)


def lock(folder: Path) -> int | None:
    """Locks a folder until the process ends; returns None if another process holds it or it cannot be locked."""
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
    """Deletes the folders in `parent` whose processes have ended, in other containers too."""
    for folder in parent.glob(f"{PREFIX}*"):
        descriptor = lock(folder)
        if descriptor is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)
