"""The people of a film: what the frames say about each, averaged."""

import io
import random

import numpy as np
import pytest
from PIL import Image, ImageFilter

from data.sources import Source
from data.splits import read_list
from hub.loading import load_pipeline
from photos.people import OPTIONS, People, compute_weight
from tests.support.models import make_config, make_face
from tests.support.training import ROOT


def face_of(age: int, weight: float = 1.0, gender: str = "female", x: int = 0) -> dict:
    """A face whose distribution lies about an age."""
    distribution = np.exp(-0.5 * ((np.arange(101) - age) / 3) ** 2)
    face = make_face(x, 0, x + 40, 40) | {"age": float(age), "gender": gender, "weight": weight}
    return face | {"age_distribution": (distribution / distribution.sum()).tolist()}


def test_person_is_the_weighted_mean_of_its_frames():
    people = People(make_config(age_statistic="mean"))
    for step, (age, weight) in enumerate(((30, 3), (50, 1), (30, 3), (50, 1))):
        people.update([face_of(age, weight)], step / 5)
    [person] = people.describe()
    assert person["age"] == pytest.approx(35, abs=0.01)
    assert (person["track"], person["frames"], person["time_from"], person["time_to"]) == (1, 4, 0, 0.6)
    assert "age_at_least" not in person
    low, high = person["age_interval"]
    assert low < 35 < high and high - low > 15  # frames that disagree make it wide


def test_probability_of_being_at_least_an_age_is_that_of_the_mean_distribution():
    people = People(make_config(age_at_least_scale=2.0, age_at_least_shift=0.5), [18, 40])
    for step, (age, weight) in enumerate(((30, 3), (50, 1))):
        people.update([face_of(age, weight)], step / 5)
    [person] = people.describe()
    # A quarter of the mean lies about 50 years, the rest about 30.
    assert person["age_at_least"] == pytest.approx({18: 1, 40: 1 / (1 + 3**2 * np.exp(-0.5))}, abs=0.01)


def test_gender_is_the_likelier_one_on_average():
    people = People(make_config())
    for step, (gender, score) in enumerate((("female", 0.9), ("male", 0.6), ("female", 0.9))):
        people.update([face_of(30, gender=gender) | {"gender_score": score}], step / 5)
    [person] = people.describe()
    assert person["gender"] == "female" and person["gender_score"] == pytest.approx((0.9 + 0.4 + 0.9) / 3)


def test_two_people_are_two_rows_and_one_who_comes_back_is_a_new_one():
    people = People(make_config())
    for step in range(5):
        tracked = people.update([face_of(20, x=0), face_of(60, x=200)], step / 5)
    assert [face["track"] for face in tracked] == [1, 2]
    people.update([], 2)
    people.update([face_of(20, x=0)], 4)
    assert [(person["track"], person["frames"]) for person in people.describe()] == [(1, 5), (2, 5), (3, 1)]


def test_boxes_are_those_of_the_frames_and_numbers_are_smooth():
    people = People(make_config())
    people.update([face_of(30)], 0)
    [face] = people.update([face_of(50, x=10)], 0.2)
    assert face["box"]["xmin"] == 10 and face["age"] == 40 and face["track"] == 1


def test_crop_is_that_of_the_frame_that_weighs_most():
    people, crops = People(make_config()), [Image.new("RGB", (9, 9), colour) for colour in ("red", "green", "blue")]
    for step, (crop, weight) in enumerate(zip(crops, (1, 3, 2))):
        people.update([face_of(30, weight) | {"crop": crop}], step / 5)
    assert people.describe()[0]["crop"] is crops[1]


def test_large_and_sharp_faces_weigh_more(photo):
    crop = photo.crop((150, 0, 350, 200))
    sharp = make_face(0, 0, 100, 100) | {"crop": crop}
    blurred = sharp | {"crop": crop.filter(ImageFilter.GaussianBlur(3))}
    small = make_face(0, 0, 50, 50) | {"crop": crop}
    assert compute_weight(blurred) < 0.5 * compute_weight(sharp)
    assert compute_weight(small) == pytest.approx(compute_weight(sharp) / 2)
    assert compute_weight(sharp | {"crop": Image.new("RGB", (200, 200))}) > 0


@pytest.mark.slow
def test_age_of_a_person_errs_less_than_that_of_a_frame(utkface_dir):
    """Validation faces that no training used, six frames of each: small or large, blurred or sharp."""
    pipe, chance = load_pipeline(str(ROOT)), random.Random(0)
    listed = sorted(read_list("validation"))[::60]
    entries = (entry for entry in Source(utkface_dir, labelled=False).entries() if entry.name in listed)
    frame_errors, errors = [], []
    for name, content in ((entry.name, entry.read()) for entry in entries):
        face, label, people = (
            Image.open(io.BytesIO(content)).convert("RGB"),
            int(name.split("_")[0]),
            People(pipe.model.config),
        )
        for step in range(6):
            side, blur = chance.choice((40, 80, 160)), ImageFilter.GaussianBlur(chance.choice((0, 0, 2, 4)))
            frame = face.filter(blur).resize((side, side), reducing_gap=2.0)
            [seen] = pipe(frame, detect_faces=False, **OPTIONS)
            seen["crop"] = frame.resize((200, 200))  # as detection would return it
            frame_errors.append(abs(seen["age"] - label))
            # At one place, as the track of a face whose size jumps would end.
            people.update([seen | {"weight": compute_weight(seen), "box": make_face(0, 0, 80, 80)["box"]}], step / 5)
        [person] = people.describe()
        errors.append(abs(person["age"] - label))
    print(f"MAE of a frame {np.mean(frame_errors):.2f} years, of a person {np.mean(errors):.2f} years")
    assert np.mean(errors) < np.mean(frame_errors)
