"""The builder: the same data set from every form, unusable images, the cache, and the real UTKFace."""

import hashlib
import io
import os
import re
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from data.loaders import make_evaluation_dataloader
from data.utkface import load_utkface
from image_processing_agegender import AgeGenderImageProcessor
from photos.reading import read_picture
from tests.support.faces import FORMS, make_image, make_jpeg, make_name, write_nested, write_splits
from tests.support.picture_sources import write_folder, write_zip


pytestmark = pytest.mark.usefixtures("empty_cache")

# Of the sorted file names of the training part of UTKFace.
SHA256 = {"train": "02e2b492ecadcd99", "validation": "6d37628ddbaa8db0"}
MALFORMED = "39_1_20170116174525125.jpg.chip.jpg"


def contents(dataset: datasets.DatasetDict) -> dict:
    """Returns all that a form of the data could change, by file name."""
    return {
        row["file_name"]: (name, row["age"], row["gender"], row["race"], np.asarray(row["image"]).tobytes())
        for name, split in dataset.items()
        for row in split
    }


@pytest.mark.parametrize("write", FORMS)
def test_every_form_gives_the_same_data_and_splits(tmp_path, folder, images, write):
    """In whatever order its images come: here backwards."""
    expected = contents(load_utkface(folder))
    assert len(expected) == 60
    assert contents(load_utkface(write(tmp_path / "other", dict(sorted(images.items(), reverse=True))))) == expected


def test_labels_come_from_the_name(folder):
    dataset = load_utkface(folder)
    row = next(row for split in dataset.values() for row in split if row["file_name"] == make_name(33))
    assert (row["age"], row["gender"], row["race"]) == (34, 1, 3)
    assert dataset["train"].features["gender"].names == ["male", "female"]
    assert dataset["train"].features["race"].names == ["White", "Black", "Asian", "Indian", "Others"]


def test_published_splits_carry_over(tmp_path, images):
    rows = [{"image": {"bytes": data, "path": name}, "age": 30, "file_name": name} for name, data in images.items()]
    parts = {"train": rows[:40], "validation": rows[40:50], "test": rows[50:]}
    tables = {
        name: datasets.Dataset.from_list(part).cast_column("image", datasets.Image()) for name, part in parts.items()
    }
    dataset = load_utkface(write_splits(tmp_path / "published", **tables))
    assert dataset.num_rows == {"train": 40, "validation": 10, "test": 10}
    assert dataset["train"][0]["gender"] is None and dataset["train"][0]["age"] == 30


def test_unusable_images_are_counted_named_and_left_out(folder, warnings):
    good = (folder / make_name(0)).read_bytes()
    unusable = {
        MALFORMED: good,
        "130_0_0_20170116174525125.jpg": good,
        "30_2_0_20170116174525125.jpg": good,
        "31_0_0_20170116174525125.jpg": good[: len(good) // 2],
        "32_0_0_20170116174525125.jpg": b"",
        "33_0_0_20170116174525125.jpg": b"<html>not found</html>",
    }
    for name, data in unusable.items():
        (folder / name).write_bytes(data)
    for _ in range(2):  # built, then from the cache
        warnings.clear()
        dataset = load_utkface(folder)
        assert sum(dataset.num_rows.values()) == 60
        assert "6 of 66 images are left out" in warnings.text
        assert [name for name in unusable if name not in warnings.text] == []
    with pytest.raises(ValueError, match=f"^({'|'.join(unusable)}): "):
        load_utkface(folder, strict=True)


def test_what_is_left_out_is_summarized_by_reason(folder, images, warnings):
    """As for Kaggle's copy of UTKFace, which holds each image several times. A file has all names."""
    for copy in ("UTKFace", "crop_part1", "utkface_aligned_cropped/crop_part1"):
        write_folder(folder / copy, images)
    good = next(iter(images.values()))
    for index in range(9):
        (folder / f"nameless{index}.jpg").write_bytes(good)
        (folder / f"{130 + index}_0_0_20170116174525125.jpg").write_bytes(good)
    (folder / "z").mkdir()
    (folder / "z" / make_name(1)).write_bytes(make_jpeg(999))
    for _ in range(2):  # built, then from the cache
        warnings.clear()
        dataset = load_utkface(folder)
        assert sum(dataset.num_rows.values()) == 60
        lines = warnings.text.splitlines()
        assert "faces: 60 images (54 train, 6 validation), labels from the file names." in lines[0] and len(lines) == 8
        assert lines[1] == "199 of 259 images are left out:"
        assert re.match(r"  180, such as UTKFace/.*, .*: a copy of another image$", lines[2])
        assert sum("the age 13" in line for line in lines) == sum("not of the form" in line for line in lines) == 1
        assert f"z/{make_name(1)}: another image has the same name" in warnings.text
        assert "4 other files were passed over, such as UTKFace/notes.txt" in lines[-2]
        file = re.match("(.*left_out.txt) lists all images", lines[-1]).group(1)
        assert all(f"nameless{index}.jpg" in Path(file).read_text(encoding="utf-8") for index in range(9))


def test_copies_do_not_change_data_or_splits(tmp_path, folder, images):
    expected = contents(load_utkface(folder))
    for copy in ("UTKFace", "crop_part1", "utkface_aligned_cropped/UTKFace"):
        write_folder(tmp_path / "kaggle" / copy, images)
    assert contents(load_utkface(tmp_path / "kaggle")) == expected


def test_images_of_one_name_in_several_folders_are_all_used(tmp_path):
    """But of copies only one."""
    faces = {
        f"{person}/31_female_1.jpg": make_jpeg(seed) for seed, person in enumerate(("anna", "berta", "copy", "dora"))
    }
    faces["copy/31_female_1.jpg"] = faces["anna/31_female_1.jpg"]
    dataset = load_utkface(write_folder(tmp_path / "faces", faces))
    images = datasets.concatenate_datasets(list(dataset.values()))
    assert sorted(images["file_name"]) == ["31_female_1.jpg", "berta/31_female_1.jpg", "dora/31_female_1.jpg"]


def test_files_that_cannot_be_read_are_left_out_with_their_reason(folder, warnings, monkeypatch):
    """Before the images are compared, or between that and the building of the data."""
    (folder / "30_0_0_20170000000000999.jpg").symlink_to("nothing")
    vanishing, calls = folder / make_name(7), []
    read_bytes = Path.read_bytes

    def read(path):
        if path == vanishing:
            calls.append(path)
            if len(calls) == 2:
                raise FileNotFoundError(2, "No such file or directory")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    dataset = load_utkface(folder)
    assert sum(dataset.num_rows.values()) == 59 and len(calls) == 2
    assert "1 of 61 images is left out" in warnings.text and "No such file or directory" in warnings.text
    assert f"{make_name(7)} is left out: [Errno 2] No such file or directory" in warnings.text
    with pytest.raises(ValueError, match="cannot be opened"):
        load_utkface(folder, strict=True)


def test_damaged_members_of_archives_are_left_out_with_their_reason(tmp_path, images, warnings):
    content = bytearray(Path(write_zip(tmp_path / "faces", images)).read_bytes())
    content[len(content) // 3] ^= 255
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the first is encrypted
    (tmp_path / "faces.zip").write_bytes(content)
    assert sum(load_utkface(tmp_path / "faces.zip").num_rows.values()) == 58
    assert "Bad CRC-32" in warnings.text and "This file is encrypted." in warnings.text


def test_names_that_are_no_text_are_stored(tmp_path, images, warnings):
    folder = Path(write_folder(tmp_path / "faces", images))
    with open(os.fsencode(folder) + b"/30_0_0_caf\xe9.jpg", "wb") as file:
        file.write(make_jpeg(777))
    with open(os.fsencode(folder) + b"/nothing\n\xe9.jpg", "wb") as file:
        file.write(b"")
    names = [name for split in load_utkface(folder).values() for name in split["file_name"]]
    assert "30_0_0_caf\\udce9.jpg" in names and len(names) == 61
    assert "nothing \\udce9.jpg" in warnings.text


def write_odd_pictures(folder: Path) -> list[str]:
    """Writes pictures that `datasets.Image` cannot read as they are, or reads otherwise; returns their names."""
    image, exif = make_image(90), Image.Exif()
    exif[0x0112] = 6
    image.save(folder / "40_0_0_20170116174525125.jpg")
    jpeg = (folder / "40_0_0_20170116174525125.jpg").read_bytes()
    (folder / "40_0_0_20170116174525125.jpg").write_bytes(jpeg[:-2])  # no end
    text = PngInfo()
    text.add_text("key", "text" * 2**19, zip=True)
    image.rotate(20).save(folder / "41_0_0_20170116174525125.png", pnginfo=text)
    deep = np.asarray(image.rotate(40).convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(folder / "42_0_0_20170116174525125.png")
    image.rotate(60).save(folder / "43_0_0_20170116174525125.heic", exif=exif.tobytes())
    image.rotate(80).save(folder / "44_0_0_20170116174525125.jpg", exif=exif)
    image.rotate(100).save(folder / "45_0_0_20170116174525125.gif", save_all=True, append_images=[image])
    return [file.name for file in sorted(folder.glob("4*_0_0_20170116174525125.*"))]


def test_the_loader_reads_what_the_page_reads(folder, warnings):
    pytest.importorskip("pillow_heif")
    names = write_odd_pictures(folder)
    Image.fromarray(np.zeros((48, 48), np.float32)).save(folder / "50_0_0_20170116174525125.tif")
    dataset = load_utkface(folder)
    assert "50_0_0_20170116174525125.tif: The file cannot be read as an image: it holds floats" in warnings.text
    images = datasets.concatenate_datasets(list(dataset.values()))
    assert set(names) <= set(images["file_name"]) and "1 of 67 images" in warnings.text
    processor = AgeGenderImageProcessor(size={"height": 32, "width": 32})
    (batch,) = make_evaluation_dataloader(images, processor, batch_size=99, num_workers=0)
    for name, pixels, row in zip(images["file_name"], batch["pixel_values"], images):
        picture = read_picture(folder / name)
        assert torch.equal(pixels, processor(picture, return_tensors="pt").pixel_values[0])
        assert row["image"].size == picture.size  # that users of the data set see


def test_an_unreadable_file_does_not_shadow_a_good_one_of_the_same_name(tmp_path, images):
    name, data = next(iter(images.items()))
    path = write_nested(tmp_path / "nested", images)
    (path / "a").mkdir()
    (path / "a" / name).write_bytes(b"broken")
    assert contents(load_utkface(path))[name][-1] == np.asarray(Image.open(io.BytesIO(data))).tobytes()


def test_second_use_comes_from_the_cache_and_a_change_is_noticed(folder, warnings):
    first = load_utkface(folder)
    assert load_utkface(folder)["train"].cache_files == first["train"].cache_files
    assert "left out" not in warnings.text
    (folder / make_name(1000)).write_bytes(make_jpeg(1000))
    assert make_name(1000) in contents(load_utkface(folder))


@pytest.mark.slow
def test_real_utkface_has_the_published_splits(utkface_dir):
    dataset = load_utkface(utkface_dir)
    assert dataset.num_rows["train"] + dataset.num_rows["validation"] == 18_796
    assert not set(dataset["train"]["group"]) & set(dataset["validation"]["group"])
    names = {split: "\n".join(sorted(images["file_name"])).encode() for split, images in dataset.items()}
    assert {split: hashlib.sha256(text).hexdigest()[:16] for split, text in names.items()} == SHA256
    for column, tolerance in (("gender", 0.005), ("age", 0.5)):
        means = [np.mean(dataset[split][column]) for split in ("train", "validation")]
        assert abs(means[0] - means[1]) < tolerance
