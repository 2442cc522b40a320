"""The page as a process of its own, with the weights of this folder."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import app


@contextmanager
def run_page(folder: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    """Starts the page with `folder` as the system's temporary folder; yields the process, and its address."""
    environment = {name: value for name, value in os.environ.items() if name != "GRADIO_TEMP_DIR"}
    environment |= {"TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "app.py"], cwd=app.FOLDER, env=environment, stdout=subprocess.PIPE, text=True
    )
    deadline = threading.Timer(300, process.kill)
    deadline.start()
    try:
        yield process, next(line.split()[-1] for line in process.stdout if "Running on local URL:" in line)
    finally:
        deadline.cancel()
        process.kill()
        process.communicate()
