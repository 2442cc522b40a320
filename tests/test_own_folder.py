"""What visitors send is gone from the memory after the answer, and from the disk when the page ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from PIL import Image

import app
from own_folder import PREFIX, VARIABLE, delete_left_folders, use_own_folder
from page_process import run_page


ASTRONAUT = app.FOLDER / "assets" / "astronaut.jpg"


def list_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def read_memory(process: subprocess.Popen) -> int:
    """What a process holds of the machine's memory, MB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1000


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_neither_disk_nor_memory_keeps_what_was_sent(tmp_path):
    """A picture of 20 KB that takes 0.7 GB as RGB; then SIGTERM."""
    own, huge = tmp_path / "own", tmp_path / "huge.png"
    own.mkdir()
    Image.new("1", (13000, 13000)).save(huge)
    with run_page(own) as (process, url):
        client = Client(url, verbose=False, download_files=False)
        client.predict(handle_file(ASTRONAUT), api_name="/predict")
        before = read_memory(process)
        for _ in range(2):
            client.predict(handle_file(huge), api_name="/predict")
        deadline = time.monotonic() + 20  # the answer is sent before the picture is let go
        while read_memory(process) > before + 200 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert read_memory(process) <= before + 200
        [folder] = own.glob(f"{PREFIX}*")
        assert len(list_files(folder)) >= 3  # uploads and answers
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
    assert not list_files(own) and not folder.exists()


def test_user_may_choose_where_the_folder_lies(monkeypatch, tmp_path):
    handler = signal.getsignal(signal.SIGTERM)
    (tmp_path / "theirs").mkdir()
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    try:
        use_own_folder()
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, handler)
    own = Path(os.environ[VARIABLE])
    assert own.parent == tmp_path and own.name.startswith(PREFIX)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["theirs", own.name])


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
