"""A folder for what visitors send that does not outlive the process."""

import atexit
import os
import shutil
import signal
import tempfile
from pathlib import Path


VARIABLE = "GRADIO_TEMP_DIR"  # which gradio reads anew whenever it writes a file
PREFIX = "age-gender-page-"


def use_own_folder():
    """
    Has gradio write into a folder of this process alone, which is deleted at its end; SIGTERM then ends it as Ctrl-C does.

    It lies where `GRADIO_TEMP_DIR` says, or where the system has such files. Folders of processes that were killed are
    deleted too.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parent = Path(os.environ.get(VARIABLE) or tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    delete_left_folders(parent)
    folder = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent.resolve())  # as gradio writes its paths
    os.environ[VARIABLE] = folder
    # Not sooner: threads that still work on an answer would make the folder anew.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def delete_left_folders(parent: Path):
    """Deletes the folders in `parent` whose process is no more."""
    for folder in parent.glob(f"{PREFIX}*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdecimal() and not is_running(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def is_running(pid: int) -> bool:
    """Whether another process has this number; where that cannot be asked without ending it, as if."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()  # in a container each start may get the same number
