"""
The page's endpoints as tools of an MCP server, for those who ran `pip install 'gradio[mcp]'`.

Not gradio's own server: of gradio 6.31 it takes no list of files, downloads addresses without a bound and leaves photos that
come as text on the disk. Here photos come as addresses, read as those of the page are, or as data: addresses.
"""

import io
import json
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit
from urllib.request import urlopen

import anyio
from mcp.server.fastmcp import FastMCP, Image
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import CallToolResult, TextContent
from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from typing_extensions import TypedDict  # before Python 3.12 pydantic wants it from there

from api_types import Face, File
from drawing import draw_faces
from photo_page import find_faces
from pipeline_agegender import AgeGenderPipeline
from safe_fetching import fetch
from safe_reading import NOT_A_PICTURE, read_picture, read_pictures


PATH = "/gradio_api/mcp"  # where clients look for it in a gradio app
MAX_FILES = 20  # addresses of one call
Photo = Annotated[str, Field(description="A public http(s) address, or the photo itself as a data: address.")]
Address = Annotated[str, Field(description="A public http or https address of a photo.")]
Files = Annotated[
    list[str],
    Field(
        description="Public http(s) addresses, or data: addresses, of photos or zip archives.", max_length=MAX_FILES
    ),
]


class Faces(TypedDict):
    """From left to right; empty where no face is found."""

    faces: list[Face]


class Answers(TypedDict):
    """One for each photo."""

    files: list[File]


def read(source: str) -> bytes:
    """
    What an address holds.

    Raises:
        ValueError: with a sentence, if it cannot be read.
    """
    source = source.strip()
    if not source.startswith("data:"):
        return fetch(source)
    try:
        with urlopen(source) as file:
            return file.read()
    except (OSError, ValueError) as error:  # of a data: address without a comma, or of broken base64
        raise ValueError(NOT_A_PICTURE) from error


def name_of(source: str, number: int) -> str:
    """What to call the file at an address."""
    return (Path(urlsplit(source).path).name if not source.startswith("data:") else "") or f"file {number}"


def estimate(pipe: AgeGenderPipeline, content: bytes) -> CallToolResult:
    """The photo with its faces drawn in, and the faces as JSON."""
    picture = read_picture(content)
    faces = find_faces(pipe, picture)
    drawn = io.BytesIO()
    draw_faces(picture, faces).save(drawn, "JPEG")
    image = Image(data=drawn.getvalue(), format="jpeg").to_image_content()
    answer = {"faces": faces}
    return CallToolResult(content=[image, TextContent(type="text", text=json.dumps(answer))], structuredContent=answer)


def estimate_files(pipe: AgeGenderPipeline, sources: list[str]) -> dict:
    """What the faces of several photos are said to be; nothing of them stays on the disk."""
    answers = []
    with tempfile.TemporaryDirectory() as folder:
        for number, source in enumerate(sources, start=1):
            name = name_of(source, number)
            try:
                path = Path(folder) / "file"
                path.write_bytes(read(source))
            except ValueError as error:
                answers.append({"file": name, "error": str(error)})
                continue
            for inner, picture in read_pictures([path]):
                shown = name if inner == path.name else inner
                if isinstance(picture, ValueError):
                    answers.append({"file": shown, "error": str(picture)})
                else:
                    answers.append({"file": shown, "faces": find_faces(pipe, picture)})
    return {"files": answers}


def build_server(pipe: AgeGenderPipeline) -> FastMCP:
    """The server with its three tools, of which one works at a time, as on the page."""
    # Any site may ask, as any may ask the page: there is nothing on it that is not for all.
    security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    server = FastMCP(
        "Apparent age and gender",
        stateless_http=True,
        streamable_http_path="/",
        log_level="WARNING",
        transport_security=security,
    )
    one = anyio.CapacityLimiter(1)

    @server.tool()
    async def predict(image: Photo) -> Annotated[CallToolResult, Faces]:
        """Estimates the apparent age and gender of each face of a photo, and returns the photo with boxes."""
        content = await anyio.to_thread.run_sync(read, image)
        return await anyio.to_thread.run_sync(estimate, pipe, content, limiter=one)

    @server.tool()
    async def predict_url(url: Address) -> Annotated[CallToolResult, Faces]:
        """Estimates the apparent age and gender of each face of the photo at an address, and returns it with boxes."""
        content = await anyio.to_thread.run_sync(fetch, url)
        return await anyio.to_thread.run_sync(estimate, pipe, content, limiter=one)

    @server.tool()
    async def predict_files(files: Files) -> Answers:
        """Estimates the apparent age and gender of each face of several photos, or of those in zip archives."""
        return await anyio.to_thread.run_sync(estimate_files, pipe, files, limiter=one)

    return server


def app_options(pipe: AgeGenderPipeline) -> dict:
    """What gradio is to build its app with, so that the server is part of it."""
    server = build_server(pipe)

    async def describe(request: Request) -> JSONResponse:
        """The tools in the form in which gradio's API page, and Hugging Face, look for those of a gradio app."""
        tools = [tool.model_dump(include={"name", "description", "inputSchema"}) for tool in await server.list_tools()]
        meta = {"file_data_present": False, "mcp_type": "tool"}
        return JSONResponse([tool | {"meta": meta | {"endpoint_name": tool["name"]}} for tool in tools])

    routes = [Route(f"{PATH}/schema", describe), Mount(PATH, app=server.streamable_http_app())]

    @asynccontextmanager
    async def lifespan(app):
        async with server.session_manager.run():
            yield

    return {"routes": routes, "lifespan": lifespan}
