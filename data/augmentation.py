"""Augments batches of face crops with kornia, on the device of the images."""

from dataclasses import dataclass, field, fields

import kornia.augmentation as K
import torch
from torch import nn

from data.transforms import Normalization


@dataclass
class AugmentationArguments:
    """Strengths of the transforms; 0 turns one off."""

    flip: float = field(default=0.5, metadata={"help": "Probability of a mirror image."})
    rotation: float = field(default=15.0, metadata={"help": "Largest rotation, degrees."})
    scale: float = field(default=0.15, metadata={"help": "Largest change of size, share of the size."})
    shift: float = field(default=0.05, metadata={"help": "Largest shift, share of the side."})
    color: float = field(default=0.2, metadata={"help": "Largest change of brightness, contrast, saturation, share."})
    grayscale: float = field(default=0.1, metadata={"help": "Probability of a grey image."})
    blur: float = field(default=0.2, metadata={"help": "Probability of a Gaussian blur (small faces are soft)."})
    jpeg: float = field(default=0.0, metadata={"help": "Probability of JPEG artefacts. Slow on a CPU."})
    erasing: float = field(default=0.25, metadata={"help": "Probability that a rectangle is erased."})
    unchanged: float = field(default=0.0, metadata={"help": "Probability that an image is left as it is."})

    def __post_init__(self):
        for argument in fields(self):
            value = getattr(self, argument.name)
            upper = 180 if argument.name == "rotation" else 1
            if not 0 <= value <= upper:
                raise ValueError(f"{argument.name} must be in 0–{upper}, got {value}.")


# What makes faces hard to read in old, small or scanned photos, and a crop that is a little off.
DEGRADING = AugmentationArguments(
    flip=0, rotation=10, scale=0.1, shift=0.03, color=0.2, grayscale=0.3, blur=0.7, jpeg=0.5, erasing=0
)


class FaceAugmentation(nn.Module):
    """
    Changes each image of a batch at random.

    Args:
        arguments: Strengths of the transforms.
        height: Height of the images, pixels, which scales the blur.

    Example:

    ```python
    >>> augmentation = FaceAugmentation(AugmentationArguments(rotation=0))
    >>> augmentation(torch.rand(8, 3, 128, 128), seed=0).shape
    torch.Size([8, 3, 128, 128])
    ```
    """

    def __init__(self, arguments: AugmentationArguments, height: int = 128):
        super().__init__()
        self.transforms = nn.ModuleList(build_transforms(arguments, height))
        self.unchanged = arguments.unchanged

    @torch.no_grad()
    def forward(self, images: torch.Tensor, seed: int) -> torch.Tensor:
        """
        Augments a batch.

        Args:
            images: RGB in 0–1, (batch, 3, height, width), float.
            seed: Seed of the changes. The global generator of torch is neither used nor changed.

        Returns:
            Images of the same shape, in 0–1.
        """
        # kornia draws its numbers on the CPU, so only the CPU's generator is forked.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            changed = images
            for transform in self.transforms:
                changed = transform(changed)
            if self.unchanged:
                unchanged = torch.rand(len(images), 1, 1, 1) < self.unchanged
                changed = torch.where(unchanged.to(images.device), images, changed)
        return changed.clamp(0, 1)


class Degradation(nn.Module):
    """
    Degrades normalized images, `(batch, 3, height, width)`: most are then blurred, and many grey or compressed.

    Each batch is changed in another way, the first one of a new object always in the same.
    """

    def __init__(self, processor):
        super().__init__()
        self.normalize = Normalization(processor)
        self.augmentation = FaceAugmentation(DEGRADING, processor.size["height"])
        self.seed = 0

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        self.seed += 1
        pixels = pixel_values * self.normalize.std + self.normalize.mean
        return self.normalize(self.augmentation(pixels, self.seed))


def build_transforms(arguments: AugmentationArguments, height: int) -> list[nn.Module]:
    """Returns the kornia transforms with a strength above 0, in the order in which they apply."""
    affine = K.RandomAffine(
        degrees=arguments.rotation,
        translate=(arguments.shift, arguments.shift) if arguments.shift else None,
        scale=(1 - arguments.scale, 1 + arguments.scale) if arguments.scale else None,
        p=1.0,
    )
    kernel = 2 * (height // 10) + 1  # two and a half of the largest standard deviations to each side
    # No hue: kornia's HSV conversion takes longer than all other transforms.
    color = K.ColorJiggle(arguments.color, arguments.color, arguments.color, 0.0, p=0.8)
    transforms = [
        (arguments.flip, K.RandomHorizontalFlip(p=arguments.flip)),
        (arguments.rotation or arguments.scale or arguments.shift, affine),
        (arguments.color, color),
        (arguments.grayscale, K.RandomGrayscale(p=arguments.grayscale)),
        (arguments.blur, K.RandomGaussianBlur((kernel, kernel), (0.3, max(0.6, height / 25)), p=arguments.blur)),
        (arguments.jpeg, K.RandomJPEG((30.0, 90.0), p=arguments.jpeg)),
        (arguments.erasing, K.RandomErasing(scale=(0.02, 0.15), p=arguments.erasing)),
    ]
    return [transform for strength, transform in transforms if strength]
