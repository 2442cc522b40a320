"""Tracking faces over the frames of a camera or a film."""

import pickle
from copy import deepcopy

import numpy as np
import pytest

from photos.tracking import FORGET_SECONDS, FaceTracker
from tests.support.models import make_face


def face_at(x: float, y: float = 100, side: int = 80, **changes) -> dict:
    """A face whose box begins at x, y."""
    return make_face(round(x), round(y), round(x) + side, round(y) + side) | changes


def test_track_stays_with_a_moving_face():
    tracker = FaceTracker()
    # In the end 600 px from where it began, and 40 px from one frame to the next.
    tracks = [tracker.update([face_at(x)], 0)[0]["track"] for x in range(0, 601, 40)]
    assert set(tracks) == {1}


@pytest.mark.parametrize("hidden", [(), (9, 10, 11)])
def test_tracks_stay_with_crossing_faces(hidden):
    """Left goes right and right goes left; where they cross, one may be behind the other."""
    tracker = FaceTracker()
    for step in range(21):
        faces = [face_at(20 * step, age=20.0), face_at(400 - 20 * step, age=60.0)]
        if step in hidden:
            faces.pop()
        faces.sort(key=lambda face: face["box"]["xmin"])
        answers = tracker.update(faces, 0)
    assert [(answer["track"], round(answer["age"])) for answer in answers] == [(2, 60), (1, 20)]


def test_track_stays_with_a_face_that_passes_behind_another():
    """The boxes that YuNet found in a film of two portraits, one of which the other covers for a second, bit by bit."""
    behind = [(210, 305, 310), (239, 304, 338), (268, 303, 366), (297, 303, 394), (326, 305, 424), (350, 304, 433)]
    behind += [None] * 4 + [(531, 310, 601), (540, 312, 626)]
    tracker = FaceTracker()
    for step, place in enumerate(behind):
        faces = [face_at(650 - 29 * step, 310, side=102)]
        if place is not None:
            xmin, ymin, xmax = place
            faces.append(make_face(xmin, ymin, xmax, ymin + 124))
        answers = tracker.update(faces, step / 5)
        assert [answer["track"] for answer in answers] == [1, 2][: len(faces)]


def test_every_face_has_its_own_track():
    tracker = FaceTracker()
    first = tracker.update([face_at(0), face_at(30)], 0)
    again = tracker.update([face_at(0), face_at(30), face_at(300)], 0)
    assert [face["track"] for face in first] == [1, 2]
    assert [face["track"] for face in again] == [1, 2, 3]


def test_age_is_steadier_and_follows_a_change():
    random = np.random.RandomState(0)
    tracker = FaceTracker()

    def show(age: float, count: int) -> tuple[np.ndarray, np.ndarray]:
        raw = age + random.normal(0, 5, count)
        answers = [
            tracker.update([face_at(100, age=value, age_interval=[value - 8, value + 10])], 0)[0] for value in raw
        ]
        ages = np.array([answer["age"] for answer in answers])
        widths = [answer["age_interval"][1] - answer["age_interval"][0] for answer in answers]
        assert widths == pytest.approx([18] * count)
        return raw, ages

    raw, ages = show(30, 200)
    assert ages[20:].std() < 0.4 * raw[20:].std()
    assert ages[0] == raw[0]
    _, ages = show(60, 40)
    assert ages[5] < 55
    assert ages[-10:].mean() == pytest.approx(60, abs=3)


def test_box_is_steadier_and_does_not_lag():
    tracker = FaceTracker()
    trembling = [tracker.update([face_at(100 + 6 * (step % 2))], 0)[0]["box"]["xmin"] for step in range(20)]
    assert np.std(trembling[5:]) < 3 / 2
    moving = [tracker.update([face_at(100 + 10 * step)], 0)[0]["box"]["xmin"] for step in range(20)]
    assert abs(moving[-1] - 290) <= 10


def test_gender_does_not_flicker():
    tracker = FaceTracker()
    # Two frames of three say female with 0.8, one says male with 0.6: 0.67 for female on average.
    frames = [("female", 0.8), ("female", 0.8), ("male", 0.6)] * 10
    answers = [tracker.update([face_at(0, gender=name, gender_score=score)], 0)[0] for name, score in frames]
    assert {answer["gender"] for answer in answers} == {"female"}
    assert answers[-1]["gender_score"] == pytest.approx(0.667, abs=0.05)


def test_gender_follows_a_change():
    tracker = FaceTracker()
    tracker.update([face_at(0, gender="male", gender_score=0.7)], 0)
    for _ in range(40):
        (answer,) = tracker.update([face_at(0, gender="female", gender_score=0.9)], 0)
        assert answer["gender_score"] >= 0.5
    assert answer["gender"] == "female"
    assert answer["gender_score"] == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize("frames_per_second", [5, 25])
@pytest.mark.parametrize(("absence", "track"), [(1, 1), (FORGET_SECONDS, 1), (FORGET_SECONDS + 0.5, 2)])
def test_absent_face_is_forgotten(frames_per_second, absence, track):
    """After seconds, at any rate of frames: someone may pass in front of a face for one."""
    tracker = FaceTracker()
    tracker.update([face_at(0, age=20.0)], 0)
    for step in range(1, round(absence * frames_per_second)):
        assert tracker.update([], step / frames_per_second) == []
    (answer,) = tracker.update([face_at(0, age=60.0)], absence)
    assert answer["track"] == track
    assert (answer["age"] == 60) == (track == 2)


def test_leaves_its_input_and_other_fields_alone():
    tracker = FaceTracker()
    tracker.update([face_at(0)], 0)
    faces = [face_at(10, age=50.0, detection_score=0.5)]
    before = deepcopy(faces)
    (answer,) = tracker.update(faces, 0)
    assert faces == before
    assert answer.keys() == faces[0].keys() | {"track"}
    assert answer["detection_score"] == 0.5
    assert all(isinstance(side, int) for side in answer["box"].values())


def test_visitors_do_not_mix():
    """The state of a visitor is a deep copy of the page's, as gradio makes it."""
    page = FaceTracker()
    one, other = deepcopy(page), deepcopy(page)
    for _ in range(5):
        one.update([face_at(0, age=20.0), face_at(200)], 0)
    (answer,) = other.update([face_at(0, age=60.0)], 0)
    assert (answer["track"], answer["age"]) == (1, 60)
    resumed = pickle.loads(pickle.dumps(one))
    assert resumed.update([face_at(0, age=20.0)], 0)[0]["track"] == 1
