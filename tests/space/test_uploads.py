"""Photos are gone within eleven minutes and when the page ends, whatever visitors do."""

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from gradio_client import Client, handle_file
from PIL import Image

import app
from space import uploads
from space.uploads import (
    NO_ROOM,
    PREFIX,
    VARIABLE,
    delete_left_folders,
    delete_old_files,
    make_file,
    save_picture,
    use_own_folder,
)
from tests.support.browser import ASTRONAUT
from tests.support.page_process import run_page


def list_files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def wait_for_files(folder: Path, expected: set[Path]):
    deadline = time.monotonic() + 60
    while list_files(folder) != expected and time.monotonic() < deadline:
        time.sleep(0.2)
    assert list_files(folder) == expected


def abort_upload(url: str):
    """What a visitor does who leaves while a photo is on its way: all of it is sent, but not the end of the request."""
    body = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="photo.jpg"\r\n\r\n' + ASTRONAUT.read_bytes()
    )
    head = f"POST /gradio_api/upload HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body) + 9}\r\n"
    head += "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    address = httpx2.URL(url)
    with socket.create_connection((address.host, address.port)) as connection:
        connection.sendall(head.encode() + body)
        time.sleep(1)


def test_page_promises_eleven_minutes():
    assert uploads.MAX_AGE + uploads.INTERVAL <= 11 * 60


@pytest.mark.slow
def test_nothing_that_a_visitor_does_keeps_photos_or_ends_the_deletion(monkeypatch, tmp_path, estimator):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monkeypatch.setattr(uploads, "INTERVAL", 0.2)
    page = app.build_page(estimator)
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **app.make_launch_options(estimator))
    try:
        first = list_files(tmp_path)
        abort_upload(url)
        assert len(list_files(tmp_path) - first) == 1
        with ASTRONAUT.open("rb") as file:
            [path] = httpx2.post(f"{url}gradio_api/upload", files={"files": file}).json()
            httpx2.post(f"{url}gradio_api/upload", files={"others": file})
        client = Client(url, verbose=False, download_files=False)
        client.predict(handle_file(ASTRONAUT), api_name="/predict")
        client.predict([handle_file(ASTRONAUT)], api_name="/predict_files")
        # A folder in the place of a photo: Gradio's own deletion would end there.
        httpx2.post(f"{url}gradio_api/call/predict", json={"data": [make_file(str(Path(path).parent))]})
        assert len(list_files(tmp_path) - first) >= 3
        monkeypatch.setattr(uploads, "MAX_AGE", 0.5)
        wait_for_files(tmp_path, first)  # the examples and charts of the page stay
        save_picture(Image.new("RGB", (8, 8)))
        assert len(list_files(tmp_path)) == len(first) + 1
        wait_for_files(tmp_path, first)
    finally:
        page.close()


def test_deletion_goes_on_while_files_come_and_go(own_folder):
    stop, saved = threading.Event(), []

    def come():
        while not stop.is_set():
            folder = own_folder / str(len(saved) % 7)
            folder.mkdir(exist_ok=True)
            saved.append(save_picture(Image.new("RGB", (8, 8))))
            (folder / "photo.jpg").write_bytes(b"")
            (folder / "photo.jpg").unlink(missing_ok=True)

    visitors = threading.Thread(target=come)
    visitors.start()
    try:
        for _ in range(20):
            time.sleep(0.02)
            delete_old_files(own_folder, 600)
    finally:
        stop.set()
        visitors.join()
    assert len(list_files(own_folder)) == len(saved) > 20
    delete_old_files(own_folder, -1)
    assert list_files(own_folder) == set()


def test_user_may_choose_where_the_folder_lies(monkeypatch, tmp_path):
    (tmp_path / "theirs").mkdir()
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    use_own_folder()
    own = Path(os.environ[VARIABLE])
    assert own.parent == tmp_path and own.name.startswith(PREFIX)
    use_own_folder()  # for another page of the same process
    assert os.environ[VARIABLE] == str(own)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["theirs", own.name])


@pytest.mark.parametrize("kind", ["file", "below a file", "not writable", "full"])
def test_start_without_a_folder_to_write_to_ends_with_a_sentence(monkeypatch, tmp_path, estimator, kind):
    parent, code = tmp_path / "parent", {"not writable": errno.EROFS, "full": errno.ENOSPC}.get(kind)
    if code is None:
        parent.touch()
        parent = parent / "uploads" if kind == "below a file" else parent
    else:

        def fail(folder, *rest, **options):
            raise OSError(code, os.strerror(code), str(folder))

        monkeypatch.setattr(os, "mkdir" if kind == "not writable" else "open", fail)
    monkeypatch.setenv(VARIABLE, str(parent))
    with pytest.raises(ValueError, match=f"cannot write to {parent}.*: .*Set GRADIO_TEMP_DIR to a folder"):
        app.build_page(estimator)


@contextmanager
def full_disk():
    """Lets no file become larger than 20 kB, which a program cannot tell from a full disk."""
    resource = pytest.importorskip("resource", reason="needs Linux")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_full_disk_during_a_visit_gets_a_sentence_and_the_page_goes_on(url, client):
    with ASTRONAUT.open("rb") as file:
        [path] = httpx2.post(f"{url}gradio_api/upload", files={"files": file}).json()
        file.seek(0)
        with full_disk():
            answer = httpx2.post(f"{url}gradio_api/upload", files={"files": ("other.jpg", file.read() + b"more")})
            assert (answer.status_code, answer.text) == (507, NO_ROOM)
            call = httpx2.post(f"{url}gradio_api/call/predict", json={"data": [make_file(path)]}).json()["event_id"]
            assert NO_ROOM in httpx2.get(f"{url}gradio_api/call/predict/{call}", timeout=60).text
    assert len(client.predict(handle_file(ASTRONAUT), api_name="/predict")[1]) == 1


def test_folder_that_was_tidied_away_comes_back(own_folder):
    own_folder.rmdir()
    assert Path(save_picture(Image.new("RGB", (8, 8)))["path"]).is_file()


def read_memory(process: subprocess.Popen) -> int:
    """The resident memory of a process, MB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1000


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_neither_disk_nor_memory_keeps_what_was_sent(tmp_path):
    """A picture of some KB that takes 0.4 GB in memory; then SIGTERM. The detector keeps 0.3 GB to work in."""
    own, huge = tmp_path / "own", tmp_path / "huge.png"
    own.mkdir()
    Image.new("1", (10000, 10000)).save(huge)
    with run_page(own) as (process, url):
        [folder] = own.glob(f"{PREFIX}*")
        first = list_files(folder)
        client = Client(url, verbose=False, download_files=False)
        client.predict(handle_file(ASTRONAUT), api_name="/predict")
        before = read_memory(process)
        for _ in range(2):
            client.predict(handle_file(huge), api_name="/predict")
        deadline = time.monotonic() + 20  # the answer is sent before the picture is let go
        while read_memory(process) > before + 450 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert read_memory(process) <= before + 450
        # Two uploads and two answers.
        assert len(list_files(folder) - first) == 4
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
    assert not list_files(own) and not folder.exists()


HOLD = """
import os, sys, time
sys.path.insert(0, {root!r})
os.environ["GRADIO_TEMP_DIR"] = {parent!r}
from space.uploads import use_own_folder
use_own_folder()
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.processes
def test_folders_of_killed_processes_are_deleted(tmp_path):
    """And no others: not that of a process that runs, nor what has another name."""
    (tmp_path / "theirs").mkdir()
    code = HOLD.format(root=str(app.FOLDER), parent=str(tmp_path))
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(2)]
    assert [process.stdout.readline() for process in processes] == [b"ready\n"] * 2
    both = set(tmp_path.glob(f"{PREFIX}*"))
    assert len(both) == 2
    for folder in both:
        (folder / "photo.png").touch()
    delete_left_folders(tmp_path)
    assert set(tmp_path.glob(f"{PREFIX}*")) == both
    for process, left in zip(processes, (1, 0), strict=True):
        process.kill()
        process.communicate()
        delete_left_folders(tmp_path)
        assert len(set(tmp_path.glob(f"{PREFIX}*")) & both) == left and (tmp_path / "theirs").exists()
