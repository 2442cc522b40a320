"""A real browser for the tests: Debian's Chromium, driven by Playwright."""

import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


@contextmanager
def open_browser(*options: str):
    """
    Chromium without a window; skips the test where Playwright or Chromium is missing.

    Args:
        options: More of Chromium's command line.
    """
    api = pytest.importorskip("playwright.sync_api", reason="needs pip install playwright")
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("needs Debian's chromium (apt-get install chromium)")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", *options])
        yield browser
        browser.close()


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
