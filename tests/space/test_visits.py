"""No photo outlives its request by more than the minutes of `delete_cache`, on disk or in memory."""

import json
import socket
import threading
import time
from pathlib import Path

import gradio as gr
import httpx
import pytest
from gradio.route_utils import delete_files_created_by_app
from gradio_client import Client, handle_file
from PIL import Image

import app
from photos.fetching import REFUSED_ADDRESS
from space.gradio_patches import CALL_HANDLERS, guard_visits, keep_briefly
from tests.support.browser import open_browser


ASTRONAUT = Path(app.FOLDER) / "assets" / "astronaut.jpg"
DOT = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///ywAAAAAAQABAAACAUwAOw=="
# Of a picture as text: of a GIF, a JPEG, a PNG and a WebP.
MARKS = ("data:image", "R0lGOD", "/9j/", "iVBORw0", "UklGR")


@pytest.fixture
def folder(monkeypatch, tmp_path) -> Path:
    """Where gradio writes its files."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    return tmp_path / "gradio"


@pytest.fixture
def demo(estimator, folder, request):
    """The page, which looks every second for files that are too old; their age in seconds may be a parameter."""
    demo = app.build_demo(estimator, delete_cache=(1, getattr(request, "param", 600)))
    demo.launch(
        prevent_thread_lock=True, quiet=True, run_history=False, app_kwargs={"exception_handlers": CALL_HANDLERS}
    )
    yield demo
    demo.close()


def list_files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def read_memory(demo: gr.Blocks) -> str:
    """What gradio remembers of its visitors: their sessions and the answers that nobody has fetched."""
    queue = demo._queue
    messages = [list(waiting._queue) for waiting in queue.pending_messages_per_session.values()]
    sessions = [vars(session) for session in demo.app.state_holder.session_data.values()]
    assert sessions
    parts = [[session["config_values"], session["state_data"]] for session in sessions]
    return json.dumps([parts, messages, queue.event_analytics], default=lambda value: str(vars(value)))


@pytest.mark.parametrize("demo", [20], indirect=True)
def test_uploads_and_answers_are_deleted_in_time(demo, folder, tmp_path):
    first = list_files(folder)
    Image.new("RGB", (321, 123), "grey").save(tmp_path / "photo.png")
    client = Client(demo.local_url, verbose=False, download_files=False)
    client.predict(handle_file(tmp_path / "photo.png"), api_name="/predict")
    client.predict([handle_file(tmp_path / "photo.png")], api_name="/predict_files")
    assert len(list_files(folder) - first) >= 2  # the upload and the answer
    deadline = time.monotonic() + 60
    while list_files(folder) != first and time.monotonic() < deadline:
        time.sleep(0.5)
    assert list_files(folder) == first


def test_faces_on_the_page_are_deleted_and_not_remembered(demo, folder):
    first = list_files(folder)
    with open_browser() as browser:
        page = browser.new_page()
        page.set_default_timeout(60_000)  # milliseconds
        page.goto(demo.local_url)
        page.locator("[role=tabpanel]:visible input[type=file]").first.set_input_files(str(ASTRONAUT))
        crop = page.locator(".card img")
        crop.wait_for()
        page.wait_for_function("document.querySelector('.card img').naturalWidth === 112")
        address = crop.get_attribute("src")
        assert "data:" not in address
        assert httpx.get(address).status_code == 200
        delete_files_created_by_app(demo, age=0)  # as the page does when they are old
        assert list_files(folder) == first
        assert httpx.get(address).status_code in (403, 404)
        memory = read_memory(demo)
        assert not [mark for mark in MARKS if mark in memory]


def test_picture_that_came_as_text_is_not_remembered(demo):
    call = {"data": [{"url": DOT}], "session_hash": "visitor"}
    event = httpx.post(f"{demo.local_url}gradio_api/call/predict", json=call).json()["event_id"]
    answer = httpx.get(f"{demo.local_url}gradio_api/call/predict/{event}", timeout=60).text
    assert "event: complete" in answer
    memory = read_memory(demo)
    assert not [mark for mark in MARKS if mark in memory]


def ask_by_address(demo: gr.Blocks, address: str) -> str:
    """What `/predict` answers where the file is named by an address."""
    call = {"data": [{"path": address, "meta": {"_type": "gradio.FileData"}}]}
    event = httpx.post(f"{demo.local_url}gradio_api/call/predict", json=call).json()["event_id"]
    return httpx.get(f"{demo.local_url}gradio_api/call/predict/{event}", timeout=60).text


def test_file_that_is_an_address_is_read_within_bounds(demo, folder, monkeypatch):
    first = list_files(folder)
    monkeypatch.setattr("space.inference.fetch", {"https://a.example/b.jpg": ASTRONAUT.read_bytes()}.__getitem__)
    answer = ask_by_address(demo, "https://a.example/b.jpg")
    assert "event: complete" in answer and "age_interval" in answer
    monkeypatch.undo()
    assert REFUSED_ADDRESS in ask_by_address(demo, f"{demo.local_url}favicon.ico")
    delete_files_created_by_app(demo, age=0)
    assert list_files(folder) == first


@pytest.mark.parametrize(
    ("call", "body", "status", "reason"),
    [
        ("v2/predict", {"photo": "a.jpg"}, 422, "Parameter `photo` is not a valid key-word argument"),
        ("v2/predict", {}, 422, "No value provided for required argument: image"),
        ("v2/nothing", {}, 404, "'/nothing'"),
        ("nothing", {"data": []}, 404, "nothing"),
        ("/run/nothing", {"data": []}, 404, "nothing"),
        ("/run/predict", {"data": [], "fn_index": 999}, 404, "999"),
        ("/api/nothing", {"data": []}, 404, "nothing"),
        ("/queue/join", {"data": [], "fn_index": 999, "session_hash": "visitor"}, 404, "999"),
    ],
)
def test_call_of_what_is_not_there_gets_a_sentence(demo, call, body, status, reason):
    way = call if call.startswith("/") else f"/call/{call}"
    answer = httpx.post(f"{demo.local_url}gradio_api{way}", json=body)
    assert answer.status_code == status
    assert answer.json()["detail"].startswith("There is no such call: ") and reason in answer.json()["detail"]


def abort_upload(demo: gr.Blocks):
    """What a visitor does who leaves while a photo is on its way: all of it is sent, but not the end of the request."""
    body = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="photo.jpg"\r\n\r\n' + ASTRONAUT.read_bytes()
    )
    head = f"POST /gradio_api/upload HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body) + 9}\r\n"
    head += "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    address = httpx.URL(demo.local_url)
    with socket.create_connection((address.host, address.port)) as connection:
        connection.sendall(head.encode() + body)
        time.sleep(1)


@pytest.mark.parametrize("demo", [10], indirect=True)
def test_nothing_that_a_visitor_does_keeps_photos_or_ends_the_deletion(demo, folder):
    first = list_files(folder)
    abort_upload(demo)
    assert len(list_files(folder) - first) == 1
    with ASTRONAUT.open("rb") as file:
        [path] = httpx.post(f"{demo.local_url}gradio_api/upload", files={"files": file}).json()
        httpx.post(f"{demo.local_url}gradio_api/upload", files={"others": file})
    # A folder in the place of a photo: gradio would try to delete it, and nothing more after that.
    assert "event: error" in ask_by_address(demo, str(Path(path).parent))
    deadline = time.monotonic() + 60
    while list_files(folder) != first and time.monotonic() < deadline:
        time.sleep(0.5)
    assert list_files(folder) == first
    keep_briefly(Image.new("RGB", (8, 8)), gr.Image())
    deadline = time.monotonic() + 60
    while list_files(folder) != first and time.monotonic() < deadline:
        time.sleep(0.5)
    assert list_files(folder) == first


def test_no_call_passes_by_the_queues(demo):
    answer = httpx.post(f"{demo.local_url}gradio_api/run/predict", json={"data": [{"url": DOT}]}, timeout=60)
    assert answer.status_code == 404 and "join the queue" in answer.json()["detail"]


def test_deletion_goes_on_while_visitors_come(folder):
    """Gradio's own sets would end it: RuntimeError, set changed size during iteration."""
    with gr.Blocks(analytics_enabled=False) as demo:
        image = gr.Image()
    guard_visits(demo)
    stop = threading.Event()

    def come():
        number = 0
        while not stop.is_set():
            picture = Image.new("RGB", (8, 8), (number % 256, number // 256 % 256, 0))
            image.move_resource_to_block_cache(keep_briefly(picture, image)["path"])
            number += 1

    visitors = threading.Thread(target=come)
    visitors.start()
    try:
        for _ in range(20):
            time.sleep(0.05)
            delete_files_created_by_app(demo, age=600)
    finally:
        stop.set()
        visitors.join()
    assert len(list_files(folder)) > 100 and not image.temp_files
    delete_files_created_by_app(demo, age=None)
    assert list_files(folder) == set() and not list(folder.iterdir())
