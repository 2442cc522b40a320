"""The network in half and double precision, traced and exported."""

import copy
import warnings

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from image_processing_agegender import AgeGenderImageProcessor, resize
from modeling_agegender import AgeGenderModel
from pipeline_agegender import AgeGenderPipeline
from tests.support.models import SIDE, make_model


HALF = [torch.bfloat16, torch.float16]
LABELS = {"age_labels": torch.tensor([3.0, float("nan"), 71.0]), "gender_labels": torch.tensor([0, 1, -100])}
# Of float16; the first layer of the shipped weights has more.
LARGE_VARIANCE = 150_000.0


@pytest.mark.parametrize("size", [(32, 32), (31, 47), (160, 160), (5, 4), (1, 3)])
@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0, 1.25])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_resizing_is_that_of_torch(size, factor, dtype):
    images = 60 * torch.randn(2, 3, *size, dtype=dtype, generator=torch.Generator().manual_seed(0))
    new_size = [max(1, round(side * factor)) for side in size]
    expected = F.interpolate(images, new_size, mode="bilinear", antialias=True)
    torch.testing.assert_close(
        resize(images, factor), expected, rtol=0, atol=1e-4 if dtype == torch.float32 else 1e-12
    )


@pytest.mark.parametrize("dtype", HALF)
def test_resizing_rounds_no_pixel(pixel_values, dtype):
    expected = resize(pixel_values, 0.8)
    with torch.autocast("cpu", dtype):
        assert torch.equal(resize(pixel_values, 0.8), expected)
    assert torch.equal(resize(pixel_values.to(dtype), 0.8), resize(pixel_values.to(dtype).float(), 0.8))


def cast(model: AgeGenderModel, dtype: torch.dtype, way: str, folder) -> AgeGenderModel:
    """Returns a copy of a model in another precision."""
    if way == "from_pretrained":
        model.save_pretrained(folder)
        return AgeGenderModel.from_pretrained(folder, dtype=dtype)
    return copy.deepcopy(model).to(dtype)


@pytest.mark.parametrize("way", ["from_pretrained", "to"])
@pytest.mark.parametrize("dtype", [*HALF, torch.float64])
def test_each_precision_gives_the_same_answer(pixel_values, tmp_path, dtype, way):
    model = make_model(age_statistic="interpolated_median")
    expected = model(pixel_values)
    other = cast(model, dtype, way, tmp_path)
    assert other.dtype == dtype
    for pixels in (pixel_values, pixel_values.to(dtype)):
        output = other(pixels)
        assert output.age_logits.dtype == output.gender_logits.dtype == dtype
        assert output.age.dtype == output.age_interval.dtype == torch.float32
        torch.testing.assert_close(output.age, expected.age, rtol=0, atol=0.5)
        torch.testing.assert_close(output.gender_logits.float(), expected.gender_logits, rtol=0, atol=0.02)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
@pytest.mark.parametrize("dtype", [*HALF, torch.float64])
def test_each_precision_trains(pixel_values, dtype, checkpointing):
    model = make_model().to(dtype).train()
    if checkpointing:
        model.activation_checkpointing_enable()
    loss = model(pixel_values, **LABELS).loss
    loss.backward()
    assert loss.dtype == torch.float32 and loss.isfinite()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in model.age_head.parameters())


@pytest.mark.parametrize("way", ["from_pretrained", "to"])
@pytest.mark.parametrize("dtype", HALF)
def test_variances_above_float16_survive(pixel_values, tmp_path, dtype, way):
    """Else the channels of the first layer are zero."""
    model = make_model()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.fill_(LARGE_VARIANCE)
    other = cast(model, dtype, way, tmp_path)
    for _ in range(2):
        variances = {value for name, value in other.state_dict().items() if "running_var" in name}
        assert all(value.dtype == torch.float32 and (value == LARGE_VARIANCE).all() for value in variances)
        other = cast(other, torch.float32, way, tmp_path / "again")
    torch.testing.assert_close(other(pixel_values).age_logits, model(pixel_values).age_logits, rtol=0, atol=0.05)


def test_half_precision_pipeline(estimator, noise, tmp_path):
    expected = estimator(noise, detect_faces=False)[0]
    for dtype in HALF:
        half = AgeGenderPipeline(
            model=copy.deepcopy(estimator.model).to(dtype), image_processor=estimator.image_processor
        )
        (face,) = half(noise, detect_faces=False)
        assert face["age"] == pytest.approx(expected["age"], abs=1)
        assert face["gender_score"] == pytest.approx(expected["gender_score"], abs=0.02)


@pytest.mark.parametrize("pixels", [np.zeros((1, 3, SIDE, SIDE), np.float32), [np.zeros((3, SIDE, SIDE))]], ids=type)
def test_pixels_that_are_no_tensor_are_refused(model, pixels):
    with pytest.raises(ValueError, match=f"got {type(pixels).__name__}: .*image_processor.images"):
        model(pixels)


@pytest.mark.parametrize(
    "pixels", [torch.zeros(1, 3, SIDE, SIDE, dtype=dtype) for dtype in (torch.uint8, torch.int64)]
)
def test_integers_are_refused(model, pixels):
    with pytest.raises(ValueError, match=f"must be floats.*{pixels.dtype}.*image_processor.images"):
        model(pixels)


def test_return_dict(model, pixel_values, noise):
    expected = model(pixel_values, output_hidden_states=True, output_attentions=True, return_dict=True)
    values = model(pixel_values, return_dict=False)
    assert type(values) is tuple and len(values) == 4
    assert all(torch.equal(value, other) for value, other in zip(values, expected.to_tuple(), strict=True))
    model.config.return_dict = False
    assert type(model(pixel_values)) is tuple
    assert (
        len(AgeGenderPipeline(model=model, image_processor=AgeGenderImageProcessor())(noise, detect_faces=False)) == 1
    )


def test_traced_model(pixel_values):
    model = make_model(return_dict=False, age_statistic="interpolated_median")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes that become constants
        traced = torch.jit.trace(model, torch.zeros_like(pixel_values))
    assert "upsample" not in str(traced.inlined_graph)  # ONNX has none that averages over pixels
    for value, expected in zip(traced(pixel_values), model(pixel_values), strict=True):
        torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("dynamo", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_onnx(pixel_values, tmp_path, dynamo):
    """At a side of 36, the strides leave odd sides, which ONNX divides in another way than Python."""
    model, pixels = make_model(return_dict=False), torch.randn(2, 3, 36, 36)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (pixels,), tmp_path / "model.onnx", input_names=["pixel_values"], dynamo=dynamo)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for value, expected in zip(session.run(None, {"pixel_values": pixels.numpy()}), model(pixels), strict=True):
        torch.testing.assert_close(torch.from_numpy(value), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_exported_model(model, pixel_values):
    batch = torch.export.Dim("batch", min=1, max=8)
    exported = torch.export.export(model, (pixel_values,), dynamic_shapes={"pixel_values": {0: batch}}).module()
    pixels = pixel_values[:2]
    torch.testing.assert_close(exported(pixels).age_logits, model(pixels).age_logits)


def test_shapes_on_the_meta_device(model):
    assert model.to("meta")(torch.zeros(2, 3, SIDE, SIDE, device="meta")).age_interval.shape == (2, 2)
