"""The page and its endpoint, through a server of a tiny random model and `gradio_client`."""

import json
import re
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from gradio_client.utils import Status
from PIL import Image

import app
from hub.loading import split_revision
from image_processing_agegender import AgeGenderImageProcessor
from modeling_agegender import AgeGenderModel
from photos.drawing import BOX_COLOUR, MAX_SHOWN_PIXELS
from photos.reading import EMPTY, NOT_A_PICTURE, SVG
from space.inference import NO_FILES, NO_PHOTO
from tests.support.models import make_config


ASTRONAUT = Path(app.FOLDER) / "assets" / "astronaut.jpg"
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
    demo = app.build_demo(app.load_estimator(model_folder))
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


def test_public_endpoints(client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    counts = {name: (len(about["parameters"]), len(about["returns"])) for name, about in endpoints.items()}
    assert counts == {"/predict": (1, 2), "/predict_url": (1, 2), "/predict_files": (1, 1)}
    information = httpx.get(f"{client.src}gradio_api/info").json()["named_endpoints"]
    assert all("age_interval" in about["description"] for about in information.values())


def test_page_shows_no_results_of_other_weights(client):
    """Those of this folder are not those of the tiny random model."""
    components = httpx.get(f"{client.src}config").json()["components"]
    texts = [str(component["props"].get("value")) for component in components if component["type"] == "markdown"]
    assert any("There is no record of it beside these weights" in text for text in texts)


def test_address_endpoint_refuses_what_is_not_public(client):
    with pytest.raises(AppError, match="public"):
        client.predict("http://127.0.0.1:9/a.jpg", api_name="/predict_url")


def test_files_endpoint_answers_for_each_file(client, astronaut, tmp_path):
    (tmp_path / "notes.jpg").write_text("dear diary")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.write(ASTRONAUT, "folder/astronaut.jpg")
    files = [handle_file(path) for path in (ASTRONAUT, tmp_path / "notes.jpg", tmp_path / "more.zip")]
    first, second, third = client.predict(files, api_name="/predict_files")
    assert_astronaut(first["faces"][0])
    assert first["faces"] == third["faces"] and third["file"].endswith("astronaut.jpg")
    assert second == {"file": "notes.jpg", "error": NOT_A_PICTURE}


def test_photo_does_not_wait_for_the_many_photos_of_another_visitor(client, astronaut, tmp_path):
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for index in range(60):
            archive.write(ASTRONAUT, f"{index}.jpg")
    job = client.submit([handle_file(tmp_path / "many.zip")], api_name="/predict_files")
    while job.status().code != Status.PROCESSING:
        assert not job.done()
        time.sleep(0.02)
    _, faces = predict(client, ASTRONAUT)
    assert not job.done()
    assert_astronaut(faces[0])
    answers = job.result()
    assert len(answers) == 60 and all(answer["faces"] == faces for answer in answers)


@pytest.mark.parametrize(
    ("name", "make"),
    [("/predict", handle_file), ("/predict_url", str), ("/predict_files", lambda address: [handle_file(address)])],
)
def test_photo_does_not_wait_for_the_slow_sites_of_other_visitors(client, monkeypatch, name, make):
    answer, fetched = threading.Event(), []

    def fetch(address: str) -> bytes:
        fetched.append(address)
        answer.wait(60)
        return ASTRONAUT.read_bytes()

    monkeypatch.setattr("space.inference.fetch", fetch)
    monkeypatch.setattr("photos.fetching.fetch", fetch)
    jobs = [client.submit(make(f"https://slow.example/{letter}.jpg"), api_name=name) for letter in "ab"]
    try:
        while {job.status().code for job in jobs} != {Status.PROCESSING, Status.IN_QUEUE}:  # in whichever order
            assert not any(job.done() for job in jobs)
            time.sleep(0.02)
        _, faces = predict(client, ASTRONAUT)
        assert not any(job.done() for job in jobs) and len(fetched) == 1  # one at a time
    finally:
        answer.set()
    answers = [job.result() for job in jobs]
    assert [one[0]["faces"] if name == "/predict_files" else one[1] for one in answers] == [faces] * 2


def test_files_endpoint_without_files_gets_a_sentence(client):
    with pytest.raises(AppError, match=NO_FILES):
        client.predict([], api_name="/predict_files")


def test_curl_examples_of_the_readme(client, monkeypatch, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    monkeypatch.setattr("space.inference.fetch", {"https://example.org/photo.jpg": ASTRONAUT.read_bytes()}.__getitem__)
    shutil.copy(ASTRONAUT, tmp_path / "photo.jpg")
    text = (app.FOLDER / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    commands = [line.split("  #")[0] for line in re.findall(r"^    (curl .*)$", text, re.MULTILINE)]
    assert len(commands) == 7
    event, path, answers = "", "", []
    for command in commands:
        command = command.replace("http://127.0.0.1:7860/", client.src).replace("EVENT_ID", event)
        command = command.replace("PATH", path)
        out = subprocess.run(f"{command} -sS", shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert out.returncode == 0, out.stderr
        if "/upload" in command:
            [path] = json.loads(out.stdout)
        elif "EVENT" not in command and out.stdout.startswith("{"):
            event = json.loads(out.stdout)["event_id"]
        else:
            answers.append(out.stdout)
    assert len(answers) == 3 and all("event: complete" in answer for answer in answers)
    *photos, files = (json.loads(answer.split("data: ")[-1]) for answer in answers)
    for _, faces in photos:
        assert_astronaut(faces[0])
    assert files == [[{"file": "photo.jpg", "faces": faces}]]


def test_no_face_is_an_empty_list(client, tmp_path):
    Image.new("RGB", (300, 200), "grey").save(tmp_path / "grey.png")
    annotated, faces = predict(client, tmp_path / "grey.png")
    assert annotated.size == (300, 200) and faces == []


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"", EMPTY), (b"dear diary", NOT_A_PICTURE), (ASTRONAUT.read_bytes()[:9000], NOT_A_PICTURE)],
    ids=["empty", "text", "cut"],
)
def test_broken_file_gets_a_sentence(client, tmp_path, content, sentence):
    (tmp_path / "photo.jpg").write_bytes(content)
    with pytest.raises(AppError, match=sentence):
        predict(client, tmp_path / "photo.jpg")


def test_svg_gets_a_sentence(client, tmp_path):
    (tmp_path / "drawing.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    with pytest.raises(AppError, match=SVG):
        predict(client, tmp_path / "drawing.svg")


def test_too_many_pixels_get_a_sentence(client, tmp_path):
    (tmp_path / "huge.png").write_bytes(b"P6 20000 20000 255\n")
    with pytest.raises(AppError, match="too large: choose one with at most 178 million pixels"):
        predict(client, tmp_path / "huge.png")


def test_no_photo_gets_a_sentence(client):
    with pytest.raises(AppError, match=NO_PHOTO):
        client.predict(image=None, api_name="/predict")


@pytest.mark.parametrize("meta", [{"meta": {"_type": "gradio.FileData"}}, {}])
def test_server_file_that_was_not_uploaded_is_refused(client, monkeypatch, tmp_path, meta):
    opened = []
    monkeypatch.setattr("space.inference.read_picture", opened.append)
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
    assert annotated.width * annotated.height <= 1.01 * MAX_SHOWN_PIXELS and annotated.height > 200


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
    assert np.abs(edge.astype(int) - BOX_COLOUR).max() < 80


def test_no_garbage_is_looked_for_while_libraries_are_imported():
    """Which would make the start a fifth longer; afterwards it is, as ever."""
    code = "import gc, app; print(sum(row['collections'] for row in gc.get_stats()), gc.isenabled())"
    out = subprocess.run([sys.executable, "-c", code], cwd=app.FOLDER, capture_output=True, text=True, timeout=200)
    collections, is_enabled = out.stdout.split()
    assert int(collections) < 100 and is_enabled == "True"


def test_model_loads_once(model_folder, monkeypatch):
    """However many ask: at the start, whole, and never again."""
    loads, load = [], app.load_model
    monkeypatch.setattr(app, "load_model", lambda *arguments: loads.append(arguments) or load(*arguments))
    reads, read = [], AgeGenderModel.from_pretrained
    monkeypatch.setattr(
        AgeGenderModel, "from_pretrained", lambda *args, **kwargs: reads.append(args) or read(*args, **kwargs)
    )
    demo = app.build_demo(app.load_estimator(model_folder))
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True)
    try:
        for _ in range(2):
            visitor = Client(url, verbose=False)
            assert_astronaut(predict(visitor, ASTRONAUT)[1][0])
            visitor.predict([handle_file(ASTRONAUT)], api_name="/predict_files")
    finally:
        demo.close()
    assert len(loads) == len(reads) == 1


def test_split_revision(tmp_path):
    assert split_revision("me/model") == ("me/model", None)
    assert split_revision("me/model@v1.2") == ("me/model", "v1.2")
    folder = tmp_path / "a@b"
    folder.mkdir()
    assert split_revision(str(folder)) == (str(folder), None)


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
        app.load_estimator(str(tmp_path))


def test_start_without_the_large_file_of_git_ends_with_a_sentence(model_folder, tmp_path):
    AgeGenderModel.from_pretrained(model_folder).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ValueError, match=f"AGEGENDER_MODEL={tmp_path}: No model could be loaded from"):
        app.load_estimator(str(tmp_path))


def test_revision_reaches_the_hub(monkeypatch):
    calls = []

    def from_pretrained(repo, **kwargs):
        calls.append((repo, kwargs["revision"], kwargs.get("trust_remote_code", False)))
        raise OSError("We couldn't connect.\nA second line.")

    monkeypatch.setattr(
        "hub.loading.snapshot_download", lambda repo, **kwargs: calls.append((repo, kwargs["revision"]))
    )
    monkeypatch.setattr(AgeGenderModel, "from_pretrained", from_pretrained)
    with pytest.raises(ValueError, match="me/model@v1.*We couldn't connect.$"):
        app.load_estimator("me/model@v1")
    assert calls == [("me/model", "v1"), ("me/model", "v1", False)]
