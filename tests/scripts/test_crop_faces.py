"""Photos become crops that train.py takes, with their labels."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from data.sources import Source
from scripts import crop_faces


ASTRONAUT = Path(__file__).parents[2] / "assets" / "astronaut.jpg"


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(ASTRONAUT, folder / "36_female_eileen.jpg")
    Image.new("RGB", (64, 64)).save(folder / "40_male_nobody.png")
    (folder / "22_male_text.jpg").write_text("no picture")
    return folder


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["crop_faces", *map(str, arguments)])
    crop_faces.main()


def test_faces_are_cropped_under_the_names_of_their_photos(photos, tmp_path, monkeypatch, capsys):
    astronaut = Image.open(ASTRONAUT)
    pair = Image.new("RGB", (2 * astronaut.width, astronaut.height))
    for left in (0, astronaut.width):
        pair.paste(astronaut, (left, 0))
    pair.save(photos / "36_female_twice.jpg")
    run(monkeypatch, photos, "--output_dir", tmp_path / "faces")
    assert {path.name for path in (tmp_path / "faces").iterdir()} == {"36_female_eileen.jpg", "36_female_twice.jpg"}
    assert Image.open(tmp_path / "faces" / "36_female_eileen.jpg").size == (200, 200)
    printed = capsys.readouterr().out
    assert "Wrote 2 faces to" in printed and "36_female_twice.jpg: 2 faces, of which the largest is taken." in printed
    for count in ("1 photo without a face.", "1 photo unreadable.", "1 photo with several faces."):
        assert count in printed


def test_labels_of_a_table_go_with_the_crops(photos, tmp_path, monkeypatch):
    (photos / "36_female_eileen.jpg").rename(photos / "eileen.jpg")
    (photos / "validation.csv").write_text("file_name,age,gender\neileen.jpg,36,woman\n")
    run(monkeypatch, photos, "--output_dir", tmp_path / "faces")
    (entry,) = Source(tmp_path / "faces").entries()
    assert (entry.path, entry.labels["age"], entry.labels["gender"]) == ("validation/eileen.jpg", "36", "woman")
    assert entry.split == "validation"
    (photos / "validation.csv").unlink()  # the labels are in the names now
    (photos / "eileen.jpg").rename(photos / "36_female_eileen.jpg")
    run(monkeypatch, photos, "--output_dir", tmp_path / "faces", "--overwrite")
    assert not (tmp_path / "faces" / "metadata.csv").exists()


def test_crops_stay_in_the_output_folder(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "photos")
    run(monkeypatch, "../photos/*eileen.jpg", "--output_dir", tmp_path / "faces")
    (crop,) = (tmp_path / "faces").rglob("*.jpg")
    assert crop.parent.name == "photos"


def test_nothing_is_written_without_a_face(photos, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="No face was found"):
        run(monkeypatch, photos / "40_male_nobody.png", "--output_dir", tmp_path / "faces")
    assert not (tmp_path / "faces").exists()
