"""The page below a path of another site: whether the proxy strips the path or keeps it, and however the path is written."""

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx2
import pytest
import trustme
from gradio_client import Client, handle_file
from PIL import Image

import app
from hub.loading import load_pipeline
from space.reverse_proxy import find_root_path
from tests.support.browser import ASTRONAUT, COUNT_FRAMES, TIMEOUT, open_tab, upload
from tests.support.processes import find_free_port
from tests.support.reverse_proxy import run_proxy


# One that keeps the path asks more of the page.
EACH_PROXY = pytest.mark.parametrize("strips", [pytest.param(True, marks=pytest.mark.slow), False])


@contextmanager
def run_page(pipe, root: str) -> Iterator[str]:
    """Serves the page as `app.py` does where `GRADIO_ROOT_PATH` is `root`; yields the address behind the proxy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_ROOT_PATH", root)
        page, options = app.build_page(pipe), app.make_launch_options(pipe)
        page.launch(prevent_thread_lock=True, quiet=True, root_path=find_root_path(), **options)
    try:
        yield page.local_url
    finally:
        page.close()


def count_tools(url: str) -> int:
    """Asks the MCP server below an address for its tools."""
    pytest.importorskip("mcp", reason="needs pip install 'gradio[mcp]'")
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    async def count() -> int:
        async with (
            streamable_http_client(f"{url}/gradio_api/mcp/") as (reading, writing, _),
            ClientSession(reading, writing) as session,
        ):
            await session.initialize()
            return len((await session.list_tools()).tools)

    with ThreadPoolExecutor(1) as pool:  # Playwright has an event loop in the main thread
        return pool.submit(asyncio.run, count()).result()


@pytest.fixture
def own_uploads(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))


@pytest.mark.parametrize(
    ("root", "prefix", "names_itself"),
    [
        ("/faces", "/faces", True),
        pytest.param(" tools/faces/ ", "/tools/faces", True, marks=pytest.mark.slow),
        pytest.param("/f\u00e4ces", "/f%C3%A4ces", True, marks=pytest.mark.slow),
        ("http://127.0.0.1:{port}/faces/", "/faces", False),
    ],
)
def test_all_addresses_lie_below_the_path(own_uploads, estimator, root, prefix, names_itself):
    port, icon = find_free_port(), (app.FOLDER / "assets" / "favicon.png").read_bytes()
    with run_page(estimator, root.format(port=port)) as target:
        for strips in (True, False):
            with run_proxy(target, prefix, strips, port, names_itself=names_itself) as url, httpx2.Client() as client:
                assert client.get(f"{url}/").status_code == 200
                assert client.get(f"{url}/config").json()["root"] == url
                assert "/predict" in client.get(f"{url}/gradio_api/info").json()["named_endpoints"]
                assert client.get(f"{url}/favicon.ico").content == icon
                wrong = client.post(f"{url}/gradio_api/call/nothing", json={"data": []})
                path = httpx2.URL(url).path
                assert wrong.status_code == 404 and f"{path}/gradio_api/info lists" in wrong.json()["detail"]
                assert count_tools(url) == 3
        # A check of the page's health asks the page itself and needs no path.
        assert httpx2.get(f"{target}gradio_api/info").status_code == 200


@EACH_PROXY
def test_programs_get_answers(own_uploads, estimator, strips):
    with run_page(estimator, "/faces") as target, run_proxy(target, "/faces", strips) as url:
        client = Client(url, verbose=False)
        annotated, faces = client.predict(handle_file(ASTRONAUT), api_name="/predict")
        assert len(faces) == 1 and Image.open(annotated).size == Image.open(ASTRONAUT).size
        [answer] = client.predict([handle_file(ASTRONAUT)], api_name="/predict_files")
        assert answer["faces"] == faces


@EACH_PROXY
def test_redirects_stay_below_the_path(own_uploads, estimator, strips):
    with run_page(estimator, "/faces") as target, run_proxy(target, "/faces", strips) as url:
        assert strips or httpx2.get(url).headers["location"] == f"{url}/"
        assert count_tools(url) == 3
        moved = httpx2.post(f"{url}/gradio_api/mcp", json={})
        assert (moved.status_code, moved.headers["location"]) == (307, f"{url}/gradio_api/mcp/")
        beside = httpx2.get(f"{url.removesuffix('/faces')}/facesandmore/config")
        assert beside.status_code == 404


@pytest.mark.parametrize("root", ["", "/", " "])
def test_page_without_a_path_has_none(monkeypatch, root):
    monkeypatch.setenv("GRADIO_ROOT_PATH", root)
    assert find_root_path() == ""


def test_printed_address_of_the_tools_has_the_path(monkeypatch, estimator, capsys):
    pytest.importorskip("mcp", reason="needs pip install 'gradio[mcp]'")
    for root in ("/faces/", "https://example.org/faces"):
        monkeypatch.setenv("GRADIO_ROOT_PATH", root)
        app.make_launch_options(estimator)
        assert f"MCP server at {root.rstrip('/')}/gradio_api/mcp/\n" in capsys.readouterr().out


@pytest.fixture(scope="module")
def shipped():
    return load_pipeline(str(app.FOLDER))


@EACH_PROXY
def test_scripts_are_found_from_an_address_without_a_slash(url, own_uploads, estimator, strips):
    assert '<base href="./"' in httpx2.get(url).text
    with run_page(estimator, "/faces") as target, run_proxy(target, "/faces", strips) as url:
        for address in (url, f"{url}/"):
            page = httpx2.get(address, follow_redirects=True).text
            assert page.count('<base href="/faces/"') == page.count("<base ") == 1
            assert 'rel="manifest" href="manifest.json"' in page
            assert len(httpx2.head(address, follow_redirects=True).content) == 0


@pytest.mark.browser
@pytest.mark.parametrize("strips", [True, False])
@pytest.mark.parametrize("form", ["{path}", "{address}"])
def test_visitor_finds_all_tabs_over_https(own_uploads, shipped, browser, tmp_path, strips, form):
    """Nothing is asked of another address, or without encryption, and nothing is missing."""
    port, certificate = find_free_port(), trustme.CA().issue_cert("127.0.0.1")
    root = form.format(path="/faces", address=f"https://127.0.0.1:{port}/faces")
    proxy = {"port": port, "certificate": certificate, "names_itself": form == "{path}"}
    context = browser.new_context(ignore_https_errors=True, permissions=["camera"])
    asked, failed, errors = [], [], []
    context.on("request", lambda request: asked.append(request.url))
    context.on("response", lambda answer: failed.append((answer.status, answer.url)) if answer.status >= 400 else None)
    context.on("weberror", lambda error: errors.append(str(error.error)))
    page = context.new_page()
    page.set_default_timeout(TIMEOUT)
    with run_page(shipped, root) as target, run_proxy(target, "/faces", strips, **proxy) as url:
        page.goto(url if form == "{path}" else f"{url}/")
        visit_all_tabs(page, url, tmp_path)
        context.close()
    assert [address for address in asked if not f"{address}/".startswith((f"{url}/", "data:", "blob:"))] == []
    assert failed == errors == []


def visit_all_tabs(page, url: str, folder):
    upload(page, ASTRONAUT)
    page.get_by_text("1 face was found.").wait_for()
    page.wait_for_function("document.querySelector('.card img').naturalWidth === 112")
    with page.expect_download() as download:
        page.get_by_role("link", name="Save as JPEG").click()
    assert download.value.path().read_bytes()[:2] == b"\xff\xd8"
    page.get_by_role("button", name="All four in one picture").click()
    page.get_by_text("4 faces were found").wait_for()

    open_tab(page, "Many photos")
    upload(page, ASTRONAUT)
    page.locator(".file-preview tr").filter(has_text=re.compile(r"astronaut\s*\.jpg")).wait_for()
    page.get_by_role("button", name="Start").click()
    page.get_by_text("1 picture: 1 face.").wait_for()
    with page.expect_download() as download:
        page.get_by_role("link", name="Save as CSV").last.click()
    assert "astronaut.jpg,1," in download.value.path().read_text()

    page.get_by_role("tab", name="Live").click()
    page.get_by_role("button", name="Switch on the camera").click()
    page.locator("#live canvas").wait_for()
    page.evaluate(COUNT_FRAMES)
    page.wait_for_function("frames_seen >= 2")

    open_tab(page, "The model")
    page.locator("[role=tabpanel]:visible .vega-embed").first.wait_for()
    for picture in page.locator("[role=tabpanel]:visible img").all():
        picture.scroll_into_view_if_needed()
        page.wait_for_function("picture => picture.naturalWidth > 0", arg=picture.element_handle())

    page.get_by_role("button", name="Use via API").click()
    page.get_by_text("MCP", exact=True).click()
    page.get_by_text(f"{url}/gradio_api/mcp/").first.wait_for()
    page.get_by_text("cURL", exact=True).click()
    page.get_by_text(f"{url}/gradio_api/call/predict_url").first.wait_for()
