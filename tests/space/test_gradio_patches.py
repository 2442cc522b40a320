"""What Gradio remembers of visitors holds no photos."""

import json

import gradio as gr
import httpx2
import pytest

from space.uploads import delete_old_files, find_own_folder, make_file
from tests.support.browser import ASTRONAUT, encode_photo, open_page, upload


# Of a picture as text: a GIF, a JPEG, a PNG and a WebP.
MARKS = ("data:image", "R0lGOD", "/9j/", "iVBORw0", "UklGR")


def read_memory(demo: gr.Blocks) -> str:
    """What Gradio remembers of its visitors: their sessions and the answers that nobody has fetched."""
    queue = demo._queue
    messages = [list(waiting._queue) for waiting in queue.pending_messages_per_session.values()]
    sessions = [vars(session) for session in demo.app.state_holder.session_data.values()]
    assert sessions
    parts = [[session["config_values"], session["state_data"]] for session in sessions]
    return json.dumps([parts, messages, queue.event_analytics], default=lambda value: str(vars(value)))


def assert_nothing_is_remembered(demo: gr.Blocks):
    memory = read_memory(demo)
    assert not [mark for mark in MARKS if mark in memory]


def call_by_number(demo: gr.Blocks, number: int, data: list) -> str:
    """Calls a function of the page as a browser does; returns the answer."""
    call = {"data": data, "fn_index": number, "session_hash": "visitor"}
    httpx2.post(f"{demo.local_url}gradio_api/queue/join", json=call).raise_for_status()
    return httpx2.get(f"{demo.local_url}gradio_api/queue/data?session_hash=visitor", timeout=60).text


def test_no_function_of_the_page_keeps_a_picture_or_downloads_an_address(demo, monkeypatch):
    """Whatever a program sends in the place of each input."""
    downloads = []

    async def download(address: str, **options) -> str:
        downloads.append(address)
        return str(ASTRONAUT)

    monkeypatch.setattr("gradio.processing_utils.async_ssrf_protected_download", download)
    monkeypatch.setattr("photos.fetching.fetch", lambda address: ASTRONAUT.read_bytes())
    picture = encode_photo(ASTRONAUT)
    addresses = "https://a.example/b.jpg", f"{demo.local_url}favicon.ico"
    values = [picture, {"url": picture}, {"value": picture}, [[picture]], *map(make_file, (*addresses, picture))]
    names = {name for function in demo.fns.values() if (name := function.api_name)}
    assert {"predict", "predict_url", "predict_files"} <= names
    for number, function in demo.fns.items():
        for value in values if function.inputs and function.queue else ():
            call_by_number(demo, number, [value] * len(function.inputs))
            assert_nothing_is_remembered(demo)
    assert downloads == []


@pytest.mark.browser
def test_faces_on_the_page_are_deleted_and_not_remembered(demo, browser, url):
    page = open_page(browser, url)
    upload(page, ASTRONAUT)
    crop = page.locator(".card img")
    crop.wait_for()
    page.wait_for_function("document.querySelector('.card img').naturalWidth === 112")
    address = crop.get_attribute("src")
    assert "data:" not in address
    assert httpx2.get(address).status_code == 200
    delete_old_files(find_own_folder(), -1)  # as the page does when they are old
    assert httpx2.get(address).status_code in (403, 404)
    assert_nothing_is_remembered(demo)
    page.close()
