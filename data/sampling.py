"""Draws the order of the training images."""

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler

from data.labels import MAXIMUM_AGE


NEAR_YEARS = 3  # ages within these years count as one


def compute_age_weights(ages: np.ndarray, balance: float) -> np.ndarray:
    """
    Computes how much more often than others each age is drawn, so that rare ages come more often.

    Args:
        ages: Ages of the images in whole years, negative if unknown, shape `(num_images,)`.
        balance: 0 draws all images alike, 1 all ages alike, and what lies between in between.

    Returns:
        Weights of the ages of 0, 1, … years, with a mean of 1 over the images, float64, shape `(MAXIMUM_AGE + 1,)`.
    """
    known = ages[ages >= 0]
    years = np.arange(MAXIMUM_AGE + 1)
    near = np.abs(years[:, None] - years) <= NEAR_YEARS
    counts = near @ np.bincount(known, minlength=len(years)) / near.sum(axis=1)
    weights = counts.clip(min=1) ** -balance  # ages that are not there get the weight of very rare ones
    return weights / (weights[known].mean() if len(known) else 1)


class ImageSampler(Sampler):
    """
    Draws all images of a data set once an epoch, in a new order each epoch, with a share of extra images among them.

    The position within an epoch is counted in images of all processes, so a training can resume with another batch size
    or another number of processes. The training loop sets it, since data loaders read ahead.

    Args:
        num_images: Images to draw every epoch. They are the first of the data set.
        num_extra: Extra images, which follow them in the data set.
        extra_share: Share of an epoch that is extra, 0–1. All extra images are drawn if they are fewer.
        seed: Seed of the order and of the choice of images, together with the number of the epoch.
        weights: How often each image is drawn, relative to the others of its part, shape `(num_images + num_extra,)`. An
            image may then come more than once an epoch, and another not at all. Defaults to each image once.
    """

    def __init__(
        self,
        num_images: int,
        num_extra: int = 0,
        extra_share: float = 0.0,
        seed: int = 0,
        weights: np.ndarray | None = None,
    ):
        self.num_images, self.num_extra, self.seed = num_images, num_extra, seed
        self.weights = None if weights is None else torch.from_numpy(weights)
        self.num_drawn = min(round(num_images * extra_share / (1 - extra_share)), num_extra)
        self.epoch = self.images = 0

    def set_epoch(self, epoch: int):
        """Chooses the order; accelerate calls it before each iteration."""
        self.epoch = epoch

    def state_dict(self) -> dict[str, int]:
        """Returns the epoch and the number of its finished images, after which the next iteration starts."""
        return {"epoch": self.epoch, "images": self.images}

    def load_state_dict(self, state: dict[str, int]):
        self.epoch, self.images = state["epoch"], state["images"]

    def __len__(self) -> int:
        """Returns the number of images of a whole epoch."""
        return self.num_images + self.num_drawn

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        indices = torch.arange(self.num_images)
        drawn = torch.randperm(self.num_extra, generator=generator)[: self.num_drawn]
        if self.weights is not None:
            own, extra = self.weights.split([self.num_images, self.num_extra])
            indices = torch.multinomial(own, self.num_images, replacement=True, generator=generator)
            if self.num_drawn:
                drawn = torch.multinomial(extra, self.num_drawn, replacement=True, generator=generator)
        indices = torch.cat((indices, self.num_images + drawn))
        yield from indices[torch.randperm(len(indices), generator=generator)][self.images :].tolist()
