"""Faces as rows, and rows as CSV."""

import csv
import io

from photos.face_table import COLUMNS, make_face_rows, make_unreadable_row, to_csv
from tests.support.models import make_face


def read(text: str) -> list[dict]:
    return list(csv.DictReader(io.StringIO(text)))


def test_row_for_each_face():
    rows = make_face_rows("a.jpg", [make_face(0, 1, 9, 10), make_face(20, 1, 29, 10)])
    assert [row["face"] for row in rows] == [1, 2] and all(tuple(row) == COLUMNS for row in rows)
    assert rows[1] | {"face": 0} == dict.fromkeys(COLUMNS) | {
        "file": "a.jpg",
        "face": 0,
        "age": 31.4,
        "age_low": 24.0,
        "age_high": 42.6,
        "gender": "female",
        "gender_score": 0.98,
        "xmin": 20,
        "ymin": 1,
        "xmax": 29,
        "ymax": 10,
        "detection_score": 0.93,
    }


def test_probabilities_of_being_at_least_an_age_have_columns():
    (row,) = make_face_rows("a.jpg", [make_face(0, 1, 9, 10) | {"age_at_least": {18: 0.97111, 25: 0.6}}])
    assert tuple(row) == (*COLUMNS, "age_at_least_18", "age_at_least_25")
    assert row["age_at_least_18"] == 0.9711 and row["age_at_least_25"] == 0.6
    assert "age_at_least_18" not in to_csv([row]) and ",0.9711" in to_csv([row], list(row))


def test_face_that_was_not_detected_has_no_detection_score():
    assert make_face_rows("a.jpg", [make_face(0, 0, 9, 9) | {"detection_score": None}])[0]["detection_score"] is None


def test_picture_without_a_face_and_file_that_is_none_have_a_row():
    rows = read(
        to_csv([*make_face_rows("empty.jpg", []), make_unreadable_row("bad.jpg", ValueError("No picture, that."))])
    )
    assert [(row["file"], row["face"], row["error"]) for row in rows] == [
        ("empty.jpg", "", ""),
        ("bad.jpg", "", "No picture, that."),
    ]


def test_csv_keeps_names_whole_and_no_formula_runs():
    names = ['a "b", c\n.jpg', "größe.jpg", "=HYPERLINK(1).jpg", "@x.jpg"]
    rows = read(to_csv([row for name in names for row in make_face_rows(name, [make_face(0, 0, 9, 9)])]))
    assert [row["file"] for row in rows] == [*names[:2], "'=HYPERLINK(1).jpg", "'@x.jpg"]
