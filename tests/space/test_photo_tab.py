"""The tab for one photo, without a server."""

import gradio as gr
import pytest
from PIL import Image

from photos.reading import NOT_A_PICTURE
from space import photo_tab as photo_page
from space.inference import NO_PHOTO, predict
from tests.support.models import FixedFaces, make_face


@pytest.fixture
def upload(monkeypatch, tmp_path) -> dict:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    Image.new("RGB", (60, 40)).save(tmp_path / "photo.png")
    return {"path": str(tmp_path / "photo.png")}


@pytest.mark.parametrize(
    "photo",
    [
        None,
        {},
        {"path": "/etc/hostname"},
        {"path": "http://127.0.0.1:9/a.jpg"},
        {"url": "http://127.0.0.1:9/a.jpg"},
        {"url": "file:///etc/hostname"},
        {"url": "/etc/hostname"},
        " ",
    ],
)
def test_what_was_not_uploaded_is_never_opened(monkeypatch, photo):
    monkeypatch.setattr(photo_page, "read_picture", lambda source: pytest.fail(f"opened {source}"))
    monkeypatch.setattr(photo_page, "fetch", lambda address: pytest.fail(f"fetched {address}"))
    with pytest.raises(gr.Error) as error:
        predict(FixedFaces(), photo)
    assert error.value.message == NO_PHOTO


def test_data_address_is_a_picture():
    dot = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///ywAAAAAAQABAAACAUwAOw=="
    picture, faces = predict(FixedFaces(), {"url": dot})
    assert picture.size == (1, 1) and faces == []


def test_address_is_fetched(monkeypatch, upload):
    monkeypatch.setattr(photo_page, "fetch", {"https://a.example/b.png": open(upload["path"], "rb").read()}.get)
    picture, _ = predict(FixedFaces(), "https://a.example/b.png")
    assert picture.size == (60, 40)


def test_page_shows_a_card_for_each_face(upload):
    faces = FixedFaces(make_face(0, 0, 9, 9), make_face(20, 0, 29, 9))
    picture, sentence, cards, button, source, photo = photo_page.show(faces, gr.HTML(), False, upload, None)
    assert picture.size == (60, 40) and sentence.startswith("2 faces") and len(cards["cards"]) == 2
    assert not button.visible and source == upload and faces.options["detect_faces"] and photo == gr.skip()


def test_page_offers_to_take_the_whole_picture_where_there_is_no_face(upload):
    _, sentence, cards, button, source, _ = photo_page.show(FixedFaces(), gr.HTML(), False, upload, None)
    assert sentence == photo_page.NO_FACE and cards is None and button.visible
    faces = FixedFaces(make_face(0, 0, 59, 39))
    _, sentence, cards, button, *_ = photo_page.show(faces, gr.HTML(), True, source, source)
    assert not faces.options["detect_faces"] and len(cards["cards"]) == 1 and not button.visible


def test_page_is_emptied_with_the_photo_and_by_a_broken_one(upload):
    assert photo_page.show(FixedFaces(), gr.HTML(), False, None, upload)[:3] == (None, photo_page.HINT, None)
    open(upload["path"], "w").write("dear diary")
    answer = photo_page.show(FixedFaces(), gr.HTML(), False, upload, None)
    # A browser would show a broken picture.
    assert answer[:3] == (None, NOT_A_PICTURE, None) and answer[4:] == (None, None)


def test_photo_goes_when_an_address_is_opened_and_leaves_its_answer(monkeypatch, upload):
    monkeypatch.setattr(photo_page, "fetch", {"https://a.example/b.png": open(upload["path"], "rb").read()}.get)
    faces = FixedFaces(make_face(0, 0, 9, 9))
    *_, source, photo = photo_page.show(faces, gr.HTML(), False, "https://a.example/b.png", upload)
    assert source == "https://a.example/b.png" and photo is None
    # That the photo has gone reaches the server as if the visitor had taken it away.
    for shown in (source, None):
        assert photo_page.show(faces, gr.HTML(), False, None, shown) == (gr.skip(),) * 6
