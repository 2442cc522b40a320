"""Data loaders for training and evaluation."""

from collections.abc import Iterator
from datetime import timedelta

import datasets
import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from datasets import Dataset
from torch.utils.data import DataLoader, RandomSampler

from data.sampling import EvenBatches
from data.streaming import FaceStream, make_streaming_dataloader
from data.training_set import TrainingData
from data.transforms import to_model_inputs
from training.arguments import Arguments


# Of processes that wait while the main one fetches or builds a data set: torch's own, on GPUs, ends after ten minutes. Not
# much longer, since whoever waits for a machine that has lost its power waits as long.
PATIENCE = InitProcessGroupKwargs(timeout=timedelta(hours=3))


def make_train_dataloader(data: TrainingData, processor, arguments: Arguments, accelerator: Accelerator) -> DataLoader:
    """Shuffled batches of 0–1 pixels, with each image of an epoch once."""
    if data.shards:
        return make_streaming_dataloader(data.shards, processor, arguments, accelerator)
    dataset = data.splits["train"]
    if data.extra is not None:
        dataset = datasets.concatenate_datasets([dataset, data.extra])
    # Its own, since a loader draws a number when it starts: from torch's common ones, a resumed epoch, which starts a
    # loader once more, would have other dropout than an uninterrupted one.
    generator = torch.Generator()
    steps = data.count_steps(arguments.train.per_device_train_batch_size, accelerator.num_processes)
    dataloader = DataLoader(
        dataset.with_transform(to_model_inputs(processor, do_normalize=False)),
        batch_sampler=EvenBatches(
            data.mixer or RandomSampler(dataset, generator=generator), steps * accelerator.num_processes
        ),
        num_workers=arguments.data.dataloader_num_workers,
        generator=generator,
    )
    return accelerator.prepare(dataloader)


def read_batches(dataloader: DataLoader, num_skipped: int, accelerator: Accelerator) -> Iterator[dict]:
    """
    The batches of an epoch after the first ones, from what `make_train_dataloader` gives.

    Raises:
        OSError or ValueError: in one sentence, also where a worker met it.
    """
    if isinstance(dataloader.dataset, FaceStream):
        dataloader.dataset.num_skipped = num_skipped  # not even decoded
    else:
        dataloader = accelerator.skip_first_batches(dataloader, num_skipped)
    try:
        yield from dataloader
    except (OSError, ValueError) as error:
        if "in DataLoader worker process" not in str(error):
            raise
        # What comes from there is the whole traceback, at whose end the sentence stands.
        raise type(error)(str(error).rpartition(f"{type(error).__name__}: ")[2].strip()) from None


def make_dataloader(dataset: Dataset, processor, batch_size: int, num_workers: int) -> DataLoader:
    """Batches of `pixel_values`, `age_labels` and `gender_labels` in the order of the data set."""
    dataset = dataset.with_transform(to_model_inputs(processor, do_normalize=True))
    return DataLoader(dataset, batch_size=batch_size, num_workers=num_workers)
