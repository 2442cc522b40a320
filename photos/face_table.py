"""Makes rows of a table from faces, and CSV from rows."""

import csv
import io
from collections.abc import Sequence


COLUMNS = (
    "file",
    "face",
    "age",
    "age_low",
    "age_high",
    "gender",
    "gender_score",
    "xmin",
    "ymin",
    "xmax",
    "ymax",
    "detection_score",
    "error",
)


def make_face_rows(file: str, faces: list[dict]) -> list[dict]:
    """
    Makes one row for each face of a picture.

    Args:
        file: Name of the picture in the table.
        faces: Dicts of the pipeline.

    Returns:
        Dicts with the keys of `COLUMNS`, and `age_at_least_18` for an `age_at_least` of 18 years: `face` counts from 1; `age`,
        `age_low` and `age_high` are years; the box is in pixels. A picture without a face gets one row, in which only `file`
        is filled.
    """
    rows = [
        {
            "file": file,
            "face": number,
            "age": round(face["age"], 1),
            "age_low": round(face["age_interval"][0], 1),
            "age_high": round(face["age_interval"][1], 1),
            "gender": face["gender"],
            "gender_score": round(face["gender_score"], 4),
            **face["box"],
            "detection_score": face["detection_score"] and round(face["detection_score"], 4),
            **round_at_least(face),
        }
        for number, face in enumerate(faces, start=1)
    ]
    return [dict.fromkeys(COLUMNS) | row for row in rows or [{"file": file}]]


def name_threshold(age: int) -> str:
    """Returns the column of the probability of being at least an age."""
    return f"age_at_least_{age}"


def round_at_least(face: dict) -> dict:
    """Returns the probabilities of a face or person of being at least some ages as cells; none without `age_at_least`."""
    return {name_threshold(age): round(share, 4) for age, share in face.get("age_at_least", {}).items()}


def make_unreadable_row(file: str, error: ValueError) -> dict:
    """Makes the row of a file that could not be read, with the reason."""
    return dict.fromkeys(COLUMNS) | {"file": file, "error": str(error)}


def to_csv(rows: list[dict], columns: Sequence[str] = COLUMNS, header: bool = True) -> str:
    """Writes rows as CSV with these columns; cells that a spreadsheet would run as a formula get an apostrophe."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows({name: quote_formula(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def quote_formula(value):
    """Puts an apostrophe before text that a spreadsheet would run as a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
