"""Answers for photos, shared by tabs, endpoints and MCP tools."""

from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock

import gradio as gr
from gradio.utils import get_upload_folder
from PIL import Image

from photos.archives import read_pictures
from photos.drawing import draw_faces
from photos.fetching import fetch, fetch_files, find_address, is_data, read_data
from photos.reading import read_picture
from pipeline_agegender import AgeGenderPipeline


# Photos and frames wait in one queue, so that nobody waits for the slow site or the many photos of somebody else. Of what
# comes out of the queues one picture at a time is looked at, since two would only slow each other down.
QUEUE, ADDRESS_QUEUE, FILES_QUEUE = "pipeline", "addresses", "files"
ONE_AT_A_TIME = Lock()
BATCH_SIZE = 8  # faces of a picture that go through the network at once
NO_PHOTO = "Choose a photo first."
NO_FILES = "Choose files first: photos, or zip archives of photos."


def find_upload(image: dict) -> str | None:
    """The path or data: address of an upload; None for whatever else on the server or the net a stranger may name."""
    path, url = image.get("path"), image.get("url") or ""
    if path:
        # Gradio itself lets a path pass that does not say it is a file.
        return path if Path(path).resolve().is_relative_to(Path(get_upload_folder()).resolve()) else None
    return url if url.startswith("data:") else None


def read_source(source: dict | str | None) -> Image.Image:
    """
    The picture that a visitor means.

    Args:
        source: An upload as gradio sends it, with its `path` or a data: address as its `url`; or an http(s) address.

    Raises:
        gr.Error: with a sentence for the visitor, if there is no picture in it.
    """
    try:
        if isinstance(source, str) and source.strip():
            return read_picture(fetch(source))
        upload = find_upload(source) if isinstance(source, dict) else None
        if upload is None:
            raise ValueError(NO_PHOTO)
        return read_picture(read_data(upload) if is_data(upload) else upload)
    except ValueError as error:
        raise gr.Error(str(error), print_exception=False) from error


def predict(pipe: AgeGenderPipeline, image: dict | None) -> tuple[Image.Image, list[dict]]:
    """
    The photo with its faces drawn in, and what the pipeline says about them.

    Args:
        image: The upload, as for `read_source`.

    Raises:
        gr.Error: with a sentence for the visitor, if there is no picture in it.
    """
    picture = read_source(image)
    faces = find_faces(pipe, picture)
    return draw_faces(picture, faces), faces


def predict_url(pipe: AgeGenderPipeline, url: str) -> tuple[Image.Image, list[dict]]:
    """As `predict`, of the photo at an address."""
    return predict(pipe, url)


def find_faces(pipe: AgeGenderPipeline, picture: Image.Image, **options) -> list[dict]:
    """The faces of a picture, those of a crowd several at once; waits until no other picture is looked at."""
    with ONE_AT_A_TIME:
        return pipe([picture], batch_size=BATCH_SIZE, **options)[0]


def find_path(file: dict) -> Path | None:
    """The path of an upload."""
    path = find_upload(file)
    return Path(path) if path and not path.startswith("data:") else None


def find_sources(files: list[dict] | None, find: Callable[[dict], Path | str | None] = find_path) -> list[Path | str]:
    """
    What uploads are to be read from.

    Args:
        find: Gives that of one of them; None where there is nothing that may be read.

    Raises:
        gr.Error: if there is none.
    """
    sources = [source for file in files or [] if (source := find(file))]
    if not sources:
        raise gr.Error(NO_FILES, print_exception=False)
    return sources


def predict_files(pipe: AgeGenderPipeline, files: list[dict] | None) -> list[dict]:
    """
    The faces of several pictures.

    Args:
        files: Uploads, or addresses, as gradio sends them: pictures, or zip archives of pictures.

    Returns:
        As `answer_files`.

    Raises:
        gr.Error: if there are no files.
    """
    return answer_files(pipe, find_sources(files, lambda file: find_address(file) or find_path(file)))


def answer_files(pipe: AgeGenderPipeline, sources: Iterable[Path | str]) -> list[dict]:
    """
    The faces of several pictures, each address fetched in its turn, within the bounds of `read_pictures` on all of it.

    Args:
        sources: See `fetch_files`.

    Returns:
        For each picture a dict with `file` and either `faces`, the dicts of the pipeline, or `error`, a sentence.
    """
    answers = []
    for name, picture in read_pictures(fetch_files(sources)):
        if isinstance(picture, ValueError):
            answers.append({"file": name, "error": str(picture)})
        else:
            answers.append({"file": name, "faces": find_faces(pipe, picture)})
    return answers
