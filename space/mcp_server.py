"""
The endpoints as tools of an MCP server, if `gradio[mcp]` is installed.

This server replaces the one of Gradio 6.31, which takes no list of files, downloads addresses without a limit and leaves
photos sent as text on the disk. It takes a photo as an http(s) address, read as on the page, or as a data: address.
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
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from photos.drawing import draw_faces
from photos.fetching import fetch, is_data
from photos.reading import read_picture
from pipeline_agegender import AgeGenderPipeline
from space.api import FaceAnswer, FileAnswer
from space.inference import answer_files, answer_picture


PATH = "/gradio_api/mcp"  # where clients look for it in a Gradio app
MAX_FILES = 20  # addresses of one call
MAX_FETCHES = 4  # addresses whose photos are fetched, or wait in memory, at once
Photo = Annotated[str, Field(description="A public http(s) address, or the photo itself as a data: address.")]
Address = Annotated[str, Field(description="A public http or https address of a photo.")]
FILES_HELP = "Public http(s) addresses, or data: addresses, of photos or zip archives."
AGES_HELP = (
    "Ages in years, such as [18, 25], for each of which age_at_least tells the probability of being at least so old."
)
Ages = Annotated[list[int] | None, Field(description=AGES_HELP)]
Files = Annotated[list[str], Field(description=FILES_HELP, max_length=MAX_FILES)]


class FaceAnswers(TypedDict):
    """Faces row by row, each row from left to right; empty if no face is found."""

    faces: list[FaceAnswer]


class FileAnswers(TypedDict):
    """An answer for each photo."""

    files: list[FileAnswer]


def answer_content(pipe: AgeGenderPipeline, content: bytes, age_thresholds: list[int] | None) -> CallToolResult:
    """Returns the photo with a box for each face, and the faces as JSON."""
    picture = read_picture(content)
    faces = answer_picture(pipe, picture, age_thresholds)
    drawn = io.BytesIO()
    draw_faces(picture, faces).save(drawn, "JPEG")
    image = Image(data=drawn.getvalue(), format="jpeg").to_image_content()
    answer = {"faces": faces}
    return CallToolResult(content=[image, TextContent(type="text", text=json.dumps(answer))], structuredContent=answer)


def build_server(pipe: AgeGenderPipeline) -> FastMCP:
    """Builds the server with its three tools. As on the page, photos, addresses and archives wait in separate queues."""
    # Any site may call it: like the page, it holds nothing private.
    security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    options = {"stateless_http": True, "streamable_http_path": "/", "log_level": "WARNING"}
    server = FastMCP("Apparent age and gender", transport_security=security, **options)
    photos, addresses, archives = (anyio.CapacityLimiter(count) for count in (1, MAX_FETCHES, 1))

    @server.tool()
    async def predict(image: Photo, age_thresholds: Ages = None) -> Annotated[CallToolResult, FaceAnswers]:
        """Estimates the apparent age and gender of each face of a photo, and returns the photo with boxes."""
        if not is_data(image):
            return await predict_url(image, age_thresholds)
        return await anyio.to_thread.run_sync(answer_content, pipe, fetch(image), age_thresholds, limiter=photos)

    @server.tool()
    async def predict_url(url: Address, age_thresholds: Ages = None) -> Annotated[CallToolResult, FaceAnswers]:
        """Estimates the apparent age and gender of each face of the photo at an address, and returns it with boxes."""
        async with addresses:
            content = await anyio.to_thread.run_sync(fetch, url)
            return await anyio.to_thread.run_sync(answer_content, pipe, content, age_thresholds, limiter=photos)

    @server.tool()
    async def predict_files(files: Files, age_thresholds: Ages = None) -> FileAnswers:
        """Estimates the apparent age and gender of each face of several photos, or of those in zip archives."""
        answers = await anyio.to_thread.run_sync(answer_files, pipe, files, age_thresholds, limiter=archives)
        return {"files": answers}

    return server


def make_app_options(pipe: AgeGenderPipeline) -> dict:
    """Returns the options with which Gradio's app includes the server."""
    server = build_server(pipe)

    async def list_tools(request: Request) -> JSONResponse:
        """Lists the tools in the form that Gradio's API page and Hugging Face read."""
        tools = [tool.model_dump(include={"name", "description", "inputSchema"}) for tool in await server.list_tools()]
        meta = {"file_data_present": False, "mcp_type": "tool"}
        return JSONResponse([tool | {"meta": meta | {"endpoint_name": tool["name"]}} for tool in tools])

    @asynccontextmanager
    async def lifespan(app):
        async with server.session_manager.run():
            yield

    routes = [Route(f"{PATH}/schema", list_tools), Mount(PATH, app=server.streamable_http_app())]
    return {"routes": routes, "lifespan": lifespan}
