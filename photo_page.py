"""The page's tab for one photo: the photo with a box for each face, and a card for each."""

from functools import partial
from pathlib import Path
from threading import Lock

import gradio as gr
from gradio.utils import get_upload_folder
from PIL import Image

from face_cards import STYLE, TEMPLATE, make_cards
from photos.drawing import draw_faces
from photos.fetching import fetch
from photos.reading import read_picture
from pipeline_agegender import AgeGenderPipeline
from visits import keep_briefly


ASSETS = Path(__file__).resolve().parent / "assets"
EXAMPLES = {
    "Eileen Collins (NASA, public domain)": ASSETS / "astronaut.jpg",
    "Grace Hopper (US Navy, public domain)": ASSETS / "hopper.jpg",
    "Both portraits side by side (a collage)": ASSETS / "collage.jpg",
}
# Photos and frames wait in one queue, so that nobody waits for the slow site or the many photos of somebody else. Of what
# comes out of the queues one picture at a time is looked at, since two would only slow each other down.
QUEUE, ADDRESS_QUEUE, FILES_QUEUE = "pipeline", "addresses", "files"
ONE_AT_A_TIME = Lock()
BATCH_SIZE = 8  # faces of a picture that go through the network at once

NO_PHOTO = "Choose a photo first."
NO_FACE = "No face was found in this photo."
HINT = "Drop, paste or take a photo, or give its address."
# On a phone the answer is below what was pressed.
SHOW_ANSWER = """(...values) => {
  const answer = document.getElementById("answer");
  if (values[0] && answer.getBoundingClientRect().top > 0.4 * window.innerHeight) {
    answer.scrollIntoView({behavior: "smooth"});
  }
  return values;
}"""


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
        return read_picture(upload)
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


def show(
    pipe: AgeGenderPipeline, cards: gr.HTML, whole: bool, source: dict | str | None, shown: dict | str | None
) -> tuple:
    """
    What the tab shows for a photo: the picture, a sentence, the cards, a button, what the button is to be pressed for, and
    the photo itself, which is taken away if it is not the one that is shown.

    Args:
        cards: The component that shows the cards.
        whole: Whether to take the whole picture as one face.
        source: See `read_source`; None where the visitor, or this function, took the photo away.
        shown: The source of the answer that is shown.
    """
    button = gr.Button(visible=False)
    if not source:
        # Taken away by a visitor, a photo takes its answer along.
        return (None, HINT, None, button, None, gr.skip()) if isinstance(shown, dict) else (gr.skip(),) * 6
    try:
        picture = read_source(source)
        options = {"detect_faces": not whole, "return_crops": True, "return_age_distribution": True}
        faces = find_faces(pipe, picture, **options)
    except gr.Error as error:
        # The answer to the photo before must not stay, which it would if this were raised.
        gr.Warning(error.message)
        return None, error.message, None, button, None, None
    if not faces:
        button = gr.Button(visible=True)
    answer = make_cards("photo", faces, partial(keep_briefly, component=cards))
    photo = None if isinstance(source, str) else gr.skip()
    return draw_faces(picture, faces), count_faces(len(faces)), answer, button, source, photo


def count_faces(count: int) -> str:
    """How many faces there are, as a sentence."""
    if count == 0:
        return NO_FACE
    return "1 face was found." if count == 1 else f"{count} faces were found, numbered from left to right."


def build_photo_page(pipe: AgeGenderPipeline):
    """Builds the tab."""
    source = gr.State()
    with gr.Row():
        with gr.Column(min_width=300):
            image = gr.Image(
                type="filepath",
                image_mode=None,
                alt_text="The photo that you chose",
                label="Photo",
                height=380,
                sources=["upload", "webcam", "clipboard"],
            )
            address = gr.Textbox(
                label="Address of a photo",
                placeholder="https://…",
                max_lines=1,
                max_length=2000,
                submit_btn="Open",
            )
            gr.Examples(
                [[str(path)] for path in EXAMPLES.values()],
                image,
                label="Examples",
                example_labels=list(EXAMPLES),
                api_visibility="private",
            )
        with gr.Column(min_width=300):
            annotated = gr.Image(
                format="jpeg",
                alt_text="The photo with a box around each face",
                label="Faces",
                show_label=False,  # it would cover a part of the picture
                interactive=False,
                height=380,
                buttons=["download", "fullscreen"],
                elem_id="answer",
            )
            summary = gr.Markdown(HINT, elem_classes="announced")
            whole = gr.Button("Treat the whole picture as one face", visible=False)
            cards = gr.HTML(html_template=TEMPLATE, css_template=STYLE, label="Ages and genders")
    # The file comes as it was uploaded (preprocess=False): gr.Image would open it first, and where it cannot, the
    # visitor would get no sentence.
    for trigger, value, takes_whole, queue in (
        (image.change, image, False, QUEUE),
        (address.submit, address, False, ADDRESS_QUEUE),
        (whole.click, source, True, ADDRESS_QUEUE),  # the source may be an address
    ):
        trigger(
            partial(show, pipe, cards, takes_whole),
            [value, source],
            [annotated, summary, cards, whole, source, image],
            preprocess=False,
            js=SHOW_ANSWER,
            show_progress_on=annotated,
            api_visibility="private",
            concurrency_id=queue,
        )
