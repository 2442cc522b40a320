"""The tab for one photo: the photo with a box for each face, and a card for each face."""

from functools import partial
from pathlib import Path

import gradio as gr

from image_reading import is_data
from photos.drawing import draw_faces
from pipeline_agegender import AgeGenderPipeline
from space.face_cards import CARDS_STYLE, CARDS_TEMPLATE, make_cards
from space.inference import ADDRESS_QUEUE, QUEUE, find_faces, read_source


ASSETS = Path(__file__).resolve().parents[1] / "assets"
EXAMPLES = {
    "Eileen Collins (NASA, public domain)": ASSETS / "astronaut.jpg",
    "Grace Hopper (US Navy, public domain)": ASSETS / "hopper.jpg",
    "Both portraits side by side (a collage)": ASSETS / "collage.jpg",
}
MAX_ADDRESS_CHARACTERS = 3_000_000  # a data: address holds the photo

NO_FACE = "No face was found in this photo."
HINT = "Drop, paste or take a photo, or give its address."
# On a phone the answer lies below the button that was pressed.
SHOW_ANSWER = """(...values) => {
  const answer = document.getElementById("answer");
  if (values[0] && answer.getBoundingClientRect().top > 0.4 * window.innerHeight) {
    answer.scrollIntoView({behavior: "smooth"});
  }
  return values;
}"""


def update_tab(
    pipe: AgeGenderPipeline, takes_whole: bool, source: dict | str | None, shown: dict | str | None
) -> tuple:
    """
    Answers a photo.

    Args:
        takes_whole: Whether to take the whole picture as one face.
        source: As for `read_source`; None if the visitor, or this function, removed the photo.
        shown: The source of the answer on the page.

    Returns:
        The picture with boxes, a sentence, the cards, the button for the whole picture, the source that the button takes,
        and the photo, which is removed if the answer belongs to an address or the photo cannot be read.
    """
    button = gr.Button(visible=False)
    if not source:
        # The answer is removed with a photo that the visitor removed, and kept if an address has replaced the photo.
        return (None, HINT, None, button, None, gr.skip()) if isinstance(shown, dict) else (gr.skip(),) * 6
    try:
        picture = read_source(source)
        options = {"detect_faces": not takes_whole, "return_crops": True, "return_age_distribution": True}
        faces = find_faces(pipe, picture, **options)
    except gr.Error as error:
        # Not raised: the answer to the previous photo would stay.
        gr.Warning(error.message)
        return None, error.message, None, button, None, None
    cards = make_cards("photo", faces)
    photo = None if isinstance(source, str) else gr.skip()
    if isinstance(source, str) and is_data(source):
        source = None  # it holds the photo, which the state of the page must not keep
    button = gr.Button(visible=not faces and source is not None)
    return draw_faces(picture, faces), count_faces(len(faces)), cards, button, source, photo


def count_faces(count: int) -> str:
    """Returns the number of faces as a sentence."""
    if count == 0:
        return NO_FACE
    return "1 face was found." if count == 1 else f"{count} faces were found, numbered from left to right."


def build_inputs() -> tuple[gr.Image, gr.Textbox]:
    """Builds the photo, its address and the examples; returns the first two."""
    photo = gr.Image(
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
        max_length=MAX_ADDRESS_CHARACTERS,
        submit_btn="Open",
    )
    gr.Examples(
        [[str(path)] for path in EXAMPLES.values()],
        photo,
        label="Examples",
        example_labels=list(EXAMPLES),
        api_visibility="private",
    )
    return photo, address


def build_answer() -> tuple[gr.Image, gr.Markdown, gr.HTML, gr.Button]:
    """Builds the photo with boxes, the sentence, the cards, and the button that takes the whole picture as one face."""
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
    cards = gr.HTML(html_template=CARDS_TEMPLATE, css_template=CARDS_STYLE, label="Ages and genders")
    return annotated, summary, cards, whole


def build_photo_tab(pipe: AgeGenderPipeline):
    """Builds the tab."""
    source = gr.State()
    with gr.Row():
        with gr.Column(min_width=300):
            photo, address = build_inputs()
        with gr.Column(min_width=300):
            annotated, summary, cards, whole = build_answer()
    # preprocess=False passes the file as it was uploaded: gr.Image would open it, and give no sentence if it cannot.
    for trigger, value, takes_whole, queue in (
        (photo.change, photo, False, QUEUE),
        (address.submit, address, False, ADDRESS_QUEUE),
        (whole.click, source, True, ADDRESS_QUEUE),  # the source may be an address
    ):
        trigger(
            partial(update_tab, pipe, takes_whole),
            [value, source],
            [annotated, summary, cards, whole, source, photo],
            preprocess=False,
            js=SHOW_ANSWER,
            show_progress_on=annotated,
            api_visibility="private",
            concurrency_id=queue,
        )
