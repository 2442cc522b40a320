"""
The shipped weights give the recorded outputs.

After a new training, record the outputs again and check the difference before the commit:

    MKL_CBWR=COMPATIBLE python -m tests.model.test_shipped_model
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from image_processing_agegender import AgeGenderImageProcessor
from metrics.results import compute_weights_sha256
from modeling_agegender import AgeGenderModel
from pipeline_agegender import AgeGenderPipeline


ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parents[1] / "golden" / "shipped_logits.json"
EXAMPLES = GOLDEN.with_name("shipped_examples.json")
# The face in UTKFace's framing: left, upper, right, lower.
FACE_BOX = (166, 68, 278, 180)


def compute_outputs(dtype: torch.dtype = torch.float32) -> dict:
    """Scores of uniform noise and of a face, the first eight ages, and what they amount to."""
    images = {
        "noise": Image.fromarray(np.random.RandomState(0).randint(0, 256, (200, 200, 3), dtype=np.uint8)),
        "astronaut": Image.fromarray(data.astronaut()).crop(FACE_BOX),
    }
    processor = AgeGenderImageProcessor.from_pretrained(ROOT)
    model = AgeGenderModel.from_pretrained(ROOT, dtype=dtype).eval()
    with torch.no_grad():
        output = model(processor(list(images.values()), return_tensors="pt").pixel_values)
    return {
        name: {
            "age_logits": output.age_logits[index, :8].tolist(),
            "gender_logits": output.gender_logits[index].tolist(),
            "age": output.age[index].item(),
        }
        for index, name in enumerate(images)
    }


def read_examples() -> dict:
    """Age, ends of its interval and gender of each face in the examples of the page."""
    model, processor = AgeGenderModel.from_pretrained(ROOT), AgeGenderImageProcessor.from_pretrained(ROOT)
    pipeline = AgeGenderPipeline(model=model, image_processor=processor)
    paths = [ROOT / "assets" / "astronaut.jpg", *sorted((ROOT / "assets" / "portraits").glob("*.jpg"))]
    return {
        path.name: [[face["age"], *face["age_interval"], face["gender"]] for face in pipeline(str(path))]
        for path in paths
    }


def test_outputs_are_the_recorded_ones():
    outputs, golden = compute_outputs(), json.loads(GOLDEN.read_text())
    assert outputs.keys() == golden.keys()
    for name, expected in golden.items():
        for key, value in expected.items():
            np.testing.assert_allclose(outputs[name][key], value, rtol=1e-3, atol=1e-3, err_msg=f"{name} {key}")


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.bfloat16, 0.3), pytest.param(torch.float16, 0.03, marks=pytest.mark.slow)]
)
def test_half_precision_is_close(dtype, tolerance):
    outputs, golden = compute_outputs(dtype), json.loads(GOLDEN.read_text())
    for name, expected in golden.items():
        for key in ("age_logits", "gender_logits"):
            np.testing.assert_allclose(
                outputs[name][key], expected[key], rtol=0, atol=tolerance, err_msg=f"{name} {key}"
            )
        assert abs(outputs[name]["age"] - expected["age"]) <= 1


def test_the_astronaut():
    """Eileen Collins, 36 when the picture was taken."""
    face = compute_outputs()["astronaut"]
    assert face["gender_logits"][1] > face["gender_logits"][0]
    assert 20 < face["age"] < 50


@pytest.mark.slow
def test_examples_of_the_page_are_read_as_recorded():
    found, golden = read_examples(), json.loads(EXAMPLES.read_text())
    assert found.keys() == golden.keys()
    for name, faces in golden.items():
        assert [face[3] for face in found[name]] == [face[3] for face in faces], name
        numbers, expected = ([face[:3] for face in faces] for faces in (found[name], faces))
        np.testing.assert_allclose(numbers, expected, rtol=0, atol=1, err_msg=name)


@pytest.mark.slow
def test_the_astronaut_turned():
    """Neither the gender nor the age depends on how the photo lies."""
    model, processor = AgeGenderModel.from_pretrained(ROOT), AgeGenderImageProcessor.from_pretrained(ROOT)
    pipeline = AgeGenderPipeline(model=model, image_processor=processor)
    photo = Image.fromarray(data.astronaut())
    (upright,) = pipeline(photo)
    for angle in range(30, 360, 30):
        (face,) = pipeline(photo.rotate(angle, Image.Resampling.BICUBIC, expand=True))
        assert face["gender"] == upright["gender"] == "female", angle
        assert abs(face["age"] - upright["age"]) <= 4, angle


def test_files_in_the_root_are_of_one_training():
    results = json.loads((ROOT / "train_results.json").read_text())
    assert results["weights_sha256"] == compute_weights_sha256(str(ROOT))
    config = json.loads((ROOT / "config.json").read_text())
    assert {"age_interval_ages", "age_interval_levels", "gender_temperature"} <= results["calibration"].keys()
    assert {name: config[name] for name in results["calibration"]} == results["calibration"]
    evaluation = json.loads((ROOT / "benchmarks" / "evaluation_validation.json").read_text())
    assert evaluation["weights_sha256"] == results["weights_sha256"]
    assert (ROOT / "model.safetensors").stat().st_size <= 25e6


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(compute_outputs(), indent=1) + "\n")
    EXAMPLES.write_text(json.dumps(read_examples(), indent=1) + "\n")
