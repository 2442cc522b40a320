"""How the images of an epoch are divided into batches: each of them once, and all batches of like size."""

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch.utils.data import BatchSampler, Sampler


def count_steps(num_images: int, batch_size: int, num_processes: int) -> int:
    """
    Steps of an epoch that has all images.

    As many as it takes for no batch to exceed its size, but for tiny data not so many that a batch has one image alone, of
    which batch normalisation can tell no variance. A last, short batch would be as bad: its statistics are those of few
    images, and validation follows at once.
    """
    return min(math.ceil(num_images / (batch_size * num_processes)), num_images // (2 * num_processes))


def cut(num_images: int, num_parts: int) -> list[int]:
    """Where the parts begin, and where the last one ends; their sizes differ by one image at most."""
    return [part * num_images // num_parts for part in range(num_parts + 1)]


class EvenBatches(BatchSampler):
    """
    So many batches of what a sampler draws, in its order.

    Args:
        sampler: Of an epoch's images.
        num_batches: Of all processes together, a multiple of their number.
    """

    def __init__(self, sampler: Sampler, num_batches: int):
        super().__init__(sampler, batch_size=1, drop_last=False)
        self.batch_size = None  # accelerate then takes batches as they are
        self.num_batches = num_batches

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[list[int]]:
        indices = list(self.sampler)
        for start, end in pairwise(cut(len(indices), self.num_batches)):
            yield indices[start:end]


class MixingSampler(Sampler):
    """
    All images of a data set once an epoch, in an order of the epoch's own, with a part of the extra ones among them.

    Args:
        num_images: The first so many images of the data set are not extra.
        num_extra: The number of extra images, which follow.
        share: Share of an epoch that is extra, 0–1; at most all of them.
        seed: Of order and choice, together with the number of the epoch.
    """

    def __init__(self, num_images: int, num_extra: int, share: float, seed: int):
        self.num_images, self.num_extra, self.seed, self.epoch = num_images, num_extra, seed, 0
        self.num_drawn = min(round(num_images * share / (1 - share)), num_extra)

    def set_epoch(self, epoch: int):
        """Called by accelerate before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_images + self.num_drawn

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        drawn = self.num_images + torch.randperm(self.num_extra, generator=generator)[: self.num_drawn]
        indices = torch.cat((torch.arange(self.num_images), drawn))
        yield from indices[torch.randperm(len(indices), generator=generator)].tolist()
