"""Tables of faces: classes by name, published splits, and the names of splits and files."""

import datasets
import pytest

from data import tables
from data.utkface import load_utkface
from tests.support.faces import make_image, make_table, write_splits
from tests.support.training import ROOT


LISTED = (ROOT / "splits" / "utkface_test.txt").read_text().split()[:3]

pytestmark = pytest.mark.usefixtures("empty_cache")


def rows(dataset: datasets.DatasetDict) -> list[dict]:
    return [row for split in dataset.values() for row in split]


def test_classes_go_by_name_not_by_number(tmp_path):
    """Female is 0 there and 1 here."""
    table = make_table(range(20), gender=datasets.ClassLabel(names=["Female", "Male"]))
    loaded = rows(load_utkface(write_splits(tmp_path / "table", faces=table)))
    assert len(loaded) == 20
    genders = {row["file_name"]: row["gender"] for row in loaded}
    assert [genders[f"train-{index}"] for index in range(4)] == [1, 0, 1, 0]


def test_classes_of_ages_are_refused(tmp_path):
    table = make_table(range(4)).remove_columns("age").add_column("age", [0, 1, 0, 1])
    table = table.cast_column("age", datasets.ClassLabel(names=["0-2", "3-9"]))
    with pytest.raises(ValueError, match="classes of ages, .*0-2.*, but needs years"):
        load_utkface(write_splits(tmp_path / "table", faces=table))


def test_ages_that_are_no_numbers_are_unusable_and_gaps_are_not(tmp_path):
    table = make_table(range(6), age=["30", "20-29", "30", "31", "40", "50"])
    with pytest.raises(ValueError, match="no usable image"):
        load_utkface(write_splits(tmp_path / "words", faces=table))
    gaps = make_table(range(20), age=[float("nan"), *range(1, 20)], gender=[float("nan"), *[0.0, 1.0] * 9, 1.0])
    loaded = {row["file_name"]: row for row in rows(load_utkface(write_splits(tmp_path / "gaps", faces=gaps)))}
    assert len(loaded) == 20
    assert (loaded["train-0"]["age"], loaded["train-0"]["gender"]) == (None, None)
    assert (loaded["train-2"]["age"], loaded["train-2"]["gender"]) == (2, 1)


def test_near_duplicates_across_published_splits_leave_training(tmp_path, warnings):
    path = write_splits(
        tmp_path / "published",
        train=make_table([*range(10), 20, 30]),
        validation=make_table(range(20, 25)),
        test=make_table([*range(30, 35), 21]),
    )
    for _ in range(2):  # built, then from the cache
        warnings.clear()
        dataset = load_utkface(path)
        assert "3 near-duplicates of validation or test images belong to no split" in warnings.text
    assert dataset.num_rows == {"train": 10, "validation": 4, "test": 6}


def test_published_data_without_validation_get_some(tmp_path):
    path = write_splits(tmp_path / "published", train=make_table(range(20)), test=make_table(range(30, 35)))
    assert load_utkface(path, validation_share=0.25).num_rows == {"train": 15, "validation": 5, "test": 5}


def test_listed_test_images_are_test_images_whatever_a_table_says(tmp_path):
    """Known by the names of their files, without a column of names."""
    names = [f"3{index}_0_0_{20170116181301976 + index}.jpg.chip.jpg" for index in range(12)] + LISTED
    for seed, name in enumerate(names):
        make_image(seed).save(tmp_path / name)
    images = [{"path": name, "bytes": (tmp_path / name).read_bytes()} for name in names]
    table = datasets.Dataset.from_dict({"image": images, "age": [30.0] * len(names)})
    table = table.cast_column("image", datasets.Image())
    path = write_splits(tmp_path / "table", train=table.select(range(3, 15)), validation=table.select(range(3)))
    dataset = load_utkface(path)
    assert set(dataset["test"]["file_name"]) == set(LISTED)
    assert dataset.num_rows == {"train": 9, "validation": 3, "test": 3}


@pytest.mark.parametrize("name", ["val-00000-of-00001", "valid_0", "validation", "dev.0"])
def test_names_of_validation_files(tmp_path, name):
    files = [str(tmp_path / "train_0.parquet"), str(tmp_path / f"{name}.parquet")]
    assert tables.group_by_split(str(files[0]), files) == {"train": files[:1], "validation": files[1:]}


def test_names_of_folders_name_splits_too(tmp_path):
    """As the Hub converts data sets: default/test/0000.parquet."""
    for split, seeds in (("train", range(8)), ("test", range(10, 14)), ("validation", range(20, 23))):
        (tmp_path / "hub" / "default" / split).mkdir(parents=True)
        make_table(seeds).to_parquet(tmp_path / "hub" / "default" / split / "0000.parquet")
    assert load_utkface(tmp_path / "hub").num_rows == {"train": 8, "validation": 3, "test": 4}


def test_a_data_set_of_the_hub(monkeypatch):
    table = datasets.DatasetDict({"train": make_table(range(8)), "val": make_table(range(10, 14))})
    monkeypatch.setattr(datasets, "load_dataset", lambda name: {"some/faces": table}[name])
    assert load_utkface("some/faces").num_rows == {"train": 8, "validation": 4}
    table["unlabelled"] = make_table(range(20, 22))
    with pytest.raises(ValueError, match=r"'some/faces' has the splits .*'unlabelled'.*; known are train, validation"):
        load_utkface("some/faces")
