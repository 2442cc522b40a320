"""The tab for many photos: a table that grows with each photo."""

import time
from collections.abc import Iterator
from functools import partial

import gradio as gr

from metrics.results import name_count
from photos.archives import Note, count_pictures, read_pictures
from photos.face_table import make_face_rows, make_unreadable_row, to_csv
from photos.wording import describe_gender, describe_interval
from pipeline_agegender import AgeGenderPipeline
from space.face_cards import CARDS_STYLE, make_link
from space.inference import FILES_QUEUE, find_faces, find_sources


HELP = "Up to 1,000 photos at once, and 100 MB a file."
CANCELLED = "Cancelled. The table and its CSV hold what was done."
# The reason why a file has no numbers stands beside its name: a phone has no room for another column.
HEADERS = ["File", "Face", "Age", "Range", "Gender"]
WIDTHS = ["26%", "16%", "13%", "20%", "25%"]
SECONDS_BETWEEN_UPDATES = 1.0
# A button that is disabled while it has the keyboard's focus would lose it.
MOVE_FOCUS = """() => {
  if (document.activeElement?.id === "cancel") document.getElementById("start").focus({preventScroll: true});
}"""


def fill_table(
    pipe: AgeGenderPipeline, files: list[dict] | None, progress: gr.Progress = gr.Progress()
) -> Iterator[tuple[list, str, str]]:
    """Yields the rows so far, a sentence, and a link to their CSV, so that they can be saved after a cancellation."""
    paths = find_sources(files)
    total = count_pictures(paths)
    rows, done, failed, notes, shown_at = [], 0, 0, 0, time.monotonic()
    for name, picture in read_pictures(paths):
        if isinstance(picture, ValueError):
            rows.append(make_unreadable_row(name, picture))
            notes += isinstance(picture, Note)
            failed += not isinstance(picture, Note)
        else:
            rows += make_face_rows(name, find_faces(pipe, picture))
        done += 1
        progress(done / total)
        if time.monotonic() - shown_at >= SECONDS_BETWEEN_UPDATES:
            yield show_rows(rows, f"{done} of {name_count(total, 'file')}")
            shown_at = time.monotonic()
    faces = sum(row["face"] is not None for row in rows)
    sentence = f"{name_count(done - notes, 'file')}, {name_count(faces, 'face')}" + (
        f", {failed} could not be read." if failed else "."
    )
    yield show_rows(rows, sentence)


def show_rows(rows: list[dict], sentence: str) -> tuple[list, str, str]:
    """Returns the values of the table, the summary and the link."""
    link = f"<p class='downloads'>{make_link('faces.csv', 'text/csv', 'Save as CSV', to_csv(rows))}</p>"
    return [format_row(row) for row in rows], sentence, link


def format_row(row: dict) -> list:
    """Returns the cells of a row."""
    if row["face"] is None:
        return [f"{row['file']}: {row['error'] or 'no face found'}", "", "", "", ""]
    interval = describe_interval(row["age_low"], row["age_high"])
    return [row["file"], row["face"], round(row["age"]), interval, describe_gender(row)]


def build_files_tab(pipe: AgeGenderPipeline):
    """Builds the tab."""
    files = gr.File(
        label="Photos, or zip archives of photos", file_count="multiple", file_types=["image", ".zip"], height=180
    )
    with gr.Row():
        start = gr.Button("Start", variant="primary", elem_id="start")
        cancel = gr.Button("Cancel", interactive=False, elem_id="cancel")
    # As high as the progress bar that replaces it.
    summary = gr.Markdown(HELP, elem_classes="announced", min_height=60)
    link = gr.HTML(css_template=CARDS_STYLE)
    table = gr.Dataframe(
        headers=HEADERS, interactive=False, label="Faces", max_height=500, wrap=True, column_widths=WIDTHS
    )
    private = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}
    starting = start.click(lambda: gr.update(interactive=True), None, cancel, **private)
    filling = starting.then(
        partial(fill_table, pipe),
        files,
        [table, summary, link],
        preprocess=False,
        api_visibility="private",
        concurrency_id=FILES_QUEUE,
        show_progress_on=summary,
    )
    for ending in (filling.then, filling.failure):  # after an error Gradio 6.31 calls only the second
        ending(lambda: gr.update(interactive=False), None, cancel, js=MOVE_FOCUS, **private)
    cancel.click(lambda: CANCELLED, None, summary, cancels=[filling], **private)
