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
from space.uploads import PREFIX, VARIABLE, delete_left_folders, use_own_folder
from tests.support.page_process import run_page


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
    (tmp_path / "theirs").mkdir()
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    use_own_folder()
    own = Path(os.environ[VARIABLE])
    assert own.parent == tmp_path and own.name.startswith(PREFIX)
    use_own_folder()  # for another page of the same process
    assert os.environ[VARIABLE] == str(own)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["theirs", own.name])


HOLD = """
import os, sys, time
sys.path.insert(0, {root!r})
os.environ["GRADIO_TEMP_DIR"] = {parent!r}
from own_folder import use_own_folder
use_own_folder()
print("ready", flush=True)
time.sleep(600)
"""


def test_folders_of_killed_processes_are_deleted(tmp_path):
    """And no others: not that of a process that runs, nor what has another name."""
    (tmp_path / "theirs").mkdir()
    code = HOLD.format(root=str(app.FOLDER), parent=str(tmp_path))
    processes = []
    for _ in range(2):
        processes.append(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE))
        assert processes[-1].stdout.readline() == b"ready\n"
    both = set(tmp_path.glob(f"{PREFIX}*"))
    assert len(both) == 2
    for folder in both:
        (folder / "photo.png").touch()
    delete_left_folders(tmp_path)
    assert set(tmp_path.glob(f"{PREFIX}*")) == both
    processes[0].kill()
    processes[0].communicate()
    delete_left_folders(tmp_path)
    assert len(set(tmp_path.glob(f"{PREFIX}*")) & both) == 1 and (tmp_path / "theirs").exists()
    processes[1].kill()
    processes[1].communicate()
    delete_left_folders(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]
