"""The page without a server: builds it and serves its files."""

import base64
import io
import shutil
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from pipeline_agegender import AgeGenderPipeline
from scripts.build_web import build, install_runtime
from scripts.export_onnx import export_onnx, make_file


PLACE = "some/place/"  # of the page on its site
OLD_FILE = "old.js"  # lies where the page is built
# Waits until the service worker has kept the page's files.
KEEP = "navigator.serviceWorker.ready.then(() => {})"
ESTIMATE = """async ([content, type, options]) => {
  const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
  return ageGender.estimate(new Blob([bytes], {type}), options);
}"""


def build_page(pipe: AgeGenderPipeline, folder: Path) -> Path:
    """Builds the page around the model of a pipeline; returns the root of its site. Skips the test if npm is missing."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm (https://nodejs.org), which brings onnxruntime-web")
    try:
        install_runtime()
    except ValueError as error:
        pytest.skip(f"onnxruntime-web is not installed in web/, and this fails: {error}")
    pipe.model.save_pretrained(folder / "model")
    pipe.image_processor.save_pretrained(folder / "model")
    (folder / "model.onnx").write_bytes(make_file(export_onnx(pipe.model), pipe.model))
    (folder / "site" / PLACE).mkdir(parents=True)
    (folder / "site" / PLACE / OLD_FILE).write_text("of a former build", encoding="utf-8")
    build(str(folder / "model"), folder / "model.onnx", folder / "site" / PLACE)
    return folder / "site"


class Site:
    """Serves the files of a folder at 127.0.0.1.

    Attributes:
        url: The address of the page.
        asked: The paths of all requests so far.
    """

    def __init__(self, root: Path):
        site, self.asked = self, []

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, *_):
                site.asked.append(self.path)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=root))
        self.url = f"http://127.0.0.1:{self._server.server_port}/{PLACE}"

    def start(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        """Ends the server, after which the browser is offline."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def serve(root: Path):
    site = Site(root)
    site.start()
    yield site
    site.stop()


def open_ready(browser, url: str, **options):
    """Opens the page and waits until its networks are loaded; options are Playwright's."""
    page = browser.new_page(**options)
    page.set_default_timeout(120_000)  # milliseconds
    page.goto(url)
    page.evaluate("ageGender.ready")
    return page


def encode(image: Image.Image, format: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def estimate(page, content: bytes, **options) -> list[dict]:
    """Calls `ageGender.estimate` of the page."""
    return page.evaluate(ESTIMATE, [base64.b64encode(content).decode(), "", options])
