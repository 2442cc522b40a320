"""The endpoints as programs call them: their answers, their descriptions, and what they say to wrong calls."""

import json
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import get_type_hints

import httpx2
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from gradio_client.utils import Status
from PIL import Image
from pydantic import TypeAdapter

import app
from photos.drawing import BOX_COLOUR, MAX_SHOWN_PIXELS
from photos.fetching import NOT_AN_ADDRESS, REFUSED_ADDRESS
from photos.reading import CUT_OFF, EMPTY, NOT_A_PICTURE, UNSUPPORTED
from space.api import EXAMPLE_ADDRESS, HOW_TO_CALL, FaceAnswer, FileAnswer
from space.uploads import make_file
from tests.support.browser import ASTRONAUT, encode_photo
from tests.support.films import write_film
from tests.support.models import make_face


FACE = (
    "dict(age: float (years), age_interval: tuple[float, float] (90 % range, years), gender: str, "
    "gender_score: float (probability of that gender; the page calls it unsure below 0.75, and at an age below 7 years below "
    "0.9), box: dict(xmin: int, ymin: int, xmax: int, ymax: int) (pixels of "
    "the upright photo in its own size), detection_score: float | None, "
    "age_at_least: dict(str, float) (probability of being at least that age))"
)
ORIENTATION = 0x0112
ADDRESS = "https://a.example/b.jpg"


@pytest.fixture(scope="module")
def endpoints(url) -> dict:
    return httpx2.get(f"{url}gradio_api/info").json()["named_endpoints"]


def call(url: str, name: str, data: list) -> str:
    """What an endpoint answers to data that no client has changed."""
    address = f"{url}gradio_api/call/{name}"
    event = httpx2.post(address, json={"data": data}).json()["event_id"]
    return httpx2.get(f"{address}/{event}", timeout=60).text


def predict(client: Client, path: Path) -> tuple[Image.Image, list[dict]]:
    annotated, faces = client.predict(image=handle_file(path), api_name="/predict")
    return Image.open(annotated), faces


def assert_astronaut(face: dict, offset: tuple[int, int] = (0, 0)):
    """The face of the example is centred near (222, 115) and some 90 to 110 px wide and high."""
    box = face["box"]
    centre = ((box["xmin"] + box["xmax"]) / 2 - offset[0], (box["ymin"] + box["ymax"]) / 2 - offset[1])
    assert abs(centre[0] - 225) < 20 and abs(centre[1] - 115) < 25, box


@pytest.fixture
def serve_astronaut(monkeypatch):
    """Two addresses that lead to the astronaut, without a network."""
    contents = dict.fromkeys((ADDRESS, EXAMPLE_ADDRESS, "https://example.org/photo.jpg"), ASTRONAUT.read_bytes())
    for module in ("space.inference", "photos.fetching"):
        monkeypatch.setattr(f"{module}.fetch", contents.__getitem__)


def test_photo_comes_back_with_the_dicts_of_the_pipeline(client, astronaut):
    annotated, faces = predict(client, ASTRONAUT)
    assert annotated.size == astronaut.size
    [face] = faces
    assert set(face) == set(make_face(0, 0, 9, 9))
    assert 20 <= face["age"] <= 60 and face["gender"] == "female" and 0.5 <= face["gender_score"] <= 1
    assert_astronaut(face)


@pytest.mark.parametrize("name", ["predict", "predict_url", "predict_files"])
def test_age_thresholds_add_probabilities_and_may_be_left_out(client, url, serve_astronaut, name):
    photo = {"predict": handle_file(ASTRONAUT), "predict_url": ADDRESS, "predict_files": [ADDRESS]}[name]

    def find_face(answer) -> dict:
        return (answer[0] if name == "predict_files" else {"faces": answer[1]})["faces"][0]

    plain = find_face(client.predict(photo, api_name=f"/{name}"))
    for ages in (None, []):
        assert find_face(client.predict(photo, ages, api_name=f"/{name}")) == plain
    asked = find_face(client.predict(photo, age_thresholds=[18, 60], api_name=f"/{name}"))
    at_least = asked.pop("age_at_least")
    assert asked == plain and list(at_least) == ["18", "60"] and 1 >= at_least["18"] > 0.5 > at_least["60"] >= 0
    if name != "predict":  # a call by position that knows no options
        answer = json.loads(call(url, name, [photo]).partition("data: ")[2])
        assert find_face(answer[0] if name == "predict_files" else answer) == plain
    for wrong in ([101], "18", [True]):
        with pytest.raises(AppError, match="age_thresholds must be a list of whole numbers from 0 to 100, got "):
            client.predict(photo, wrong, api_name=f"/{name}")


def test_address_gets_the_same_answer(client, serve_astronaut):
    _, faces = client.predict(ADDRESS, api_name="/predict_url")
    assert faces == predict(client, ASTRONAUT)[1]


def test_address_that_is_not_public_is_refused(client):
    with pytest.raises(AppError, match=REFUSED_ADDRESS):
        client.predict("http://127.0.0.1:9/a.jpg", api_name="/predict_url")


def test_address_that_holds_the_photo_gets_the_same_answer(client, url):
    address = encode_photo(ASTRONAUT).replace("data:", " DATA:")
    _, [face] = client.predict(address, api_name="/predict_url")
    assert_astronaut(face)
    answer = call(url, "predict_files", [[make_file(address), make_file("file:///etc/hostname")]])
    first, second = json.loads(answer.partition("data: ")[2])[0]
    assert first == {"file": "file 1", "faces": [face]}
    assert second == {"file": "hostname", "error": NOT_AN_ADDRESS}


def test_files_endpoint_answers_for_each_file(client, tmp_path, serve_astronaut):
    (tmp_path / "notes.jpg").write_text("dear diary")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.write(ASTRONAUT, "folder/astronaut.jpg")
    files = [handle_file(path) for path in (ASTRONAUT, tmp_path / "notes.jpg", tmp_path / "more.zip", ADDRESS)] + [
        ADDRESS
    ]
    first, second, third, fourth, fifth = client.predict(files, api_name="/predict_files")
    assert_astronaut(first["faces"][0])
    assert first["faces"] == third["faces"] == fourth["faces"] and fifth == fourth
    assert third["file"].endswith("astronaut.jpg") and fourth["file"] == "b.jpg"
    assert second == {"file": "notes.jpg", "error": NOT_A_PICTURE}
    with pytest.raises(AppError, match="/predict_files takes a list"):
        client.predict([], api_name="/predict_files")


def test_no_face_is_an_empty_list(client, tmp_path):
    Image.new("RGB", (300, 200), "grey").save(tmp_path / "grey.png")
    annotated, faces = predict(client, tmp_path / "grey.png")
    assert annotated.size == (300, 200) and faces == []


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("empty.jpg", b"", EMPTY),
        ("text.jpg", b"dear diary", NOT_A_PICTURE),
        ("cut.jpg", ASTRONAUT.read_bytes()[:9000], CUT_OFF),
        ("drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>', UNSUPPORTED.format("SVG")),
        ("huge.png", b"P6 20000 20000 255\n", "too large: choose one with at most 178 million pixels"),
    ],
)
def test_bad_file_gets_a_sentence(client, tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AppError, match=sentence):
        predict(client, tmp_path / name)


def save_16_bit(image: Image.Image, path: Path):
    Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(path)


SAVERS = {
    "cmyk.jpg": lambda image, path: image.convert("CMYK").save(path),
    "grey16.png": save_16_bit,
    "palette.png": lambda image, path: image.convert("P").save(path),
    "alpha.webp": lambda image, path: image.convert("RGBA").save(path),
    "animated.gif": lambda image, path: image.save(path, save_all=True, append_images=[Image.new("RGB", image.size)]),
}


def test_kinds_of_pictures(client, astronaut, tmp_path):
    for name, save in SAVERS.items():
        save(astronaut.crop((80, 0, 368, 256)), tmp_path / name)
    answers = client.predict([handle_file(tmp_path / name) for name in SAVERS], api_name="/predict_files")
    assert [answer["file"] for answer in answers] == list(SAVERS)
    for answer in answers:
        [face] = answer["faces"]
        assert_astronaut(face, offset=(-80, 0))


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
    middle, xmin = round((box["ymin"] + box["ymax"]) / 2), box["xmin"]
    edge = np.asarray(annotated.convert("RGB"))[middle, xmin - 2 : xmin + 4].astype(int)
    distances = np.abs(edge - BOX_COLOUR).max(axis=1)  # lines of two pixels are paler after compression
    assert distances.argmin() in (2, 3) and distances.min() < 100


@pytest.mark.slow
def test_panorama_of_20000_pixels(client, astronaut, tmp_path):
    panorama = Image.new("RGB", (20000, 300), "grey")
    panorama.paste(astronaut.crop((80, 0, 380, 300)), (15000, 0))
    panorama.save(tmp_path / "panorama.jpg")
    annotated, [face] = predict(client, tmp_path / "panorama.jpg")
    assert_astronaut(face, offset=(15000 - 80, 0))
    assert annotated.width * annotated.height <= 1.01 * MAX_SHOWN_PIXELS and annotated.height > 200


def test_visitors_at_once_get_the_answers_to_their_own_photos(url, astronaut, tmp_path):
    """benchmarks/space.py measures 64."""
    face, offsets, jobs = astronaut.crop((80, 0, 380, 300)), [(40 * index, 30 * index) for index in range(3)], []
    for offset in offsets:
        photo = Image.new("RGB", (600, 520), "grey")
        photo.paste(face, offset)
        photo.save(tmp_path / f"{offset[0]}.png")
        visitor = Client(url, verbose=False)
        jobs.append(visitor.submit(handle_file(tmp_path / f"{offset[0]}.png"), api_name="/predict"))
    for offset, job in zip(offsets, jobs, strict=True):
        [found] = job.result()[1]
        assert_astronaut(found, offset=(offset[0] - 80, offset[1]))


@pytest.mark.slow
def test_photo_does_not_wait_for_the_many_photos_of_another_visitor(client, tmp_path):
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for index in range(15):
            archive.write(ASTRONAUT, f"{index}.jpg")
    job = client.submit([handle_file(tmp_path / "many.zip")], api_name="/predict_files")
    while job.status().code != Status.PROCESSING:
        assert not job.done()
        time.sleep(0.02)
    _, faces = predict(client, ASTRONAUT)
    assert not job.done()
    answers = job.result()
    assert len(answers) == 15 and all(answer["faces"] == faces for answer in answers)


@pytest.mark.parametrize(
    ("name", "make"), [("/predict_url", str), ("/predict_files", lambda address: [handle_file(address)])]
)
def test_photo_does_not_wait_for_the_slow_sites_of_other_visitors(client, hold_fetches, name, make):
    answer, fetched = hold_fetches("space.inference", "photos.fetching")
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


@pytest.mark.processes
def test_curl_examples_of_the_docs(url, serve_astronaut, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    shutil.copy(ASTRONAUT, tmp_path / "photo.jpg")
    text = (app.FOLDER / "docs" / "space.md").read_text(encoding="utf-8").replace("\\\n", " ")
    commands = [line.split("  #")[0] for line in re.findall(r"^ *(curl .*)$", text, re.MULTILINE)]
    assert len(commands) == 7
    event, path, answers = "", "", []
    for command in commands:
        command = command.replace("http://127.0.0.1:7860/", url).replace("EVENT_ID", event)
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


def test_types_are_those_of_the_pipeline():
    assert set(get_type_hints(FaceAnswer)) == {*make_face(0, 0, 9, 9), "age_at_least"}
    face = TypeAdapter(FaceAnswer).validate_python(make_face(0, 0, 9, 9), strict=False)
    assert face["box"] == make_face(0, 0, 9, 9)["box"]
    TypeAdapter(FileAnswer).validate_python({"file": "notes.jpg", "error": "It is no picture."})


def test_endpoints_are_described(endpoints):
    faces = f"list[{FACE}]"
    files = f"list[dict(file: str, faces: {faces}, error: str, note: str)]"
    types = {name: [output["python_type"]["type"] for output in about["returns"]] for name, about in endpoints.items()}
    assert types.pop("/predict_video")[0] == "filepath"
    assert types == {"/predict_url": ["filepath", faces], "/predict": ["filepath", faces], "/predict_files": [files]}
    parameters = [parameter["parameter_name"] for about in endpoints.values() for parameter in about["parameters"]]
    assert parameters == [name for first in ("url", "image", "files", "video") for name in (first, "age_thresholds")]
    assert all("age_interval" in about["description"] for about in endpoints.values())


@pytest.mark.processes
@pytest.mark.parametrize("language", ["python", "bash"])
def test_examples_of_the_api_page_work_as_they_stand(url, endpoints, serve_astronaut, tmp_path, language):
    """With a photo or film where they name one."""
    if language == "bash" and (shutil.which("curl") is None or shutil.which("bash") is None):
        pytest.skip("needs curl and bash")
    shutil.copy(ASTRONAUT, tmp_path / "photo.jpg")
    write_film(tmp_path / "film.mp4", [Image.open(ASTRONAUT).convert("RGB")] * 4)
    for name, about in endpoints.items():
        file = "film.mp4" if name == "/predict_video" else "photo.jpg"
        snippet = about["code_snippets"][language].replace("/path/to/your/file", file)
        command = [sys.executable, "-c", snippet] if language == "python" else ["bash", "-c", snippet]
        out = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert out.returncode == 0 and "'gender': 'female'" in out.stdout.replace('"', "'"), (name, out.stderr)


def test_commands_in_the_page_are_those_that_bash_runs(url, endpoints):
    """The page holds the descriptions a second time."""
    page = httpx2.get(url).text
    assert page.count("| { read EVENT_ID; curl") == len(endpoints) and "| read EVENT_ID" not in page


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("predict", ["photo.jpg"]),
        ("predict", [ADDRESS]),
        ("predict", ["data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///ywAAAAAAQABAAACAUwAOw=="]),
        ("predict", []),
        ("predict", [5]),
        ("predict", [{"path": 5}]),
        ("predict", [make_file("/etc/hostname")]),
        ("predict", [None]),
        ("predict", [{"path": "/etc/hostname"}]),
        ("predict", [{"url": "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///ywAAAAAAQABAAACAUwAOw=="}]),
        ("predict", [make_file(ADDRESS)]),
        ("predict", [make_file(ADDRESS) | {"url": ADDRESS}]),
        ("predict", [make_file(f" {ADDRESS.upper()}")]),
        ("predict", [make_file("file:///etc/hostname")]),
        ("predict_url", []),
        ("predict_url", [5]),
        ("predict_url", [" "]),
        ("predict_url", ["photo.jpg"]),
        ("predict_url", ["R0lGODlhAQABAIAAAAAAAP///ywAAAAAAQABAAACAUwAOw=="]),
        ("predict_url", [make_file(ADDRESS)]),
        ("predict_files", []),
        ("predict_files", [{"a": 1}]),
        ("predict_files", [[5]]),
        ("predict_files", [7]),
        ("predict_files", ["x"]),
        ("predict_files", [["photo.jpg"]]),
        ("predict_files", [[ADDRESS, "photo.jpg"]]),
        ("predict_files", [[make_file("/etc/hostname")]]),
    ],
)
def test_call_with_other_data_is_told_what_to_send_and_opens_nothing(url, monkeypatch, capfd, name, data):
    opened = []
    for function in ("read_picture", "read_pictures", "fetch"):
        monkeypatch.setattr(f"space.inference.{function}", opened.append)
    answer = call(url, name, data)
    assert answer.startswith("event: error") and opened == []
    assert json.loads(answer.partition("data: ")[2])["error"] == HOW_TO_CALL[name]
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("way", "body", "status", "reason"),
    [
        ("call/v2/predict", {"photo": "a.jpg"}, 422, "Parameter `photo` is not a valid key-word argument"),
        ("call/v2/predict", {}, 422, "No value provided for required argument: image"),
        ("call/v2/nothing", {}, 404, "'/nothing'"),
        ("call/nothing", {"data": []}, 404, "nothing"),
        ("run/nothing", {"data": []}, 404, "nothing"),
        ("run/predict", {"data": [], "fn_index": 999}, 404, "999"),
        ("queue/join", {"data": [], "fn_index": 999, "session_hash": "visitor"}, 404, "999"),
    ],
)
def test_call_of_a_missing_endpoint_gets_a_sentence(url, way, body, status, reason):
    answer = httpx2.post(f"{url}gradio_api/{way}", json=body)
    assert answer.status_code == status
    assert answer.json()["detail"].startswith("There is no such call: ") and reason in answer.json()["detail"]


def test_no_call_skips_the_queues(url):
    answer = httpx2.post(f"{url}gradio_api/run/predict_url", json={"data": [ADDRESS]}, timeout=60)
    assert answer.status_code == 404 and "join the queue" in answer.json()["detail"]


def test_refused_address_of_a_file_gets_its_sentence(url):
    answer = call(url, "predict_files", [[make_file(f"{url}favicon.ico")]])
    assert "event: complete" in answer and REFUSED_ADDRESS in answer
