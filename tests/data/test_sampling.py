"""The order of the images: all of them once an epoch, extra ones among them, and resuming within an epoch."""

import numpy as np
import pytest
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler

from data.sampling import ImageSampler, compute_age_weights


def draw_batches(sampler: ImageSampler, batch_size: int, num_processes: int) -> list[list[list[int]]]:
    """The batches of each process, as accelerate shares them."""
    batches = BatchSampler(sampler, batch_size, drop_last=True)
    return [list(BatchSamplerShard(batches, num_processes, index)) for index in range(num_processes)]


def test_each_epoch_has_all_images_in_an_order_of_its_own():
    sampler = ImageSampler(num_images=30, seed=3)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert sorted(first) == sorted(second) == list(range(30)) and len(sampler) == 30
    assert first != second and first != sorted(first)
    assert list(ImageSampler(num_images=30, seed=3)) == first != list(ImageSampler(num_images=30, seed=5))


def test_an_epoch_has_a_share_of_extra_images_in_its_midst():
    sampler = ImageSampler(num_images=30, num_extra=100, extra_share=0.25)
    first = list(sampler)
    assert len(first) == len(sampler) == 40
    assert sorted(index for index in first if index < 30) == list(range(30))
    extra = {index for index in first if index >= 30}
    assert len(extra) == 10 and max(extra) < 130 and any(index >= 30 for index in first[:20])
    sampler.set_epoch(1)
    assert {index for index in sampler if index >= 30} != extra
    assert len(ImageSampler(num_images=30, num_extra=5, extra_share=0.9)) == 35  # there are no more


@pytest.mark.parametrize("num_processes", [1, 2, 3])
@pytest.mark.parametrize("num_images", [12, 30, 35])
def test_processes_get_as_many_full_batches_of_different_images(num_images, num_processes):
    shares = draw_batches(ImageSampler(num_images), 4, num_processes)
    assert {len(share) for share in shares} == {num_images // (4 * num_processes)}
    images = [image for share in shares for batch in share for image in batch]
    assert len(set(images)) == len(images) and {len(batch) for share in shares for batch in share} == {4}


@pytest.mark.parametrize(("batch_size", "num_processes"), [(4, 2), (8, 1), (2, 1), (3, 3)])
def test_an_epoch_resumes_after_its_done_images_with_any_batches(batch_size, num_processes):
    """Two processes have done two batches of four each."""
    sampler = ImageSampler(num_images=40, num_extra=9, extra_share=0.1)
    sampler.set_epoch(2)
    epoch, state = list(sampler), sampler.state_dict()
    assert state == {"epoch": 2, "images": 0}
    done = [image for share in draw_batches(sampler, 4, 2) for batch in share[:2] for image in batch]
    assert set(done) == set(epoch[:16])

    resumed = ImageSampler(num_images=40, num_extra=9, extra_share=0.1)
    resumed.load_state_dict({"epoch": 2, "images": 16})
    left = [image for share in draw_batches(resumed, batch_size, num_processes) for batch in share for image in batch]
    assert not set(left) & set(done) and set(left) <= set(epoch)
    assert len(left) == 28 // (batch_size * num_processes) * batch_size * num_processes
    resumed.load_state_dict({"epoch": 3, "images": 0})
    assert len(list(resumed)) == 44


def test_rare_ages_come_more_often():
    ages = np.repeat([30, 70, -1], [900, 90, 10])
    weights = compute_age_weights(ages, balance=0.5)
    assert weights.shape == (121,) and weights[30] == weights[31] and weights[ages[:990]].mean() == pytest.approx(1)
    assert weights[70] / weights[30] == pytest.approx(10**0.5)
    assert set(compute_age_weights(ages, balance=0)) == {1.0}
    full = compute_age_weights(ages, balance=1)
    assert full[30] * 900 == pytest.approx(full[70] * 90)


def test_near_ages_count_together_and_the_first_year_has_fewer_neighbours():
    ages = np.repeat(np.arange(100), 10)
    weights = compute_age_weights(ages, balance=1)
    assert weights[:97] == pytest.approx(weights[0])
    assert len(np.unique(compute_age_weights(np.array([40, 42]), balance=1)[40:43])) == 1


def test_images_are_drawn_by_their_weights():
    weights = np.array([1.0] * 50 + [3.0] * 50 + [0.0] * 20 + [1.0] * 20)
    drawn = []
    for epoch in range(50):
        sampler = ImageSampler(100, 40, 0.2, seed=1, weights=weights)
        sampler.set_epoch(epoch)
        drawn += list(sampler)
        assert len(sampler) == 125
    counts = np.bincount(drawn, minlength=140)
    assert counts[50:100].sum() / counts[:50].sum() == pytest.approx(3, rel=0.1)
    assert counts[100:120].sum() == 0 and counts[120:].sum() == 50 * 25
    assert list(ImageSampler(100, weights=np.ones(100), seed=2)) == list(
        ImageSampler(100, weights=np.ones(100), seed=2)
    )
