"""The tab for many photos, without a server."""

import base64
import io
import re
import zipfile

import gradio as gr
import pytest
from PIL import Image

import app
from photos.reading import NOT_A_PICTURE
from space import files_tab as files_page
from space.inference import NO_FILES, answer_files, predict_files
from tests.support.models import FixedFaces, make_face


@pytest.fixture
def uploads(monkeypatch, tmp_path) -> list[dict]:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    Image.new("RGB", (60, 40)).save(tmp_path / "photo.png")
    (tmp_path / "notes.jpg").write_text("dear diary")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        for name in ("one.png", "two.png"):
            archive.write(tmp_path / "photo.png", name)
    return [{"path": str(tmp_path / name)} for name in ("photo.png", "notes.jpg", "more.zip")]


def test_table_has_a_line_for_each_face_and_each_bad_file(uploads):
    pipe = FixedFaces(make_face(0, 0, 9, 9), make_face(20, 0, 29, 9))
    rows, sentence, link = list(files_page.fill_table(pipe, uploads))[-1]
    assert len(rows) == 7 and all(len(row) == len(files_page.HEADERS) for row in rows)
    assert rows[1] == ["photo.png", 2, 31, "24–43", "female, 98%"]
    assert rows[2] == [f"notes.jpg: {NOT_A_PICTURE}", "", "", "", ""]
    assert sentence == "4 files, 6 faces, 1 could not be read." and "download='faces.csv'" in link


def test_table_fills_while_it_works(monkeypatch, uploads):
    monkeypatch.setattr(files_page, "SECONDS_BETWEEN_UPDATES", 0.0)
    updates = list(files_page.fill_table(FixedFaces(make_face(0, 0, 9, 9)), uploads))
    assert [len(rows) for rows, _, _ in updates] == [1, 2, 3, 4, 4]
    assert updates[0][1] == "1 of 4 files"
    # What is there can be saved at any time, also when the rest is cancelled.
    tables = [base64.b64decode(re.search("base64,([^']+)'", link).group(1)).decode() for _, _, link in updates]
    assert [len(table.splitlines()) for table in tables] == [2, 3, 4, 5, 5]


def test_picture_without_a_face_says_so(uploads):
    rows, sentence, _ = list(files_page.fill_table(FixedFaces(), uploads[:1]))[-1]
    assert rows == [["photo.png: no face found", "", "", "", ""]] and sentence == "1 file, 0 faces."


def test_gender_near_one_half_is_unsure_in_the_table_and_a_number_in_the_csv(uploads):
    face = make_face(0, 0, 9, 9) | {"gender_score": 0.59}
    rows, sentence, link = list(files_page.fill_table(FixedFaces(face), uploads[:1]))[-1]
    assert rows == [["photo.png", 1, 31, "24–43", "unsure (female, 59%)"]] and sentence == "1 file, 1 face."
    assert "female,0.59," in base64.b64decode(re.search("base64,([^']+)'", link).group(1)).decode()


def test_bound_on_a_file_is_that_of_the_server():
    size, unit = re.fullmatch(r"(\d+)(mb)", app.MAX_UPLOAD).groups()
    assert f"{size} {unit.upper()} a file" in files_page.HELP


def test_answers_for_programs(uploads):
    answers = predict_files(FixedFaces(make_face(0, 0, 9, 9)), uploads)
    assert [set(answer) for answer in answers] == [{"file", "faces"}, {"file", "error"}] + [{"file", "faces"}] * 2


def test_addresses_are_files_too_and_lie_in_the_own_folder(monkeypatch, uploads, tmp_path):
    contents = {
        f"https://a.example/{name}?size=9": (tmp_path / name).read_bytes() for name in ("photo.png", "more.zip")
    }
    monkeypatch.setattr("photos.fetching.fetch", contents.__getitem__)
    before, seen = sorted(tmp_path.rglob("*")), []
    monkeypatch.setattr(files_page, "find_faces", lambda *_: seen.append(len(list(tmp_path.rglob("file")))) or [])
    answers = predict_files(None, [*uploads[:2], *({"path": address} for address in contents)])
    assert [answer["file"] for answer in answers] == ["photo.png", "notes.jpg", "photo.png", "one.png", "two.png"]
    assert [set(answer) for answer in answers].count({"file", "faces"}) == 4
    assert seen[1:] == [1, 1, 1] and sorted(tmp_path.rglob("*")) == before


def test_bounds_hold_for_all_addresses_of_a_call_together(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    archive, fetched = io.BytesIO(), []
    with zipfile.ZipFile(archive, "w") as file:
        for number in range(600):
            file.writestr(f"{number}.jpg", "dear diary")
    monkeypatch.setattr("photos.fetching.fetch", lambda address: fetched.append(address) or archive.getvalue())
    answers = answer_files(None, [f"https://a.example/{letter}.zip" for letter in "abc"])
    assert len(answers) == 1001 and "first 1,000 files" in answers[-1]["error"] and len(fetched) == 2

    def refuse(address):
        fetched.append(address)
        raise ValueError("refused")

    monkeypatch.setattr("photos.fetching.fetch", refuse)
    answers = answer_files(None, ["https://a.example/b.jpg"] * 2000)
    assert len(answers) == 1001 and answers[0] == {"file": "b.jpg", "error": "refused"} and len(fetched) == 1003
    monkeypatch.setattr("photos.reading.MAX_SECONDS", -1.0)
    [answer] = answer_files(None, ["https://a.example/b.jpg"] * 2)
    assert "at most" in answer["error"]


def test_address_in_the_tab_is_no_file(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    with pytest.raises(gr.Error, match=NO_FILES):
        next(files_page.fill_table(None, [{"path": "https://a.example/b.jpg"}]))


@pytest.mark.parametrize("files", [None, [], [{"path": "/etc/hostname"}], [{"url": "data:image/gif;base64,R0"}]])
def test_without_uploads_there_is_a_sentence(files):
    with pytest.raises(gr.Error) as error:
        predict_files(None, files)
    assert error.value.message == NO_FILES
