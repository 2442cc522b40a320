"""Writes the best weights of a training as a complete model folder."""

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from image_processing_agegender import AgeGenderImageProcessor
from modeling_agegender import AgeGenderModel
from pipeline_agegender import AgeGenderPipeline
from training.arguments import TrainArguments


@torch.no_grad()
def round_kernels(model: AgeGenderModel):
    """Rounds the kernels of convolutions to float16; they stay float32."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.copy_(module.weight.half())


def save_result(model: AgeGenderModel, processor: AgeGenderImageProcessor, arguments: TrainArguments):
    """Writes a complete model folder; with half-precision weights, kernels, nearly all of the file, as float16."""
    # Those of earlier weights. New ones are written last of all, so that what a kill leaves is not taken for a result.
    (arguments.output_dir / "train_results.json").unlink(missing_ok=True)
    AgeGenderPipeline(model=model, image_processor=processor).save_pretrained(arguments.output_dir)
    if arguments.half_precision_weights:
        file = arguments.output_dir / "model.safetensors"
        # Reading makes them float32 again, as the configuration says. Variances may lie beyond float16, so they stay.
        tensors = {name: values.half() if values.ndim == 4 else values for name, values in load_file(file).items()}
        save_file(tensors, file, metadata={"format": "pt"})
