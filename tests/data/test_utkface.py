"""The loader: every form of UTKFace, malformed files, splits without leaks."""

import io
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from data import near_duplicates
from data.labels import check_labels, parse_file_name
from data.near_duplicates import group_near_duplicates, thumbnail
from data.sources import Source
from data.splits import draw_calibration_half, draw_groups, read_list
from data.transforms import to_model_inputs
from data.utkface import load_utkface
from scripts.plot_dataset import draw_figures
from tests.support.picture_sources import write_tar, write_zip


SPLITS_DIR = Path(__file__).parents[2] / "splits"
MALFORMED = "39_1_20170116174525125.jpg.chip.jpg"


def make_jpeg(seed: int, quality: int = 95, side: int = 48) -> bytes:
    """A picture of its own for each seed: smooth enough to stay a near-duplicate under JPEG, unlike all others."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(blocks).resize((side, side), Image.Resampling.BILINEAR).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def make_name(index: int) -> str:
    return f"{1 + index % 90}_{index % 2}_{index % 5}_2017{index:013d}.jpg.chip.jpg"


@pytest.fixture(autouse=True)
def quiet_cache(tmp_path, monkeypatch):
    """Each test builds into a cache of its own, and sees the loader's warnings."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.logging.enable_propagation()
    yield
    datasets.logging.disable_propagation()


@pytest.fixture
def faces() -> dict[str, bytes]:
    """60 images as (name, bytes)."""
    return {make_name(index): make_jpeg(index) for index in range(60)}


@pytest.fixture
def folder(tmp_path, faces) -> Path:
    path = tmp_path / "faces"
    path.mkdir()
    for name, data in faces.items():
        (path / name).write_bytes(data)
    return path


def write_nested(path: Path, faces: dict) -> Path:
    for index, (name, data) in enumerate(faces.items()):
        part = path / f"part{index % 3}"
        part.mkdir(parents=True, exist_ok=True)
        (part / name).write_bytes(data)
    return path


def within(write: Callable[[Path, dict], str]) -> Callable[[Path, dict], str]:
    """The same, with all of them in a folder, as UTKFace's archive has them."""
    return lambda path, faces: write(path, {f"UTKFace/{name}": data for name, data in faces.items()})


def write_parquet(path: Path, faces: dict) -> Path:
    rows = [
        {"image": {"bytes": data, "path": name}, "file_name": name} | parse_file_name(name)
        for name, data in faces.items()
    ]
    path.mkdir()
    datasets.Dataset.from_list(rows).cast_column("image", datasets.Image()).to_parquet(path / "faces.parquet")
    return path


def contents(dataset: datasets.DatasetDict) -> dict:
    """Everything that a form of the data could change, by file name."""
    return {
        row["file_name"]: (name, row["age"], row["gender"], row["race"], np.asarray(row["image"]).tobytes())
        for name, split in dataset.items()
        for row in split
    }


@pytest.mark.parametrize("write", [write_nested, within(write_tar), within(write_zip), write_parquet])
def test_every_form_gives_the_same_data_and_splits(tmp_path, folder, faces, write):
    """In whatever order its images come: here backwards."""
    expected = contents(load_utkface(folder))
    assert len(expected) == 60
    other = load_utkface(write(tmp_path / "other", dict(sorted(faces.items(), reverse=True))))
    assert contents(other) == expected


def test_calibrating_half_is_the_same_in_any_order_and_divides_no_group(folder):
    """Each image twice, so that all groups have two."""
    for index, file in enumerate(sorted(folder.iterdir())):
        shutil.copy(file, folder / f"{file.name.split('_')[0]}_0_0_2018{index:013d}.jpg.chip.jpg")
    validation = load_utkface(folder, validation_share=0.5)["validation"]
    shuffled = validation.shuffle(seed=1)
    halves = [
        {name for name, chosen in zip(images["file_name"], draw_calibration_half(images)) if chosen}
        for images in (validation, shuffled)
    ]
    assert halves[0] == halves[1] and len(halves[0]) == pytest.approx(len(validation) / 2, abs=3)
    groups = dict(zip(validation["file_name"], validation["group"]))
    own = {groups[name] for name in halves[0]}
    assert own.isdisjoint({groups[name] for name in groups.keys() - halves[0]})


def test_listed_validation_images_are_taken_unless_a_seed_is_given(tmp_path):
    listed, calibrating = (sorted(read_list(name)) for name in ("validation", "calibration"))
    names = [*listed[:6], *calibrating[:6], *(make_name(index) for index in range(30))]
    path = tmp_path / "faces"
    path.mkdir()
    for seed, name in enumerate(dict.fromkeys(names)):
        (path / name).write_bytes(make_jpeg(seed))
    validation = load_utkface(path)["validation"]
    assert set(validation["file_name"]) == set(names[:12])
    half = draw_calibration_half(validation)
    assert {name for name, chosen in zip(validation["file_name"], half) if chosen} == set(names[:12]) & set(
        calibrating
    )
    drawn = load_utkface(path, seed=0)["validation"]
    assert set(drawn["file_name"]) != set(names[:12]) and len(drawn) == 4


def test_labels_come_from_the_name(folder):
    dataset = load_utkface(folder)
    row = next(row for split in dataset.values() for row in split if row["file_name"] == make_name(33))
    assert (row["age"], row["gender"], row["race"]) == (34, 1, 3)
    assert dataset["train"].features["gender"].names == ["male", "female"]
    assert dataset["train"].features["race"].names == ["White", "Black", "Asian", "Indian", "Others"]


def test_published_splits_carry_over(tmp_path, faces):
    path = tmp_path / "published"
    path.mkdir()
    rows = [{"image": {"bytes": data, "path": name}, "age": 30, "file_name": name} for name, data in faces.items()]
    for split, part in (("train", rows[:40]), ("validation", rows[40:50]), ("test", rows[50:])):
        table = datasets.Dataset.from_list(part).cast_column("image", datasets.Image())
        table.to_parquet(path / f"{split}-00000-of-00001.parquet")
    dataset = load_utkface(path)
    assert dataset.num_rows == {"train": 40, "validation": 10, "test": 10}
    assert dataset["train"][0]["gender"] is None and dataset["train"][0]["age"] == 30


def test_unusable_images_are_counted_named_and_skipped(folder, caplog):
    good = next(iter(folder.iterdir())).read_bytes()
    unusable = {
        MALFORMED: good,
        "130_0_0_20170116174525125.jpg": good,
        "30_2_0_20170116174525125.jpg": good,
        "30_0_5_20170116174525125.jpg": good,
        "31_0_0_20170116174525125.jpg": good[: len(good) // 2],
        "32_0_0_20170116174525125.jpg": b"",
        "33_0_0_20170116174525125.jpg": b"<html>not found</html>",
    }
    for name, data in unusable.items():
        (folder / name).write_bytes(data)
    with caplog.at_level(logging.WARNING):
        dataset = load_utkface(folder)
    assert sum(dataset.num_rows.values()) == 60
    assert "7 of 67 images are left out" in caplog.text
    for name in unusable:
        assert name in caplog.text


def test_strict_raises_at_an_unusable_image(folder):
    (folder / MALFORMED).write_bytes(make_jpeg(1000))
    with pytest.raises(ValueError, match=MALFORMED):
        load_utkface(folder, strict=True)


def test_an_unreadable_file_does_not_shadow_a_good_one_of_the_same_name(tmp_path, faces):
    name, data = next(iter(faces.items()))
    path = write_nested(tmp_path / "nested", faces)
    (path / "a").mkdir()
    (path / "a" / name).write_bytes(b"broken")
    assert contents(load_utkface(path))[name][-1] == np.asarray(Image.open(io.BytesIO(data))).tobytes()


def test_clear_errors_for_what_is_no_data(tmp_path, folder, monkeypatch):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no usable image"):
        load_utkface(tmp_path / "empty")
    (tmp_path / "notes.txt").write_text("no archive")
    with pytest.raises(ValueError, match=r"notes\.txt is neither"):
        load_utkface(tmp_path / "notes.txt")
    with pytest.raises(ValueError, match="is no file or folder here"):
        load_utkface(tmp_path / "missing")
    archive = write_tar(tmp_path / "whole", {file.name: file.read_bytes() for file in folder.iterdir()})
    (tmp_path / "cut.tar.gz").write_bytes(Path(archive).read_bytes()[:20_000])
    with pytest.raises(ValueError, match="is damaged"):
        load_utkface(tmp_path / "cut.tar.gz")
    table = tmp_path / "table"
    table.mkdir()
    datasets.Dataset.from_dict({"picture": [1], "age": [2]}).to_parquet(table / "data.parquet")
    with pytest.raises(ValueError, match="lacks .*image"):
        load_utkface(table)


def test_second_use_comes_from_the_cache_and_a_change_is_noticed(folder):
    first = load_utkface(folder)
    file = first["train"].cache_files[0]["filename"]
    built = Path(file).stat().st_mtime_ns
    assert contents(load_utkface(folder)) == contents(first)
    assert Path(file).stat().st_mtime_ns == built
    (folder / make_name(1000)).write_bytes(make_jpeg(1000))
    assert make_name(1000) in contents(load_utkface(folder))


@pytest.mark.parametrize("block_cosines", [2**25, 180])
def test_near_duplicates_are_grouped_and_nothing_else(monkeypatch, block_cosines):
    monkeypatch.setattr(near_duplicates, "BLOCK_COSINES", block_cosines)
    originals = [make_jpeg(seed) for seed in range(20)]
    copies = [make_jpeg(seed, quality=40, side=40) for seed in range(5)]
    groups = group_near_duplicates(np.stack([thumbnail(data) for data in originals + copies]))
    assert groups[:5].tolist() == groups[20:].tolist()
    assert len(set(groups.tolist())) == 20


def test_a_blank_picture_is_nobodys_duplicate():
    stream = io.BytesIO()
    Image.new("RGB", (48, 48), "grey").save(stream, "PNG")
    blank = thumbnail(stream.getvalue())
    assert np.isfinite(blank).all()
    assert len(set(group_near_duplicates(np.stack([blank, blank, thumbnail(make_jpeg(1))])))) == 3


def test_no_group_lies_in_two_splits(tmp_path):
    """Of 150 images each stands twice or three times, with other labels, as in UTKFace."""
    faces = {make_name(index): make_jpeg(index % 150, quality=95 - index // 150) for index in range(400)}
    path = write_nested(tmp_path / "copies", faces)
    dataset = load_utkface(path, validation_share=0.2)
    groups = {name: set(split["group"]) for name, split in dataset.items()}
    assert not groups["train"] & groups["validation"]
    assert len(groups["train"] | groups["validation"]) == 150
    assert 70 <= len(dataset["validation"]) <= 90


def test_listed_test_images_and_their_likenesses_leave_training(folder):
    test_name = (SPLITS_DIR / "utkface_test.txt").read_text().split()[0]
    excluded_name = (SPLITS_DIR / "utkface_excluded.txt").read_text().split()[0]
    (folder / test_name).write_bytes(make_jpeg(500))
    (folder / excluded_name).write_bytes(make_jpeg(501))
    (folder / make_name(502)).write_bytes(make_jpeg(500, quality=70))
    dataset = load_utkface(folder)
    assert dataset["test"]["file_name"][:] == [test_name]
    names = set(dataset["train"]["file_name"]) | set(dataset["validation"]["file_name"])
    assert not names & {test_name, excluded_name, make_name(502)}
    assert len(names) == 60


def test_other_peoples_faces_get_a_seeded_test_split(tmp_path, faces):
    path = write_nested(
        tmp_path / "own", {f"{20 + i % 50}_{i % 2}_0_me{i}.jpg": d for i, d in enumerate(faces.values())}
    )
    dataset = load_utkface(path, seed=1)
    assert dataset.num_rows["test"] == 6 and 5 <= dataset.num_rows["validation"] <= 6
    assert contents(load_utkface(path, seed=1)) == contents(dataset)
    other = load_utkface(path, seed=2)
    assert set(other["test"]["file_name"]) != set(dataset["test"]["file_name"])


def test_the_drawn_images_have_the_mix_of_the_whole():
    generator = np.random.default_rng(0)
    strata = generator.choice(["a", "b", "c"], 3000, p=[0.7, 0.25, 0.05]).tolist()
    drawn = draw_groups(strata, np.arange(3000), range(3000), 0.1, seed=0)
    assert abs(len(drawn) - 300) <= 1
    for stratum in "abc":
        expected = 0.1 * strata.count(stratum)
        assert abs(sum(strata[index] == stratum for index in drawn) - expected) <= 1.5


@pytest.mark.parametrize("labels", [{"age": -1}, {"age": 121}, {"age": 5, "gender": 2}, {"age": 5, "race": "Martian"}])
def test_impossible_labels_are_refused(labels):
    with pytest.raises(ValueError, match=str(list(labels.values())[-1])):
        check_labels(labels)


def test_labels_may_be_names_and_may_be_missing():
    assert check_labels({"age": 3, "gender": "female", "race": None}) == {"age": 3, "gender": 1, "race": None}
    assert check_labels({"age": None, "gender": -1}) == {"age": None, "gender": None, "race": None}


def test_model_inputs_mark_missing_labels():
    from image_processing_agegender import AgeGenderImageProcessor

    processor = AgeGenderImageProcessor(size={"height": 32, "width": 32})
    rows = {"image": [Image.new("RGB", (50, 40), "white")] * 2, "age": [None, 7.0], "gender": [1, None]}
    inputs = to_model_inputs(processor, do_normalize=False)(rows)
    assert inputs["pixel_values"].shape == (2, 3, 32, 32) and inputs["pixel_values"].max() == 1
    assert inputs["age_labels"].isnan().tolist() == [True, False]
    assert inputs["gender_labels"].tolist() == [1, -100]


def test_figures_are_drawn(tmp_path, folder):
    for file in draw_figures(load_utkface(folder), tmp_path / "figures"):
        with Image.open(file) as image:
            assert image.width > 500 and len(set(image.convert("L").tobytes())) > 50


def test_source_fingerprint_follows_name_size_and_date(folder):
    before = Source(folder).fingerprint()
    assert Source(folder).fingerprint() == before
    file = next(iter(sorted(folder.iterdir())))
    file.rename(file.with_name("99_0_0_20170116174525125.jpg"))
    assert Source(folder).fingerprint() != before


def test_real_utkface(utkface_dir):
    """The training part of UTKFace as published: what the README says of it."""
    dataset = load_utkface(utkface_dir)
    assert dataset.num_rows["train"] + dataset.num_rows["validation"] == 18_796
    assert not set(dataset["train"]["group"]) & set(dataset["validation"]["group"])
    for column, tolerance in (("gender", 0.005), ("age", 0.5)):
        means = [np.mean(dataset[split][column]) for split in ("train", "validation")]
        assert abs(means[0] - means[1]) < tolerance
