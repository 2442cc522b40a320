"""Labels: names and numbers of classes, missing and impossible values."""

import datasets
import pytest

from configuration_agegender import AgeGenderConfig
from data.labels import GENDERS, check_labels, is_utkface, parse_file_name, read_labels
from metrics import results


def test_gender_labels_are_the_classes_of_the_network_and_of_the_results():
    assert GENDERS == list(results.GENDERS) == list(AgeGenderConfig().id2label.values())


def test_labels_of_a_file_name():
    assert parse_file_name("26_1_2_20170116181301976.jpg.chip.jpg") == {"age": 26, "gender": 1, "race": 2}
    with pytest.raises(ValueError, match="the name is not of the form"):
        parse_file_name("39_1_20170116174525125.jpg.chip.jpg")


@pytest.mark.parametrize("labels", [{"age": -1}, {"age": 121}, {"age": 5, "gender": 2}, {"age": 5, "race": "Martian"}])
def test_impossible_labels_are_refused(labels):
    with pytest.raises(ValueError, match=str(list(labels.values())[-1])):
        check_labels(labels)


def test_labels_may_be_names_and_may_be_missing():
    assert check_labels({"age": 3, "gender": "female", "race": None}) == {"age": 3, "gender": 1, "race": None}
    assert check_labels({"age": None, "gender": -1}) == {"age": None, "gender": None, "race": None}
    assert check_labels({"age": float("nan")}) == {"age": None, "gender": None, "race": None}


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
