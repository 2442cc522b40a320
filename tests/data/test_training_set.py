"""The images of a training: what is missing, extra faces without evaluation images, and what identifies them."""

import datasets
import pytest

from data.training_set import hash_labels, load_training_data
from tests.support.faces import make_jpeg, make_name, make_table, write_nested, write_splits


pytestmark = pytest.mark.usefixtures("empty_cache", "fresh_accelerate_state")

LISTED_TEST = "100_1_0_20170112213001988.jpg.chip.jpg"


def load(data_dir, **changes):
    options = {"extra_data": [], "strict": True, "split_seed": None, "validation_share": 0.25, "streaming": False}
    return load_training_data(str(data_dir), **options | changes)


def test_extra_faces_are_those_that_are_not_evaluated(tmp_path, warnings):
    """All 41 images of the data set, of which 10 are validation images and one is a test image, and 20 others."""
    names = [make_name(index) for index in range(40)] + [LISTED_TEST]
    faces = write_nested(tmp_path / "faces", {name: make_jpeg(seed) for seed, name in enumerate(names)})
    extra = write_splits(tmp_path / "extra", faces=make_table(range(41)))
    more = write_splits(tmp_path / "more", faces=make_table(range(100, 120)))
    data = load(faces, extra_data=[str(extra), str(more)])
    assert data.splits.num_rows == {"train": 30, "validation": 10, "test": 1}
    assert "11 of 61 extra images resemble an evaluation image" in warnings.text
    assert len(data.extra) == 50 and set(data.extra["gender"]) == {None}


def test_what_is_missing_is_named(tmp_path):
    faces = write_nested(tmp_path / "faces", {LISTED_TEST: make_jpeg(0)})
    with pytest.raises(ValueError, match=r"faces has no train images, only \['test'\]"):
        load(faces)
    whole = write_splits(tmp_path / "whole", faces=make_table(range(20)))
    with pytest.raises(ValueError, match=r"--extra_data .*faces holds no training images, only \['test'\]"):
        load(whole, extra_data=[str(faces)])


def test_data_are_recognised_by_names_and_labels(tmp_path):
    """In any form and order, but not with another label or name."""
    images = {make_name(index): make_jpeg(index) for index in range(20)}
    first = load(write_nested(tmp_path / "first", images))
    again = load(write_nested(tmp_path / "again", dict(reversed(images.items()))))
    assert first.describe() == again.describe() and first.describe()["extra_sha256"] is None
    other = load(write_nested(tmp_path / "other", images | {make_name(99): make_jpeg(99)}))
    assert other.describe()["train_sha256"] != first.describe()["train_sha256"]
    extra = write_splits(tmp_path / "extra", faces=make_table(range(50, 60)))
    assert load(tmp_path / "first", extra_data=[str(extra)]).describe()["extra_sha256"]

    names = first.splits["train"].select_columns(["file_name", "age_low", "age_high", "gender"])
    assert hash_labels(names) == hash_labels(names.shuffle(seed=1)) == hash_labels(first.splits["train"])
    for change in ({"age_low": 0.0}, {"age_low": 3.0, "age_high": 3.0}, {"gender": None}, {"file_name": "another"}):
        changed = datasets.Dataset.from_list([names[0] | change, *names.select(range(1, len(names)))])
        assert hash_labels(changed.cast(names.features)) != hash_labels(names)
