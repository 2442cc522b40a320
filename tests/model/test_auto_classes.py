"""Loading an exported folder with the Auto classes, in a new process and another working directory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch


pytestmark = pytest.mark.processes
ROOT = Path(__file__).parents[2]
FILES_THAT_TRAVEL = {
    "configuration_agegender.py",
    "modeling_agegender.py",
    "image_processing_agegender.py",
    "image_formats.py",
    "image_reading.py",
    "pipeline_agegender.py",
    "face_detection.py",
}

# A registered pipeline hides a missing one: each process makes its first pipeline in another way.
LOAD_WITHOUT_TASK = """
import json
import sys

import torch
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoModel, pipeline

folder, picture, results, second_folder = sys.argv[1:]
torch.set_num_threads(1)
picture = Image.open(picture)
estimator = pipeline(model=folder, trust_remote_code=True)
faces = estimator(picture, return_age_distribution=True)
config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
model = AutoModel.from_pretrained(folder, trust_remote_code=True)
pixel_values = processor(picture, return_tensors="pt").pixel_values
with torch.no_grad():
    output = model(pixel_values)
torch.save({"pixel_values": pixel_values, "age_logits": output.age_logits, "gender_logits": output.gender_logits,
            "age": output.age, "faces": json.dumps(faces), "hidden_sizes": list(config.hidden_sizes),
            "training": model.training}, results)
estimator.save_pretrained(second_folder)
"""

LOAD_WITH_TASK = """
import json
import sys

import torch
from PIL import Image
from transformers import pipeline

folder, picture = sys.argv[1:]
torch.set_num_threads(1)
estimator = pipeline("age-gender-estimation", model=folder, trust_remote_code=True)
print(json.dumps(estimator(Image.open(picture), return_age_distribution=True)))
"""

LOAD_ROOT = """
import sys

from transformers import AutoImageProcessor, AutoModel

model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
processor = AutoImageProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
print(type(model).__name__, type(processor).__name__, model.config.image_size == processor.size["height"])
"""


@pytest.fixture
def run_elsewhere(tmp_path):
    """Runs a script in a new process, in an empty folder, with a code cache of its own and no network."""

    def run(script: str, *arguments) -> str:
        folder = tmp_path / "elsewhere"
        folder.mkdir(exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")}
        command = [sys.executable, "-c", script, *map(str, arguments)]
        process = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert process.returncode == 0, process.stderr
        return process.stdout

    return run


def test_export_loads_elsewhere_and_again(estimator, photo, tmp_path, run_elsewhere):
    """The outputs are those of this process to the last bit, and a copy of the copy gives them too."""
    first, second, picture, results = (tmp_path / name for name in ("first", "second", "photo.png", "results.pt"))
    photo.crop((96, 0, 352, 256)).save(picture)
    estimator.save_pretrained(first)
    expected = json.loads(json.dumps(estimator(str(picture), return_age_distribution=True)))
    assert len(expected) == 1

    run_elsewhere(LOAD_WITHOUT_TASK, first, picture, results, second)
    loaded = torch.load(results)
    assert json.loads(loaded["faces"]) == expected
    assert loaded["hidden_sizes"] == estimator.model.config.hidden_sizes
    assert not loaded["training"]
    pixel_values = estimator.image_processor(photo.crop((96, 0, 352, 256)), return_tensors="pt").pixel_values
    with torch.no_grad():
        output = estimator.model(pixel_values)
    assert torch.equal(loaded["pixel_values"], pixel_values)
    assert all(torch.equal(loaded[name], output[name]) for name in ("age", "age_logits", "gender_logits"))

    assert json.loads(run_elsewhere(LOAD_WITH_TASK, second, picture).splitlines()[-1]) == expected
    for folder in (first, second):
        assert {path.name for path in folder.glob("*.py")} >= FILES_THAT_TRAVEL
        for name in FILES_THAT_TRAVEL:
            assert (folder / name).read_text() == (ROOT / name).read_text()


def test_repository_is_a_model_folder(run_elsewhere):
    names = run_elsewhere(LOAD_ROOT, ROOT).splitlines()[-1]
    assert names == "AgeGenderModel AgeGenderImageProcessor True"
