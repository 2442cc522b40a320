"""The tools of the MCP server, through a real client."""

import asyncio
import base64
import io
import json
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from PIL import Image

from photos.fetching import REFUSED_ADDRESS
from photos.reading import NOT_A_PICTURE
from tests.support.browser import ASTRONAUT


MAX_FETCHES = 4  # as in space/mcp_server.py, which needs a package that few have


def as_address(content: bytes, kind: str = "image/jpeg") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


@pytest.fixture
def ask(url):
    """Asks the server: for its tools, or one of them."""
    pytest.importorskip("mcp", reason="needs pip install 'gradio[mcp]'")
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    async def run(name: str | None, arguments: dict):
        async with (
            streamable_http_client(f"{url}gradio_api/mcp/") as (reading, writing, _),
            ClientSession(reading, writing) as session,
        ):
            await session.initialize()
            return await (session.list_tools() if name is None else session.call_tool(name, arguments))

    def run_in_thread(name: str | None = None, **arguments):
        with ThreadPoolExecutor(1) as pool:  # Playwright has an event loop in the main thread
            return pool.submit(asyncio.run, run(name, arguments)).result()

    return run_in_thread


def test_tools_are_typed_and_described(ask):
    tools = {tool.name: tool for tool in ask().tools}
    assert set(tools) == {"predict", "predict_url", "predict_files"}
    for name, key in (("predict", "image"), ("predict_url", "url"), ("predict_files", "files")):
        schema = tools[name].inputSchema
        assert list(schema["properties"]) == [key, "age_thresholds"] and schema["required"] == [key]
        assert schema["properties"][key]["description"] and tools[name].description
        assert "at least so old" in schema["properties"]["age_thresholds"]["description"]
        assert all(word in json.dumps(tools[name].outputSchema) for word in ("age_interval", "age_at_least"))


def test_photo_comes_back_with_its_face(ask):
    result = ask("predict", image=as_address(ASTRONAUT.read_bytes()))
    assert not result.isError
    picture, text = result.content
    assert Image.open(io.BytesIO(base64.b64decode(picture.data))).size == Image.open(ASTRONAUT).size
    [face] = json.loads(text.text)["faces"]
    assert [face] == result.structuredContent["faces"] and 150 < face["box"]["xmin"] < 200


def test_age_thresholds_add_probabilities(ask):
    photo = as_address(ASTRONAUT.read_bytes())
    [face] = ask("predict", image=photo, age_thresholds=[18, 60]).structuredContent["faces"]
    assert list(face["age_at_least"]) == ["18", "60"] and face["age_at_least"]["18"] > 0.5 > face["age_at_least"]["60"]
    [answer] = ask("predict_files", files=[photo], age_thresholds=[18, 60]).structuredContent["files"]
    assert answer["faces"][0]["age_at_least"] == pytest.approx(face["age_at_least"])
    result = ask("predict", image=photo, age_thresholds=[101])
    assert result.isError and "whole numbers from 0 to 100, got [101]" in result.content[0].text


def test_files_get_faces_or_a_sentence_each(ask):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.jpg", ASTRONAUT.read_bytes())
        file.writestr("notes.jpg", "dear diary")
    files = [
        as_address(archive.getvalue(), "application/zip"),
        as_address(ASTRONAUT.read_bytes()),
        "http://127.0.0.1:9/b",
    ]
    answers = ask("predict_files", files=files).structuredContent["files"]
    assert [answer["file"] for answer in answers] == ["a.jpg", "notes.jpg", "file 2", "b"]
    assert answers[0]["faces"] == answers[2]["faces"] and len(answers[0]["faces"]) == 1
    assert [answers[1]["error"], answers[3]["error"]] == [NOT_A_PICTURE, REFUSED_ADDRESS]


@pytest.mark.parametrize(
    ("name", "fetches"), [pytest.param("predict_url", MAX_FETCHES, marks=pytest.mark.slow), ("predict_files", 1)]
)
def test_photo_waits_for_no_address_or_many_photos_of_others(ask, hold_fetches, name, fetches):
    answer, fetched = hold_fetches("space.mcp_server", "photos.fetching")
    address = "https://slow.example/photo.jpg"
    [key] = next(tool for tool in ask().tools if tool.name == name).inputSchema["required"]
    with ThreadPoolExecutor() as others:
        try:
            value = [address] if name == "predict_files" else address
            asked = [others.submit(ask, name, **{key: value}) for _ in range(fetches + 1)]
            while len(fetched) < fetches:
                assert not any(one.done() for one in asked)
                time.sleep(0.02)
            photo = ask("predict", image=as_address(ASTRONAUT.read_bytes())).structuredContent["faces"]
            assert len(photo) == 1 and not any(one.done() for one in asked) and len(fetched) == fetches
        finally:
            answer.set()
    answers = [one.result().structuredContent for one in asked]
    assert [one["files"][0]["faces"] if name == "predict_files" else one["faces"] for one in answers] == [photo] * len(
        asked
    )


@pytest.mark.parametrize("name", ["predict", "predict_url"])
def test_refused_address_gets_a_sentence(ask, name):
    key = "image" if name == "predict" else "url"
    result = ask(name, **{key: " http://127.0.0.1:9/a.jpg "})
    assert result.isError and REFUSED_ADDRESS in result.content[0].text and "Traceback" not in result.content[0].text


@pytest.mark.parametrize("photo", ["data:x", "data:image/png;base64,A", "data:,dear diary"])
def test_broken_data_address_gets_a_sentence(ask, photo):
    result = ask("predict", image=photo)
    assert result.isError and NOT_A_PICTURE in result.content[0].text
    [answer] = ask("predict_files", files=[photo]).structuredContent["files"]
    assert answer == {"file": "file 1", "error": NOT_A_PICTURE}


def test_api_page_is_told_of_the_tools(url, ask):
    """Else it would say that the page is no MCP server."""
    told = httpx2.get(f"{url}gradio_api/mcp/schema").json()
    expected = [(tool.name, tool.description, tool.inputSchema) for tool in ask().tools]
    assert [(tool["name"], tool["description"], tool["inputSchema"]) for tool in told] == expected
    endpoints = httpx2.get(f"{url}gradio_api/info").json()["named_endpoints"]
    # No tool takes films: what is fetched from addresses is limited to 20 MB.
    assert {f"/{tool['meta']['endpoint_name']}" for tool in told} == set(endpoints) - {"/predict_video"}
