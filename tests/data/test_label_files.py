"""Tables that name images: as people write them, where they lie, and what they name in vain."""

import json
import re
from pathlib import Path

import pytest

from data.label_files import ImageFinder, Row, read_label_file
from data.splits import read_list
from data.utkface import load_utkface
from tests.support.faces import make_jpeg
from tests.support.picture_sources import write_folder, write_tar, write_zip


pytestmark = pytest.mark.usefixtures("empty_cache")

NAMES = [f"IMG_{index}.jpg" for index in range(8)]
PHOTOS = {name: make_jpeg(index) for index, name in enumerate(NAMES)}


def write_lines(columns: str = "file_name,age,gender", start: str = "", names: list[str] = NAMES) -> bytes:
    """A table of ages from 30 on, of which the first person is male, the second female, and so on."""
    separator = next(mark for mark in ",;\t" if mark in columns)
    rows = [[start + name, str(30 + index), "MF"[index % 2]] for index, name in enumerate(names)]
    return "\n".join([columns, *map(separator.join, rows)]).encode()


def load_labels(path, **options) -> dict[str, tuple]:
    """The split, age and gender of each image, by its name."""
    return {
        row["file_name"]: (split, row["age"], row["gender"])
        for split, images in load_utkface(path, **options).items()
        for row in images
    }


def check_labels_of(path):
    labels = load_labels(path)
    assert {name: labels[name][1:] for name in labels} == {
        name: (30 + index, index % 2) for index, name in enumerate(NAMES)
    }


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.csv", write_lines()),
        ("labels.tsv", write_lines("Image\tAge\tSex")),
        ("excel.CSV", b"\xef\xbb\xbf" + write_lines("File Name;Age;Gender").replace(b"\n", b"\r\n")),
        ("excel.csv", write_lines("Path;Age;Gender").decode().encode("utf-16")),
        ("windows.csv", write_lines("file,age,gender,name,\xe9t\xe9").decode().replace("M\n", "M,Ren\xe9,\n").encode("cp1252")),
        ("below.csv", write_lines(start=".\\")),
        ("metadata.jsonl", b"\n".join(
            json.dumps({"file_name": name, "age": 30 + index, "gender": index % 2}).encode() for index, name in enumerate(NAMES)
        )),
    ],
)  # fmt: skip
def test_tables_beside_images(tmp_path, name, content):
    check_labels_of(write_folder(tmp_path / "faces", PHOTOS | {name: content}))


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_tables_in_archives(tmp_path, write):
    """The table comes after the images."""
    faces = {f"faces/{name}": photo for name, photo in PHOTOS.items()} | {"faces/metadata.csv": write_lines()}
    check_labels_of(write(tmp_path / "faces", faces))


def test_tables_given_alone_name_images_anywhere(tmp_path):
    """The folders there name no splits."""
    write_folder(tmp_path / "test" / "photos", PHOTOS)
    for start in ("../test/photos/", f"{tmp_path}/test/photos/"):
        file = tmp_path / "tables" / f"{len(start)}.csv"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(write_lines(start=start))
        check_labels_of(file)
        check_labels_of(str(tmp_path / "tables" / f"{len(start)}.c*"))
    assert {split for split, _, _ in load_labels(file).values()} == {"train", "validation", "test"}
    (tmp_path / "test" / "photos" / NAMES[0]).unlink()  # the table stays as it was
    assert NAMES[0] not in load_labels(file)


@pytest.mark.parametrize("table", ["labels.csv", "tables/labels.csv"])
def test_the_first_folders_of_a_path_may_be_missing(tmp_path, table):
    """As those of FairFace's table, or all."""
    faces = {f"margin025/train/{name}": photo for name, photo in PHOTOS.items()} | {"val/IMG_0.jpg": make_jpeg(99)}
    check_labels_of(write_folder(tmp_path / "faces", faces | {table: write_lines("file,age,gender", "train/")}))
    del faces["val/IMG_0.jpg"]
    check_labels_of(write_folder(tmp_path / "bare", faces | {table: write_lines()}))


def test_a_path_names_no_image_of_another_folder():
    def find(folder: str, image: str) -> str:
        return ImageFinder(["anna/1.jpg", "ben/1.jpg", "ben/2.jpg", "cafe\u0301.jpg"], None).find(
            Row(f"{folder}/t".lstrip("/"), image, {})
        )

    assert find("", "caf\xe9.jpg") == "cafe\u0301.jpg"  # as macOS writes it
    assert [find("ben", "1.jpg"), find("", "anna/1.jpg"), find("", "2.jpg")] == [
        "ben/1.jpg",
        "anna/1.jpg",
        "ben/2.jpg",
    ]
    for folder, image in (("anna", "2.jpg"), ("", "carl/1.jpg"), ("", "/1.jpg"), ("ben", "../2.jpg"), ("", "1.jpg")):
        with pytest.raises(ValueError, match="several files end so" if image == "1.jpg" else "no such file"):
            find(folder, image)


def test_folders_and_tables_name_splits(tmp_path):
    """As in an imagefolder of `datasets`, with a table in each folder, and as tables of images in one folder."""
    parts = {"train": NAMES[:5], "val": NAMES[5:7], "test": NAMES[7:]}
    tables = {f"{part}.csv": write_lines(start="photos/", names=names) for part, names in parts.items()}
    images = {f"photos/{name}": photo for name, photo in PHOTOS.items()}
    folders = {f"{part}/{name}": PHOTOS[name] for part, names in parts.items() for name in names}
    folders |= {f"{part}/metadata.csv": write_lines(names=names) for part, names in parts.items()}
    named = {f"{part}/3{index}_male_{name}": PHOTOS[name] for part in parts for index, name in enumerate(parts[part])}
    for number, faces in enumerate((tables | images, folders, named)):
        labels = load_labels(write_folder(tmp_path / str(number), faces))
        splits = [split for name, (split, _, _) in sorted(labels.items(), key=lambda item: item[0].rpartition("_")[2])]
        assert splits == ["train"] * 5 + ["validation"] * 2 + ["test"]
    (tmp_path / "0" / "train.csv").unlink()
    assert {split for split, _, _ in load_labels(tmp_path / "0").values()} == {"validation", "test"}


def test_listed_test_images_are_test_images_whatever_a_table_says(tmp_path):
    listed = sorted(read_list("test"))[:3]
    names = listed + [f"3{index}_0_0_{20170116181301976 + index}.jpg.chip.jpg" for index in range(5)]
    faces = {f"train/{name}": PHOTOS[photo] for name, photo in zip(names, PHOTOS)}
    labels = load_labels(write_folder(tmp_path / "faces", faces | {"train/labels.csv": write_lines(names=names)}))
    assert sorted(name for name, (split, _, _) in labels.items() if split == "test") == listed


def test_what_tables_and_images_lack_is_told(tmp_path, warnings):
    lines = write_lines() + b"\ngone.jpg,31,M\n,32,F\nIMG_1.jpg,99,M\n"
    faces = PHOTOS | {"extra.jpg": make_jpeg(99), "labels.csv": lines.replace(b"IMG_7.jpg,37", b"IMG_7.jpg,old")}
    faces |= {"notes.csv": b"day,cake\n1,yes", "predicted.csv": b"file,age,detection_score\nIMG_0.jpg,99,1"}
    folder = write_folder(tmp_path / "faces", faces)
    for _ in range(2):  # built, then from the cache
        warnings.clear()
        labels = load_labels(folder)
        assert set(labels) == set(NAMES[:7]) and labels["IMG_1.jpg"][1:] == (31, 1)
        for sentence in (
            r"faces: 7 images \(5 train, 1 validation, 1 test\), labels from labels.csv.",
            "1 image is in no table and passed over, such as extra.jpg.",
            "gone.jpg: labels.csv names it, but there is no such file",
            "IMG_1.jpg: labels.csv names it again: only the first row with an image counts",
            r"\.: the row names no image",
            "IMG_7.jpg: the age 'old' is neither",
            "notes.csv has the columns .*'cake'.*, but no column file_name",
            "predicted.csv holds answers of predict.py",
        ):
            assert re.search(sentence, warnings.text), sentence


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot be read as a table"),
        (b"IMG_0.jpg,31,0", r"has the columns \['IMG_0.jpg', '31', '0'\], but no column file_name"),
        (b"image,born\nIMG_0.jpg,1990", r"has the columns \['born', 'image'\], but lacks \['age'\]"),
        (b"image,sex,age\nIMG_0.jpg,f,25, 32", "has lines with more fields than its first line"),
        (b"image,age,sex\nIMG_0.jpg,25,1\nIMG_1.jpg,25,2", "numbers the genders of its column 'sex' 1 and 2"),
    ],
)
def test_unusable_tables_get_a_sentence(tmp_path, content, reason):
    with pytest.raises(ValueError, match=reason):
        read_label_file("labels.csv", content)
    Path(write_folder(tmp_path / "faces", PHOTOS | {"labels.csv": content}))
    with pytest.raises(ValueError, match=f"no usable image: .*{reason}"):  # before the reasons of the images
        load_utkface(tmp_path / "faces")
    with pytest.raises(ValueError, match=reason):
        load_utkface(tmp_path / "faces" / "labels.csv")


def test_the_error_names_an_image_and_the_shortest_form(tmp_path):
    with pytest.raises(
        ValueError, match="(?s)such as IMG_0.jpg.* not of the form.*like 31_female_anna.jpg .*file_name,age"
    ):
        load_utkface(write_folder(tmp_path / "faces", PHOTOS))
