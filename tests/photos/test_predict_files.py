"""Labelling many pictures: what cannot be read or is no picture stops nothing and is said."""

import os
from pathlib import Path

import pytest
from PIL import Image

from tests.support.picture_sources import write_folder, write_tar, write_zip
from tests.support.predictions import assert_same_rows, list_unreadable


pytestmark = pytest.mark.usefixtures("datasets_cache", "fresh_accelerate_state")


def test_what_cannot_be_read_stops_nothing(run_predict, tmp_path, pictures, expected):
    """Files that are empty, no picture or damaged in an archive."""
    bad = {"a.jpg": b"", "b.png": b"text", "c.heic": b"\0\0\0\x18ftypheic", "d.gif": b"GIF89a"}
    archive = Path(
        write_zip(tmp_path / "photos", bad | {"sub/1.jpg": pictures["sub/1.jpg"], "damaged.jpg": b"x" * 99})
    )
    archive.write_bytes(archive.read_bytes().replace(b"x" * 99, b"y" * 99))
    assert_same_rows(run_predict(str(archive)), [expected[-1] | {"file": "sub/1.jpg"}])
    errors = list_unreadable(tmp_path)
    assert list(errors) == [*bad, "damaged.jpg"]
    assert (
        errors["a.jpg"] == "This file is empty." and "cut off" in errors["c.heic"] and "CRC" in errors["damaged.jpg"]
    )


def test_names_that_are_no_text(run_predict, tmp_path, pictures, expected):
    folder = os.fsencode(tmp_path / "photos")
    os.mkdir(folder)
    with open(folder + b"/caf\xe9\n.jpg", "wb") as file:
        file.write(pictures["sub/1.jpg"])
    wanted = [expected[-1] | {"file": "caf\\udce9\n.jpg"}]
    for output in ("faces.parquet", "faces.csv"):
        assert_same_rows(run_predict(str(tmp_path / "photos"), output=output), wanted)


def test_what_may_not_be_read_or_vanishes_is_listed_and_the_rest_labelled(run_predict, tmp_path, pictures, expected):
    """Also names of patterns, broken links and a pipe, which would block."""
    content = pictures["sub/1.jpg"]
    names = ("sub/1.jpg", "sub/vanishing.jpg", "sub/nosuffix", "sub/2.jpe", "._1.jpg", "__MACOSX/._1.jpg", "Thumbs.db")
    folder = Path(write_folder(tmp_path / "[2019] photos", dict.fromkeys(names, content)))
    (folder / "gone.jpg").symlink_to("nothing")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe.jpg")
    read_bytes = Path.read_bytes

    def read(path):
        if path.name == "vanishing.jpg":
            raise OSError(5, "Input/output error", str(path))
        return read_bytes(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_bytes", read)
        rows = run_predict(str(folder))
    assert_same_rows(rows, [expected[-1] | {"file": f"sub/{name}"} for name in ("1.jpg", "2.jpe", "nosuffix")])
    errors = list_unreadable(tmp_path)
    assert set(errors) == {"gone.jpg", "loop", "sub/vanishing.jpg"}
    assert "No such file" in errors["gone.jpg"] and "Input/output error" in errors["sub/vanishing.jpg"]


def test_what_is_passed_over_is_said(run_predict, tmp_path, pictures, capsys):
    """Whatever holds the files."""
    files = {"a.jpg": pictures["sub/1.jpg"], "sound.mp3": b"x", "notes.txt": b"text", "._a.jpg": b"x"}
    said = "2 other files were passed over, such as "
    for number, write in enumerate((write_folder, write_zip, write_tar)):
        assert len(run_predict(write(tmp_path / "source", files), output=f"{number}.csv")) == 1
        assert said in capsys.readouterr().out
    assert len(run_predict(str(tmp_path / "source" / "*"), output="pattern.csv")) == 1
    assert said in capsys.readouterr().out
    (tmp_path / "source" / "a.jpg").unlink()
    with pytest.raises(ValueError, match=r"source holds no picture\. 2 other files were passed over"):
        run_predict(str(tmp_path / "source"), output="none.csv")


def test_first_pages_are_counted(run_predict, tmp_path, pictures, photo, capsys):
    """Also if the run was interrupted between."""
    folder = tmp_path / "photos"
    write_folder(folder, {"a.jpg": pictures["sub/1.jpg"]})
    for name in ("b.tif", "c.gif"):
        photo.resize((64, 64)).save(folder / name, save_all=True, append_images=[Image.new("RGB", (64, 64))] * 2)
    run_predict(str(folder), "--pictures_per_part", "1")
    assert "Only the first page or frame was used of 2 pictures with several." in capsys.readouterr().out


def test_pattern_whose_beginning_exists(run_predict, tmp_path, pictures, expected):
    folder = write_folder(tmp_path / "[2019] summer", {"1.jpg": pictures["sub/1.jpg"], "2.png": b""})
    rows = run_predict(f"{folder}/*.jpg")
    assert_same_rows(rows, [expected[-1] | {"file": f"{folder}/1.jpg"}])
