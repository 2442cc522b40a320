"""The conversion from TensorFlow.js, on made-up weights and, where they lie at `FACERES_WEIGHTS`, on the real ones."""

import hashlib
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from configuration_agegender import AgeGenderConfig
from image_processing_agegender import AgeGenderImageProcessor
from modeling_agegender import AgeGenderConvLayer, AgeGenderModel
from scripts import convert_faceres, weight_conversion
from scripts.convert_faceres import load_convolutions, name_layers, read_tensorflowjs
from scripts.weight_conversion import convert
from tests.support.models import FACE_BOX


GOLDEN = Path(__file__).parents[1] / "golden" / "faceres_astronaut.json"
WEIGHTS = os.environ.get("FACERES_WEIGHTS")
needs_weights = pytest.mark.skipif(not WEIGHTS, reason="FACERES_WEIGHTS does not give the path of faceres-deep.json")
# What each stage of MobileNet-v1 becomes here.
WIDTHS = (4, 8, 8, 12, 12, 16)


def tiny_config() -> AgeGenderConfig:
    return AgeGenderConfig(image_size=64, hidden_sizes=WIDTHS)


def make_constants() -> dict[str, np.ndarray]:
    """Random constants with the names and layouts of the graph."""
    random = np.random.RandomState(0)
    block_widths = [width for width, depth in zip(WIDTHS[1:], (1, 2, 2, 6, 2)) for _ in range(depth)]
    constants, width = {}, WIDTHS[0]
    constants["conv1/convolution/merged_input"] = random.randn(3, 3, 3, width) / 500
    constants["conv1_bn/batchnorm_1/sub"] = random.randn(width)
    for block, out_width in enumerate(block_widths, start=1):
        constants[f"conv_dw_{block}/depthwise_kernel"] = random.randn(3, 3, width, 1)
        constants[f"conv_dw_{block}_bn/batchnorm_1/mul"] = random.rand(width) + 0.5
        constants[f"conv_dw_{block}_bn/batchnorm_1/sub"] = random.randn(width)
        constants[f"conv_pw_{block}/convolution/merged_input"] = random.randn(1, 1, width, out_width) / width**0.5
        constants[f"conv_pw_{block}_bn/batchnorm_1/sub"] = random.randn(out_width)
        width = out_width
    constants = {name: constant.astype(np.float32) for name, constant in constants.items()}
    return constants | {"global_pooling/axes": np.array([1, 2], dtype=np.int32)}


def write_graph(folder: Path, constants: dict[str, np.ndarray], dtype: str | None = None) -> Path:
    """A TensorFlow.js model, its weights in two files and the second of them a group of its own."""
    names = list(constants)
    groups = []
    for index, group in enumerate((names[:20], names[20:])):
        path = f"weights{index}.bin"
        (folder / path).write_bytes(b"".join(constants[name].tobytes() for name in group))
        weights = [
            {"name": name, "shape": list(constants[name].shape), "dtype": dtype or str(constants[name].dtype)}
            for name in group
        ]
        groups.append({"paths": [path], "weights": weights})
    graph_file = folder / "model.json"
    graph_file.write_text(json.dumps({"weightsManifest": groups}))
    return graph_file


@pytest.fixture
def constants() -> dict[str, np.ndarray]:
    return make_constants()


@pytest.fixture
def graph_file(tmp_path, constants, monkeypatch) -> Path:
    data = b"".join(constant.tobytes() for constant in constants.values())
    monkeypatch.setattr(convert_faceres, "WEIGHTS_SHA256", hashlib.sha256(data).hexdigest())
    return write_graph(tmp_path, constants)


@pytest.fixture
def images() -> list[Image.Image]:
    """Smooth pictures, each different."""
    random = np.random.RandomState(1)
    return [Image.fromarray(random.randint(0, 256, (8, 8, 3), dtype=np.uint8)).resize((64, 64)) for _ in range(8)]


def test_reads_constants_by_name(graph_file, constants):
    read = read_tensorflowjs(graph_file)
    assert list(read) == list(constants)
    for name, constant in constants.items():
        assert read[name].dtype == constant.dtype
        np.testing.assert_array_equal(read[name], constant)


@pytest.mark.parametrize("content", [b"no json", b'{"modelTopology": {}}', b"\xff\xfe\x00"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "wrong.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="wrong.json"):
        read_tensorflowjs(path)


def test_other_weights_are_refused(tmp_path, constants):
    with pytest.raises(ValueError, match=convert_faceres.WEIGHTS_SHA256):
        read_tensorflowjs(write_graph(tmp_path, constants))


def test_quantised_weights_are_refused(graph_file, constants):
    write_graph(graph_file.parent, constants, dtype="uint8")
    with pytest.raises(ValueError, match="uint8"):
        read_tensorflowjs(graph_file)


def scaled_kernel(layer: AgeGenderConvLayer) -> torch.Tensor:
    """What the layer multiplies pixels with, its batch normalisation's scale included."""
    normalization = layer.normalization
    scale = normalization.weight / (normalization.running_var + normalization.eps).sqrt()
    return scale[:, None, None, None] * layer.convolution.weight


@torch.no_grad()
def test_kernels_have_the_size_of_new_ones(constants):
    """Else an optimizer that steps alike for all would lose the small ones."""
    model = AgeGenderModel(tiny_config()).eval()
    load_convolutions(model, constants)
    for layer in name_layers(model).values():
        kernel = layer.convolution.weight
        assert kernel.square().mean().sqrt().item() == pytest.approx(math.sqrt(2 / kernel[0].numel()), rel=1e-3)


@torch.no_grad()
def test_kernels_and_shifts_find_their_places(constants):
    """Input channels of the first kernel reversed (BGR), HWIO to OIHW, HWC1 to C1HW, factors in the kernels."""
    model = AgeGenderModel(tiny_config()).eval()
    load_convolutions(model, constants)
    layers = name_layers(model)
    first, first_kernel = scaled_kernel(layers["conv1"]), constants["conv1/convolution/merged_input"]
    assert first[3, 0, 1, 2].item() == pytest.approx(float(first_kernel[1, 2, 2, 3]))
    assert first[1, 2, 0, 1].item() == pytest.approx(float(first_kernel[0, 1, 0, 1]))
    pointwise, pointwise_kernel = scaled_kernel(layers["conv_pw_2"]), constants["conv_pw_2/convolution/merged_input"]
    assert pointwise[5, 3, 0, 0].item() == pytest.approx(float(pointwise_kernel[0, 0, 3, 5]))
    depthwise, factors = scaled_kernel(layers["conv_dw_13"]), constants["conv_dw_13_bn/batchnorm_1/mul"]
    assert depthwise[7, 0, 2, 1].item() == pytest.approx(
        float(constants["conv_dw_13/depthwise_kernel"][2, 1, 7, 0] * factors[7])
    )
    for name, layer in layers.items():
        inputs = torch.zeros(1, layer.convolution.in_channels, 4, 4)
        shifts = torch.from_numpy(constants[f"{name}_bn/batchnorm_1/sub"]).clamp(0, 6)
        torch.testing.assert_close(layer(inputs)[0, :, 1, 1], shifts)


def test_other_network_is_refused(constants):
    with pytest.raises(ValueError, match="27"):
        load_convolutions(AgeGenderModel(AgeGenderConfig(depths=(1, 1, 2, 2, 5, 2), hidden_sizes=WIDTHS)), constants)


@torch.no_grad()
def test_other_widths_are_refused(constants):
    config = AgeGenderConfig(hidden_sizes=(4, 8, 8, 12, 12, 20))
    with pytest.raises(ValueError, match="conv_pw_12"):
        load_convolutions(AgeGenderModel(config), constants)


@torch.no_grad()
def check_restored_normalization(graph_file: Path, config: AgeGenderConfig, images: list[Image.Image]):
    """The outputs stay; the statistics are those of images and mirror images: train mode changes next to nothing."""
    folded = AgeGenderModel(config).eval()
    load_convolutions(folded, read_tensorflowjs(graph_file))
    model = convert(load_convolutions, read_tensorflowjs(graph_file), config, images)
    processor = AgeGenderImageProcessor(size={"height": config.image_size, "width": config.image_size})
    pixel_values = processor(images, return_tensors="pt").pixel_values
    pixel_values = torch.cat((pixel_values, pixel_values.flip(-1)))
    expected = folded.encoder.compute_maps(pixel_values)[-1]
    assert expected.std() > 0.1
    torch.testing.assert_close(model.encoder.compute_maps(pixel_values)[-1], expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(model.train().encoder.compute_maps(pixel_values)[-1], expected, rtol=0, atol=2e-3)


def test_restored_normalization(graph_file, images, monkeypatch):
    # Batches of unequal sizes: statistics over all images are not the mean of those over the batches.
    monkeypatch.setattr(weight_conversion, "BATCH_SIZE", len(images) - 1)
    check_restored_normalization(graph_file, tiny_config(), images)


def test_conversion_is_the_same_each_time(graph_file, images):
    models = [convert(load_convolutions, read_tensorflowjs(graph_file), tiny_config(), images[:2]) for _ in range(2)]
    assert all(torch.equal(*values) for values in zip(*(model.state_dict().values() for model in models)))


@needs_weights
@pytest.mark.slow
def test_restored_normalization_of_the_real_weights(photo):
    left, upper, right, lower = FACE_BOX
    images = [photo.crop((left + step, upper + step, right + step, lower - step)) for step in (-30, -10, 0, 10, 30)]
    check_restored_normalization(Path(WEIGHTS), AgeGenderConfig(), images)


@needs_weights
@torch.no_grad()
def test_encoder_gives_the_numbers_of_tensorflowjs(photo):
    golden = json.loads(GOLDEN.read_text())["outputs"]
    features = golden["conv_pw_13_relu/clip_by_value"]
    model = AgeGenderModel(AgeGenderConfig()).eval()
    load_convolutions(model, read_tensorflowjs(Path(WEIGHTS)))
    processor = AgeGenderImageProcessor(size={"height": 128, "width": 128})
    output = model.encoder.compute_maps(processor(photo.crop(FACE_BOX), return_tensors="pt").pixel_values)[-1][0]
    assert output.shape == (1024, 4, 4)
    close = {"rtol": 0, "atol": 1e-4}
    np.testing.assert_allclose(output[:8].permute(1, 2, 0), features["channels_0_to_7"], **close)
    np.testing.assert_allclose(
        output[features["most_active_channels"]], features["most_active_channels_values"], **close
    )
    np.testing.assert_allclose(output.mean(dim=(1, 2))[:64], golden["global_pooling/Mean"]["first_64"], **close)
    assert output.mean().item() == pytest.approx(features["mean"], abs=1e-4)
    assert math.sqrt(output.var(correction=0)) == pytest.approx(features["std"], abs=1e-4)
