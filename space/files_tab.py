"""The tab for many photos: a table that grows with each photo."""

import base64
import io
import math
import time
from collections.abc import Callable, Iterator
from functools import partial

import gradio as gr
from PIL import Image, ImageOps

from metrics.results import name_count
from photos.archives import Note, count_pictures, read_pictures
from photos.face_table import make_face_rows, make_unreadable_row, to_csv
from photos.wording import RANGE, describe_counts, describe_gender, describe_interval
from pipeline_agegender import AgeGenderPipeline
from space.face_cards import AT_LEAST_NAME, CSV_COLUMNS, describe_at_least, find_thresholds, make_link
from space.inference import FILES_QUEUE, find_faces, find_upload
from space.theme import read_component


HELP = "Up to 1,000 photos at once, and 100 MB a file."
CANCELLED = "Cancelled. The table and its CSV hold what was done."
NO_FILES = "Choose files first: photos, or zip archives of photos."
NO_FACE = "No face was found."
THUMBNAIL_SIDE = 64  # pixels
SECONDS_BETWEEN_UPDATES = 1.0
# A button that is disabled while it has the keyboard's focus would lose it.
MOVE_FOCUS = """() => {
  const {id} = document.activeElement ?? {};
  if (id?.startsWith("cancel")) document.getElementById(id.replace("cancel", "start")).focus({preventScroll: true});
}"""


def fill_table(pipe: AgeGenderPipeline, files: list[dict] | None) -> Iterator[tuple[str, dict]]:
    """Yields a sentence and the table so far, which can be saved after a cancellation too."""
    paths = [path for file in files or () if (path := find_upload(file))]
    if not paths:
        raise gr.Error(NO_FILES, print_exception=False)
    total, shown_at = count_pictures(paths), -math.inf
    rows, failures, notes, faceless, found = [], [], [], [], []
    for done, (name, picture) in enumerate(read_pictures(paths), start=1):
        if isinstance(picture, ValueError):
            rows.append(make_unreadable_row(name, picture))
            is_note = isinstance(picture, Note)
            (notes if is_note else failures).append({"name": name, "text": str(picture), "failed": not is_note})
        else:
            faces = find_faces(pipe, picture, return_crops=True, age_thresholds=find_thresholds(pipe.model.config))
            rows += make_face_rows(name, faces)
            found += make_lines(name, faces)
            if not faces:
                faceless.append({"name": name, "text": NO_FACE, "image": make_thumbnail(picture)})
        if time.monotonic() - shown_at >= SECONDS_BETWEEN_UPDATES:
            yield show_progress(done, total), make_table(rows, failures, notes, faceless, found)
            shown_at = time.monotonic()
    counts = describe_counts(done - len(notes), len(found), len(faceless), len(failures))
    yield f"{counts}.", make_table(rows, failures, notes, faceless, found)


def show_progress(done: int, total: int) -> str:
    """Returns the number of files that are done as text and bar."""
    return f"{done:,} of {name_count(total, 'file')} <progress value='{done}' max='{total}'></progress>"


def make_table(rows: list[dict], *groups: list[dict]) -> dict:
    """Returns what files.js shows: lines in groups, which only grow, and a link to all rows as CSV."""
    return {"groups": groups, "download": make_link("faces.csv", "text/csv", "Save as CSV", to_csv(rows, CSV_COLUMNS))}


def make_lines(name: str, faces: list[dict]) -> list[dict]:
    """Returns a line of the table for each face of a photo."""
    return [
        {
            "name": name,
            "face": number if len(faces) > 1 else None,
            "image": make_thumbnail(face["crop"]),
            "age": f"{face['age']:.0f}",
            "range": describe_interval(*face["age_interval"]),
            "at_least": describe_at_least(face),
            "gender": describe_gender(face),
        }
        for number, face in enumerate(faces, start=1)
    ]


def make_thumbnail(picture: Image.Image) -> str:
    """Returns a small picture as a data: address, so that no file of it is left on the server."""
    content = io.BytesIO()
    small = picture.reduce(max(1, min(picture.size) // (2 * THUMBNAIL_SIDE)))
    ImageOps.fit(small, (THUMBNAIL_SIDE, THUMBNAIL_SIDE)).save(content, "WEBP", quality=70)
    return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"


def build_run(
    fill: Callable[[object], Iterator[tuple[str, dict]]],
    files: gr.File,
    name: str,
    queue: str,
    words: tuple[str, str],
    suffix: str = "",
    **arguments,
):
    """
    Builds what starts, shows and cancels work on files: two buttons, a sentence and an answer that grows.

    Args:
        fill: Yields the sentence and the value of the answer, for the value of `files`.
        name: Name of the answer's files, see `read_component`.
        queue: Its `concurrency_id`.
        words: The sentences before the start and after a cancellation.
        suffix: What the ids of the buttons end with.
        arguments: Those of `gr.HTML` for the answer.
    """
    with gr.Row():
        start = gr.Button("Start", variant="primary", interactive=False, elem_id=f"start{suffix}")
        cancel = gr.Button("Cancel", interactive=False, elem_id=f"cancel{suffix}")
    component, (before, cancelled) = read_component(name), words
    summary = gr.HTML(before, css_template=component["css_template"], elem_classes="announced")
    answer = gr.HTML(**component, range_name=RANGE, at_least_name=AT_LEAST_NAME, **arguments)
    private = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}
    files.change(lambda files: gr.update(interactive=bool(files)), files, start, preprocess=False, **private)
    starting = start.click(lambda: (gr.update(interactive=True), None), None, [cancel, answer], **private)
    filling = starting.then(
        fill,
        files,
        [summary, answer],
        preprocess=False,
        api_visibility="private",
        concurrency_id=queue,
        show_progress_on=summary,  # the place in the queue, until the first answer comes
    )
    for ending in (filling.then, filling.failure):  # after an error Gradio 6.31 calls only the second
        ending(lambda: gr.update(interactive=False), None, cancel, js=MOVE_FOCUS, **private)
    cancel.click(lambda: cancelled, None, summary, cancels=[filling], **private)


def build_files_tab(pipe: AgeGenderPipeline):
    """Builds the tab."""
    files = gr.File(
        label="Photos, or zip archives of photos", file_count="multiple", file_types=["image", ".zip"], height=180
    )
    build_run(partial(fill_table, pipe), files, "files", FILES_QUEUE, (HELP, CANCELLED), label="Faces")
