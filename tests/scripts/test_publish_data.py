"""The datasheet of a published data set."""

import datasets

from data.utkface import FEATURES
from scripts.publish_data import make_count_rows, make_datasheet
from tests.support.faces import make_name


def make_images(labels: list[tuple]) -> datasets.Dataset:
    rows = {"age": [], "gender": [], "race": []}
    for row in labels:
        for name, value in zip(rows, row):
            rows[name].append(value)
    names = [f"{number}.jpg" for number in range(len(labels))]
    features = {name: FEATURES[name] for name in (*rows, "file_name")}
    return datasets.Dataset.from_dict(rows | {"file_name": names}, features=datasets.Features(features))


DATA = datasets.DatasetDict(
    {
        "train": make_images([(25, 0, 1), (26, 1, 1), (70, None, None)]),
        "validation": make_images([(None, 1, 4)]),
    }
)


def test_images_are_counted_by_label():
    assert make_count_rows(DATA) == [
        ["gender: male", "1", "0"],
        ["gender: female", "1", "1"],
        ["race label: Black", "2", "0"],
        ["race label: Others", "0", "1"],
        ["age: 21–30", "2", "0"],
        ["age: 61–75", "1", "0"],
        ["gender: unknown", "1", "0"],
        ["race label: unknown", "1", "0"],
        ["age: unknown", "0", "1"],
    ]


def test_datasheet_has_the_counts_and_asks_for_what_it_cannot_know():
    text = make_datasheet(DATA, "user/faces", "faces.zip")
    assert "| label | train | validation |\n|---|---|---|\n| gender: male | 1 | 0 |\n" in text
    assert "Built from faces.zip." in text and "add here how the photos were collected" in text
    assert "collected from the web" not in text and "terms of the images" in text
    assert "{" not in text


def test_datasheet_of_utkface_tells_how_it_was_collected_and_labelled():
    names = [make_name(index) for index in range(3)]
    images = DATA["train"].remove_columns("file_name").add_column("file_name", names)
    text = make_datasheet(datasets.DatasetDict(train=images), "user/utkface", "UTKFace.tar.gz")
    for claim in (
        "images were collected from the web",
        "estimated by an algorithm and\nchecked by a person who looked at the image",
        "The people shown were not asked.",
        "for non-commercial research only",
        "Do not make this data set public",
    ):
        assert claim in text
    assert "add here" not in text and "{" not in text
