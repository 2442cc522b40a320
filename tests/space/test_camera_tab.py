"""Frames of a camera: what is read of them, and what is answered."""

import base64
import io

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from photos import tracking
from photos.tracking import FaceTracker
from photos.wording import describe_gender, name_gender
from space import camera_tab
from space.camera_tab import FrameDetector, answer_frame, read_frame
from tests.support.models import FACE_BOX, make_face
from tests.support.picture_sources import repeat_last_scan


def save(picture: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def encode(picture: Image.Image, format: str = "JPEG") -> str:
    """A picture as the browser sends a frame."""
    return f"data:image/{format.lower()};base64,{base64.b64encode(save(picture, format)).decode()}"


MANY_SCANS = repeat_last_scan(save(Image.new("RGB", (20, 20)), "JPEG", progressive=True), 500)


def test_answer_to_a_frame(estimator, photo, monkeypatch):
    monkeypatch.setattr(tracking, "FORGET_SECONDS", np.inf)  # on a busy machine a frame takes long
    tracker = FaceTracker()
    for _ in range(2):
        (answer,) = answer_frame(estimator, tracker, {"number": 1, "frame": encode(photo)})["faces"]
    (face,) = estimator(read_frame(encode(photo)))
    assert answer["box"] == list(face["box"].values())
    assert answer["label"] == f"1: {name_gender(face)}, {face['age']:.0f}"
    assert answer["line"].startswith(f"1: about {face['age']:.0f} years, ")
    low, high = face["age_interval"]
    assert answer["line"].endswith(f"90 % range {low:.0f}–{high:.0f}, {describe_gender(face)}")


def test_visitors_are_asked_to_tell_those_whom_the_camera_sees():
    assert "Tell the people whom the camera sees" in camera_tab.HELP and "Art. 50(3)" in camera_tab.HELP


def test_gender_near_one_half_is_unsure():
    answer = camera_tab.describe_track(make_face(0, 0, 80, 80) | {"gender_score": 0.59, "track": 1})
    assert answer["label"] == "1: unsure, 31"
    assert answer["line"] == "1: about 31 years, 90 % range 24–43, unsure (female, 59 %)"


def test_answer_to_a_frame_without_a_face(estimator, noise):
    answer = answer_frame(estimator, FaceTracker(), {"number": 7, "frame": encode(noise)})
    assert answer == {"number": 7, "faces": []}
    assert answer_frame(estimator, FaceTracker(), answer) == answer


@pytest.mark.parametrize("height", [64, 120, 240, 400])
def test_detector_finds_faces_of_a_camera(photo, height):
    """The face is 112 px high in the photo; the frame shows it in the middle."""
    xmin, ymin, xmax, ymax = FACE_BOX
    factor = height / (ymax - ymin)
    size = round(photo.width * factor)
    frame = Image.new("RGB", (640, 480))
    frame.paste(
        photo.resize((size, size)), (round(320 - (xmin + xmax) / 2 * factor), round(240 - (ymin + ymax) / 2 * factor))
    )
    (face,) = FrameDetector().detect(frame)
    middle = np.array([face.box[0] + face.box[2], face.box[1] + face.box[3]]) / 2
    assert np.abs(middle - (320, 240)).max() < height / 4


@pytest.mark.parametrize(
    "frame",
    [
        None,
        "",
        {"path": "/etc/passwd"},
        "/etc/passwd",
        "https://example.com/face.jpg",
        "data:image/jpeg;base64,%%%",
        "data:image/jpeg;base64,AAAA",
        "data:image/jpeg;base64," + base64.b64encode(MANY_SCANS).decode(),
        "data:image/jpeg;base64," + "A" * camera_tab.MAX_FRAME_CHARACTERS,
    ],
)
def test_refuses_what_is_no_frame(frame):
    with pytest.raises(gr.Error, match="no frame of a camera"):
        read_frame(frame)
