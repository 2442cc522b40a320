"""Draws the order of the training images."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class ImageSampler(Sampler):
    """
    Draws all images of a data set once an epoch, in a new order each epoch, with a share of extra images among them.

    The position within an epoch is counted in images of all processes, so a training can resume with another batch size
    or another number of processes. The training loop sets it, since data loaders read ahead.

    Args:
        num_images: Images to draw every epoch. They are the first of the data set.
        num_extra: Extra images, which follow them in the data set.
        extra_share: Share of an epoch that is extra, 0–1. All extra images are drawn if they are fewer.
        seed: Seed of the order and of the choice of extra images, together with the number of the epoch.
    """

    def __init__(self, num_images: int, num_extra: int = 0, extra_share: float = 0.0, seed: int = 0):
        self.num_images, self.num_extra, self.seed = num_images, num_extra, seed
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
        drawn = self.num_images + torch.randperm(self.num_extra, generator=generator)[: self.num_drawn]
        indices = torch.cat((torch.arange(self.num_images), drawn))
        yield from indices[torch.randperm(len(indices), generator=generator)][self.images :].tolist()
