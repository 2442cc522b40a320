"""Batches of like size that hold each image once."""

import pytest
import torch
from torch.utils.data import RandomSampler

from data.sampling import EvenBatches, count_steps, cut


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [2, 3, 4, 7])
def test_no_batch_is_larger_than_asked_or_holds_one_image(batch_size, processes):
    for num_images in range(batch_size * processes, 200):
        steps = count_steps(num_images, batch_size, processes)
        starts = cut(num_images, steps * processes)
        sizes = [end - start for start, end in zip(starts, starts[1:])]
        assert sum(sizes) == num_images and min(sizes) >= 2 and max(sizes) - min(sizes) <= 1
        # With batches of two, an image too many joins others; else none exceeds its size, and none could be spared.
        if num_images >= 2 * processes * steps + 2 * processes:
            assert max(sizes) <= batch_size and (steps - 1) * processes * batch_size < num_images


def test_two_processes_take_together_what_one_takes_with_twice_the_batch():
    for num_images in range(16, 100):
        steps = count_steps(num_images, 4, 2)
        assert steps == count_steps(num_images, 8, 1)
        assert cut(num_images, 2 * steps)[::2] == cut(num_images, steps)


def test_batches_are_what_the_sampler_draws():
    sampler = RandomSampler(range(10), generator=torch.Generator().manual_seed(0))
    batches = EvenBatches(sampler, 4)
    drawn = list(batches)
    assert [len(batch) for batch in drawn] == [2, 3, 2, 3] and len(batches) == 4
    assert sorted(sum(drawn, [])) == list(range(10)) and sum(drawn, []) != list(range(10))
