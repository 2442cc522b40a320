"""What visitors send is gone when the page ends."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from gradio_client import Client, handle_file

import app
from own_folder import PREFIX, delete_left_folders


def list_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_nothing_outlives_the_page(tmp_path, ending):
    environment = {name: value for name, value in os.environ.items() if name != "GRADIO_TEMP_DIR"}
    environment |= {"TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "app.py"], cwd=app.FOLDER, env=environment, stdout=subprocess.PIPE, text=True
    )
    deadline = threading.Timer(300, process.kill)
    deadline.start()
    try:
        url = next(line.split()[-1] for line in process.stdout if "Running on local URL:" in line)
        client = Client(url, verbose=False, download_files=False)
        client.predict(handle_file(app.FOLDER / "assets" / "astronaut.jpg"), api_name="/predict")
        [folder] = tmp_path.glob(f"{PREFIX}*")
        assert len(list_files(folder)) >= 2  # the upload and the answer
        process.send_signal(ending)
        assert process.wait() == 0
    finally:
        deadline.cancel()
        process.kill()
        process.communicate()
    assert not list_files(tmp_path) and not folder.exists()


def test_folders_of_killed_processes_are_deleted(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    names = [f"{PREFIX}{ended.pid}-a", f"{PREFIX}{os.getpid()}-b", f"{PREFIX}{os.getppid()}-c", f"{PREFIX}d", "e"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "photo.png").touch()
    delete_left_folders(tmp_path)
    # That of a running process stays, and whatever has another name.
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[2:])
