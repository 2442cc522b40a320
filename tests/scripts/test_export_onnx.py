"""Export to ONNX: the answers are those of the model."""

import numpy as np
import pytest
import torch
from onnx import TensorProto

from face_detection import open_session
from pipeline_agegender import fold_batch_norm
from scripts.export_onnx import OUTPUTS, export_onnx, find_differences, quantize, store_in_half
from tests.support.models import make_model


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model():
    return make_model().eval()


@pytest.fixture(scope="module")
def proto(model):
    return export_onnx(model)


def test_any_number_of_images_gives_the_models_answers(model, proto):
    content = proto.SerializeToString()
    for count in (1, 5):
        pixels = torch.randn(count, 3, model.config.image_size, model.config.image_size)
        values = open_session(content).run(list(OUTPUTS), {"pixel_values": pixels.numpy()})
        expected = model(pixels)
        for name, value in zip(OUTPUTS, values, strict=True):
            np.testing.assert_allclose(value, expected[name].detach().numpy(), rtol=1e-4, atol=1e-4)


def test_the_file_names_no_path_of_this_machine(proto):
    content = proto.SerializeToString()
    assert b".py" not in content and b"/home" not in content and b"site-packages" not in content


def test_kernels_are_stored_in_half_and_computed_in_float32(model, proto):
    whole = proto.SerializeToString()
    store_in_half(proto)
    content = proto.SerializeToString()
    assert len(content) < 0.75 * len(whole)
    assert not any(each.data_type == TensorProto.FLOAT and len(each.dims) > 1 for each in proto.graph.initializer)
    pixels = torch.randn(8, 3, model.config.image_size, model.config.image_size)
    assert max(find_differences(model, content, pixels).values()) <= 1


def test_differences_are_counted(model, proto):
    pixels = torch.randn(4, 3, model.config.image_size, model.config.image_size)
    other = make_model(seed=7).eval()
    assert max(find_differences(other, proto.SerializeToString(), pixels).values()) > 0


def test_encoders_compute_in_8_bits_and_heads_do_not(model):
    pixels = torch.randn(24, 3, model.config.image_size, model.config.image_size)
    proto = quantize(fold_batch_norm(model), pixels)
    operations = [node.op_type for node in proto.graph.node]
    assert "QuantizeLinear" in operations and "Gemm" in operations
    kernels = [each for each in proto.graph.initializer if each.data_type == TensorProto.INT8 and len(each.dims) == 4]
    assert len(kernels) == operations.count("Conv")
    store_in_half(proto)
    assert find_differences(model, proto.SerializeToString(), pixels)["years"] < 3
