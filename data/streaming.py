"""
Streams training images from Parquet files, local or on the Hub, without building a data set of them first.

The splits are those of the data. Near-duplicates across them are not searched, which would take reading all images:
`scripts.publish_data` publishes data without any.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice

import datasets
import fsspec
import numpy as np
import pyarrow.parquet as pq
import torch
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from datasets.distributed import split_dataset_by_node
from torch.utils.data import DataLoader

from data.labels import LABELS, check_labels, find_labels, is_utkface, read_labels
from data.sources import READING_ERRORS, Source
from data.splits import read_list
from data.tables import (
    SPLIT_NAMES,
    check_columns,
    check_genders,
    check_label_columns,
    escape_files,
    explain_absence,
    group_by_split,
    is_parquet,
    raise_cause,
    read_name,
    rename_splits,
)
from data.transforms import to_model_inputs
from data.utkface import FEATURES, load_utkface
from files.folders import expand_home, find_files
from hub.errors import plain_errors


logger = datasets.logging.get_logger(__name__)

# The columns that `read_names` yields.
NAMES = datasets.Features(
    {name: FEATURES[name] for name in ("file_name", *LABELS)} | {"shard": datasets.Value("int32")}
)


@dataclass
class Shards:
    """The files of the training images, as paths or addresses like hf://datasets/…, and the number of images in each."""

    files: list[str]
    sizes: list[int]


def find_shards(data_dir: str) -> dict[str, list[str]]:
    """
    Lists the Parquet files of each split, as paths or as addresses with the commit of a data set on the Hub.

    Raises:
        ValueError: if there are no such files, or if they are not split.
    """
    data_dir = expand_home(data_dir)
    found = [file.path for file in find_files(data_dir)[1]]
    files = [file for file in found if is_parquet(file) and not os.path.basename(file).startswith(".")]
    if found or os.path.exists(data_dir):
        shards = group_by_split(data_dir, files) if files else {}
    else:
        with explain_absence(data_dir):
            found = datasets.load_dataset_builder(data_dir).config.data_files or {}
        shards = {str(name): list(filter(is_parquet, files)) for name, files in found.items()}
        shards = rename_splits({name: files for name, files in shards.items() if files})
    if not {"train", "validation"} <= set(shards) <= set(SPLIT_NAMES):
        raise ValueError(
            "--streaming needs Parquet files of the splits train and validation, and optionally test, named like "
            f"train-00000.parquet, but {data_dir} has {', '.join(sorted(shards)) or 'none'}: publish it with "
            "scripts.publish_data, or leave --streaming out."
        )
    return shards


def read_names(files: tuple[str, ...], keys: tuple[str, ...]) -> Iterator[dict]:
    """
    Yields the name and the labels of each training image, and the number of its file, without reading the image.

    Args:
        files: Parquet files, in a tuple, since `datasets` divides a list between calls.
        keys: Change with the files, and so the key of this call in the cache of `datasets`.

    Raises:
        ValueError: if a label is unusable or a name comes twice.
    """
    seen = set()
    for number, file in enumerate(files):
        # The columns are small parts of a file: the read-ahead that is usual for addresses would fetch the images too.
        with fsspec.open(file, **({"cache_type": "none"} if "://" in file else {})) as opened:
            parquet = pq.ParquetFile(opened)
            features = datasets.Features.from_arrow_schema(parquet.schema_arrow)
            columns = [*find_labels(features), *(["file_name"] if "file_name" in features else [])]
            rows = parquet.read(columns=[*columns, "image.path"]).flatten().to_pylist()
        for row in rows:
            name = read_name(row, f"train-{len(seen)}")
            try:
                labels = check_labels(read_labels(row, features))
                if name in seen:
                    raise ValueError("another image has the same name")
            except ValueError as error:
                raise ValueError(f"{name} in {file}: {error}. --streaming needs usable images.") from error
            seen.add(name)
            yield {"file_name": name, **labels, "shard": number}


def load_streamed_faces(data_dir: str, strict: bool) -> tuple[datasets.DatasetDict, Shards]:
    """
    Loads the evaluation images, and the names and labels of the training images.

    The first call reads these labels, with a small request for each row group of a file on the Hub. Later calls find
    them in the cache of `datasets`, unless the files have changed.

    Returns:
        `train` with file_name and the columns of labels; `validation`, and `test` if there is one, as from
        `load_utkface`; and the files of `train`.

    Raises:
        ValueError: if the data cannot be streamed, or if an evaluation image is among the training images.
    """
    shards = find_shards(data_dir)
    files = shards.pop("train")
    table = datasets.load_dataset("parquet", data_files=escape_files(shards))
    for features in (open_stream(files).features, next(iter(table.values())).features):
        check_columns(data_dir, features, "image")
        check_label_columns(data_dir, features)
    check_genders(data_dir, table)
    held_out = load_utkface(Source(data_dir, table=table), strict)
    keys = tuple(file_system.ukey(path) for file_system, path in map(fsspec.core.url_to_fs, files))
    with raise_cause():
        train = datasets.Dataset.from_generator(
            read_names, features=NAMES, gen_kwargs={"files": tuple(files), "keys": keys}
        )
    evaluated = {name for split in held_out.values() for name in split["file_name"]}
    if is_utkface(train["file_name"]):
        evaluated |= read_list("test") | read_list("excluded")
    leaks = [name for name in train["file_name"] if name in evaluated]
    if leaks:
        raise ValueError(
            f"{len(leaks)} training images of {data_dir} are evaluation images, for instance {leaks[0]}: publish the data "
            "with scripts.publish_data, or leave --streaming out."
        )
    sizes = np.bincount(train["shard"], minlength=len(files)).tolist()
    return datasets.DatasetDict({"train": train.remove_columns("shard"), **held_out}), Shards(files, sizes)


def open_stream(files: list[str]) -> datasets.IterableDataset:
    return datasets.load_dataset("parquet", data_files=escape_files({"train": files}), split="train", streaming=True)


class StreamedFaces(torch.utils.data.IterableDataset):
    """
    The encoded rows of one process, in an order that depends on the seed and the epoch.

    Each process reads its own files if the shares are about equal, otherwise its share of the rows of all files. In an
    epoch, all processes get the same number of images; no image comes twice, and a few may be left out. Images far apart in
    a few long files never meet in a batch, so `scripts.publish_data` shuffles them.

    A resumed epoch reads the finished images again, without decoding them. With another number of processes, it may repeat
    some images and leave out others.

    Args:
        shards: From `load_streamed_faces`.
        buffer_size: Images in the shuffle buffer, which holds them encoded.
        seed: Seed of the order.
        process_index: Index of this process among the `num_processes` that share the images.
    """

    def __init__(self, shards: Shards, buffer_size: int, seed: int, process_index: int, num_processes: int):
        self.num_processes, self.epoch, self.images = num_processes, 0, 0
        sizes = sorted(shards.sizes)
        smallest, equal = sum(sizes[: len(sizes) // num_processes]), sum(sizes) // num_processes
        has_own_files = len(sizes) % num_processes == 0 and smallest >= 0.95 * equal
        self.num_images = smallest if has_own_files else equal
        stream = open_stream(shards.files)
        self.features = stream.features
        stream = stream.cast_column("image", datasets.Image(decode=False)).shuffle(seed, buffer_size=buffer_size)
        strategy = "shards" if has_own_files else "examples"
        self.stream = split_dataset_by_node(stream, process_index, num_processes, strategy)

    def __len__(self) -> int:
        """Returns the number of images of this process in a whole epoch."""
        return self.num_images

    def set_epoch(self, epoch: int):
        """Sets the order. accelerate calls it before each epoch."""
        if epoch != self.epoch:
            self.load_state_dict({"epoch": epoch, "images": 0})

    def state_dict(self) -> dict:
        return {"epoch": self.epoch, "images": self.images}

    def load_state_dict(self, state: dict):
        """Sets the epoch, and the number of images that all processes together have done in it."""
        self.epoch, self.images = state["epoch"], state["images"]

    def __iter__(self) -> Iterator[dict]:
        """Yields the rows that are not done. Raises ValueError, which a worker can pass on, if the Hub fails."""
        self.stream.set_epoch(self.epoch)
        # By `iter`: iterated directly, `datasets` gives another order in a worker than outside.
        batches = self.stream.iter(batch_size=64)
        rows = (dict(zip(batch, values)) for batch in batches for values in zip(*batch.values()))
        with plain_errors("No more training images could be read", "Resume with --resume_from_checkpoint latest."):
            yield from islice(rows, self.images // self.num_processes, len(self))


def read_row(row: dict, features: datasets.Features, processor, strict: bool) -> dict[str, torch.Tensor] | None:
    """Decodes a row to a batch of one image with 0–1 pixels; returns None, with a warning, if it is unusable."""
    try:
        labels = check_labels(read_labels(row, features))
        rows = {name: [value] for name, value in labels.items()} | {"image": [row["image"]]}
        return to_model_inputs(rows, processor, do_normalize=False)
    except READING_ERRORS as error:
        name = read_name(row | {"image.path": row["image"]["path"]}, "an image")
        if strict:
            raise ValueError(f"{name}: {error}") from error
        logger.warning(f"{name} is left out: {error}")
        return None


def collate_rows(rows: list[dict], read, num_threads: int) -> dict[str, torch.Tensor]:
    """Decodes encoded rows in threads. Raises ValueError if fewer than two are usable, too few for batch normalization."""
    with ThreadPoolExecutor(num_threads) as pool:
        images = [image for image in pool.map(read, rows) if image]
    if len(images) < 2:
        raise ValueError(f"Of a batch of {len(rows)} images fewer than two can be used: have the files changed?")
    return {key: torch.cat([image[key] for image in images]) for key in images[0]}


def make_streaming_dataloader(
    shards: Shards,
    processor,
    *,
    batch_size: int,
    num_workers: int,
    buffer_size: int,
    seed: int,
    strict: bool,
    accelerator: Accelerator,
) -> DataLoader:
    """
    Makes training batches of 0–1 pixels, as many on each process. The loader's `dataset` is the [`StreamedFaces`].

    One worker reads, so that the order does not depend on `num_workers`, and decodes in `num_workers` threads.
    """
    faces = StreamedFaces(shards, buffer_size, seed, accelerator.process_index, accelerator.num_processes)
    read = partial(read_row, features=faces.features, processor=processor, strict=strict)
    dataloader = DataLoader(
        faces,
        batch_size=batch_size,
        drop_last=True,
        collate_fn=partial(collate_rows, read=read, num_threads=max(1, num_workers)),
        num_workers=min(1, num_workers),
        # A loader draws a number when it starts, which would change the random numbers after a resumed epoch.
        generator=torch.Generator(),
    )
    # Not by the accelerator, which would share between the processes once more.
    return prepare_data_loader(
        dataloader, accelerator.device, num_processes=1, process_index=0, put_on_device=True, dispatch_batches=False
    )
