"""
Draws a photo and random augmentations of it.

    python -m scripts.preview_augmentation photo.jpg --output preview.png
"""

from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from data.augmentation import AugmentationArguments, FaceAugmentation
from files.writing import OutputParser
from hub.errors import run
from image_reading import to_rgb


def draw_preview(photo: Path, arguments: AugmentationArguments, rows: int = 3, columns: int = 6, side: int = 160):
    """Returns a sheet as a PIL image: the square centre of a photo, then augmentations of it."""
    image = to_rgb(photo)
    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    image = image.crop((left, top, left + edge, top + edge)).resize((side, side))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    batch = pixels.repeat(rows * columns, 1, 1, 1)
    batch[1:] = FaceAugmentation(arguments, height=side)(batch[1:], seed=0)
    sheet = batch.reshape(rows, columns, 3, side, side).permute(0, 3, 1, 4, 2).reshape(rows * side, columns * side, 3)
    return Image.fromarray((sheet * 255).round().byte().numpy())


def main():
    parser = OutputParser(description="Draws random augmentations of a photo.")
    parser.add_argument("photo", type=Path, help="A photo; its square centre is drawn.")
    parser.add_output(required=True, help="Picture file for the sheet.")
    for argument in fields(AugmentationArguments):
        parser.add_argument(
            f"--{argument.name}",
            type=float,
            default=argument.default,
            help=argument.metadata["help"] + " Default: %(default)s.",
        )
    arguments = parser.parse_args()
    values = {argument.name: getattr(arguments, argument.name) for argument in fields(AugmentationArguments)}
    draw_preview(arguments.photo, AugmentationArguments(**values)).save(arguments.output)
    print(f"Wrote {arguments.output}")


if __name__ == "__main__":
    run(main)
