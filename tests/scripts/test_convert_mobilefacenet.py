"""The conversion of a MobileFaceNet in ONNX, on made-up weights."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch.nn import functional as F

from configuration_agegender import AgeGenderConfig
from image_processing_agegender import AgeGenderImageProcessor
from modeling_agegender import AgeGenderModel
from scripts import convert_mobilefacenet
from scripts.convert_mobilefacenet import CONFIG, MEAN, STD, load_convolutions, read_onnx
from scripts.weight_conversion import convert, list_layers
from training.initial_model import load_config


# Kernel shape, stride and whether an activation follows: the layers of `make_config` without the pointwise convolution.
LAYERS = (
    ((4, 3, 3, 3), 2, True),
    ((4, 1, 3, 3), 1, True),
    ((8, 4, 1, 1), 1, True),
    ((8, 1, 3, 3), 2, True),
    ((4, 8, 1, 1), 1, False),
    ((8, 4, 1, 1), 1, True),
    ((8, 1, 3, 3), 1, True),
    ((4, 8, 1, 1), 1, False),
    ((6, 4, 1, 1), 1, True),
)
SHORTCUT = (5, 7)  # from the input of one layer to the output of another
SHIFT = 1 + 2  # pixels between the paddings of two strides


def make_config() -> AgeGenderConfig:
    return AgeGenderConfig(
        image_size=64,
        block_types=("conv", "depthwise_separable", "inverted_residual", "conv"),
        hidden_sizes=(4, 4, 4, 6),
        depths=(1, 1, 2, 1),
        strides=(2, 1, 2, 1),
        kernel_sizes=(3, 3, 3, 1),
        pool_sizes=(1, 1, 1, 1),
        expansions=(1, 1, 2, 1),
        hidden_act="prelu",
        mirror_averaging=False,
    )


@pytest.fixture
def parameters() -> list[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    """Random kernels, one of them zero, biases and slopes."""
    random = np.random.RandomState(0)
    values = []
    for shape, _, active in LAYERS:
        kernel = random.randn(*shape) * np.sqrt(2 / np.prod(shape[1:]))
        kernel[0] = 0  # as a quarter of the published ones
        slopes = random.rand(shape[0]).astype(np.float32) if active else None
        values.append((kernel.astype(np.float32), random.randn(shape[0]).astype(np.float32), slopes))
    return values


@pytest.fixture
def onnx_file(parameters, tmp_path, monkeypatch) -> Path:
    """The layers, and the two that follow in the published network."""
    nodes, tensors, tip = [], [], "input"
    ending = [(np.zeros((6, 1, 7, 7), np.float32), np.zeros(6, np.float32), None)] * 2
    for index, (kernel, bias, slopes) in enumerate(parameters + ending):
        names = {"kernel": kernel, "bias": bias} | ({"slopes": slopes[:, None, None]} if slopes is not None else {})
        tensors += [onnx.numpy_helper.from_array(array, f"{name}{index}") for name, array in names.items()]
        nodes.append(onnx.helper.make_node("Conv", [tip, f"kernel{index}", f"bias{index}"], [f"conv{index}"]))
        tip = f"conv{index}"
        if slopes is not None:
            nodes.append(onnx.helper.make_node("PRelu", [tip, f"slopes{index}"], [f"prelu{index}"]))
            tip = f"prelu{index}"
    graph = onnx.helper.make_graph(nodes, "network", [], [], tensors)
    data = onnx.helper.make_model(graph).SerializeToString()
    monkeypatch.setattr(convert_mobilefacenet, "WEIGHTS_SHA256", hashlib.sha256(data).hexdigest())
    (tmp_path / "network.onnx").write_bytes(data)
    return tmp_path / "network.onnx"


def compute_features(pixels: torch.Tensor, parameters: list) -> torch.Tensor:
    """Runs the published network: the same padding on all sides."""
    features = (pixels - MEAN) / STD
    for index, ((kernel, bias, slopes), (shape, stride, _)) in enumerate(zip(parameters, LAYERS)):
        if index == SHORTCUT[0]:
            shortcut = features
        groups = features.shape[1] if shape[1] == 1 else 1
        features = F.conv2d(
            features, torch.from_numpy(kernel), torch.from_numpy(bias), stride, shape[-1] // 2, groups=groups
        )
        if slopes is not None:
            features = F.prelu(features, torch.from_numpy(slopes))
        if index == SHORTCUT[1]:
            features = features + shortcut
    return features


@torch.no_grad()
def test_features_are_those_of_the_published_network_a_little_aside(onnx_file, parameters):
    pixels = torch.from_numpy(np.random.RandomState(1).randint(0, 256, (64, 64, 3), dtype=np.uint8))
    processor = AgeGenderImageProcessor(size={"height": 64, "width": 64})
    images = [pixels.numpy()]
    model = convert(load_convolutions, read_onnx(onnx_file), make_config(), images)
    features = model.encoder.compute_maps(processor(images).pixel_values)[-1]
    moved = pixels.permute(2, 0, 1)[None].float().roll((-SHIFT, -SHIFT), dims=(-2, -1))
    expected = compute_features(moved, parameters)
    inner = (..., slice(3, -3), slice(3, -3))
    torch.testing.assert_close(features[inner], expected[inner], rtol=1e-3, atol=1e-3)
    assert expected[inner].std() > 0.1


def test_channels_without_a_kernel_can_learn(onnx_file):
    """Their variance is zero, which must not make anything infinite."""
    model = convert(load_convolutions, read_onnx(onnx_file), make_config(), [np.zeros((64, 64, 3), np.uint8)])
    output = model.train()(torch.randn(4, 3, 64, 64), age_labels=torch.full((4,), 30.0))
    output.loss.backward()
    for layer in list_layers(model):
        assert layer.convolution.weight.grad.isfinite().all()
    assert output.loss.isfinite()


def test_other_files_are_refused(tmp_path):
    (tmp_path / "other.onnx").write_bytes(b"no network")
    with pytest.raises(ValueError, match=convert_mobilefacenet.WEIGHTS_SHA256):
        read_onnx(tmp_path / "other.onnx")


def test_network_of_the_configuration():
    """The 48 layers of a MobileFaceNet without its last two, and the pointwise one that copies its input."""
    model = AgeGenderModel(load_config(CONFIG))
    assert len(list_layers(model)) == 49
    assert model.encoder.compute_maps(torch.zeros(1, 3, 96, 96))[-1].shape == (1, 512, 6, 6)
