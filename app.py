"""Web page and API: photos in, the apparent age and gender of each face out.

    python app.py
    AGEGENDER_MODEL=name/repo@revision python app.py

`AGEGENDER_MODEL` is a Hub id, `id@revision` or a folder that holds weights and configuration, by default the folder of
this file. Code comes from the folder of this file alone.
"""

import gc
import os
import signal
from functools import partial
from pathlib import Path

from hub.loading import load_pipeline, split_revision
from space.api import PREDICT_DESCRIPTION, PREDICT_FILES_DESCRIPTION, PREDICT_URL_DESCRIPTION
from space.theme import CSS, HEAD, THEME


# Of the libraries nothing is to be thrown away, and to look for it again and again is a fifth of the start.
gc.disable()

import gradio as gr

from pipeline_agegender import AgeGenderPipeline
from space.api import build_inputs, build_outputs
from space.camera_tab import build_live_page
from space.files_tab import build_files_page
from space.gradio_patches import CALL_HANDLERS, guard_visits
from space.inference import ADDRESS_QUEUE, FILES_QUEUE, QUEUE, predict, predict_files, predict_url
from space.model_tab import build_model_page
from space.photo_tab import build_photo_page
from space.theme import describe_page
from space.uploads import use_own_folder


gc.freeze()  # what was imported stays: no collection need look at it again
gc.enable()

FOLDER = Path(__file__).resolve().parent

MAX_UPLOAD = "100mb"
MAX_SESSIONS = 200
# Every minute files older than ten minutes are deleted.
DELETE_CACHE = (60, 600)

TITLE = "Apparent age and gender"
DESCRIPTION = "How old a face looks, with the interval that holds it nine times of ten. Photos are not kept."
INTRODUCTION = """
# Apparent age and gender

How old a face looks, and which of the two labels of its training data, *female* and *male*, a small neural network gives
it. The range is meant to hold the age nine times of ten. Looks are neither age nor identity, and the network errs more on
some groups of people than on others: do not use it for decisions about people.
"""
PRIVACY = """
**Privacy.** Photos and the faces cut out of them are used for nothing but the answer, are not shared between visitors and
are deleted within eleven minutes. There are no analytics.
"""
NO_MCP = "The page is no MCP server: pip install 'gradio[mcp]' makes it one."


def load_estimator(source: str) -> AgeGenderPipeline:
    """
    The pipeline with the weights that `AGEGENDER_MODEL` names, on a GPU where there is one.

    Args:
        source: A Hub id, `id@revision` or a folder.

    Raises:
        ValueError: if there is no AgeGender model to be had there, or if faces cannot be found with what is installed.
    """
    repo, revision = split_revision(source)
    if source.startswith(("/", ".", "~")) and revision is None and not Path(repo).is_dir():
        raise ValueError(f"AGEGENDER_MODEL={source}: there is no such folder.")
    try:
        return load_pipeline(repo, revision)
    except ImportError as error:
        raise ValueError(str(error)) from error
    except ValueError as error:
        raise ValueError(f"AGEGENDER_MODEL={source}: {error}") from error


def build_demo(pipe: AgeGenderPipeline, delete_cache: tuple[int, int] = DELETE_CACHE) -> gr.Blocks:
    """
    The page, and the endpoints for programs: `/predict`, `/predict_url` and `/predict_files`.

    Args:
        delete_cache: How often uploads and answers are looked through, and the age at which they are deleted, seconds.
    """
    use_own_folder()
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=delete_cache) as demo:
        gr.Markdown(INTRODUCTION)
        with gr.Tab("Photo"):
            build_photo_page(pipe)
        with gr.Tab("Many photos"):
            build_files_page(pipe)
        with gr.Tab("Live"):
            build_live_page(pipe)
        with gr.Tab("The model"):
            # Results lie beside the weights; of weights from the Hub the page knows none.
            build_model_page(Path(pipe.model.name_or_path))
        gr.Markdown(PRIVACY)
        # Nothing that is on the page: the contract with programs stays when the page changes.
        photo, address, files = build_inputs()
        annotated, faces, answers = build_outputs()
        for name, function, value, outputs, description, queue in (
            ("predict", predict, photo, [annotated, faces], PREDICT_DESCRIPTION, QUEUE),
            ("predict_url", predict_url, address, [annotated, faces], PREDICT_URL_DESCRIPTION, ADDRESS_QUEUE),
            ("predict_files", predict_files, files, answers, PREDICT_FILES_DESCRIPTION, FILES_QUEUE),
        ):
            gr.on(
                [],
                partial(function, pipe),
                value,
                outputs,
                preprocess=False,
                api_name=name,
                api_description=description,
                concurrency_id=queue,
            )
    guard_visits(demo)
    describe_page(DESCRIPTION)
    return demo


def mcp_options(pipe: AgeGenderPipeline) -> dict:
    """What makes the page an MCP server too, where the package is installed; without it says so."""
    try:
        from space.mcp_server import PATH, app_options  # only here: few have the package
    except ImportError:
        print(NO_MCP)
        return {}
    print(f"MCP server at {PATH}/")
    return app_options(pipe)


def launch_options(pipe: AgeGenderPipeline) -> dict:
    """What `launch` is to be called with."""
    return {
        "max_file_size": MAX_UPLOAD,
        # Of each visitor gradio keeps a description of the page: some 160 KB.
        "state_session_capacity": MAX_SESSIONS,
        "run_history": False,  # it would keep photos in the browser
        "footer_links": ["api", "gradio"],
        "favicon_path": FOLDER / "assets" / "favicon.png",
        "theme": THEME,
        "head": HEAD,
        "css": CSS,
        "mcp_server": False,  # see mcp_tools.py
        "app_kwargs": {"exception_handlers": CALL_HANDLERS} | mcp_options(pipe),
    }


def main():
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends it as Ctrl-C does, so that no photo is left
    try:
        pipe = load_estimator(os.environ.get("AGEGENDER_MODEL") or str(FOLDER))
    except ValueError as error:
        raise SystemExit(str(error)) from error
    build_demo(pipe).launch(**launch_options(pipe))


if __name__ == "__main__":
    main()
