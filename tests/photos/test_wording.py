"""Words for a face."""

import pytest

from photos.wording import describe_gender, describe_interval, make_label, name_face, name_gender
from tests.support.models import make_face


@pytest.mark.parametrize(
    ("age", "score", "name", "description"),
    [
        (31, 0.98, "female", "female, 98 %"),
        (31, 0.999, "female", "female, over 99 %"),
        (7, 0.75, "female", "female, 75 %"),
        (31, 0.59, "unsure", "unsure (female, 59 %)"),
        (6, 0.9, "female", "female, 90 %"),
        (6, 0.89, "unsure", "unsure (female, 89 %)"),
    ],
)
def test_gender_is_unsure_near_one_half_and_sooner_of_a_small_child(age, score, name, description):
    face = make_face(0, 0, 9, 9) | {"age": age, "gender_score": score}
    assert (name_gender(face), describe_gender(face)) == (name, description)
    assert make_label(2, face) == f"2: {name}, {age}"


def test_face_is_named_by_its_number_or_as_the_whole_picture():
    face = make_face(0, 0, 9, 9)
    whole = face | {"detection_score": None}
    assert (name_face(2, face), name_face(1, whole)) == ("Face 2", "Whole picture")
    assert make_label(1, whole) == "whole picture: female, 31"


def test_interval_is_in_whole_years():
    assert describe_interval(24.0, 42.6) == "24–43"
