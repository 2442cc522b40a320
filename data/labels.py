"""Labels of a face: classes, file names and checks."""

import numbers
import re
from collections.abc import Iterable
from typing import NamedTuple

import datasets


GENDERS = ["male", "female"]
RACES = ["White", "Black", "Asian", "Indian", "Others"]
MAXIMUM_AGE = 120
FILE_NAME = re.compile(r"(\d+)_(\d+)_(\d+)_(\w+)")
# Names in UTKFace itself end in a date and time with milliseconds.
UTKFACE_NAME = re.compile(r"\d+_\d_(\d_)?\d{17}\.jpg(\.chip\.jpg)?$")


class LabelledFace(NamedTuple):
    """A usable image, without its pixels. Unknown labels are None."""

    position: int  # in the order of the source
    name: str
    age: float | None
    gender: int | None
    race: int | None
    split: str | None


def parse_file_name(name: str) -> dict:
    """
    Parses the labels in a UTKFace file name, `[age]_[gender]_[race]_[date&time].jpg.chip.jpg`.

    Raises:
        ValueError: if a field is missing. UTKFace has three such files, for instance
            `39_1_20170116174525125.jpg.chip.jpg`.
    """
    match = FILE_NAME.match(name)
    if match is None:
        raise ValueError("the name is not of the form [age]_[gender]_[race]_[date&time]")
    return dict(zip(("age", "gender", "race"), (int(value) for value in match.groups()[:3])))


def read_labels(row: dict, features: datasets.Features) -> dict:
    """Returns age, gender and race of a table's row. Classes are given by name, since tables number them differently."""
    labels = {key: row.get(key) for key in ("age", "gender", "race")}
    for key, value in labels.items():
        if isinstance(features.get(key), datasets.ClassLabel):
            # A ClassLabel column stores unknown as -1.
            labels[key] = features[key].int2str(value) if value is not None and value >= 0 else None
    return labels


def check_labels(labels: dict) -> dict:
    """
    Returns the labels as numbers, None where a label is missing.

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
    """Returns whether any image has a name of UTKFace, whose test images are listed in `splits/`."""
    return any(UTKFACE_NAME.match(name) for name in names)
