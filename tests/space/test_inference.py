"""Which files of a call are read, and within which bounds."""

import io
import zipfile

import gradio as gr
import pytest
from PIL import Image

from space.inference import NO_PHOTO, answer_files, find_sources, read_source
from tests.support.models import FixedFaces, make_face


@pytest.mark.parametrize(
    "photo",
    [
        None,
        {},
        {"path": "/etc/hostname"},
        {"path": "a\0b"},
        {"path": "\ud800"},
        {"path": "http://127.0.0.1:9/a.jpg"},
        {"url": "http://127.0.0.1:9/a.jpg"},
        {"url": "file:///etc/hostname"},
        {"url": "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///ywAAAAAAQABAAACAUwAOw=="},
        " ",
    ],
)
def test_what_was_not_uploaded_is_never_opened(monkeypatch, own_folder, photo):
    monkeypatch.setattr("space.inference.read_picture", lambda source: pytest.fail(f"opened {source}"))
    monkeypatch.setattr("space.inference.fetch", lambda address: pytest.fail(f"fetched {address}"))
    with pytest.raises(gr.Error) as error:
        read_source(photo)
    assert error.value.message == NO_PHOTO


def test_link_out_of_the_folder_is_no_upload(own_folder, tmp_path):
    (tmp_path / "secret.png").touch()
    (own_folder / "photo.png").symlink_to(tmp_path / "secret.png")
    for path in (own_folder / "photo.png", f"{own_folder}/../secret.png"):
        with pytest.raises(gr.Error, match=NO_PHOTO):
            read_source({"path": str(path)})


@pytest.mark.parametrize(
    "files", [None, [], 7, "x", [{"path": "/etc/hostname"}, {"path": "a\0b"}], [{"url": "data:image/gif;base64,R0"}]]
)
def test_what_is_neither_upload_nor_address_is_no_source(own_folder, files):
    assert find_sources(files) == []


def test_addresses_are_files_too_and_leave_nothing_on_disk(monkeypatch, own_folder):
    Image.new("RGB", (60, 40)).save(own_folder / "photo.png")
    with zipfile.ZipFile(own_folder / "more.zip", "w") as archive:
        for name in ("one.png", "two.png"):
            archive.write(own_folder / "photo.png", name)
    contents = {
        f"https://a.example/{name}?size=9": (own_folder / name).read_bytes() for name in ("photo.png", "more.zip")
    }
    monkeypatch.setattr("photos.fetching.fetch", contents.__getitem__)
    before = sorted(own_folder.rglob("*"))
    files = [{"path": str(own_folder / "photo.png")}, *({"path": address} for address in contents)]
    answers = answer_files(FixedFaces(make_face(0, 0, 9, 9)), find_sources(files))
    assert [answer["file"] for answer in answers] == ["photo.png", "photo.png", "one.png", "two.png"]
    assert all(len(answer["faces"]) == 1 for answer in answers)
    assert sorted(own_folder.rglob("*")) == before


def test_bounds_hold_for_all_addresses_of_a_call_together(monkeypatch, own_folder):
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
    monkeypatch.setattr("photos.archives.MAX_SECONDS", -1.0)
    [answer] = answer_files(None, ["https://a.example/b.jpg"] * 2)
    assert "at most" in answer["error"]
