"""A checkpoint goes on with the images that it was made with, in whatever form they come, and with no others."""

import json
import shutil
from pathlib import Path

import datasets
import pytest

from data.training_set import hash_content
from data.utkface import load_utkface
from tests.support.picture_sources import make_table, write_zip
from tests.support.training import draw_face, write_table
from training.checkpoints import DESCRIPTION, find_checkpoints


pytestmark = pytest.mark.usefixtures("datasets_cache", "fresh_accelerate_state")

LATEST = {"num_train_epochs": 1, "resume_from_checkpoint": "latest"}
OTHER_IMAGES = "--data_dir had other images, other labels or another split"


def read_pictures(faces: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(faces.iterdir())}


def write_labelled_table(path: Path, pictures: dict[str, bytes], years: int = 0) -> str:
    """A Parquet file with the labels in UTKFace's names as columns, and so many years added to each age."""
    table = make_table(pictures)
    labels = [[int(value) for value in name.split("_")[:2]] for name in pictures]
    table = table.add_column("age", [float(age + years) for age, _ in labels])
    table.add_column("gender", [gender for _, gender in labels]).to_parquet(path.with_suffix(".parquet"))
    return str(path.with_suffix(".parquet"))


def write_mixed_zip(path: Path, pictures: dict[str, bytes]) -> str:
    """Subfolders, and another order than that of the names."""
    return write_zip(path, {f"{name[-12]}/{name}": content for name, content in reversed(pictures.items())})


@pytest.mark.parametrize("write", [write_mixed_zip, write_labelled_table])
def test_the_same_images_in_another_form_go_on(run_train, faces, one_epoch, tmp_path, capsys, write):
    shutil.copytree(one_epoch, tmp_path / "run")
    run_train(tmp_path / "run", data_dir=write(tmp_path / "faces", read_pictures(faces)), **LATEST)
    assert "Resumed from" in capsys.readouterr().out


def test_other_pictures_under_the_same_names_are_refused(run_train, faces, one_epoch, tmp_path):
    others = tmp_path / "others"
    others.mkdir()
    for seed, file in enumerate(sorted(faces.iterdir())):
        draw_face(60, 0, seed=900 + seed).save(others / file.name, quality=95)
    with pytest.raises(ValueError, match=f"checkpoint_0 is of another training: {OTHER_IMAGES}"):
        run_train(one_epoch, data_dir=others, **LATEST)


def test_other_ages_of_the_same_pictures_are_refused(run_train, faces, one_epoch, tmp_path):
    """Five years more: nobody changes sides, since the draw is by steps of five years."""
    table = write_labelled_table(tmp_path / "older", read_pictures(faces), years=5)
    with pytest.raises(ValueError, match=OTHER_IMAGES):
        run_train(one_epoch, data_dir=table, **LATEST)


def write_nameless_table(folder: Path, seed: int) -> Path:
    """40 images that are called train-0 and so on."""
    return write_table(
        folder,
        [draw_face(20 + i, 0, seed=seed + i) for i in range(40)],
        [20.0 + i * (1 + seed) % 50 for i in range(40)],
    )


def test_another_table_without_names_is_refused(run_train, tmp_path):
    run_train(tmp_path / "run", data_dir=write_nameless_table(tmp_path / "first", seed=0), num_train_epochs=1)
    with pytest.raises(ValueError, match=OTHER_IMAGES):
        run_train(tmp_path / "run", data_dir=write_nameless_table(tmp_path / "second", seed=900), **LATEST)


def test_other_extra_faces_are_refused(run_train, tmp_path):
    """As many of the same ages, in a file of the same name."""
    first, second = (
        write_table(tmp_path / name, [draw_face(40, 0, seed=seed + i) for i in range(20)], [40.0] * 20)
        for name, seed in (("first", 500), ("second", 600))
    )
    run_train(tmp_path / "run", extra_data=first, num_train_epochs=1)
    with pytest.raises(ValueError, match="checkpoint_0 is of another training: --extra_data had other images. Resume"):
        run_train(tmp_path / "run", extra_data=second, **LATEST)


def test_a_checkpoint_of_before_there_were_these_hashes_goes_on(run_train, one_epoch, tmp_path, capsys):
    shutil.copytree(one_epoch, tmp_path / "run")
    file = find_checkpoints(tmp_path / "run")[0] / DESCRIPTION
    description = json.loads(file.read_text())
    names = [name for name in description["images"] if name.endswith("_content_sha256")]
    for name in names:
        del description["images"][name]
    file.write_text(json.dumps(description))
    run_train(tmp_path / "run", **LATEST)
    assert "Resumed from" in capsys.readouterr().out and len(names) == 2


def test_the_hash_of_a_stream_depends_on_names_and_labels(faces):
    images = load_utkface(faces, validation_share=0.25)["train"]
    names = images.select_columns(["file_name", "age", "gender"])
    assert hash_content(names) == hash_content(names.shuffle(seed=1)) != hash_content(images)
    for change in ({"age": 3.0}, {"gender": None}, {"file_name": "another"}):
        changed = names.map(lambda row, index: change if index == 7 else {}, with_indices=True)
        assert hash_content(changed) != hash_content(names)
    assert isinstance(images, datasets.Dataset) and images[0]["image"].size == (64, 64)
