"""What visitors send is bounded when it comes in and soon forgotten, where gradio left to itself does neither."""

import ctypes
import json
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import gradio as gr
from gradio.block_function import BlockFunction
from gradio.data_classes import FileData
from gradio.processing_utils import save_pil_to_cache
from gradio.route_utils import FnIndexInferError
from gradio.state_holder import SessionState
from gradio.utils import get_upload_folder
from gradio_client.utils import is_http_url_like
from PIL import Image
from starlette.requests import Request
from starlette.responses import JSONResponse

from photos.fetching import find_address


HASH = re.compile("[0-9a-f]{64}")
# The addresses below /gradio_api/ at which gradio takes calls.
WAYS_TO_CALL = ("call/", "run/", "api/", "queue/join")


class FilesBelow:
    """All files in a folder, in the place of the sets of those that gradio knows of, where it looks for old ones."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __iter__(self) -> Iterator[str]:
        return (str(Path(parent, name)) for parent, _, names in os.walk(self.folder) for name in names)

    def __isub__(self, deleted: set[str]) -> "FilesBelow":
        """Deletes the folders that are empty now, of those that gradio makes for each content, and gives memory back."""
        for folder in {Path(file).parent for file in deleted}:
            if HASH.fullmatch(folder.name):
                with suppress(OSError):  # not empty
                    folder.rmdir()
        give_memory_back()
        return self


def give_memory_back():
    """Has glibc return what it keeps for itself of photos that were looked at, tens of MB after some hundreds."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
        if trim:
            trim(0)


class ForgetfulSet(set):
    """A set that stays empty, whatever gradio puts into it."""

    def add(self, item: str):
        pass

    def update(self, *items: Iterable[str]):
        pass


def guard_visits(demo: gr.Blocks):
    """
    Mends what gradio 6.31 does with what visitors send; to be called when the page is built.

    A program may name a file by an address, which gradio would download whatever its size, and while photos of others wait.
    Outside a Space it lets calls to `/run/` pass by the queues. Of each visitor it remembers what every component last
    received and showed, pictures in text included, until many others have come; only its deep links, which this page has
    none of, read that. It deletes old files every minute, but not those of an upload that was cut off; and if a program
    names a folder as its photo, or a request comes while it looks for them, it never deletes again. And whoever calls an
    endpoint with data of another kind than it takes would get no word of why, and the log a traceback.

    Gradio's folder for files must be the page's own (`own_folder.py`): whatever is old in it is deleted.
    """
    demo.api_open = False
    demo._queue.push = partial(queue_address, demo.fns, demo._queue.push)
    demo.preprocess_data = partial(preprocess_or_explain, demo.preprocess_data)
    SessionState._update_value_in_config = lambda self, key, value: None
    demo.upload_file_set = ForgetfulSet()
    demo.temp_file_sets = [FilesBelow(Path(get_upload_folder()))]
    components = [block for block in demo.blocks.values() if isinstance(block, gr.components.Component)]
    for component in components:
        component.temp_files = ForgetfulSet()
        move = component.async_move_resource_to_block_cache
        component.async_move_resource_to_block_cache = partial(move_or_leave, move)


async def move_or_leave(move: Callable[[str], Awaitable[str]], source: str | None) -> str | None:
    """The path of a file that gradio found in its folder or would move there; an address as it is, for others to fetch."""
    return source if is_http_url_like(source) else await move(source)


async def queue_address(fns: dict[int, BlockFunction], push: Callable[..., Awaitable[tuple]], body, **rest) -> tuple:
    """Puts a call in line, a call of `/predict` that names an address as one of `/predict_url`, whose line it waits in."""
    numbers = {fn.api_name: number for number, fn in fns.items()}
    if body.fn_index is not None and body.fn_index == numbers.get("predict"):
        if address := find_address(body.data[0] if body.data else None):
            body.fn_index, body.data = numbers["predict_url"], [address]
    return await push(body, **rest)


async def preprocess_or_explain(preprocess: Callable[..., Awaitable[list]], block_fn, inputs: list, *rest) -> list:
    """What gradio makes of the data of a call; of data that it can make nothing of, a sentence that says what it takes."""
    try:
        return await preprocess(block_fn, inputs, *rest)
    except gr.Error:
        raise
    except Exception as error:  # strangers' data may make gradio and pydantic raise anything
        example = json.dumps([component.example_payload() for component in block_fn.inputs])
        raise gr.Error(f"This call cannot be read: send data such as {example}.", print_exception=False) from error


async def explain_call(request: Request, error: Exception) -> JSONResponse:
    """The answer to a call of an endpoint that is not there or has other parameters, which would be status 500 alone."""
    if not any(f"/gradio_api/{way}" in request.url.path for way in WAYS_TO_CALL):
        raise error
    reason = str(error).split(" Please click")[0].rstrip(".")
    sentence = f"There is no such call: {reason}. /gradio_api/info lists the endpoints and what they take."
    return JSONResponse({"detail": sentence}, status_code=422 if isinstance(error, TypeError) else 404)


# What gradio raises at such calls; to be given to its server.
CALL_HANDLERS = dict.fromkeys((KeyError, TypeError, FnIndexInferError), explain_call)


def keep_briefly(picture: Image.Image, component: gr.components.Component) -> dict:
    """
    Saves a picture as a file that `component` may show and that `delete_cache` deletes.

    Returns:
        The file as gradio sends it to the browser, which finds its address as `url`.
    """
    path = save_pil_to_cache(picture, component.GRADIO_CACHE, format="jpeg")
    return FileData(path=path).model_dump()
