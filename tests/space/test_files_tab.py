"""The tab for many photos, without a server."""

import base64
import csv
import io
import re
import zipfile

import gradio as gr
import pytest
from PIL import Image

import app
from photos.reading import NOT_A_PICTURE
from photos.wording import describe_counts
from space import files_tab
from tests.support.models import AT_LEAST, FixedFaces, make_face


@pytest.fixture
def uploads(own_folder) -> list[dict]:
    Image.new("RGB", (60, 40)).save(own_folder / "photo.png")
    (own_folder / "notes.jpg").write_text("dear diary")
    with zipfile.ZipFile(own_folder / "more.zip", "w") as archive:
        for name in ("one.png", "two.png"):
            archive.write(own_folder / "photo.png", name)
    return [{"path": str(own_folder / name)} for name in ("photo.png", "notes.jpg", "more.zip")]


def read_csv(table: dict) -> str:
    return base64.b64decode(re.search("base64,([^']+)'", table["download"]).group(1)).decode()


def read_names(lines: list[dict]) -> list[str]:
    return [line["name"] for line in lines]


def test_table_has_a_line_for_each_face_and_each_bad_file(uploads):
    pipe = FixedFaces(make_face(0, 0, 9, 9), make_face(20, 0, 29, 9))
    sentence, table = list(files_tab.fill_table(pipe, uploads))[-1]
    failures, notes, faceless, found = table["groups"]
    assert read_names(failures) == ["notes.jpg"] and failures[0]["text"] == NOT_A_PICTURE and failures[0]["failed"]
    assert read_names(found) == [name for name in ("photo.png", "one.png", "two.png") for _ in range(2)]
    assert [found[1][key] for key in ("face", "age", "range", "gender")] == [2, "31", "24–43", "female, 98 %"]
    assert pipe.options["age_thresholds"] == [13, 16, 18, 21, 25] and found[1]["at_least"] == "82 %"
    assert notes == faceless == []
    assert sentence == "4 pictures: 6 faces, 1 unreadable."
    # In the CSV the files keep their order, as in predict.py.
    rows = list(csv.DictReader(io.StringIO(read_csv(table))))
    assert [row["file"] for row in rows[2:4]] == ["notes.jpg", "one.png"]
    assert float(rows[3]["age_at_least_18"]) == round(AT_LEAST[18], 4) and rows[2]["age_at_least_18"] == ""


def test_thumbnail_is_a_small_picture_and_no_file(uploads, own_folder):
    before = sorted(own_folder.rglob("*"))
    _, table = list(files_tab.fill_table(FixedFaces(make_face(0, 0, 9, 9)), uploads[:1]))[-1]
    [line] = table["groups"][-1]
    content = base64.b64decode(line["image"].removeprefix("data:image/webp;base64,"))
    assert Image.open(io.BytesIO(content)).size == (files_tab.THUMBNAIL_SIDE,) * 2 and len(content) < 3000
    assert line["face"] is None and sorted(own_folder.rglob("*")) == before


def test_files_in_an_archive_that_are_no_pictures_have_one_line(own_folder):
    Image.new("RGB", (60, 40)).save(own_folder / "photo.png")
    with zipfile.ZipFile(own_folder / "more.zip", "w") as archive:
        archive.write(own_folder / "photo.png", "one.png")
        archive.writestr("notes.txt", "dear diary")
    pipe = FixedFaces(make_face(0, 0, 9, 9))
    sentence, table = list(files_tab.fill_table(pipe, [{"path": str(own_folder / "more.zip")}]))[-1]
    failures, [note], _, [_] = table["groups"]
    assert note["text"] == "1 other file was passed over, such as notes.txt." and not note["failed"]
    assert failures == [] and sentence == "1 picture: 1 face."


def test_table_fills_while_it_works(monkeypatch, uploads):
    monkeypatch.setattr(files_tab, "SECONDS_BETWEEN_UPDATES", 0.0)
    updates = list(files_tab.fill_table(FixedFaces(make_face(0, 0, 9, 9)), uploads))
    assert [sentence.split(" <")[0] for sentence, _ in updates[:-1]] == [f"{done} of 4 files" for done in (1, 2, 3, 4)]
    assert "<progress value='1' max='4'>" in updates[0][0]
    # What is there can be saved at any time, also when the rest is cancelled.
    assert [len(read_csv(table).splitlines()) for _, table in updates] == [2, 3, 4, 5, 5]


def test_picture_without_a_face_says_so(uploads):
    sentence, table = list(files_tab.fill_table(FixedFaces(), uploads[:1]))[-1]
    _, _, [line], _ = table["groups"]
    assert line["text"] == files_tab.NO_FACE and line["image"] and sentence == "1 picture: 0 faces, 1 without one."


def test_gender_near_one_half_is_unsure_in_the_table_and_a_number_in_the_csv(uploads):
    face = make_face(0, 0, 9, 9) | {"gender_score": 0.59}
    _, table = list(files_tab.fill_table(FixedFaces(face), uploads[:1]))[-1]
    assert table["groups"][-1][0]["gender"] == "unsure (female, 59 %)" and "female,0.59," in read_csv(table)


def test_counts_are_in_the_singular_and_plural():
    assert describe_counts(1, 1, 0, 0) == "1 picture: 1 face"
    assert describe_counts(1200, 2, 3, 1) == "1,200 pictures: 2 faces, 3 without one, 1 unreadable"


def test_bound_on_a_file_is_that_of_the_server():
    size, unit = re.fullmatch(r"(\d+)(mb)", app.MAX_UPLOAD).groups()
    assert f"{size} {unit.upper()} a file" in files_tab.HELP


def test_address_in_the_tab_is_no_file(own_folder):
    with pytest.raises(gr.Error, match=files_tab.NO_FILES):
        next(files_tab.fill_table(None, [{"path": "https://a.example/b.jpg"}]))
