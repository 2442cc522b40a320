"""The tab for one photo: the photo with a box for each face, and a card for each face."""

import shutil
from functools import partial
from pathlib import Path

import gradio as gr

from image_reading import is_data
from pipeline_agegender import AgeGenderPipeline
from space.face_cards import THRESHOLD, make_answer
from space.inference import ADDRESS_QUEUE, QUEUE, find_faces, read_source
from space.theme import read_component
from space.uploads import find_own_folder, make_file


ASSETS = Path(__file__).resolve().parents[1] / "assets"
# Captions state the ages at which the portraits were taken: years of birth are exact, years of portraits are not.
EXAMPLES = {
    "portraits/jeanette-epps.jpg": "Jeanette Epps, about 41",
    "portraits/kjell-lindgren.jpg": "Kjell Lindgren, about 41",
    "portraits/frederick-gregory.jpg": "Frederick Gregory, about 49",
    "astronaut.jpg": "Eileen Collins, 36",
    "portraits/group.jpg": "All four in one picture",
    "portraits/mae-jemison.jpg": "Hard: Mae Jemison, about 36, is read as 17",
}
MAX_ADDRESS_CHARACTERS = 3_000_000  # a data: address holds the photo

NO_FACE = (
    "No face was found in this photo. It helps if the face is sharp, well lit, upright, turned to the camera, not covered, and "
    "at least 32 pixels high."
)
WHOLE = "No face was found, so this is what the whole picture would be as one face: right only if a face fills it."
# On a phone the answer lies below the button that was pressed. It has no place before it is waited for, and the photo above it
# grows meanwhile.
SCROLL = """
  const answer = document.getElementById("answer"), {top} = answer.getBoundingClientRect();
  if (top < 0 || top > 0.4 * window.innerHeight) answer.scrollIntoView({behavior: "smooth"});
"""
SCROLL_AT_START = f"(...values) => {{ if (values[0]) setTimeout(() => {{ {SCROLL} }}, 100); return values; }}"
LISTEN_TO_ANSWER = f"""
let threshold = {THRESHOLD};
const showThreshold = () => {{
  const slider = element.querySelector("input");
  if (!slider) return;
  slider.value = threshold; // at most the last age
  element.querySelector(".threshold span").textContent = slider.value;
  for (const it of element.querySelectorAll("[data-at-least]")) {{
    it.textContent = `${{slider.value}} or older: ${{it.dataset.atLeast.split(",")[slider.value]}}`;
  }}
}};
element.addEventListener("input", ({{target}}) => {{
  threshold = Number(target.value);
  showThreshold();
}});
watch("value", showThreshold);
watch("value", () => {{ if (props.value) {{ {SCROLL} }} }});
element.addEventListener("click", ({{target}}) => {{
  if (target.matches(".box")) element.querySelector(`:not(.box)[data-face="${{target.dataset.face}}"]`).focus();
}});
"""


def update_tab(
    pipe: AgeGenderPipeline, takes_whole: bool, source: dict | str | None, shown: dict | str | None
) -> tuple:
    """
    Answers a photo.

    Args:
        takes_whole: Whether to take the whole picture as one face.
        source: As for `read_source`; None if the visitor, or this function, removed the photo.
        shown: The source of the answer on the page. Gradio passes a photo twice that is dropped on another one.

    Returns:
        A sentence, the answer, the button for the whole picture, the source that the button takes, and the photo, which is
        removed if the answer belongs to an address or the photo cannot be read.
    """
    button = gr.Button(visible=False)
    if isinstance(source, dict) and source == shown and not takes_whole:
        return (gr.skip(),) * 5
    if not source:
        # The answer is removed with a photo that the visitor removed, and kept if an address has replaced the photo.
        return ("", None, button, None, gr.skip()) if isinstance(shown, dict) else (gr.skip(),) * 5
    try:
        picture = read_source(source)
        options = {"detect_faces": not takes_whole, "return_crops": True, "return_age_distribution": True}
        options["age_thresholds"] = range(pipe.model.config.num_age_classes)  # for the slider
        faces = find_faces(pipe, picture, **options)
    except gr.Error as error:
        # Not raised: the answer to the previous photo would stay.
        return error.message, None, button, None, None
    photo = None if isinstance(source, str) else gr.skip()
    if isinstance(source, str) and is_data(source):
        source = None  # it holds the photo, which the state of the page must not keep
    button = gr.Button(visible=not faces and source is not None)
    sentence = WHOLE if takes_whole else count_faces(len(faces))
    return sentence, make_answer(picture, faces), button, source, photo


def count_faces(count: int) -> str:
    """Returns the number of faces as a sentence."""
    if count == 0:
        return NO_FACE
    return "1 face was found." if count == 1 else f"{count} faces were found, numbered row by row."


def copy_examples() -> list[dict]:
    """Copies the examples to where photos are read from; returns the value for examples.html."""
    return [
        {"file": make_file(shutil.copy(ASSETS / name, find_own_folder())), "caption": caption}
        for name, caption in EXAMPLES.items()
    ]


def build_inputs() -> tuple[gr.Image, gr.Textbox]:
    """Builds the photo, the examples and the address; returns the photo and the address."""
    photo = gr.Image(
        type="filepath",
        image_mode=None,
        label="Photo",
        sources=["upload", "webcam", "clipboard"],
        elem_id="photo",
    )
    files = copy_examples()
    examples = gr.HTML(
        files, label="Examples", elem_id="examples", **read_component("examples"), apply_default_css=False
    )
    address = gr.Textbox(
        label="Address of a photo",
        placeholder="https://…",
        max_lines=1,
        max_length=MAX_ADDRESS_CHARACTERS,
        submit_btn="Open",
    )

    def choose_example(event: gr.EventData):
        return files[event.index]["file"]["path"]

    examples.select(choose_example, None, photo, show_progress="hidden", api_visibility="private")
    return photo, address


def build_photo_tab(pipe: AgeGenderPipeline):
    """Builds the tab."""
    source = gr.State()
    with gr.Row():
        with gr.Column(min_width=300):
            photo, address = build_inputs()
        with gr.Column(min_width=300, elem_id="answer"):
            summary = gr.Markdown(elem_classes="announced")
            whole = gr.Button("Treat the whole picture as one face", visible=False)
            answer = gr.HTML(label="Ages and genders", **read_component("face_cards"), js_on_load=LISTEN_TO_ANSWER)
    # preprocess=False passes the file as it was uploaded: gr.Image would open it, and give no sentence if it cannot.
    for trigger, value, takes_whole, queue in (
        (photo.change, photo, False, QUEUE),
        (address.submit, address, False, ADDRESS_QUEUE),
        (whole.click, source, True, ADDRESS_QUEUE),  # the source may be an address
    ):
        trigger(
            partial(update_tab, pipe, takes_whole),
            [value, source],
            [summary, answer, whole, source, photo],
            preprocess=False,
            js=SCROLL_AT_START,
            show_progress_on=answer,
            api_visibility="private",
            concurrency_id=queue,
        )
