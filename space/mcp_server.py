"""
The page's endpoints as tools of an MCP server, for those who ran `pip install 'gradio[mcp]'`.

Not gradio's own server: of gradio 6.31 it takes no list of files, downloads addresses without a bound and leaves photos that
come as text on the disk. Here photos come as addresses, read as those of the page are, or as data: addresses.
"""

import io
import json
from contextlib import asynccontextmanager
from typing import Annotated

import anyio
from mcp.server.fastmcp import FastMCP, Image
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import CallToolResult, TextContent
from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from typing_extensions import TypedDict  # before Python 3.12 pydantic wants it from there

from photos.drawing import draw_faces
from photos.fetching import fetch, is_data, read_data
from photos.reading import read_picture
from pipeline_agegender import AgeGenderPipeline
from space.api import Face, File
from space.inference import answer_files, find_faces


PATH = "/gradio_api/mcp"  # where clients look for it in a gradio app
MAX_FILES = 20  # addresses of one call
MAX_FETCHES = 4  # photos at addresses that are fetched, or wait in memory, at once
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


def estimate(pipe: AgeGenderPipeline, content: bytes) -> CallToolResult:
    """The photo with its faces drawn in, and the faces as JSON."""
    picture = read_picture(content)
    faces = find_faces(pipe, picture)
    drawn = io.BytesIO()
    draw_faces(picture, faces).save(drawn, "JPEG")
    image = Image(data=drawn.getvalue(), format="jpeg").to_image_content()
    answer = {"faces": faces}
    return CallToolResult(content=[image, TextContent(type="text", text=json.dumps(answer))], structuredContent=answer)


def build_server(pipe: AgeGenderPipeline) -> FastMCP:
    """The server with its three tools; as on the page, a photo waits for no address or many photos of others."""
    # Any site may ask, as any may ask the page: there is nothing on it that is not for all.
    security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    server = FastMCP(
        "Apparent age and gender",
        stateless_http=True,
        streamable_http_path="/",
        log_level="WARNING",
        transport_security=security,
    )
    photos, addresses, lots = (anyio.CapacityLimiter(count) for count in (1, MAX_FETCHES, 1))

    @server.tool()
    async def predict(image: Photo) -> Annotated[CallToolResult, Faces]:
        """Estimates the apparent age and gender of each face of a photo, and returns the photo with boxes."""
        if not is_data(image):
            return await predict_url(image)
        return await anyio.to_thread.run_sync(estimate, pipe, read_data(image), limiter=photos)

    @server.tool()
    async def predict_url(url: Address) -> Annotated[CallToolResult, Faces]:
        """Estimates the apparent age and gender of each face of the photo at an address, and returns it with boxes."""
        async with addresses:
            content = await anyio.to_thread.run_sync(fetch, url)
            return await anyio.to_thread.run_sync(estimate, pipe, content, limiter=photos)

    @server.tool()
    async def predict_files(files: Files) -> Answers:
        """Estimates the apparent age and gender of each face of several photos, or of those in zip archives."""
        return {"files": await anyio.to_thread.run_sync(answer_files, pipe, files, limiter=lots)}

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
