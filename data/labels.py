"""Labels of a face: classes, file names and checks."""

import re
from collections.abc import Iterable
from typing import NamedTuple

import datasets


GENDERS = ["male", "female"]
RACES = ["White", "Black", "Asian", "Indian", "Others"]
MAXIMUM_AGE = 120
SURE_YEARS = 4  # an age with a wider band is not known exactly, such as that of a portrait without a date
LABELS = ("age", "age_low", "age_high", "gender", "race")
LABEL_COLUMNS = {label.replace("_", ""): label for label in LABELS} | {"sex": "gender"}
UNKNOWN = {"none", "nan", "nat", "null", "<na>", "na", "n/a", "unknown", "?"}
# -1 is the unknown of ClassLabel, u that of Adience.
GENDER_NAMES = dict.fromkeys(("", "-1", "u"))
GENDER_NAMES |= dict.fromkeys("0 m male males man men boy boys".split(), 0)
GENDER_NAMES |= dict.fromkeys("1 f female females w woman women girl girls".split(), 1)
RACE_NAMES = {name: index for index, race in enumerate(RACES) for name in (race.lower(), str(index))}
NUMBER = r"(\d+(?:\.\d+)?)"
# Ages in words. FairFace's "more than 70" follows its 60-69.
AGES = re.compile(rf"{NUMBER}(?: ?(?:-|to|and|_) ?{NUMBER})?")
FIRST_AGE = re.compile(
    rf"(?:more than|older than|over|from|>=?) ?{NUMBER}|{NUMBER} ?(?:\+|(?:or|and) (?:older|more|over|above))"
)
# A word may follow a dash too, but a code only an underscore: 12-1-2024 is a date.
FILE_NAME = re.compile(
    r"(?P<age>\d{1,3}(\.\d+)?)(_(?P<code>\d+)|[_-](?P<word>[a-z]+))(?![^\W_])(_(?P<race>\d)_)?", re.IGNORECASE
)
# Names in UTKFace itself end in a date and time with milliseconds.
UTKFACE_NAME = re.compile(r"\d+_\d_(\d_)?\d{17}\.jpg(\.chip\.jpg)?$")
SHORTEST_FORM = "31_female_anna.jpg"


class LabelledFace(NamedTuple):
    """A usable image, without its pixels."""

    position: int  # in the order of the source
    name: str
    labels: dict  # from `check_labels`
    split: str | None


def parse_file_name(name: str) -> dict:
    """
    Parses the labels in a file name, `AGE_GENDER_anything` or UTKFace's `AGE_GENDER_RACE_DATE`.

    The gender is a word or a code, as in `31_female_anna.jpg`, `31-F (2).png` or `31_1_anna.jpg`.

    Returns:
        `age`, `gender` and `race` as text; race is None if there is none.

    Raises:
        ValueError: if the name has another form. UTKFace has three files without a gender or a race, for instance
            `39_1_20170116174525125.jpg.chip.jpg`.
    """
    match = FILE_NAME.match(name)
    if match is None:
        raise ValueError(f"the name is not of the form AGE_GENDER_anything, such as {SHORTEST_FORM}")
    if (utkface := UTKFACE_NAME.match(name)) and not utkface[1]:
        raise ValueError("the name is one of UTKFace, but lacks the gender or the race")
    return {"age": match["age"], "gender": match["code"] or match["word"], "race": match["race"]}


def clean_column(name: str) -> str:
    """Returns the name of a column in lower case, without blanks and dashes."""
    return "".join(re.findall(r"[^\W_]+", name.lower()))


def find_labels(columns: Iterable[str]) -> dict[str, str]:
    """Returns the label that each column of a table holds, whatever its case, blanks and dashes; others are left out."""
    names = {column: clean_column(column) for column in columns}
    return {column: LABEL_COLUMNS[name] for column, name in names.items() if name in LABEL_COLUMNS}


def read_labels(row: dict, features: datasets.Features) -> dict:
    """Returns the labels of a table's row. Classes are given by name, since tables number them differently."""
    labels = dict.fromkeys(LABELS)
    for column, label in find_labels(features).items():
        value, feature = row.get(column), features[column]
        if isinstance(feature, datasets.ClassLabel):
            # A ClassLabel column stores unknown as -1.
            value = feature.int2str(value) if value is not None and value >= 0 else None
        labels[label] = value
    return labels


def read_word(value) -> str:
    """Returns a value as lower-case text, a whole number without a point, and an empty text if it is unknown."""
    word = re.sub(r"\.0+$", "", str(value).strip().lower())
    return "" if word in UNKNOWN else word


def read_gender(value) -> int | None:
    """Reads the name or the index of a gender. Raises ValueError if it is neither."""
    word = read_word(value)
    if word not in GENDER_NAMES:
        raise ValueError(f"the gender {value!r} is neither male (0) nor female (1)")
    return GENDER_NAMES[word]


def read_age(value) -> tuple[float | None, float | None]:
    """
    Reads an age or a band of ages, such as 31, `"31 years"`, `"(25, 32)"`, `"25-32"` or `"more than 70"`.

    Returns:
        First and last age in years, equal if one age is given, None if it is unknown. A band without an end ends at 120.

    Raises:
        ValueError: if the value is no age in years, for instance one in months.
    """
    text = read_word(value)
    if not text:
        return None, None
    text = re.sub(r"[\u2010-\u2015\u2212~]", "-", text)  # dashes
    if text[0] + text[-1] in ("()", "[]"):
        text = text[1:-1].replace(",", "-")
    text = " ".join(re.sub(r"(?<![a-z])(aged?|years?|yrs?|yo?|of|old)(?![a-z])", " ", text).split())
    if match := AGES.fullmatch(text):
        return float(match[1]), float(match[2] or match[1])
    if match := FIRST_AGE.fullmatch(text):
        return float(match[1] or match[2]), float(MAXIMUM_AGE)
    raise ValueError(f"the age {value!r} is neither a number of years nor a band such as 25-32")


def check_labels(labels: dict) -> dict:
    """
    Returns the labels of `LABELS` as numbers, None where a label is missing or is a race that UTKFace does not have.

    Args:
        labels: `age`, `age_low` and `age_high`, `gender` and `race`, as numbers or text. All may be missing. Of an age and a
            band, the band counts if it is wider than `SURE_YEARS`.

    Returns:
        `age` in years, None if only a band is known; `age_low` and `age_high`, its first and last age, both equal to a known
        age; and the indices of `gender` and `race`.

    Raises:
        ValueError: if an age is not in 0–120 years, if a band ends before it begins, or if a gender is not known.
    """
    low, high = read_age(labels.get("age"))
    first, last = read_age(labels.get("age_low"))[0], read_age(labels.get("age_high"))[1]
    if (first is None) != (last is None):
        first, last = first or 0.0, MAXIMUM_AGE if last is None else last
    if first is not None and (low is None or last - first > SURE_YEARS):
        low, high = first, last
    for age in (low, high):
        if age is not None and not 0 <= age <= MAXIMUM_AGE:
            raise ValueError(f"the age {age:g} is not in 0–{MAXIMUM_AGE}")
    if low is not None and low > high:
        raise ValueError(f"the band of ages {low:g}–{high:g} ends before it begins")
    return {
        "age": low if low == high else None,
        "age_low": low,
        "age_high": high,
        "gender": read_gender(labels.get("gender")),
        "race": RACE_NAMES.get(read_word(labels.get("race"))),
    }


def name_races(images: datasets.Dataset) -> list[str | None]:
    """Returns the race label of each image in words, None where it is unknown."""
    return [None if race is None else images.features["race"].int2str(race) for race in images["race"]]


def is_utkface(names: Iterable[str]) -> bool:
    """Returns whether any image has a name of UTKFace, whose test images are listed in `splits/`."""
    return any(UTKFACE_NAME.match(name) for name in names)
