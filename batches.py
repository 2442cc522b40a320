"""How the images of an epoch are divided into batches: each of them once, and all batches of like size."""

import math
from collections.abc import Iterator
from itertools import pairwise

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
