"""Data loaders for training and evaluation."""

from collections.abc import Iterator
from datetime import timedelta

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch.utils.data import DataLoader

from data.sampling import ImageSampler
from data.streaming import StreamedFaces, make_streaming_dataloader
from data.training_set import TrainingData
from data.transforms import set_model_inputs


# How long processes wait for the main one, which downloads or builds the data set. The default on GPUs is ten minutes.
PROCESS_GROUP_TIMEOUT = InitProcessGroupKwargs(timeout=timedelta(hours=3))


def make_train_dataloader(
    data: TrainingData,
    processor,
    *,
    batch_size: int,
    num_workers: int,
    extra_share: float,
    age_weights: np.ndarray | None,
    buffer_size: int,
    seed: int,
    strict: bool,
    accelerator: Accelerator,
) -> tuple[DataLoader, ImageSampler | StreamedFaces]:
    """
    Makes shuffled batches of 0–1 pixels. An epoch leaves out images that do not fill a batch on each process.

    With `age_weights`, from `compute_age_weights`, images come as often as their ages weigh.

    Returns:
        The prepared loader, and the object whose `load_state_dict({"epoch": …, "images": …})` sets its next iteration.

    Raises:
        ValueError: if the images do not fill one batch on each process.
    """
    options = {"batch_size": batch_size, "num_workers": num_workers}
    if data.shards:
        options |= {"buffer_size": buffer_size, "seed": seed, "strict": strict, "accelerator": accelerator}
        dataloader = make_streaming_dataloader(data.shards, processor, **options)
        sampler = dataloader.dataset
    else:
        dataset = data.splits["train"]
        if data.extra is not None:
            dataset = datasets.concatenate_datasets([dataset, data.extra])
        weights = None
        if age_weights is not None:
            ages = data.find_ages()
            weights = np.where(ages < 0, 1, age_weights[ages])
        num_extra = len(data.extra or ())
        sampler = ImageSampler(len(dataset) - num_extra, num_extra, extra_share, seed, weights)
        dataset = set_model_inputs(dataset, processor, do_normalize=False)
        # Its own generator: a loader draws a number when it starts. Drawn from torch's global generator, it would change
        # the dropout of a resumed epoch, which starts the loader once more.
        dataloader = accelerator.prepare(
            DataLoader(dataset, sampler=sampler, drop_last=True, generator=torch.Generator(), **options)
        )
    if not len(dataloader):
        raise ValueError(
            f"{len(data.splits['train'])} training images do not fill one batch of {batch_size}"
            f"{f' on each of {accelerator.num_processes} devices' * (accelerator.num_processes > 1)}: give more images, or "
            "lower --per_device_train_batch_size."
        )
    return dataloader, sampler


def read_batches(dataloader: DataLoader) -> Iterator[dict]:
    """Yields the batches of a loader. Errors in its workers are raised with their own message, without a traceback in it."""
    try:
        yield from dataloader
    except (OSError, ValueError) as error:
        if "in DataLoader worker process" not in str(error):
            raise
        raise type(error)(str(error).rpartition(f"{type(error).__name__}: ")[2].strip()) from None


def make_evaluation_dataloader(images: datasets.Dataset, processor, batch_size: int, num_workers: int) -> DataLoader:
    """Makes batches of `pixel_values`, `age_labels` and `gender_labels` in the order of the data set."""
    images = set_model_inputs(images, processor, do_normalize=True)
    return DataLoader(images, batch_size=batch_size, num_workers=num_workers)
