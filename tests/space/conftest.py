"""One page with the shipped weights and one Chromium for all tests of the page."""

import threading
from collections.abc import Callable

import gradio as gr
import pytest
from gradio_client import Client
from PIL import Image

import app
from hub.loading import load_pipeline
from image_reading import is_data
from tests.support.browser import ASTRONAUT, open_chromium, write_camera


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> gr.Blocks:
    """The page, served, with all that `app.py` gives to `launch`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("visitors")))
        pipe = load_pipeline(str(app.FOLDER))
        page = app.build_page(pipe)
        page.launch(prevent_thread_lock=True, quiet=True, **app.make_launch_options(pipe))
        yield page
        page.close()


@pytest.fixture(scope="session")
def url(demo) -> str:
    return demo.local_url


@pytest.fixture(scope="session")
def client(url) -> Client:
    return Client(url, verbose=False)


@pytest.fixture(scope="session")
def astronaut() -> Image.Image:
    return Image.open(ASTRONAUT)


@pytest.fixture(scope="session")
def browser(playwright, tmp_path_factory, astronaut):
    """Chromium with a camera in front of which a photo trembles, and with a second name for this machine."""
    film = write_camera(tmp_path_factory.mktemp("camera") / "camera.mjpeg", astronaut)
    with open_chromium(playwright, film, "--host-resolver-rules=MAP page.test 127.0.0.1") as chromium:
        yield chromium


@pytest.fixture
def own_folder(monkeypatch, tmp_path):
    """The folder of uploads of a test without a server."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    (tmp_path / "uploads").mkdir()
    return tmp_path / "uploads"


@pytest.fixture
def hold_fetches(monkeypatch) -> Callable[..., tuple[threading.Event, list[str]]]:
    """Makes `fetch` of the named modules wait for an event, which it returns with the addresses that sites were asked for."""
    answer, fetched = threading.Event(), []

    def fetch(address: str) -> bytes:
        if not is_data(address):
            fetched.append(address)
            answer.wait(60)
        return ASTRONAUT.read_bytes()

    def hold(*modules: str):
        for module in modules:
            monkeypatch.setattr(f"{module}.fetch", fetch)
        return answer, fetched

    return hold
