"""Answers for photos, shared by tabs, endpoints and MCP tools."""

from collections.abc import Iterable
from pathlib import Path
from threading import Lock

import gradio as gr
from PIL import Image

from image_reading import is_address
from photos.archives import Note, read_pictures
from photos.drawing import draw_faces
from photos.fetching import fetch, fetch_files
from photos.reading import read_picture
from pipeline_agegender import AgeGenderPipeline
from space.uploads import find_own_folder


# Photos and frames share a queue, so that they wait for no slow site and for no archive or film of another visitor. Over all
# queues one picture is processed at a time: two would slow each other down.
QUEUE, ADDRESS_QUEUE, FILES_QUEUE, FILM_QUEUE = "pipeline", "addresses", "files", "films"
ONE_AT_A_TIME = Lock()
BATCH_SIZE = 8  # faces of a picture that go through the network at once
NO_PHOTO = "Choose a photo first."


def find_upload(file: object) -> Path | None:
    """Returns the path of an uploaded file; None for anything else that a call may name."""
    path = file.get("path") if isinstance(file, dict) else None
    try:  # Gradio checks only files that come with their `meta`
        is_upload = isinstance(path, str) and Path(path).resolve().is_relative_to(find_own_folder())
    except ValueError:  # characters that no path can hold
        is_upload = False
    return Path(path) if is_upload else None


def read_source(source: dict | str | None) -> Image.Image:
    """
    Reads the photo of a call.

    Args:
        source: An upload as Gradio sends it, a dict with its `path`; or an http(s) address.

    Raises:
        gr.Error: with a sentence for the visitor, if it holds no picture.
    """
    try:
        if isinstance(source, str) and source.strip():
            return read_picture(fetch(source))
        upload = find_upload(source)
        if upload is None:
            raise ValueError(NO_PHOTO)
        return read_picture(upload)
    except ValueError as error:
        raise gr.Error(str(error), print_exception=False) from error


def find_faces(pipe: AgeGenderPipeline, picture: Image.Image, **options) -> list[dict]:
    """Runs the pipeline on a picture, once no other picture is being processed; returns a dict for each face."""
    with ONE_AT_A_TIME:
        return pipe([picture], batch_size=BATCH_SIZE, **options)[0]


def name_ages(answers: list[dict]) -> list[dict]:
    """Returns copies of faces or people in whose `age_at_least` the ages are text, as JSON has them."""
    return [
        answer | {"age_at_least": {str(age): probability for age, probability in answer["age_at_least"].items()}}
        if "age_at_least" in answer
        else answer
        for answer in answers
    ]


def answer_picture(pipe: AgeGenderPipeline, picture: Image.Image, age_thresholds: list[int] | None) -> list[dict]:
    """Finds the faces of a picture as `find_faces`, for JSON."""
    return name_ages(find_faces(pipe, picture, age_thresholds=age_thresholds))


def answer_photo(
    pipe: AgeGenderPipeline, source: dict | str | None, age_thresholds: list[int] | None = None
) -> tuple[Image.Image, list[dict]]:
    """
    Finds the faces of a photo.

    Args:
        source: As for `read_source`.
        age_thresholds: As for the pipeline.

    Returns:
        The photo with a box for each face, and the dicts of the pipeline.

    Raises:
        gr.Error: as `read_source`.
    """
    picture = read_source(source)
    faces = answer_picture(pipe, picture, age_thresholds)
    return draw_faces(picture, faces), faces


def find_address(file: object) -> str | None:
    """Returns the address that a program sends as text or as the path of an upload, or None."""
    path = file.get("path") if isinstance(file, dict) else file
    return path if isinstance(path, str) and is_address(path) else None


def find_sources(files: object) -> list[Path | str]:
    """Returns the sources of the files in a call, the paths of uploads and addresses, and leaves out all else."""
    files = files if isinstance(files, list) else []
    return [source for file in files if (source := find_address(file) or find_upload(file))]


def answer_files(
    pipe: AgeGenderPipeline, sources: Iterable[Path | str], age_thresholds: list[int] | None = None
) -> list[dict]:
    """
    Finds the faces of several photos, within the limits of `read_pictures`.

    Args:
        sources: Photos or zip archives of photos: paths, or http(s) or data: addresses. Each address is read when its
            turn comes.
        age_thresholds: As for the pipeline.

    Returns:
        For each photo a dict with `file` (its name) and either `faces`, the dicts of the pipeline, or `error`, a sentence.
        For an archive with other files a dict with `note`, a sentence that counts them.
    """
    answers = []
    for name, picture in read_pictures(fetch_files(sources)):
        if isinstance(picture, ValueError):
            answers.append({"file": name, "note" if isinstance(picture, Note) else "error": str(picture)})
        else:
            answers.append({"file": name, "faces": answer_picture(pipe, picture, age_thresholds)})
    return answers
