"""Labels: what other people write for ages and genders, missing and impossible values."""

import math
import re
from decimal import Decimal

import datasets
import numpy as np
import pytest

from configuration_agegender import AgeGenderConfig
from data.labels import (
    GENDERS,
    check_labels,
    find_labels,
    is_utkface,
    parse_file_name,
    read_age,
    read_gender,
    read_labels,
)
from metrics import results


def test_gender_labels_are_the_classes_of_the_network_and_of_the_results():
    assert GENDERS == list(results.GENDERS) == list(AgeGenderConfig().id2label.values())


@pytest.mark.parametrize(
    ("name", "age", "gender", "race"),
    [
        ("26_1_2_20170116181301976.jpg.chip.jpg", 26, 1, 2),
        ("31_0_anna.jpg", 31, 0, None),
        ("31_female_anna.jpg", 31, 1, None),
        ("31-F (2).png", 31, 1, None),
        ("31_0.jpg", 31, 0, None),
        ("31_0_0001.jpg", 31, 0, None),
        ("031_Woman_2_3.jpg", 31, 1, 2),
        ("0.5_M_ben.jpg", 0.5, 0, None),
        ("31_u_who.jpg", 31, None, None),
    ],
)
def test_labels_of_a_file_name(name, age, gender, race):
    labels = check_labels(parse_file_name(name))
    assert (labels["age"], labels["gender"], labels["race"]) == (age, gender, race)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("IMG_0001.jpg", "such as 31_female_anna.jpg"),
        ("20240105_120000.jpg", "the name is not of the form AGE_GENDER_anything"),
        ("12-1-2024.jpg", "the name is not of the form"),
        ("3 girls.jpg", "the name is not of the form"),
        ("31.jpg", "the name is not of the form"),
        ("31_0anna.jpg", "the name is not of the form"),
        ("31_anna.jpg", "the gender 'anna' is neither"),
        ("30_2_0_20170116174525125.jpg", "the gender '2' is neither"),
        ("100_0001.jpg", "the gender '0001' is neither"),
        ("25-32_f.jpg", "the name is not of the form"),
        ("39_1_20170116174525125.jpg.chip.jpg", "lacks the gender or the race"),
        ("61_1_20170109142408075.jpg", "lacks the gender or the race"),
    ],
)
def test_names_without_labels_are_refused(name, reason):
    with pytest.raises(ValueError, match=reason):
        check_labels(parse_file_name(name))


@pytest.mark.parametrize(
    ("ages", "expected"),
    [
        (
            (31, 31.0, "31", "31.0", " 31 ", Decimal("31"), np.int8(31), np.float32(31), "31 years old", "31y"),
            (31, 31),
        ),
        ((35.5, "35.5", "(35.5)"), (35.5, 35.5)),
        (("(25, 32)", "(25,32)", "25-32", "25–32", "25 — 32", "25 to 32", "25_32", [25, 32], "25-32 years"), (25, 32)),
        (("0-2", "(0, 2)", "00-02"), (0, 2)),
        (
            ("more than 70", "70+", "70 or older", "70 and over", "over 70", ">70", ">= 70", "70 years and older"),
            (70, 120),
        ),
        ((None, "None", "", " ", math.nan, "nan", "unknown", Decimal("NaN"), np.float32("nan")), (None, None)),
    ],
)
def test_ages_are_read_in_any_form(ages, expected):
    assert {age: read_age(age) for age in map(str, ages)} == dict.fromkeys(map(str, ages), expected)
    assert [read_age(age) for age in ages] == [expected] * len(ages)


@pytest.mark.parametrize(
    ("genders", "expected"),
    [
        (("male", "Male ", "M", "man", "MEN", "boy", 0, "0", 0.0, "0.0", np.int64(0), Decimal(0)), 0),
        (("female", " Female", "f", "Woman", "women", "girl", 1, "1", 1.0, "1.0", np.float32(1)), 1),
        ((None, "None", "", math.nan, "unknown", "Unknown", -1, "-1", -1.0, "u"), None),
    ],
)
def test_genders_are_read_in_any_form(genders, expected):
    assert [read_gender(gender) for gender in genders] == [expected] * len(genders)


@pytest.mark.parametrize("value", [True, False, "True", 2, 0.5, "x", "other", "malefemale", [0]])
def test_what_is_no_gender_is_refused(value):
    with pytest.raises(ValueError, match=re.escape(f"the gender {value!r} is neither male (0) nor female (1)")):
        check_labels({"age": 30, "gender": value})


@pytest.mark.parametrize(
    "value", ["18 months", "6 mo", "adult", True, "(20, 30]", "1,5", "-5", -1, "9-Mar", "25-32-40", [1, 2, 3]]
)
def test_what_is_no_age_is_refused(value):
    with pytest.raises(ValueError, match=re.escape(f"the age {value!r} is neither a number of years nor a band")):
        check_labels({"age": value})


@pytest.mark.parametrize("labels", [{"age": 121}, {"age": 1e9}, {"age": "100-150"}, {"age_high": 130}])
def test_ages_beyond_those_of_people_are_refused(labels):
    with pytest.raises(ValueError, match="the age .* is not in 0–120"):
        check_labels(labels)


def test_a_band_that_ends_before_it_begins_is_refused():
    for labels in ({"age": "32-25"}, {"age_low": 32, "age_high": "25"}):
        with pytest.raises(ValueError, match="the band of ages 32–25 ends before it begins"):
            check_labels(labels)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"age": 31}, (31, 31, 31)),
        ({"age": "25-32"}, (None, 25, 32)),
        ({"age_low": 25, "age_high": "32"}, (None, 25, 32)),
        ({"age_low": 31.0, "age_high": 31.0}, (31, 31, 31)),
        ({"age": None, "age_low": "more than 70", "age_high": "more than 70"}, (None, 70, 120)),
        ({"age_low": 70, "age_high": None}, (None, 70, 120)),
        ({"age_low": math.nan, "age_high": 2}, (None, 0, 2)),
        ({"age": 31, "age_low": 29.5, "age_high": 33.5}, (31, 31, 31)),  # near enough
        ({"age": 31, "age_low": 28.5, "age_high": 33}, (None, 28.5, 33)),
        ({"age": 31, "age_low": None, "age_high": None}, (31, 31, 31)),
        ({"age": None, "age_low": None, "age_high": math.nan}, (None, None, None)),
        ({}, (None, None, None)),
    ],
)
def test_an_age_is_exact_or_a_band_or_unknown(labels, expected):
    checked = check_labels(labels)
    assert tuple(checked[name] for name in ("age", "age_low", "age_high")) == expected


def test_a_race_never_costs_an_image():
    races = ["White", "asian ", 3, "4", "East Asian", "Martian", 7, -1, None, math.nan, True, ["White"]]
    expected = [0, 2, 3, 4, *[None] * 8]
    assert [check_labels({"age": 5, "race": race})["race"] for race in races] == expected


def test_columns_are_known_by_their_names():
    columns = ["Age", "AGE_LOW", "age high", " Sex ", "race", "image", "age_group", "file_name"]
    assert find_labels(columns) == {
        "Age": "age",
        "AGE_LOW": "age_low",
        "age high": "age_high",
        " Sex ": "gender",
        "race": "race",
    }


def test_classes_are_read_by_name():
    features = datasets.Features({"gender": datasets.ClassLabel(names=["Female", "Male"])})
    assert [read_labels({"gender": value}, features)["gender"] for value in (0, 1, -1, None)] == [
        "Female",
        "Male",
        None,
        None,
    ]


def test_names_of_utkface():
    assert is_utkface(["me.jpg", "39_1_20170116174525125.jpg.chip.jpg"])
    assert not is_utkface(["me.jpg", "39_1_0_me.jpg"])
