"""A real browser for the tests: Debian's Chromium, driven by Playwright."""

import base64
import io
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import app


COUNT_CAMERAS = """() => {
  window.cameras_asked = 0;
  const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = (wish) => { window.cameras_asked++; return ask(wish); };
}"""
COUNT_FRAMES = """() => {
  window.frames_seen = 0;
  const observer = new MutationObserver(() => window.frames_seen++);
  observer.observe(document.querySelector('#live canvas'), {attributeFilter: ['data-answer']});
}"""


ASTRONAUT = app.FOLDER / "assets" / "astronaut.jpg"
TIMEOUT = 60_000  # milliseconds
# What stands in a tab and in no other.
TAB_MARKS = {
    "Photo": "Address of a photo",
    "Many photos": "Up to 1,000 photos at once",
    "Film": "A film of up to two minutes",
    "Live": "Switch on the camera",
    "The model": "What it learnt from",
}
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


@contextmanager
def open_chromium(playwright, *options: str):
    """
    Chromium without a window; skips the test if it is missing.

    Args:
        playwright: The fixture.
        options: Further options of Chromium's command line.
    """
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("needs Debian's chromium (apt-get install chromium)")
    browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", *CAMERA, *options])
    yield browser
    browser.close()


def encode_photo(path: Path, format: str = "JPEG") -> str:
    """A picture as a data: address."""
    buffer = io.BytesIO()
    Image.open(path).save(buffer, format)
    return f"data:image/{format.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def write_camera(file: Path, photo: Image.Image | None) -> str:
    """Writes a film of 640 x 480 pixels in which a photo trembles, or none is; returns Chromium's option for it."""
    shifts = np.random.RandomState(0).randint(-3, 4, (30, 2))
    with file.open("wb") as film:
        for x, y in shifts.tolist():
            frame = Image.new("RGB", (640, 480), "gray")
            if photo is not None:
                frame.paste(photo.resize((480, 480)), (80 + x, y))
            frame.save(film, "JPEG", quality=90)
    return f"--use-file-for-fake-video-capture={file}"


def open_page(browser, address: str, **options):
    """The page in a new window, with its first tab open; options are Playwright's."""
    page = browser.new_page(**options)
    page.set_default_timeout(TIMEOUT)
    page.goto(address)
    page.get_by_role("tab", name="Photo", exact=True).wait_for()
    return page


def open_tab(page, name: str):
    """Opens a tab and waits until it is the one that is shown, since each has an input for files."""
    page.get_by_role("tab", name=name, exact=True).click()
    page.locator("[role=tabpanel]:visible").filter(has_text=TAB_MARKS[name]).wait_for()


def upload(page, *paths: Path):
    """Into the input of the tab that is shown."""
    page.locator("[role=tabpanel]:visible input[type=file]").first.set_input_files([str(path) for path in paths])


def open_camera(browser, address: str):
    """The page with the tab open and the camera on, for which it was asked once."""
    page = browser.new_context(permissions=["camera"]).new_page()
    page.set_default_timeout(120_000)  # milliseconds
    page.goto(address)
    page.get_by_role("tab", name="Live").click()
    page.evaluate(COUNT_CAMERAS)
    button = page.get_by_role("button", name="Switch on the camera")
    button.focus()
    button.evaluate("button => { button.click(); button.click(); }")
    page.locator("#live canvas").wait_for()
    assert page.evaluate("cameras_asked") == 1
    return page
