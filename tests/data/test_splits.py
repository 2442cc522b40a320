"""Splits: drawn by groups and strata, listed for UTKFace, and never with near-duplicates on two sides."""

import shutil

import numpy as np
import pytest

from data.splits import draw_calibration_half, draw_groups, read_list
from data.utkface import load_utkface
from tests.support.faces import make_jpeg, make_name, write_nested


pytestmark = pytest.mark.usefixtures("empty_cache")


def test_drawn_images_have_the_mix_of_the_whole():
    generator = np.random.default_rng(0)
    strata = generator.choice(["a", "b", "c"], 3000, p=[0.7, 0.25, 0.05]).tolist()
    drawn = draw_groups(strata, np.arange(3000), range(3000), 0.1, seed=0)
    assert abs(len(drawn) - 300) <= 1
    for stratum in "abc":
        expected = 0.1 * strata.count(stratum)
        assert abs(sum(strata[index] == stratum for index in drawn) - expected) <= 1.5


def test_no_group_lies_in_two_splits(tmp_path):
    """Of 150 images each comes two or three times, with other labels, as in UTKFace."""
    images = {make_name(index): make_jpeg(index % 150, quality=95 - index // 150) for index in range(400)}
    dataset = load_utkface(write_nested(tmp_path / "copies", images), validation_share=0.2)
    groups = {name: set(split["group"]) for name, split in dataset.items()}
    assert not groups["train"] & groups["validation"]
    assert len(groups["train"] | groups["validation"]) == 150
    assert 70 <= len(dataset["validation"]) <= 90


def test_listed_test_images_and_their_near_duplicates_leave_training(folder):
    test_name, excluded_name = (sorted(read_list(split))[0] for split in ("test", "excluded"))
    (folder / test_name).write_bytes(make_jpeg(500))
    (folder / excluded_name).write_bytes(make_jpeg(501))
    (folder / make_name(502)).write_bytes(make_jpeg(500, quality=70))
    dataset = load_utkface(folder)
    assert dataset["test"]["file_name"][:] == [test_name]
    names = set(dataset["train"]["file_name"]) | set(dataset["validation"]["file_name"])
    assert not names & {test_name, excluded_name, make_name(502)}
    assert len(names) == 60


def test_listed_validation_images_are_used_unless_a_seed_is_given(tmp_path):
    listed, calibrating = (sorted(read_list(name)) for name in ("validation", "calibration"))
    names = [*listed[:6], *calibrating[:6], *(make_name(index) for index in range(30))]
    path = write_nested(tmp_path / "faces", {name: make_jpeg(seed) for seed, name in enumerate(dict.fromkeys(names))})
    validation = load_utkface(path)["validation"]
    assert set(validation["file_name"]) == set(names[:12])
    chosen = np.array(validation["file_name"])[draw_calibration_half(validation)]
    assert set(chosen) == set(names[:12]) & set(calibrating)
    drawn = load_utkface(path, seed=0)["validation"]
    assert set(drawn["file_name"]) != set(names[:12]) and len(drawn) == 4


def test_other_faces_get_a_seeded_test_split(tmp_path, images):
    path = write_nested(
        tmp_path / "own", {f"{20 + i % 50}_{i % 2}_0_me{i}.jpg": data for i, data in enumerate(images.values())}
    )
    names = [
        {name: set(split["file_name"]) for name, split in load_utkface(path, seed=seed).items()} for seed in (1, 1, 2)
    ]
    assert len(names[0]["test"]) == 6 and 5 <= len(names[0]["validation"]) <= 6
    assert names[0] == names[1] and names[0]["test"] != names[2]["test"]


def test_the_calibrating_half_is_the_same_in_any_order_and_divides_no_group(folder):
    """Each image comes twice, so that all groups have two."""
    for index, file in enumerate(sorted(folder.glob("*.jpg"))):
        shutil.copy(file, folder / f"{file.name.split('_')[0]}_0_0_2018{index:013d}.jpg.chip.jpg")
    validation = load_utkface(folder, validation_share=0.5)["validation"]
    halves = [
        set(np.array(images["file_name"])[draw_calibration_half(images)])
        for images in (validation, validation.shuffle(seed=1))
    ]
    assert halves[0] == halves[1] and len(halves[0]) == pytest.approx(len(validation) / 2, abs=3)
    groups = dict(zip(validation["file_name"], validation["group"]))
    own = {groups[name] for name in halves[0]}
    assert own.isdisjoint({groups[name] for name in groups.keys() - halves[0]})
