"""What the API page says of the endpoints is true, and whoever calls them otherwise is told how."""

import json
import shutil
import subprocess
from typing import get_type_hints

import httpx
import pytest
from gradio_client import Client
from pydantic import TypeAdapter

import app
from photos import fetching as safe_fetching
from space import photo_tab as photo_page
from space.api import EXAMPLE, Face, File
from tests.support.models import make_face


ASTRONAUT = app.FOLDER / "assets" / "astronaut.jpg"
FACE = (
    "dict(age: float (years), age_interval: tuple[float, float] (meant to hold the age nine times of ten), gender: str, "
    "gender_score: float (probability of that gender), box: dict(xmin: int, ymin: int, xmax: int, ymax: int) (pixels of "
    "the upright photo in its own size), detection_score: float | None)"
)
FILE_DATA = {"path": EXAMPLE, "meta": {"_type": "gradio.FileData"}}


@pytest.fixture(scope="module")
def demo(estimator):
    demo = app.build_demo(estimator)
    demo.launch(prevent_thread_lock=True, quiet=True)
    yield demo
    demo.close()


@pytest.fixture(scope="module")
def endpoints(demo) -> dict:
    return httpx.get(f"{demo.local_url}gradio_api/info").json()["named_endpoints"]


def call(demo, name: str, data: list) -> str:
    """What an endpoint answers."""
    address = f"{demo.local_url}gradio_api/call/{name}"
    event = httpx.post(address, json={"data": data}).json()["event_id"]
    return httpx.get(f"{address}/{event}", timeout=60).text


def test_types_are_those_of_the_pipeline():
    assert set(get_type_hints(Face)) == set(make_face(0, 0, 9, 9))
    face = TypeAdapter(Face).validate_python(make_face(0, 0, 9, 9), strict=False)
    assert face["box"] == make_face(0, 0, 9, 9)["box"]
    TypeAdapter(File).validate_python({"file": "notes.jpg", "error": "It is no picture."})


def test_answers_have_types(endpoints):
    types = {name: [output["python_type"]["type"] for output in about["returns"]] for name, about in endpoints.items()}
    faces = f"list[{FACE}]"
    files = f"list[dict(file: str, faces: {faces}, error: str)]"
    assert types == {"/predict": ["filepath", faces], "/predict_url": ["filepath", faces], "/predict_files": [files]}


def test_examples_are_what_the_endpoints_take(demo, endpoints, monkeypatch):
    for module in (photo_page, safe_fetching):
        monkeypatch.setattr(module, "fetch", {EXAMPLE: ASTRONAUT.read_bytes()}.__getitem__)
    for name, about in endpoints.items():
        [parameter] = about["parameters"]
        answer = call(demo, name.strip("/"), [parameter["example_input"]])
        assert "event: complete" in answer and "age_interval" in answer, name
    client = Client(demo.local_url, verbose=False)
    [answer] = client.predict(files=[FILE_DATA], api_name="/predict_files")
    assert len(answer["faces"]) == 1


def test_written_calls_send_a_list_of_files(demo, endpoints, monkeypatch):
    snippets = endpoints["/predict_files"]["code_snippets"]
    assert all(json.dumps([FILE_DATA]) in snippets[language] for language in ("python", "javascript", "bash"))
    if shutil.which("curl") is None or shutil.which("bash") is None:
        pytest.skip("needs curl and bash")
    monkeypatch.setattr(safe_fetching, "fetch", {EXAMPLE: ASTRONAUT.read_bytes()}.__getitem__)
    # In bash the last command of a pipe is one of a shell of its own.
    command = ["bash", "-c", "shopt -s lastpipe; " + snippets["bash"]]
    out = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "event: complete" in out.stdout and "age_interval" in out.stdout, out.stderr


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("predict", ["x"]),
        ("predict", []),
        ("predict", [5]),
        ("predict", [{"path": 5}]),
        ("predict", [{"path": "/etc/hostname", "meta": {"_type": "gradio.FileData"}}]),
        ("predict_url", []),
        ("predict_url", [5]),
        ("predict_files", [{"a": 1}]),
        ("predict_files", [[5]]),
        ("predict_files", ["x"]),
    ],
)
def test_malformed_call_gets_a_sentence(demo, capfd, name, data):
    answer = call(demo, name, data)
    assert answer.startswith("event: error")
    error = json.loads(answer.partition("data: ")[2])["error"]
    assert EXAMPLE in error if data != [5] or name == "predict" else error == "Choose a photo first."
    assert "Traceback" not in "".join(capfd.readouterr())


def test_every_call_of_the_page_has_an_example(demo):
    for function in demo.fns.values():
        json.dumps([component.example_payload() for component in function.inputs])
