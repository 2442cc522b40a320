"""
Evaluates a model on blurred and low-resolution validation faces: errors, and coverage and width of the age interval.

    python -m benchmarks.blurring --data_dir UTKFace.tar.gz --output benchmarks/blurring.json

Uses validation images that calibrated no weights. They chose the epoch.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image, ImageFilter

from benchmarks.reporting import make_parser, report
from data.loaders import make_evaluation_dataloader
from data.utkface import load_utkface
from hub.errors import run
from hub.loading import load_model
from metrics.age_gender import describe_errors
from metrics.prediction import compute_metrics, compute_predictions
from metrics.results import compute_weights_sha256, describe_machine
from training.setup import draw_calibrating


ROOT = Path(__file__).resolve().parent.parent
SIDE = 200  # pixels, side of UTKFace's images


def reduce(side: int) -> Callable[[Image.Image], Image.Image]:
    """Returns a function that reduces an image to `side` pixels and enlarges it again."""
    return lambda image: image.resize((side, side), Image.Resampling.BICUBIC).resize(
        (SIDE, SIDE), Image.Resampling.BICUBIC
    )


CHANGES = {
    "as it is": lambda image: image,
    **{
        f"blurred by {radius} px": lambda image, r=radius: image.filter(ImageFilter.GaussianBlur(r))
        for radius in (2, 4, 8)
    },
    **{f"reduced to {side} px": reduce(side) for side in (50, 25)},
}


class ChangedImages:
    """An image processor that changes each image first."""

    def __init__(self, processor, change: Callable[[Image.Image], Image.Image]):
        self.processor, self.change = processor, change

    def __call__(self, images: list[Image.Image], **options):
        return self.processor([self.change(image.convert("RGB")) for image in images], **options)


def main():
    parser = make_parser(__doc__)
    parser.add_argument("--data_dir", required=True, help="UTKFace: folder, archive, Parquet folder or data set id.")
    parser.add_argument("--every", type=int, default=2, help="Use every n-th of these images. Default: 2.")
    arguments = parser.parse_args()
    accelerator = Accelerator(cpu=True)
    images = load_utkface(arguments.data_dir)["validation"]
    images = images.select(np.flatnonzero(~draw_calibrating(images, None))[:: arguments.every])
    model, processor = load_model(arguments.model)
    model = model.to(memory_format=torch.channels_last)  # as the batches are
    results = {"images": len(images), "split": "validation, without the calibrating images", "changes": {}}
    for name, change in CHANGES.items():
        predictions = compute_predictions(
            model, make_evaluation_dataloader(images, ChangedImages(processor, change), 16, 0), accelerator
        )
        metrics, overall = compute_metrics(model, predictions), describe_errors(predictions)["by_age"][0]
        results["changes"][name] = {
            **{key: round(metrics[key], 4) for key in ("age_mae", "gender_accuracy")},
            **{key: round(overall[key], 4) for key in ("interval_coverage", "interval_width")},
        }
        print(name, results["changes"][name])
    results |= {"weights_sha256": compute_weights_sha256(arguments.model), **describe_machine()}
    report(results, arguments.output)


if __name__ == "__main__":
    run(main)
