"""One page around a tiny model and one Chromium for all tests of the page without a server."""

import pytest

from tests.support.browser import open_chromium, write_camera
from tests.support.web_page import build_page, open_ready, serve


@pytest.fixture(scope="session")
def root(tmp_path_factory, estimator):
    """The root of the site on which the page lies."""
    return build_page(estimator, tmp_path_factory.mktemp("web"))


@pytest.fixture(scope="session")
def site(root):
    with serve(root) as server:
        yield server


@pytest.fixture(scope="session")
def browser(playwright, tmp_path_factory, photo):
    """Chromium with a camera in front of which a photo trembles, and with a GPU that the processor imitates."""
    film = write_camera(tmp_path_factory.mktemp("camera") / "camera.mjpeg", photo)
    with open_chromium(playwright, film, "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader") as chromium:
        yield chromium


@pytest.fixture(scope="session")
def ready_page(browser, site):
    """The page with its networks."""
    page = open_ready(browser, site.url)
    yield page
    page.close()
