"""Export to ONNX: the answers are those of the model."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import ModelProto, TensorProto

from face_detection import open_session
from hub.loading import load_pipeline
from image_processing_agegender import AgeGenderImageProcessor
from pipeline_agegender import OnnxNetwork, fold_batch_norm
from scripts import export_onnx as program
from scripts.export_onnx import OUTPUTS, export_onnx, find_differences, load_crops, make_file, quantize
from tests.support.models import make_model


ROOT = Path(__file__).resolve().parents[2]
PORTRAITS = ROOT / "assets" / "portraits"
PATHS = (b".py", b"/home", b"/root", b"/tmp", b"/work", b"site-packages", b"dist-packages")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model():
    return make_model().eval()


@pytest.fixture(scope="module")
def exported(model) -> bytes:
    return export_onnx(model).SerializeToString()


@pytest.fixture
def proto(exported) -> ModelProto:
    return ModelProto.FromString(exported)


def test_any_number_of_images_gives_the_models_answers(model, proto):
    content = proto.SerializeToString()
    for count in (1, 5):
        pixels = torch.randn(count, 3, model.config.image_size, model.config.image_size)
        values = open_session(content).run(list(OUTPUTS), {"pixel_values": pixels.numpy()})
        expected = model(pixels)
        for name, value in zip(OUTPUTS, values, strict=True):
            np.testing.assert_allclose(value, expected[name].detach().numpy(), rtol=1e-4, atol=1e-4)


def find_paths(proto) -> list[bytes]:
    """Returns what an ONNX file tells of the machine where it was made."""
    text = ModelProto.FromString(proto.SerializeToString())
    for tensor in text.graph.initializer:
        tensor.ClearField("raw_data")  # where any letters may stand
    return [path for path in PATHS if path in text.SerializeToString()]


def test_the_file_names_no_path_of_this_machine(proto):
    assert find_paths(proto) == []


def test_kernels_are_stored_in_half_and_computed_in_float32(model, proto):
    whole = proto.SerializeToString()
    content = make_file(proto, model)
    assert len(content) < 0.75 * len(whole)
    assert not any(each.data_type == TensorProto.FLOAT and len(each.dims) > 1 for each in proto.graph.initializer)
    pixels = torch.randn(8, 3, model.config.image_size, model.config.image_size)
    differences = find_differences(model, content, pixels)
    assert differences["gender"] == 0 and differences["most_years"] <= 1, differences


def test_differences_are_counted(model, proto):
    pixels = torch.randn(4, 3, model.config.image_size, model.config.image_size)
    other = make_model().eval()
    other.config.age_interval_levels = [0.5]
    assert find_differences(model, proto.SerializeToString(), pixels)["most_years"] == 0
    differences = find_differences(other, proto.SerializeToString(), pixels)
    assert differences.pop("age_interval") == 4 and differences.pop("most_years") > 0
    assert not any(differences.values())


def test_a_gender_that_is_a_toss_up_does_not_count(model, proto):
    pixels = torch.randn(4, 3, model.config.image_size, model.config.image_size)
    other = make_model().eval()
    with torch.no_grad():
        for values in list(other.gender_head.parameters())[-2:]:
            values *= -100
    assert find_differences(other, proto.SerializeToString(), pixels)["gender"] == 4
    other.config.gender_temperature = 1e6
    assert find_differences(other, proto.SerializeToString(), pixels)["gender"] == 0


def test_encoders_compute_in_8_bits_and_heads_do_not(model):
    pixels = torch.randn(24, 3, model.config.image_size, model.config.image_size)
    proto = quantize(fold_batch_norm(model), pixels)
    operations = [node.op_type for node in proto.graph.node]
    assert "QuantizeLinear" in operations and "Gemm" in operations
    kernels = [each for each in proto.graph.initializer if each.data_type == TensorProto.INT8 and len(each.dims) == 4]
    assert len(kernels) == operations.count("Conv")
    assert find_differences(model, make_file(proto, model), pixels)["mean_years"] < 3


def test_the_shipped_file_is_that_of_the_shipped_weights():
    file, pipe = ROOT / "onnx" / "model.onnx", load_pipeline(str(ROOT))
    OnnxNetwork(pipe.model, str(file))  # refuses a file of others
    content = file.read_bytes()
    assert len(content) <= 19e6 and find_paths(ModelProto.FromString(content)) == []
    crops = load_crops(pipe, str(PORTRAITS))
    assert len(crops) >= 8
    differences = find_differences(pipe.model, content, pipe.image_processor(crops).pixel_values)
    assert not any(differences.values()), differences


@pytest.mark.parametrize(
    ("different", "is_refused"),
    [({}, False), ({"most_years": 1.0}, False), ({"most_years": 2.0}, True), ({"gender": 1}, True)],
)
def test_a_file_is_written_if_no_answer_differs_by_much(
    different, is_refused, model, proto, tmp_path, monkeypatch, capsys
):
    output = tmp_path / "onnx" / "model.onnx"
    monkeypatch.setattr(program, "export_onnx", lambda _: proto)
    model.save_pretrained(tmp_path / "model")
    AgeGenderImageProcessor.of_model(model.config).save_pretrained(tmp_path / "model")
    monkeypatch.setattr(program, "find_differences", lambda *_: {"gender": 0, "most_years": 0.0} | different)
    words = ["--model", tmp_path / "model", "--images", PORTRAITS / "mae-jemison.jpg", "--output", output]
    monkeypatch.setattr(sys, "argv", ["export_onnx", *map(str, words)])
    if is_refused:
        with pytest.raises(ValueError, match="Nothing was written"):
            program.main()
        assert not output.exists()
    else:
        program.main()
        assert "1 face compared" in capsys.readouterr().out
        OnnxNetwork(model, str(output))
