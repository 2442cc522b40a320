"""Tables of faces: classes by name, published splits, and the names of splits and files."""

import re

import datasets
import pandas
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


FAIRFACE = {
    "age": ["0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70"],
    "gender": ["Male", "Female"],
    "race": ["East Asian", "Indian", "Black", "White", "Middle Eastern", "Latino_Hispanic", "Southeast Asian"],
}


def load_rows(path) -> dict[str, dict]:
    return {row["file_name"]: row for row in rows(load_utkface(path))}


def test_a_table_as_fairface_has_it(tmp_path):
    """Classes by names of bands, and races of which UTKFace has three."""
    table = make_table(range(126), **{name: datasets.ClassLabel(names=names) for name, names in FAIRFACE.items()})
    loaded = load_rows(write_splits(tmp_path / "table", faces=table))
    assert len(loaded) == 126 and {row["age"] for row in loaded.values()} == {None}
    bands = [(loaded[f"train-{index}"]["age_low"], loaded[f"train-{index}"]["age_high"]) for index in range(9)]
    assert bands == [(0, 2), (3, 9), (10, 19), (20, 29), (30, 39), (40, 49), (50, 59), (60, 69), (70, 120)]
    assert [loaded[f"train-{index}"]["gender"] for index in range(4)] == [0, 1, 0, 1]
    assert [loaded[f"train-{index}"]["race"] for index in range(7)] == [None, 3, 1, 0, None, None, None]


def test_a_table_as_adience_has_it(tmp_path):
    """Bands as text, some of one year, and unknown ages and genders."""
    ages = ["(0, 2)", "(25, 32)", "(60, 100)", "35", "None", None]
    table = make_table(range(60), age=ages * 10, gender=["f", "m", "u", "", None, "f"] * 10)
    loaded = load_rows(write_splits(tmp_path / "table", faces=table))
    labels = [
        [loaded[f"train-{index}"][name] for name in ("age", "age_low", "age_high", "gender")] for index in range(6)
    ]
    assert len(loaded) == 60 and labels == [
        [None, 0, 2, 1],
        [None, 25, 32, 0],
        [None, 60, 100, None],
        [35, 35, 35, None],
        [None, None, None, None],
        [None, None, None, 1],
    ]


def test_fairface_and_adience_are_read_from_their_own_tables(tmp_path, monkeypatch):
    """Adience's after the example in the docs."""
    fairface, adience = (
        tmp_path / "fairface" / "fairface-img-margin025-trainval",
        tmp_path / "adience" / "aligned" / "3@N03",
    )
    for folder in (fairface / "train", fairface / "val", adience):
        folder.mkdir(parents=True)
    for index in range(10):
        make_image(index).save(fairface / "train" / f"{index}.jpg")
        make_image(10 + index).save(fairface / "val" / f"{index}.jpg")
        make_image(index).save(adience / f"landmark_aligned_face.{index}.1_o.jpg")
    tables = {
        f"fairface/fairface_label_{split}.csv": [
            "file,age,gender,race,service_test",
            *(f"{split}/{index}.jpg,{age},Female,Black,True" for index in range(10)),
        ]
        for split, age in (("train", "more than 70"), ("val", "0-2"))
    }
    tables["adience/fold_0_data.txt"] = [
        "user_id\toriginal_image\tface_id\tage\tgender\tx",
        *(f"3@N03\t1_o.jpg\t{index}\t(25, 32)\tm\t0" for index in range(10)),
    ]
    for name, lines in tables.items():
        (tmp_path / name).write_text("\n".join(lines), encoding="utf-8")
    (example,) = re.findall("```python\n(.*?)```", (ROOT / "docs" / "data.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    dataset = load_utkface(tmp_path / "fairface")
    for split, band in (("train", (70, 120)), ("validation", (0, 2))):
        assert [(row["age_low"], row["age_high"], row["gender"]) for row in dataset[split]] == [(*band, 1)] * 10
    loaded = load_rows(tmp_path / "adience").values()
    assert [(row["age_low"], row["age_high"], row["gender"]) for row in loaded] == [(25, 32, 0)] * 10


def test_bands_in_columns_and_names_of_columns(tmp_path, warnings):
    columns = {"Age Low": [20] * 20, "Age_High": ["29"] * 20, "Sex": pandas.Categorical(["Man", "woman "] * 10)}
    table = (
        make_table(range(20)).remove_columns("age").to_pandas().assign(**columns, age_group="20s", is_male=1, page=1)
    )
    (tmp_path / "table").mkdir()
    table.to_parquet(tmp_path / "table" / "faces.parquet")
    loaded = load_rows(tmp_path / "table")
    assert {(row["age"], row["age_low"], row["age_high"]) for row in loaded.values()} == {(None, 20, 29)}
    assert [loaded[f"train-{index}"]["gender"] for index in range(2)] == [0, 1]
    assert warnings.text.count("table has the columns ['age_group', 'is_male'], which are not read") == 1


def test_columns_that_leave_it_open_are_refused(tmp_path):
    two = make_table(range(4), Sex=["M"] * 4, gender=[1] * 4)
    with pytest.raises(
        ValueError, match="has two columns for one label, {.*'Sex': 'gender', 'gender': 'gender'}: keep one"
    ):
        load_utkface(write_splits(tmp_path / "two", faces=two))
    for name, codes in (("numbers", [1, 2, 1, 2]), ("text", ["1", "2", "1", "2"])):
        with pytest.raises(ValueError, match="numbers the genders of its column 'sex' 1 and 2. Here 0 is male"):
            load_utkface(write_splits(tmp_path / name, faces=make_table(range(4), sex=codes)))
    with pytest.raises(ValueError, match=r"has the columns \['Years', 'image'\], but lacks \['age'\]"):
        load_utkface(write_splits(tmp_path / "none", faces=make_table(range(4)).rename_column("age", "Years")))


def test_unknown_races_cost_no_image(tmp_path):
    table = make_table(range(60), race=["White", "Latino_Hispanic", "Martian", ""] * 15)
    loaded = load_rows(write_splits(tmp_path / "table", faces=table))
    assert len(loaded) == 60 and {row["race"] for row in loaded.values()} == {0, None}


def test_the_most_frequent_reason_stands_in_the_error(tmp_path):
    table = make_table(range(6), age=["old", *["young"] * 4, "30"], gender=["x"] * 6)
    path = write_splits(tmp_path / "words", faces=table)
    with pytest.raises(
        ValueError,
        match="no usable image: 6 of 6 images are left out:\n  5, such as train-0, .*: the age 'old' is neither",
    ):
        load_utkface(path)
    with pytest.raises(ValueError, match="train-0: the age 'old' is neither a number"):
        load_utkface(path, strict=True)


def test_some_unusable_labels_and_gaps(tmp_path, warnings):
    words = make_table(
        range(7), age=["30", "20 months", "30", "31", "40", "50", "60"], gender=["0", *"mfmf2", "other"]
    )
    assert len(rows(load_utkface(write_splits(tmp_path / "words", faces=words)))) == 4
    assert "3 of 7 images are left out" in warnings.text
    for reason in (
        "train-5, train-6: the gender '2' is neither male",
        "the age '20 months' is neither",
    ):
        assert reason in warnings.text
    gaps = make_table(range(20), age=[float("nan"), *range(1, 20)], gender=[float("nan"), *[0.0, 1.0] * 9, 1.0])
    loaded = load_rows(write_splits(tmp_path / "gaps", faces=gaps))
    assert len(loaded) == 20
    assert (loaded["train-0"]["age"], loaded["train-0"]["gender"]) == (None, None)
    assert (loaded["train-2"]["age"], loaded["train-2"]["gender"]) == (2, 1)


def test_a_written_data_set_is_read_with_the_same_labels(tmp_path):
    """As `scripts.publish_data` uploads it."""
    ages = ["31", "25-32", "70+", None] * 10
    dataset = load_utkface(write_splits(tmp_path / "own", faces=make_table(range(40), age=ages)))
    again = load_utkface(write_splits(tmp_path / "published", **dataset))
    columns = ["file_name", "age", "age_low", "age_high", "gender"]
    for name, split in dataset.items():
        assert again[name].select_columns(columns).to_list() == split.select_columns(columns).to_list()


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
        assert "3 images nearly the same as a validation or test image are not used" in warnings.text
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
