"""
The tab for a camera: tracks each face over the frames, which steadies its numbers.

The browser (camera.js) sends a frame only while fewer than two wait for an answer: a slow network or a busy machine lowers
the frame rate and never builds a backlog. `gr.Image(streaming=True)` sends at a fixed rate and occupies the queue, which
visitors and photos share here. The server answers with numbers, and the browser draws them into the frame that it has kept.
"""

import math
import time
from copy import copy
from functools import partial

import gradio as gr
from PIL import Image

from face_detection import FaceDetector
from metrics.tables import TELL_PEOPLE
from photos.drawing import BOX_COLOUR
from photos.fetching import fetch, is_data
from photos.reading import read_picture
from photos.tracking import SIDES, FaceTracker
from photos.wording import RANGE, describe_gender, describe_interval, make_label
from pipeline_agegender import AgeGenderPipeline
from space.inference import QUEUE, find_faces
from space.theme import read_component


FRAME_SIDE = 640  # pixels, the longer side of a frame
MAX_FRAME_CHARACTERS = 2_000_000
MAX_FRAME_RATE = 15  # a second
TIME_LIMIT = 300  # seconds after which the camera is switched off
DETECTION_PIXELS = 480 * 360  # width x height at which faces are detected
ANSWER_TIMEOUT = 10  # seconds after which a frame counts as lost

HELP = (
    "Switch on the camera to see each face with its apparent age, averaged over the last second or so. The frames go to "
    f"the server, which keeps none of them. The camera is switched off after {TIME_LIMIT // 60} minutes. {TELL_PEOPLE}"
)


def read_frame(frame: object) -> Image.Image:
    """Decodes a frame, which the browser sends as a data: address; raises gr.Error for anything else."""
    try:
        if not isinstance(frame, str) or not is_data(frame) or len(frame) > MAX_FRAME_CHARACTERS:
            raise ValueError("No picture was sent.")
        return read_picture(fetch(frame))
    except ValueError as error:
        raise gr.Error(f"This is no frame of a camera. {error}", print_exception=False) from error


def answer_frame(pipe: AgeGenderPipeline, tracker: FaceTracker, value: dict | None) -> dict | None:
    """
    Tracks the faces of a frame.

    Args:
        value: The `number` and the `frame`. An answer that the browser sends back is returned as it is.

    Returns:
        The `number` of the frame and for each of its `faces` the dict of `describe_track`.
    """
    if not isinstance(value, dict) or "frame" not in value:
        return value
    faces = tracker.update(find_faces(pipe, read_frame(value["frame"])), time.monotonic())
    return {"number": value.get("number"), "faces": [describe_track(face) for face in faces]}


def describe_track(face: dict) -> dict:
    """Returns the box of a face (pixels), the label to draw beside it and the line to write beside the picture."""
    number, interval = face["track"], describe_interval(*face["age_interval"])
    return {
        "box": [face["box"][side] for side in SIDES],
        "label": make_label(number, face),
        "line": f"{number}: about {face['age']:.0f} years, {RANGE} {interval}, {describe_gender(face)}",
    }


class FrameDetector(FaceDetector):
    """Detects faces at one size, at half the cost of the usual two; misses faces below 55 of 640 pixels."""

    def compute_sizes(self, width: int, height: int) -> list[tuple[int, int]]:
        factor = min(1, math.sqrt(DETECTION_PIXELS / (width * height)))
        return [(max(1, round(width * factor)), max(1, round(height * factor)))]


def build_camera_tab(pipe: AgeGenderPipeline):
    """Builds the tab."""
    quick = copy(pipe)
    quick.face_detector = FrameDetector(search_turned=False)  # people hold a camera upright
    gr.Markdown(HELP)
    tracker = gr.State(FaceTracker())
    camera = gr.HTML(
        **read_component("camera"),
        elem_id="live",
        side=FRAME_SIDE,
        pause=1 / MAX_FRAME_RATE,
        time_limit=TIME_LIMIT,
        answer_timeout=ANSWER_TIMEOUT,
        colour=f"rgb{BOX_COLOUR}",
    )
    camera.input(
        partial(answer_frame, quick),
        [tracker, camera],
        camera,
        preprocess=False,
        postprocess=False,
        trigger_mode="multiple",
        show_progress="hidden",
        api_visibility="private",
        concurrency_id=QUEUE,
    )
