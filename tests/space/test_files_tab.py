"""The tab for many photos, without a server."""

import base64
import re
import zipfile

import gradio as gr
import pytest
from PIL import Image

import app
from photos.reading import NOT_A_PICTURE
from space import files_tab
from space.inference import NO_FILES
from tests.support.models import FixedFaces, make_face


@pytest.fixture
def uploads(own_folder) -> list[dict]:
    Image.new("RGB", (60, 40)).save(own_folder / "photo.png")
    (own_folder / "notes.jpg").write_text("dear diary")
    with zipfile.ZipFile(own_folder / "more.zip", "w") as archive:
        for name in ("one.png", "two.png"):
            archive.write(own_folder / "photo.png", name)
    return [{"path": str(own_folder / name)} for name in ("photo.png", "notes.jpg", "more.zip")]


def test_table_has_a_line_for_each_face_and_each_bad_file(uploads):
    pipe = FixedFaces(make_face(0, 0, 9, 9), make_face(20, 0, 29, 9))
    rows, sentence, link = list(files_tab.fill_table(pipe, uploads))[-1]
    assert len(rows) == 7 and all(len(row) == len(files_tab.HEADERS) for row in rows)
    assert rows[1] == ["photo.png", 2, 31, "24–43", "female, 98%"]
    assert rows[2] == [f"notes.jpg: {NOT_A_PICTURE}", "", "", "", ""]
    assert sentence == "4 files, 6 faces, 1 could not be read." and "download='faces.csv'" in link


def test_files_in_an_archive_that_are_no_pictures_have_one_line(own_folder):
    Image.new("RGB", (60, 40)).save(own_folder / "photo.png")
    with zipfile.ZipFile(own_folder / "more.zip", "w") as archive:
        archive.write(own_folder / "photo.png", "one.png")
        archive.writestr("notes.txt", "dear diary")
    pipe = FixedFaces(make_face(0, 0, 9, 9))
    rows, sentence, _ = list(files_tab.fill_table(pipe, [{"path": str(own_folder / "more.zip")}]))[-1]
    assert rows[1][0] == "more.zip: 1 other file was passed over, such as notes.txt."
    assert len(rows) == 2 and sentence == "1 file, 1 face."


def test_table_fills_while_it_works(monkeypatch, uploads):
    monkeypatch.setattr(files_tab, "SECONDS_BETWEEN_UPDATES", 0.0)
    updates = list(files_tab.fill_table(FixedFaces(make_face(0, 0, 9, 9)), uploads))
    assert [len(rows) for rows, _, _ in updates] == [1, 2, 3, 4, 4]
    assert updates[0][1] == "1 of 4 files"
    # What is there can be saved at any time, also when the rest is cancelled.
    tables = [base64.b64decode(re.search("base64,([^']+)'", link).group(1)).decode() for _, _, link in updates]
    assert [len(table.splitlines()) for table in tables] == [2, 3, 4, 5, 5]


def test_picture_without_a_face_says_so(uploads):
    rows, sentence, _ = list(files_tab.fill_table(FixedFaces(), uploads[:1]))[-1]
    assert rows == [["photo.png: no face found", "", "", "", ""]] and sentence == "1 file, 0 faces."


def test_gender_near_one_half_is_unsure_in_the_table_and_a_number_in_the_csv(uploads):
    face = make_face(0, 0, 9, 9) | {"gender_score": 0.59}
    rows, sentence, link = list(files_tab.fill_table(FixedFaces(face), uploads[:1]))[-1]
    assert rows == [["photo.png", 1, 31, "24–43", "unsure (female, 59%)"]] and sentence == "1 file, 1 face."
    assert "female,0.59," in base64.b64decode(re.search("base64,([^']+)'", link).group(1)).decode()


def test_bound_on_a_file_is_that_of_the_server():
    size, unit = re.fullmatch(r"(\d+)(mb)", app.MAX_UPLOAD).groups()
    assert f"{size} {unit.upper()} a file" in files_tab.HELP


def test_address_in_the_tab_is_no_file(own_folder):
    with pytest.raises(gr.Error, match=NO_FILES):
        next(files_tab.fill_table(None, [{"path": "https://a.example/b.jpg"}]))
