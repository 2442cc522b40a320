"""
Serves the web page and its API: photos in, the apparent age and gender of each face out.

    python app.py
    python app.py --model name/repo@revision --host 0.0.0.0 --port 8080

Code is loaded from this folder only.
"""

import argparse
import gc
import os
import signal
import tempfile
from pathlib import Path


# Read when Pillow is imported. With its blocks of 16 MB, glibc keeps 860 MB after two photos of 13,000 x 13,000 pixels.
os.environ.setdefault("PILLOW_BLOCK_SIZE", "64m")

# Libraries look for a temporary folder as soon as they are imported.
if "GRADIO_TEMP_DIR" in os.environ:
    os.environ.setdefault("TMPDIR", os.environ["GRADIO_TEMP_DIR"])
try:
    tempfile.gettempdir()
except FileNotFoundError as error:
    raise SystemExit(f"app.py: error: {error.strerror}: set TMPDIR to a folder that can be written to.") from None

# The imports leave no garbage. Not to look for it saves a quarter of the start: 7.0 instead of 9.3 CPU seconds.
gc.disable()

import gradio as gr
from starlette.middleware import Middleware

from hub.errors import run
from hub.loading import load_pipeline, split_revision
from pipeline_agegender import BACKENDS, AgeGenderPipeline
from space.api import build_endpoints
from space.camera_tab import build_camera_tab
from space.files_tab import build_files_tab
from space.film_tab import build_film_tab
from space.gradio_patches import CALL_HANDLERS, Page
from space.model_facts import describe_links
from space.model_tab import build_model_tab
from space.page_source import PageSource
from space.photo_tab import build_photo_tab
from space.reverse_proxy import RootPath, find_root_path
from space.theme import CSS, HEAD, INTRODUCTION, PRIVACY, THEME, TITLE
from space.uploads import VARIABLE, explain_disk, keep_page_files, use_own_folder


gc.freeze()  # later collections need not look at what was imported
gc.enable()

FOLDER = Path(__file__).resolve().parent
MAX_UPLOAD = "100mb"
MAX_SESSIONS = 200  # visitors whose state is kept
OPTIONS = "Other weights: --model. Other address: --host, --port, or --share for a public one."
NO_MCP = "The page is no MCP server: pip install 'gradio[mcp]' makes it one."


def build_page(pipe: AgeGenderPipeline, revision: str | None = None) -> gr.Blocks:
    """Builds the page and its endpoints; `revision` is that of the model."""
    use_own_folder()
    with explain_disk(os.environ[VARIABLE]), Page(title=TITLE, analytics_enabled=False) as page:
        gr.Markdown(INTRODUCTION)
        with gr.Tab("Photo"):
            build_photo_tab(pipe)
        with gr.Tab("Many photos"):
            build_files_tab(pipe)
        with gr.Tab("Film"):
            build_film_tab(pipe)
        with gr.Tab("Live"):
            build_camera_tab(pipe)
        with gr.Tab("The model"):
            build_model_tab(pipe.model.name_or_path, revision)
        gr.Markdown(f"{PRIVACY}\n{describe_links(pipe.model.name_or_path)}")
        build_endpoints(pipe)
    keep_page_files()
    return page.queue(api_open=False)  # no call skips the queues


def make_mcp_options(pipe: AgeGenderPipeline) -> dict:
    """Returns the options that make the page an MCP server as well; prints a note if the package is missing."""
    try:
        from space.mcp_server import PATH, make_app_options  # an optional package
    except ImportError:
        print(NO_MCP)
        return {}
    print(f"MCP server at {find_root_path()}{PATH}/")
    return make_app_options(pipe)


def make_launch_options(pipe: AgeGenderPipeline) -> dict:
    """Returns the arguments of `launch`."""
    return {
        "max_file_size": MAX_UPLOAD,
        "state_session_capacity": MAX_SESSIONS,
        "run_history": False,  # it keeps photos in the browser
        "footer_links": ["api", "gradio"],
        "favicon_path": FOLDER / "assets" / "favicon.png",
        "theme": THEME,
        "head": HEAD,
        "css": CSS,
        "mcp_server": False,  # see space/mcp_server.py
        "app_kwargs": {
            "exception_handlers": CALL_HANDLERS,
            "middleware": [Middleware(RootPath), Middleware(PageSource)],
            **make_mcp_options(pipe),
        },
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Serves the page that reads age and gender from photos.", allow_abbrev=False
    )
    parser.add_argument(
        "--model",
        default=os.environ.get("AGEGENDER_MODEL") or str(FOLDER),
        help="Model folder, Hub id or id@revision. Default: AGEGENDER_MODEL, or else the folder of this file.",
    )
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        default=os.environ.get("AGEGENDER_BACKEND") or "torch",
        help="onnx runs the model's onnx/model.onnx. Default: AGEGENDER_BACKEND, or else torch.",
    )
    parser.add_argument("--host", help="Address to serve. Default: GRADIO_SERVER_NAME, or else 127.0.0.1.")
    parser.add_argument("--port", type=int, help="Default: GRADIO_SERVER_PORT, or else the first free one from 7860.")
    parser.add_argument("--share", action="store_true", help="Also make a public address on a server of Gradio.")
    arguments = parser.parse_args()
    if arguments.port is not None and not 0 < arguments.port < 2**16:
        parser.error(f"--port must be from 1 to 65535, got {arguments.port}.")
    return arguments


def main():
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, so that no photo is left
    source, revision = split_revision(arguments.model)
    pipe = load_pipeline(source, revision, backend=arguments.backend)
    address = {"server_name": arguments.host, "server_port": arguments.port, "share": arguments.share or None}
    print(f"The page reads photos with {source}. {OPTIONS}")
    build_page(pipe, revision).launch(**address, root_path=find_root_path(), **make_launch_options(pipe))


if __name__ == "__main__":
    run(main)
