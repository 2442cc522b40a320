"""Labels of a face: names of files, classes, checks."""

import numbers
import re
from collections.abc import Iterable
from typing import NamedTuple

import datasets


GENDERS = ["male", "female"]
RACES = ["White", "Black", "Asian", "Indian", "Others"]
MAXIMUM_AGE = 120
FILE_NAME = re.compile(r"(\d+)_(\d+)_(\d+)_(\w+)")
# UTKFace's own names end in the date and time of their making, to the millisecond.
UTKFACE_NAME = re.compile(r"\d+_\d_(\d_)?\d{17}\.jpg(\.chip\.jpg)?$")


class Face(NamedTuple):
    """One usable image, before it is read again for the cache. Labels are None where not known."""

    position: int  # in the order of the source
    name: str
    age: float | None
    gender: int | None
    race: int | None
    split: str | None


def parse_file_name(name: str) -> dict:
    """
    The labels in a UTKFace file name, `[age]_[gender]_[race]_[date&time].jpg.chip.jpg`.

    Raises:
        ValueError: if a field is missing. Three files of the data set lack one, for instance
            `39_1_20170116174525125.jpg.chip.jpg`.
    """
    match = FILE_NAME.match(name)
    if match is None:
        raise ValueError("the name is not of the form [age]_[gender]_[race]_[date&time]")
    return dict(zip(("age", "gender", "race"), (int(value) for value in match.groups()[:3])))


def check_labels(labels: dict) -> dict:
    """
    The labels as numbers, None where a label is missing.

    Raises:
        ValueError: if an age is not in 0–120 years, or gender or race is not the index or the name of a class.
    """
    labels = {key: None if value != value else value for key, value in labels.items()}  # NaN
    age = labels.get("age")
    if age is not None and not (isinstance(age, numbers.Real) and 0 <= age <= MAXIMUM_AGE):
        raise ValueError(f"the age {age!r} is not in 0–{MAXIMUM_AGE}")
    checked = {"age": age}
    for key, names in (("gender", GENDERS), ("race", RACES)):
        value = labels.get(key)
        if isinstance(value, str):
            value = {name.lower(): index for index, name in enumerate(names)}.get(value.lower(), value)
        if value == -1:
            value = None
        if value is not None and value not in range(len(names)):
            raise ValueError(f"the {key} {value!r} is not in 0–{len(names) - 1}")
        checked[key] = value
    return checked


def is_utkface(names: Iterable[str]) -> bool:
    """True if an image has a name as UTKFace gives them, so that the published lists name the test images."""
    return any(UTKFACE_NAME.match(name) for name in names)


def name_labels(row: dict, features: datasets.Features) -> dict:
    """Age, gender and race of a table's row; classes by name, since others number theirs in another order."""
    labels = {key: row.get(key) for key in ("age", "gender", "race")}
    for key, value in labels.items():
        if isinstance(features.get(key), datasets.ClassLabel):
            # -1 is how such a column says unknown.
            labels[key] = features[key].int2str(value) if value is not None and value >= 0 else None
    return labels
