"""The page and its endpoint, through a server of a tiny random model and `gradio_client`."""

from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import app
from conftest import make_config
from image_processing_agegender import AgeGenderImageProcessor
from modeling_agegender import AgeGenderModel


ASTRONAUT = Path(app.EXAMPLE)
FACE_KEYS = {"age", "age_interval", "gender", "gender_score", "box", "detection_score"}
ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("model")
    AgeGenderModel(make_config()).save_pretrained(folder)
    AgeGenderImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def client(model_folder):
    demo = app.build_demo(app.load_pipeline(model_folder))
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True)
    yield Client(url, verbose=False)
    demo.close()


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    return Image.open(ASTRONAUT)


def predict(client: Client, path: Path) -> tuple[Image.Image, list[dict]]:
    annotated, faces = client.predict(image=handle_file(path), api_name="/predict")
    return Image.open(annotated), faces


def assert_astronaut(face: dict, offset: tuple[int, int] = (0, 0)):
    """The face of the example is centred near (222, 115) and some 90 to 110 px wide and high."""
    box = face["box"]
    centre = ((box["xmin"] + box["xmax"]) / 2 - offset[0], (box["ymin"] + box["ymax"]) / 2 - offset[1])
    assert abs(centre[0] - 225) < 20 and abs(centre[1] - 115) < 25, box


def test_endpoint_returns_photo_and_the_dicts_of_the_pipeline(client, astronaut):
    annotated, faces = predict(client, ASTRONAUT)
    assert annotated.size == astronaut.size
    assert isinstance(faces, list) and len(faces) == 1 and set(faces[0]) == FACE_KEYS
    assert 0 <= faces[0]["age"] <= 100 and faces[0]["gender"] in ("male", "female")
    assert 0.5 <= faces[0]["gender_score"] <= 1
    assert_astronaut(faces[0])


def test_predict_is_the_only_public_endpoint(client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert list(endpoints) == ["/predict"]
    assert len(endpoints["/predict"]["parameters"]) == 1 and len(endpoints["/predict"]["returns"]) == 2


def test_no_face_is_an_empty_list(client, tmp_path):
    Image.new("RGB", (300, 200), "grey").save(tmp_path / "grey.png")
    annotated, faces = predict(client, tmp_path / "grey.png")
    assert annotated.size == (300, 200) and faces == []


@pytest.mark.parametrize("content", [b"", b"dear diary", ASTRONAUT.read_bytes()[:9000]], ids=["empty", "text", "cut"])
def test_broken_file_gets_a_sentence(client, tmp_path, content):
    (tmp_path / "photo.jpg").write_bytes(content)
    with pytest.raises(AppError, match="cannot be read as a picture"):
        predict(client, tmp_path / "photo.jpg")


def test_svg_gets_a_sentence(client, tmp_path):
    (tmp_path / "drawing.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    with pytest.raises(AppError, match="cannot be read as a picture"):
        predict(client, tmp_path / "drawing.svg")


def test_too_many_pixels_get_a_sentence(client, tmp_path):
    (tmp_path / "huge.png").write_bytes(b"P6 20000 20000 255\n")
    with pytest.raises(AppError, match="too large: choose one with at most 178 million pixels"):
        predict(client, tmp_path / "huge.png")


def test_no_photo_gets_a_sentence(client):
    with pytest.raises(AppError, match=app.NO_PHOTO):
        client.predict(image=None, api_name="/predict")


@pytest.mark.parametrize(
    "photo",
    [
        {"path": "/etc/hostname"},
        {"path": "http://127.0.0.1:9/a.jpg"},
        {"url": "http://127.0.0.1:9/a.jpg"},
        {"url": "file:///etc/hostname"},
        {"url": "/etc/hostname"},
    ],
)
def test_address_is_never_opened_for_a_stranger(monkeypatch, photo):
    monkeypatch.setattr(app, "to_rgb", lambda source: pytest.fail(f"opened {source}"))
    with pytest.raises(app.gr.Error) as error:
        app.predict(None, photo)
    assert error.value.message == app.NO_PHOTO


@pytest.mark.parametrize("meta", [{"meta": {"_type": "gradio.FileData"}}, {}])
def test_server_file_that_was_not_uploaded_is_refused(client, monkeypatch, tmp_path, meta):
    opened = []
    monkeypatch.setattr(app, "to_rgb", opened.append)
    for path in (Path(app.__file__).with_name("pyproject.toml"), Path("/etc/hostname")):
        # Not through the client, which would upload the file.
        call = httpx.post(f"{client.src}gradio_api/call/predict", json={"data": [{"path": str(path), **meta}]})
        answer = httpx.get(f"{client.src}gradio_api/call/predict/{call.json()['event_id']}", timeout=60)
        assert "event: error" in answer.text
    assert opened == []


def test_panorama_of_20000_pixels(client, astronaut, tmp_path):
    panorama = Image.new("RGB", (20000, 300), "grey")
    panorama.paste(astronaut.crop((80, 0, 380, 300)), (15000, 0))
    panorama.save(tmp_path / "panorama.jpg")
    annotated, faces = predict(client, tmp_path / "panorama.jpg")
    assert len(faces) == 1
    assert_astronaut(faces[0], offset=(15000 - 80, 0))
    assert annotated.width * annotated.height <= 1.01 * app.MAX_SHOWN_PIXELS and annotated.height > 200


def save_16_bit(image: Image.Image, path: Path):
    Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(path)


SAVERS = {
    "cmyk.jpg": lambda image, path: image.convert("CMYK").save(path),
    "grey16.png": save_16_bit,
    "palette.png": lambda image, path: image.convert("P").save(path),
    "alpha.webp": lambda image, path: image.convert("RGBA").save(path),
    "animated.gif": lambda image, path: image.save(path, save_all=True, append_images=[Image.new("RGB", image.size)]),
}


@pytest.mark.parametrize("name", SAVERS)
def test_kinds_of_pictures(client, astronaut, tmp_path, name):
    SAVERS[name](astronaut, tmp_path / name)
    annotated, faces = predict(client, tmp_path / name)
    assert annotated.size == astronaut.size and len(faces) == 1
    assert_astronaut(faces[0])


def test_exif_rotation(client, astronaut, tmp_path):
    upright = astronaut.crop((0, 0, 512, 400))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "phone.jpg", exif=exif, quality=95)
    annotated, faces = predict(client, tmp_path / "phone.jpg")
    assert annotated.size == upright.size and annotated.getexif().get(ORIENTATION, 1) == 1
    assert_astronaut(faces[0])
    # The box is drawn where the upright picture has the face.
    box = faces[0]["box"]
    edge = np.asarray(annotated.convert("RGB"))[round((box["ymin"] + box["ymax"]) / 2), box["xmin"] + 1]
    assert np.abs(edge.astype(int) - app.BOX_COLOUR).max() < 80


def make_face(xmin: int, ymin: int, xmax: int, ymax: int) -> dict:
    box = {"xmin": xmin, "ymin": ymin, "xmax": xmax, "ymax": ymax}
    return {
        "age": 31.4,
        "age_interval": [24.0, 42.6],
        "gender": "female",
        "gender_score": 0.98,
        "box": box,
        "detection_score": 0.93,
    }


@pytest.mark.parametrize("box", [(40, 40, 90, 100), (0, 0, 60, 60), (140, 0, 199, 99), (0, 0, 199, 149)])
def test_draw_faces_draws_box_and_whole_label(box):
    picture = Image.new("RGB", (200, 150), "white")
    drawn = np.asarray(app.draw_faces(picture, [make_face(*box)]))
    assert np.asarray(picture).min() == 255
    blue = (drawn == app.BOX_COLOUR).all(axis=-1)
    middle = (box[1] + box[3]) // 2
    assert blue[middle, box[0]] and blue[middle, box[2]]
    # A label cut off at an edge would have fewer of its pixels than one in the middle.
    empty = Image.new("RGB", (200, 150), "white")
    free = Image.new("RGB", (400, 400), "white")
    text = "1: female, 31"
    for image, place in ((empty, box), (free, (100, 100, 150, 150))):
        app.draw_label(app.ImageDraw.Draw(image), image.size, place, text, 11)
    inside, whole = ((np.asarray(image) != 255).any(axis=-1).sum() for image in (empty, free))
    assert abs(inside - whole) <= 0.1 * whole


def test_draw_faces_scales_boxes_with_a_large_picture():
    drawn = app.draw_faces(Image.new("RGB", (8192, 2048), "white"), [make_face(4000, 400, 4400, 800)])
    assert drawn.size == (4096, 1024)
    assert drawn.getpixel((2001, 300)) == app.BOX_COLOUR


def test_draw_faces_takes_the_smallest_and_the_longest_picture():
    assert app.draw_faces(Image.new("RGB", (1, 1)), [make_face(0, 0, 1, 1)]).size == (1, 1)
    assert app.draw_faces(Image.new("RGB", (100_000, 2)), []).size == (app.MAX_SHOWN_SIDE, 1)


def test_page_shows_a_row_for_each_face(monkeypatch):
    faces = [make_face(0, 0, 9, 9), make_face(20, 0, 29, 9)]
    monkeypatch.setattr(app, "predict", lambda pipe, image: ("annotated", faces))
    annotated, shown, sentence, rows = app.show(None, {"path": "photo.jpg"})
    assert (annotated, shown) == ("annotated", faces) and sentence.startswith("2 faces")
    assert rows == [[1, 31, "24–43", "female", "98%"], [2, 31, "24–43", "female", "98%"]]


def test_page_is_emptied_with_the_photo_and_by_a_broken_one(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    assert app.show(None, None) == (None, None, "", [])
    (tmp_path / "photo.jpg").write_text("dear diary")
    assert app.show(None, {"path": str(tmp_path / "photo.jpg")}) == (None, None, app.NOT_A_PICTURE, [])


def test_split_revision(tmp_path):
    assert app.split_revision("me/model") == ("me/model", None)
    assert app.split_revision("me/model@v1.2") == ("me/model", "v1.2")
    folder = tmp_path / "a@b"
    folder.mkdir()
    assert app.split_revision(str(folder)) == (str(folder), None)


@pytest.mark.parametrize("source", ["/nowhere/at/all", "", "default"])
def test_start_without_a_model_ends_with_a_sentence(monkeypatch, tmp_path, source):
    if source == "default":
        source = str(tmp_path)
    monkeypatch.setenv("AGEGENDER_MODEL", source)
    monkeypatch.setattr(app, "FOLDER", tmp_path)
    with pytest.raises(SystemExit, match=f"AGEGENDER_MODEL={source or tmp_path}"):
        app.main()


def test_start_with_another_model_ends_with_a_sentence(model_folder, monkeypatch, tmp_path):
    config = make_config(depths=[1, 3])
    AgeGenderModel.from_pretrained(model_folder).save_pretrained(tmp_path)
    AgeGenderImageProcessor.from_pretrained(model_folder).save_pretrained(tmp_path)
    config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is no AgeGender model of this network: it lacks"):
        app.load_pipeline(str(tmp_path))


def test_start_without_the_large_file_of_git_ends_with_a_sentence(model_folder, tmp_path):
    AgeGenderModel.from_pretrained(model_folder).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ValueError, match=f"AGEGENDER_MODEL={tmp_path}: No model could be loaded from"):
        app.load_pipeline(str(tmp_path))


def test_revision_reaches_the_hub(monkeypatch):
    calls = []

    def from_pretrained(repo, **kwargs):
        calls.append((repo, kwargs["revision"], kwargs.get("trust_remote_code")))
        raise OSError("We couldn't connect.\nA second line.")

    monkeypatch.setattr(AgeGenderModel, "from_pretrained", from_pretrained)
    with pytest.raises(ValueError, match="me/model@v1.*We couldn't connect.$"):
        app.load_pipeline("me/model@v1")
    assert calls == [("me/model", "v1", None)]
