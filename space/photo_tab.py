"""The page's tab for one photo: the photo with a box for each face, and a card for each."""

from functools import partial
from pathlib import Path

import gradio as gr

from photos.drawing import draw_faces
from pipeline_agegender import AgeGenderPipeline
from space.face_cards import STYLE, TEMPLATE, make_cards
from space.gradio_patches import keep_briefly
from space.inference import ADDRESS_QUEUE, QUEUE, find_faces, read_source


ASSETS = Path(__file__).resolve().parents[1] / "assets"
EXAMPLES = {
    "Eileen Collins (NASA, public domain)": ASSETS / "astronaut.jpg",
    "Grace Hopper (US Navy, public domain)": ASSETS / "hopper.jpg",
    "Both portraits side by side (a collage)": ASSETS / "collage.jpg",
}

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
