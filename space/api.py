"""What the endpoints take and give: the types that their descriptions name, and examples that work when they are pasted."""

from typing import Annotated, Any, NotRequired

import gradio as gr
from gradio.data_classes import ListFiles
from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict  # before Python 3.12 pydantic wants it from there


FACE_DESCRIPTION = (
    "age (years), age_interval (two ages meant to hold the age nine times of ten), gender, gender_score (probability of "
    "that gender), box (xmin, ymin, xmax, ymax in pixels of the upright photo in its own size) and detection_score"
)
ANSWER_DESCRIPTION = (
    "Returns the photo, upright, with a box and a label for each face, scaled down if it is large; and a list with a dict "
    f"for each face from left to right: {FACE_DESCRIPTION}. The list is empty where no face is found."
)
PREDICT_DESCRIPTION = (
    f"Finds the faces of a photo and estimates the apparent age and gender of each. {ANSWER_DESCRIPTION}"
)
PREDICT_URL_DESCRIPTION = (
    "Finds the faces of the photo at a public http or https address and estimates the apparent age and gender of each. "
    + ANSWER_DESCRIPTION
)
PREDICT_FILES_DESCRIPTION = (
    "Finds the faces of several photos, or of those in zip archives, and estimates the apparent age and gender of each. "
    "Returns a list with a dict for each photo: file (its name) and either faces, a list with a dict for each face "
    f"({FACE_DESCRIPTION}), or error, a sentence that says why it could not be read."
)


# A portrait of Eileen Collins (NASA, public domain), one of the page's examples.
EXAMPLE = "https://raw.githubusercontent.com/scikit-image/scikit-image/v0.25.2/skimage/data/astronaut.png"


class Box(TypedDict):
    """Sides in pixels of the upright photo in its own size."""

    xmin: int
    ymin: int
    xmax: int
    ymax: int


class Face(TypedDict):
    """A face as the pipeline gives it."""

    age: Annotated[float, Field(description="years")]
    age_interval: Annotated[tuple[float, float], Field(description="meant to hold the age nine times of ten")]
    gender: str
    gender_score: Annotated[float, Field(description="probability of that gender")]
    box: Annotated[Box, Field(description="pixels of the upright photo in its own size")]
    detection_score: float | None


class File(TypedDict):
    """The faces of a photo, or a sentence that says why it could not be read."""

    file: str
    faces: NotRequired[list[Face]]
    error: NotRequired[str]


def build_inputs() -> tuple[gr.Image, gr.Textbox, gr.JSON]:
    """Components that nobody sees for what programs send: a photo, the address of one, and several files."""
    photo = gr.Image(type="filepath", visible=False, label="Photo")
    address = gr.Textbox(visible=False, label="Address of a photo")
    # No `gr.File`: the calls that gradio writes for one send a file where a list is expected.
    files = gr.JSON(visible=False, label="Photos, or zip archives of photos")
    files.data_model = ListFiles
    # Without `url`, by which gradio would know it and write the call as for a file alone.
    file = {"path": EXAMPLE, "meta": {"_type": "gradio.FileData"}}
    describe(photo, example=file | {"url": EXAMPLE})
    describe(address, example=EXAMPLE)
    describe(files, ListFiles.model_json_schema(), [file])
    return photo, address, files


def build_outputs() -> tuple[gr.Image, gr.JSON, gr.JSON]:
    """Likewise for what programs get: the photo with boxes, its faces, and those of several photos."""
    annotated = gr.Image(format="jpeg", visible=False, label="Photo with boxes")
    faces = gr.JSON(visible=False, label="Faces")
    answers = gr.JSON(visible=False, label="Faces of each photo")
    describe(faces, TypeAdapter(list[Face]).json_schema())
    describe(answers, TypeAdapter(list[File]).json_schema())
    return annotated, faces, answers


def describe(component: gr.components.Component, schema: dict | None = None, example: Any = None):
    """Gives a component a type and an example. No class of its own: beside each, gradio writes a file for editors."""
    if schema is not None:
        component.api_info = lambda: schema
    if example is not None:
        component.example_payload = lambda: example
