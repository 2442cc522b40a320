"""Workarounds for Gradio 6.31: a subclass overrides two methods of `gr.Blocks`. Nothing of Gradio is replaced."""

from collections.abc import Iterator

import gradio as gr
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from space.api import HOW_TO_CALL
from space.inference import find_address
from space.uploads import NO_ROOM, is_of_disk


NO_CALL = "This call cannot be read."
# The addresses below /gradio_api/ at which Gradio takes calls.
WAYS_TO_CALL = ("call/", "run/", "api/", "queue/join")


class Page(gr.Blocks):
    """
    A `gr.Blocks` that checks the data of each call before Gradio reads it, and remembers none of it.

    - Gradio downloads a file that is named by an address, without a limit and while other photos wait. Unnecessary once
      Gradio has an argument that switches this off.
    - Gradio answers data that an endpoint cannot take with an error that does not explain it. Unnecessary once
      `launch(show_error=True)` tells a program which data to send.
    - Gradio keeps what every component last received and showed, frames of a camera included, until
      `state_session_capacity` other visitors have come. Only deep links read it, and this page has none. Unnecessary once
      they can be switched off.
    """

    async def process_api(self, block_fn, inputs, state=None, **options):
        try:
            return await super().process_api(block_fn, inputs, state, **options)
        except gr.Error:
            raise
        except Exception as error:
            raise gr.Error(NO_ROOM) if is_of_disk(error) else error
        finally:
            if state is not None:
                state.config_values.clear()

    async def preprocess_data(self, block_fn, inputs, state=None, *arguments):
        try:
            # Calls by position may leave out options. Unnecessary once Gradio takes their defaults here, as it does by name.
            inputs = [*inputs, *[None] * (len(block_fn.inputs) - len(inputs))]
            for file in find_dicts(inputs):
                if find_address(file):
                    if block_fn.api_name != "predict_files":
                        raise ValueError("an address")
                    file.pop("meta", None)  # Gradio recognises a file by it; this one is fetched when its turn comes
            return await super().preprocess_data(block_fn, inputs, state, *arguments)
        except Exception as error:  # for unknown data Gradio and pydantic raise errors of many kinds
            raise gr.Error(HOW_TO_CALL.get(block_fn.api_name, NO_CALL), print_exception=False) from error


def find_dicts(value: object) -> Iterator[dict]:
    """Yields the dicts in the data of a call that may name a file."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    for item in value if isinstance(value, list) else ():
        yield from find_dicts(item)


async def explain_call(request: Request, error: Exception) -> Response:
    """Answers an unknown endpoint, other parameters or an upload on a full disk with a sentence instead of status 500."""
    if is_of_disk(error):
        return PlainTextResponse(NO_ROOM, status_code=507)
    if not any(f"/gradio_api/{way}" in request.url.path for way in WAYS_TO_CALL):
        return JSONResponse({"detail": "Internal Server Error"}, status_code=500)
    reason = str(error).split(" Please click")[0].rstrip(".")
    root = request.scope["root_path"].rstrip("/")
    sentence = f"There is no such call: {reason}. {root}/gradio_api/info lists the endpoints and their parameters."
    return JSONResponse({"detail": sentence}, status_code=422 if isinstance(error, TypeError) else 404)


# Gradio raises these, and an error of its own for an unknown name, which only `Exception` covers (and the log shows).
CALL_HANDLERS = dict.fromkeys((KeyError, TypeError, Exception), explain_call)
