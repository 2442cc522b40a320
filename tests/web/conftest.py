"""One page around a tiny model and one Chromium for all tests of the page without a server."""

import pytest

from tests.support.browser import open_chromium
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
def browser():
    with open_chromium() as chromium:
        yield chromium


@pytest.fixture(scope="session")
def ready_page(browser, site):
    """The page with its networks."""
    page = open_ready(browser, site.url)
    yield page
    page.close()
