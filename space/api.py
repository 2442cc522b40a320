"""The endpoints for programs: `/predict`, `/predict_url`, `/predict_files` and `/predict_video`, with types and descriptions."""

from typing import Annotated, NotRequired

import gradio as gr
from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from image_processing_agegender import (
    SMALL_CHILD_AGE,
    SURE_GENDER,
    SURE_GENDER_OF_SMALL_CHILD,
    check_age_thresholds,
)
from image_reading import is_address
from pipeline_agegender import AgeGenderPipeline
from space.film_tab import FRAMES_PER_SECOND, MAX_SECONDS, answer_film
from space.inference import (
    ADDRESS_QUEUE,
    FILES_QUEUE,
    FILM_QUEUE,
    QUEUE,
    answer_files,
    answer_photo,
    find_sources,
    find_upload,
)
from space.uploads import make_file


SCORE_DESCRIPTION = (
    f"probability of that gender; the page calls it unsure below {SURE_GENDER}, and at an age below {SMALL_CHILD_AGE} "
    f"years below {SURE_GENDER_OF_SMALL_CHILD}"
)
FACE_DESCRIPTION = (
    f"age (years), age_interval (90 % range: its first and last age), gender, gender_score ({SCORE_DESCRIPTION}), "
    "box (xmin, ymin, xmax, ymax in pixels of the upright photo in its own size), detection_score and, with "
    "age_thresholds such as [18, 25], age_at_least (by age, the probability that the face is labelled at least so old)"
)
PHOTO_DESCRIPTION = (
    "Finds the faces of {} and estimates the apparent age and gender of each. Returns the photo, upright, with a box and a "
    "label for each face, scaled down if it is large; and a list with a dict for each face, row by row from the left: "
    f"{FACE_DESCRIPTION}. The list is empty if no face is found."
)
FILES_DESCRIPTION = (
    "Finds the faces of several photos, or of those in zip archives, and estimates the apparent age and gender of each. "
    "Returns a list with a dict for each photo: file (its name) and either faces, a list with a dict for each face "
    f"({FACE_DESCRIPTION}), or error, a sentence that says why it could not be read. An archive that holds other files "
    "gets a dict with note, a sentence that counts them."
)
FILM_DESCRIPTION = (
    f"Reads {FRAMES_PER_SECOND} frames a second of a film, of its first {MAX_SECONDS} seconds, and follows its people. Returns the "
    "film with a box and a label for each face, without sound; a list with a dict for each person: track (its number), time_from "
    "and time_to (seconds), frames (their number), age (years), age_interval (90 % range), gender, gender_score "
    f"({SCORE_DESCRIPTION}) and, with age_thresholds, age_at_least (as for photos); and a list with a dict for each frame: time "
    "(seconds) and faces, a list with a dict for each face: track, box (pixels), detection_score, with age_thresholds "
    "age_at_least in this frame, and the averages of its latest frames: age, age_interval, gender, gender_score."
)
# What each endpoint takes, for its description and for the answer to a call with anything else.
UPLOADED = 'handle_file("photo.jpg") in Python, or else {"path": PATH} with a PATH that /gradio_api/upload returned'
HOW_TO_CALL = {
    "predict_url": "/predict_url takes the address of a photo, https://… or data:image/jpeg;base64,… as text. For a file call "
    f"/predict with {UPLOADED}.",
    "predict": f"/predict takes an uploaded photo: {UPLOADED}. For an address, or base64 in a data: address, call /predict_url.",
    "predict_files": f"/predict_files takes a list of addresses as text and of uploaded photos and zip archives: {UPLOADED}.",
    "predict_video": '/predict_video takes an uploaded film: handle_file("film.mp4") in Python, or else {"path": PATH} with a PATH '
    "that /gradio_api/upload returned.",
}
# A portrait of Eileen Collins (NASA, public domain), one of the page's examples.
EXAMPLE_ADDRESS = "https://raw.githubusercontent.com/scikit-image/scikit-image/v0.25.2/skimage/data/astronaut.png"


AtLeast = NotRequired[Annotated[dict[str, float], Field(description="probability of being at least that age")]]


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
    gender_score: Annotated[float, Field(description=SCORE_DESCRIPTION)]
    box: Annotated[Box, Field(description="pixels of the upright photo in its own size")]
    detection_score: float | None
    age_at_least: AtLeast


class FileAnswer(TypedDict):
    """The faces of a photo, or a sentence that says why it could not be read or what else an archive holds."""

    file: str
    faces: NotRequired[list[FaceAnswer]]
    error: NotRequired[str]
    note: NotRequired[str]


class TrackedFace(FaceAnswer):
    """A face of a frame, with averaged numbers."""

    track: Annotated[int, Field(description="number of the person")]


class FrameAnswer(TypedDict):
    """The faces of a frame."""

    time: Annotated[float, Field(description="seconds from the beginning")]
    faces: list[TrackedFace]


class PersonAnswer(TypedDict):
    """A person of a film."""

    track: Annotated[int, Field(description="number of the person")]
    time_from: Annotated[float, Field(description="seconds from the beginning")]
    time_to: Annotated[float, Field(description="seconds from the beginning")]
    frames: int
    age: Annotated[float, Field(description="years")]
    age_interval: Annotated[tuple[float, float], Field(description="90 % range, years")]
    gender: str
    gender_score: Annotated[float, Field(description=SCORE_DESCRIPTION)]
    age_at_least: AtLeast


def describe_type(component: gr.components.Component, schema: dict | None = None, example: object = None):
    """Sets the type and the example that the API page shows. Gradio would write a file beside the code for a subclass."""
    if schema is not None:
        component.api_info = lambda: schema
    if example is not None:
        component.example_payload = lambda: example


def check(name: str, value, is_right: object):
    """Returns what a call has sent if it is right; raises gr.Error with what the endpoint takes otherwise."""
    if not is_right:
        raise gr.Error(HOW_TO_CALL[name], print_exception=False)
    return value


def build_endpoints(pipe: AgeGenderPipeline):
    """Adds the endpoints to a page. They share no component with it, so they stay the same when the page changes."""
    photo = gr.Image(type="filepath", visible=False, label="Photo")
    address = gr.Textbox(visible=False, label="Address of a photo")
    thresholds = gr.JSON(visible=False, label="Ages for age_at_least, in years")
    # Not `gr.File`: the example calls that Gradio writes for one send a file instead of a list.
    paths = gr.JSON(visible=False, label="Photos, or zip archives of photos")
    film = gr.File(visible=False, label="Film")
    annotated_film = gr.File(visible=False, label="Film with boxes")
    people = gr.JSON(visible=False, label="People")
    frames = gr.JSON(visible=False, label="Frames")
    annotated = gr.Image(format="jpeg", visible=False, label="Photo with boxes")
    faces = gr.JSON(visible=False, label="Faces")
    answers = gr.JSON(visible=False, label="Faces of each photo")
    # The calls that Gradio writes upload the file that `url` names.
    describe_type(photo, example=make_file("photo.jpg") | {"url": "photo.jpg"})
    describe_type(film, example=make_file("film.mp4") | {"url": "film.mp4"})
    describe_type(people, TypeAdapter(list[PersonAnswer]).json_schema())
    describe_type(frames, TypeAdapter(list[FrameAnswer]).json_schema())
    describe_type(address, example=EXAMPLE_ADDRESS)
    describe_type(thresholds, TypeAdapter(list[int]).json_schema(), [18, 25])
    describe_type(paths, TypeAdapter(list[gr.FileData | str]).json_schema(), [EXAMPLE_ADDRESS])
    describe_type(faces, TypeAdapter(list[FaceAnswer]).json_schema())
    describe_type(answers, TypeAdapter(list[FileAnswer]).json_schema())

    def check_thresholds(ages: object) -> list[int]:
        try:
            return check_age_thresholds(() if ages is None else ages, pipe.model.config.num_age_classes)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error

    # The names of the functions and of their parameters are part of the API.
    def predict_url(url, age_thresholds=None):
        address = check("predict_url", url, isinstance(url, str) and is_address(url))
        return answer_photo(pipe, address, check_thresholds(age_thresholds))

    def predict(image, age_thresholds=None):
        upload = check("predict", image, find_upload(image))
        return answer_photo(pipe, upload, check_thresholds(age_thresholds))

    def predict_files(files, age_thresholds=None):
        sources = find_sources(files)
        check("predict_files", sources, sources and len(sources) == len(files))
        return answer_files(pipe, sources, check_thresholds(age_thresholds))

    def predict_video(video, age_thresholds=None):
        upload = check("predict_video", video, find_upload(video) and video)
        return answer_film(pipe, upload, check_thresholds(age_thresholds))

    of_upload, of_address = map(
        PHOTO_DESCRIPTION.format, ("an uploaded photo", "the photo at a public http or https address")
    )
    # The API page begins with the one whose example works as it stands.
    for function, inputs, outputs, description, queue in (
        (predict_url, [address, thresholds], [annotated, faces], of_address, ADDRESS_QUEUE),
        (predict, [photo, thresholds], [annotated, faces], of_upload, QUEUE),
        (predict_files, [paths, thresholds], answers, FILES_DESCRIPTION, FILES_QUEUE),
        (predict_video, [film, thresholds], [annotated_film, people, frames], FILM_DESCRIPTION, FILM_QUEUE),
    ):
        description = f"{HOW_TO_CALL[function.__name__]} {description}"
        gr.on([], function, inputs, outputs, preprocess=False, api_description=description, concurrency_id=queue)
