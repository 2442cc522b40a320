"""A real browser for the tests: Debian's Chromium, driven by Playwright."""

import shutil
from contextlib import contextmanager

import pytest


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
