"""The endpoints for programs: `/predict`, `/predict_url` and `/predict_files`, with their types and descriptions."""

from typing import Annotated, NotRequired

import gradio as gr
from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from pipeline_agegender import AgeGenderPipeline
from space.inference import ADDRESS_QUEUE, FILES_QUEUE, QUEUE, answer_files, answer_photo, find_sources
from space.uploads import make_file


FACE_DESCRIPTION = (
    "age (years), age_interval (90 % range: its first and last age), gender, gender_score (probability of "
    "that gender), box (xmin, ymin, xmax, ymax in pixels of the upright photo in its own size) and detection_score"
)
PHOTO_DESCRIPTION = (
    "Finds the faces of {} and estimates the apparent age and gender of each. Returns the photo, upright, with a box and a "
    "label for each face, scaled down if it is large; and a list with a dict for each face from left to right: "
    f"{FACE_DESCRIPTION}. The list is empty if no face is found."
)
FILES_DESCRIPTION = (
    "Finds the faces of several photos, or of those in zip archives, and estimates the apparent age and gender of each. "
    "Returns a list with a dict for each photo: file (its name) and either faces, a list with a dict for each face "
    f"({FACE_DESCRIPTION}), or error, a sentence that says why it could not be read."
)
# A portrait of Eileen Collins (NASA, public domain), one of the page's examples.
EXAMPLE_ADDRESS = "https://raw.githubusercontent.com/scikit-image/scikit-image/v0.25.2/skimage/data/astronaut.png"


class Box(TypedDict):
    """Sides in pixels of the upright photo in its own size."""

    xmin: int
    ymin: int
    xmax: int
    ymax: int


class FaceAnswer(TypedDict):
    """A face as the pipeline returns it."""

    age: Annotated[float, Field(description="years")]
    age_interval: Annotated[tuple[float, float], Field(description="90 % range, years")]
    gender: str
    gender_score: Annotated[float, Field(description="probability of that gender")]
    box: Annotated[Box, Field(description="pixels of the upright photo in its own size")]
    detection_score: float | None


class FileAnswer(TypedDict):
    """The faces of a photo, or a sentence that says why it could not be read."""

    file: str
    faces: NotRequired[list[FaceAnswer]]
    error: NotRequired[str]


def describe_type(component: gr.components.Component, schema: dict | None = None, example: object = None):
    """Sets the type and the example that the API page shows. Gradio would write a file beside the code for a subclass."""
    if schema is not None:
        component.api_info = lambda: schema
    if example is not None:
        component.example_payload = lambda: example


def build_endpoints(pipe: AgeGenderPipeline):
    """Adds the endpoints to a page. They share no component with it, so they stay the same when the page changes."""
    photo = gr.Image(type="filepath", visible=False, label="Photo")
    address = gr.Textbox(visible=False, label="Address of a photo")
    # Not `gr.File`: the example calls that Gradio writes for one send a file instead of a list.
    paths = gr.JSON(visible=False, label="Photos, or zip archives of photos")
    annotated = gr.Image(format="jpeg", visible=False, label="Photo with boxes")
    faces = gr.JSON(visible=False, label="Faces")
    answers = gr.JSON(visible=False, label="Faces of each photo")
    # The calls that Gradio writes upload the file that `url` names.
    describe_type(photo, example=make_file("photo.jpg") | {"url": "photo.jpg"})
    describe_type(address, example=EXAMPLE_ADDRESS)
    describe_type(paths, TypeAdapter(list[gr.FileData]).json_schema(), [make_file(EXAMPLE_ADDRESS)])
    describe_type(faces, TypeAdapter(list[FaceAnswer]).json_schema())
    describe_type(answers, TypeAdapter(list[FileAnswer]).json_schema())

    # The names of the functions and of their parameters are part of the API.
    def predict(image):
        return answer_photo(pipe, image)

    def predict_url(url):
        return answer_photo(pipe, url)

    def predict_files(files):
        return answer_files(pipe, find_sources(files, with_addresses=True))

    of_upload, of_address = map(
        PHOTO_DESCRIPTION.format, ("an uploaded photo", "the photo at a public http or https address")
    )
    for function, value, outputs, description, queue in (
        (predict, photo, [annotated, faces], of_upload, QUEUE),
        (predict_url, address, [annotated, faces], of_address, ADDRESS_QUEUE),
        (predict_files, paths, answers, FILES_DESCRIPTION, FILES_QUEUE),
    ):
        gr.on([], function, value, outputs, preprocess=False, api_description=description, concurrency_id=queue)
