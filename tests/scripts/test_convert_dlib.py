"""The conversion from dlib's file format, on made-up weights and, where they lie at `DLIB_WEIGHTS`, on the real ones."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from configuration_agegender import AgeGenderConfig
from image_processing_agegender import AgeGenderImageProcessor
from modeling_agegender import AgeGenderModel
from scripts import convert_dlib
from scripts.convert_dlib import CONFIG, DLIB_MEAN, load_convolutions, read_dlib
from scripts.weight_conversion import convert, list_layers
from training.initial_model import load_config


WEIGHTS = os.environ.get("DLIB_WEIGHTS")
needs_weights = pytest.mark.skipif(
    not WEIGHTS, reason="DLIB_WEIGHTS does not give the path of dlib_face_recognition_resnet_model_v1.dat"
)


def tiny_config(**changes) -> AgeGenderConfig:
    fields = {
        "image_size": 32,
        "block_types": ("conv", "residual", "residual"),
        "hidden_sizes": (4, 4, 6),
        "depths": (1, 1, 2),
        "strides": (2, 1, 2),
        "kernel_sizes": (7, 3, 3),
        "pool_sizes": (2, 1, 1),
        "hidden_act": "relu",
    }
    return AgeGenderConfig(**fields | changes)


@pytest.fixture
def parameters() -> list[tuple[np.ndarray, np.ndarray]]:
    """Random kernels with biases, then scales with shifts, for each layer of the tiny network."""
    random = np.random.RandomState(0)
    values = []
    for layer in list_layers(AgeGenderModel(tiny_config())):
        kernel = layer.convolution.weight
        spread = 20 if kernel.shape[1] == 3 else 1  # the first one sees pixels up to 0.5
        weights = spread * random.randn(kernel.numel()) / kernel[0].numel() ** 0.5
        affine = np.concatenate((random.rand(len(kernel)) + 0.5, random.randn(len(kernel))))
        values.append((np.concatenate((weights, random.randn(len(kernel)))), affine))
    return [(convolution.astype(np.float32), affine.astype(np.float32)) for convolution, affine in values]


def encode_int(value: int) -> bytes:
    size = max((value.bit_length() + 7) // 8, 1)
    return bytes([size]) + value.to_bytes(size, "little")


def encode_tensor(values: np.ndarray) -> bytes:
    return b"".join(map(encode_int, (2, len(values), 1, 1, 1))) + values.astype("<f4").tobytes()


@pytest.fixture
def dlib_file(tmp_path, parameters, monkeypatch) -> Path:
    """Layers as dlib writes them, with others between."""
    data = b"\x01\x01\x01\x0dloss_metric_2"
    for convolution, affine in parameters:
        data += b"\x01\x05con_4" + encode_tensor(convolution) + b"\x01\x07affine_" + encode_tensor(affine)
        data += b"\x01\x06relu_1" + encode_tensor(np.zeros(0))
    path = tmp_path / "network.dat"
    path.write_bytes(data)
    monkeypatch.setattr(convert_dlib, "WEIGHTS_SHA256", hashlib.sha256(data).hexdigest())
    return path


def test_reads_layers_in_order(dlib_file, parameters):
    read = read_dlib(dlib_file)
    assert len(read) == len(parameters)
    for values, expected in zip(read, parameters):
        np.testing.assert_array_equal(values[0], expected[0])
        np.testing.assert_array_equal(values[1], expected[1])


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "other.dat"
    path.write_bytes(b"no network")
    with pytest.raises(ValueError, match=convert_dlib.WEIGHTS_SHA256):
        read_dlib(path)


def test_other_format_is_refused(dlib_file, monkeypatch):
    data = dlib_file.read_bytes().replace(b"con_4\x01\x02", b"con_4\x01\x03")
    dlib_file.write_bytes(data)
    monkeypatch.setattr(convert_dlib, "WEIGHTS_SHA256", hashlib.sha256(data).hexdigest())
    with pytest.raises(ValueError, match="second format"):
        read_dlib(dlib_file)


@torch.no_grad()
def test_first_layer_sees_what_dlib_sees(parameters):
    """RGB minus dlib's mean over 256, convolved, plus bias, scaled and shifted, from our processor's pixels."""
    model = AgeGenderModel(tiny_config()).eval()
    load_convolutions(model, parameters)
    pixels = np.random.RandomState(2).randint(0, 256, (32, 32, 3), dtype=np.uint8)
    processor = AgeGenderImageProcessor(size={"height": 32, "width": 32})
    output = list_layers(model)[0](processor(Image.fromarray(pixels), return_tensors="pt").pixel_values)
    convolution, affine = parameters[0]
    kernel, bias = convolution[:-4].reshape(4, 3, 7, 7), convolution[-4:]
    # "Same" padding of 5 pixels, 2 before: output (5, 6) looks at rows 8 to 14 and columns 10 to 16.
    window = (pixels[8:15, 10:17].astype(np.float32) - DLIB_MEAN) / 256
    expected = affine[:4] * ((kernel * window.transpose(2, 0, 1)).sum(axis=(1, 2, 3)) + bias) + affine[4:]
    np.testing.assert_allclose(output[0, :, 5, 6], expected.clip(min=0), atol=1e-4)
    assert expected.max() > 0.1


@torch.no_grad()
def test_restored_normalization(dlib_file):
    """The outputs stay, and the statistics are those of the images: train mode changes next to nothing."""
    random = np.random.RandomState(1)
    images = [Image.fromarray(random.randint(0, 256, (8, 8, 3), dtype=np.uint8)).resize((32, 32)) for _ in range(8)]
    plain = AgeGenderModel(tiny_config()).eval()
    load_convolutions(plain, read_dlib(dlib_file))
    model = convert(load_convolutions, read_dlib(dlib_file), tiny_config(), images)
    pixel_values = AgeGenderImageProcessor(size={"height": 32, "width": 32})(images, return_tensors="pt").pixel_values
    pixel_values = torch.cat((pixel_values, pixel_values.flip(-1)))
    expected = plain.encoder.compute_maps(pixel_values)[-1]
    assert expected.std() > 0.1
    torch.testing.assert_close(model.encoder.compute_maps(pixel_values)[-1], expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(model.train().encoder.compute_maps(pixel_values)[-1], expected, rtol=0, atol=2e-2)


@torch.no_grad()
def test_other_networks_are_refused(parameters):
    with pytest.raises(ValueError, match="dlib's network has 7"):
        load_convolutions(AgeGenderModel(tiny_config(depths=(1, 1, 1))), parameters)
    with pytest.raises(ValueError, match="Convolution 3"):
        load_convolutions(AgeGenderModel(tiny_config(hidden_sizes=(4, 4, 8))), parameters)


@needs_weights
def test_the_real_weights_fill_the_network():
    parameters = read_dlib(Path(WEIGHTS))
    assert len(parameters) == 29
    model = AgeGenderModel(load_config(CONFIG)).eval()
    with torch.no_grad():
        load_convolutions(model, parameters)
    first, last = list_layers(model)[0], list_layers(model)[-1]
    assert last.convolution.out_channels == 256 and last.normalization.bias.abs().min() > 0
    kernel, (convolution, affine) = first.convolution.weight.flatten(), parameters[0]
    assert convolution[0] == pytest.approx(-0.02932992)
    scale = first.normalization.weight[0] / first.normalization.running_var[0].add(first.normalization.eps).sqrt()
    assert (256 * kernel[0] * scale).item() == pytest.approx(convolution[0] * affine[0], rel=1e-3)
