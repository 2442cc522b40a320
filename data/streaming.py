"""
Training images read from Parquet files as they are needed, here or on the Hub, without building a data set of them first.

The splits are those of the data. That no near-duplicate of an image that measures is among the training images is taken from
whoever published them (scripts.publish_data sees to it): comparing all images would take reading all of them.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import datasets
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from accelerate import Accelerator
from accelerate.data_loader import DataLoaderShard, prepare_data_loader
from datasets.distributed import split_dataset_by_node
from datasets.exceptions import DatasetGenerationError
from PIL import Image
from torch.utils.data import DataLoader

from data.labels import check_labels, is_utkface, name_labels
from data.sampling import count_steps, cut
from data.sources import Source, list_files
from data.splits import read_list
from data.tables import SPLIT_NAMES, check_age, check_image, explain_absence, group_by_split, name_row, rename_splits
from data.transforms import to_model_inputs
from data.utkface import FEATURES, load_utkface
from hub.errors import plain_errors
from training.arguments import Arguments, DataArguments


logger = datasets.logging.get_logger(__name__)

# What `read_names` gives.
NAMES = datasets.Features(
    {name: FEATURES[name] for name in ("file_name", "age", "gender")} | {"shard": datasets.Value("int32")}
)
ADVICE = "Go on with the same command and --resume_from_checkpoint latest."


@dataclass
class Shards:
    """The files of the training images: paths or addresses as in hf://datasets/…, and how many images each holds."""

    files: list[str]
    sizes: list[int]


def find_shards(data_dir: str) -> dict[str, list[str]]:
    """
    The Parquet files of each split: paths here, or addresses that name the commit of a data set on the Hub.

    Raises:
        ValueError: if there is no such thing, or if it is no Parquet, or not split.
    """
    path = Path(data_dir)
    if path.exists():
        files = [file for file in (list_files(path) if path.is_dir() else [str(path)]) if is_parquet(file)]
        shards = group_by_split(str(path), files) if files else {}
    else:
        with explain_absence(data_dir):
            found = datasets.load_dataset_builder(data_dir).config.data_files or {}
        shards = rename_splits({str(name): list(files) for name, files in found.items()})
    if not shards or not all(is_parquet(file) for files in shards.values() for file in files):
        raise ValueError(
            f"--streaming reads Parquet files or a data set of them on the Hub, but {data_dir} is none: publish it with "
            "scripts.publish_data, or leave --streaming out."
        )
    missing = [name for name in ("train", "validation") if name not in shards]
    if missing or not set(shards) <= set(SPLIT_NAMES):
        raise ValueError(
            f"--streaming takes the splits of the data, but {data_dir} has {', '.join(sorted(shards))}: it needs train "
            "and validation, and may have test (files are named by them, as in train-00000.parquet)."
        )
    return shards


def is_parquet(file: str) -> bool:
    return file.lower().endswith(".parquet")


def read_names(files: tuple[str, ...], keys: tuple[str, ...]) -> Iterator[dict]:
    """
    Name, age and gender of each training image and the number of its file, read without the images.

    Args:
        files: Parquet files, in a tuple, since `datasets` would divide a list between several calls.
        keys: Change with the files, so that the cache of `datasets` knows.

    Raises:
        ValueError: if a label cannot be trained on, or if two images have one name, so that a built data set, which leaves
            such images out, would hold others.
    """
    seen = set()
    for number, file in enumerate(files):
        # Small parts from many places: reading ahead, as addresses do by default, would read the images between them.
        with fsspec.open(file, **({"cache_type": "none"} if "://" in file else {})) as opened:
            parquet = pq.ParquetFile(opened)
            features = datasets.Features.from_arrow_schema(parquet.schema_arrow)
            columns = [name for name in ("age", "gender", "race", "file_name") if name in features]
            for batch in parquet.iter_batches(columns=[*columns, "image.path"]):
                for row in pa.Table.from_batches([batch]).flatten().to_pylist():
                    name = name_row(row, f"train-{len(seen)}")
                    try:
                        labels = check_labels(name_labels(row, features))
                        if name in seen:
                            raise ValueError("another image has the same name")
                    except ValueError as error:
                        raise ValueError(
                            f"{name} in {file}: {error}. --streaming needs usable images alone."
                        ) from error
                    seen.add(name)
                    yield {"file_name": name, "age": labels["age"], "gender": labels["gender"], "shard": number}


def load_streamed_faces(arguments: DataArguments) -> tuple[datasets.DatasetDict, Shards]:
    """
    What a training knows before its first image: the images that measure, and of those to train on names and labels alone.

    The first call reads these, which takes a small request for each row group of files on the Hub; later ones find them
    in the cache of `datasets`, unless the files have changed.

    Returns:
        `train` with the columns file_name, age and gender; `validation`, and `test` where there is one, as from
        `load_utkface`, near-duplicates across the two left out; and the files of `train`.

    Raises:
        ValueError: if the data cannot be streamed, or if an image that measures is among those to train on.
    """
    data_dir = arguments.data_dir
    shards = find_shards(data_dir)
    files = shards.pop("train")
    table = datasets.load_dataset("parquet", data_files=shards)
    for features in (open_stream(files).features, *(split.features for split in table.values())):
        check_image(data_dir, features)
        check_age(data_dir, features)
    held_out = load_utkface(Source(data_dir, table=table), arguments.strict)
    file_systems = [fsspec.core.url_to_fs(file) for file in files]
    keys = tuple(file_system.ukey(path) for file_system, path in file_systems)
    try:
        names = datasets.Dataset.from_generator(
            read_names, features=NAMES, gen_kwargs={"files": tuple(files), "keys": keys}
        )
    except DatasetGenerationError as error:
        raise error.__cause__ from None
    measuring = {name for split in held_out.values() for name in split["file_name"]}
    if is_utkface(names["file_name"]):
        measuring |= read_list("test") | read_list("excluded")
    leaks = [name for name in names["file_name"] if name in measuring]
    if leaks:
        raise ValueError(
            f"{len(leaks)} training images of {data_dir} are among those that measure, {leaks[0]} for one: publish the "
            "data with scripts.publish_data, or leave --streaming out."
        )
    sizes = np.bincount(names["shard"], minlength=len(files)).tolist()
    train = names.remove_columns("shard")
    return datasets.DatasetDict({"train": train, **held_out}), Shards(files, sizes)


def open_stream(files: list[str]) -> datasets.IterableDataset:
    return datasets.load_dataset("parquet", data_files={"train": files}, split="train", streaming=True)


def choose_strategy(sizes: list[int], batch_size: int, num_processes: int) -> tuple[str, int]:
    """
    How the processes share the files, and how many batches an epoch has for each of them, whatever the order of the files.

    Each process reads files of its own where these are of like size and it takes at most one batch more; else each reads
    all and takes its share.

    Args:
        sizes: Images of each file.
        batch_size: Of one process.
        num_processes: At least one.

    Returns:
        `shards` or `examples` as `split_dataset_by_node` takes it, and the number of batches.
    """
    batches = count_steps(sum(sizes), batch_size, num_processes)
    if len(sizes) % num_processes == 0:
        # Each epoch deals the files out anew: somebody may get all of the smallest, or of the largest.
        in_order, share = sorted(sizes), len(sizes) // num_processes
        fewest, most = sum(in_order[:share]), sum(in_order[-share:])
        own = min(math.ceil(most / batch_size), fewest // 2)
        if 0 < own <= batches + 1 and most <= 2 * fewest:
            return "shards", own
    return "examples", batches


def read_sizes(sizes: list[int]) -> Iterator[dict]:
    """The number of images of each file, as a stream that is dealt out as the files are."""
    for size in sizes:
        yield {"size": size}


class FaceStream(torch.utils.data.IterableDataset):
    """
    The batches of one process as lists of encoded rows, in an order of the epoch's own; all processes together have each
    image once.

    Files are read in another order each epoch, up to ten at once, through a buffer from which batches are drawn: images far
    apart in files that are few and long never meet in a batch, so what is published should be mixed, as scripts.publish_data
    does. The order depends on the seed and the epoch, and where each process reads files of its own on the number of
    processes, but not on the number of workers.

    A resumed epoch reads again what it has seen, without decoding it. `state_dict` of `datasets` would spare that, but loses
    the images that are in the buffer; this way each comes once. With another number of processes that holds where each
    process reads all files; where each has files of its own, the rest of that one epoch is drawn anew.

    Args:
        shards: From `load_streamed_faces`.
        batch_size: Images of a batch of this process at most.
        buffer_size: Images in the buffer. It holds them encoded, and for a moment twice.
        seed: Of the order.
        process_index: Of this process.
        num_processes: That share the files.
    """

    def __init__(
        self, shards: Shards, batch_size: int, buffer_size: int, seed: int, process_index: int, num_processes: int
    ):
        self.batch_size, self.num_skipped = batch_size, 0
        self.process_index, self.num_processes, self.num_images = process_index, num_processes, sum(shards.sizes)
        self.strategy, self.num_batches = choose_strategy(shards.sizes, batch_size, num_processes)
        stream = open_stream(shards.files)
        self.features = stream.features
        stream = stream.cast_column("image", datasets.Image(decode=False)).shuffle(seed, buffer_size=buffer_size)
        self.stream = split_dataset_by_node(stream, process_index, num_processes, self.strategy)
        sizes = datasets.IterableDataset.from_generator(read_sizes, gen_kwargs={"sizes": shards.sizes})
        self.sizes = split_dataset_by_node(sizes.shuffle(seed), process_index, num_processes, self.strategy)

    def set_epoch(self, epoch: int):
        """Called by accelerate before each epoch."""
        self.stream.set_epoch(epoch)
        self.sizes.set_epoch(epoch)

    def __len__(self) -> int:
        return self.num_batches

    def _cut(self) -> list[int]:
        """Where the batches of this process begin among its images of this epoch, and where the last one ends."""
        if self.strategy == "shards":
            return cut(sum(size for sizes in self.sizes.iter(1) for size in sizes["size"]), self.num_batches)
        # Of every so many images one is that of this process.
        starts = cut(self.num_images, self.num_batches)
        return [(start - self.process_index - 1) // self.num_processes + 1 for start in starts]

    def _read_rows(self) -> Iterator[dict]:
        """Raises ValueError in one sentence, which a worker can pass on, if the Hub fails."""
        with plain_errors("No more training images could be read", ADVICE):
            # Not over the stream itself: `datasets` would then draw other orders in a worker than outside.
            for batch in self.stream.iter(self.batch_size):
                yield from (dict(zip(batch, values)) for values in zip(*batch.values()))

    def __iter__(self) -> Iterator[list[dict]]:
        rows = self._read_rows()
        for number, (start, end) in enumerate(pairwise(self._cut())):
            drawn = list(islice(rows, end - start))
            if len(drawn) < end - start:  # or the other processes would wait for this one
                raise ValueError(f"The files end after {number} of {self.num_batches} batches: have they changed?")
            if number >= self.num_skipped:
                yield drawn


class RowDecoder:
    """
    Makes what [`AgeGenderModel`] takes of encoded rows, as `to_model_inputs` does of a built data set's, with 0–1 pixels.

    Args:
        features: Of the files.
        processor: The image processor.
        num_threads: That decode at once; a stream has one reader, so that it is read once.
        strict: Raise for an image that cannot be used instead of leaving it out with a warning.
    """

    def __init__(self, features: datasets.Features, processor, num_threads: int, strict: bool):
        self.features, self.num_threads, self.strict = features, num_threads, strict
        self.transform = to_model_inputs(processor, do_normalize=False)

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        """Raises ValueError with the name of an image that cannot be used, if strict, or if fewer than two can."""
        bounds = cut(len(rows), min(self.num_threads, len(rows)))
        with ThreadPoolExecutor(self.num_threads) as pool:
            parts = pool.map(self.decode, (rows[start:end] for start, end in pairwise(bounds)))
            parts = [part for part in parts if part]
        if sum(len(part["age_labels"]) for part in parts) < 2:
            raise ValueError(f"Of a batch of {len(rows)} images fewer than two can be used: have the files changed?")
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}

    def decode(self, rows: list[dict]) -> dict[str, torch.Tensor] | None:
        """What of these rows can be used, None where nothing can."""
        columns = {"image": [], "age": [], "gender": []}
        for row in rows:
            try:
                image = datasets.Image().decode_example(row["image"])
                labels = check_labels(name_labels(row, self.features))
            except (ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
                name = name_row(row | {"image.path": row["image"]["path"]}, "an image")
                if self.strict:
                    raise ValueError(f"{name}: {error}") from error
                logger.warning(f"{name} is left out: {error}")
                continue
            for key, values in columns.items():
                values.append(image if key == "image" else labels[key])
        return self.transform(columns) if columns["image"] else None


def make_streaming_dataloader(
    shards: Shards, processor, arguments: Arguments, accelerator: Accelerator
) -> DataLoaderShard:
    """The batches of this process, on its device: all processes have as many, and no image is in two of them."""
    num_workers = arguments.data.dataloader_num_workers
    stream = FaceStream(
        shards,
        arguments.train.per_device_train_batch_size,
        arguments.data.shuffle_buffer_size,
        arguments.train.seed,
        accelerator.process_index,
        accelerator.num_processes,
    )
    dataloader = DataLoader(
        stream,
        batch_size=None,
        collate_fn=RowDecoder(stream.features, processor, max(1, num_workers), arguments.data.strict),
        num_workers=min(1, num_workers),
        generator=torch.Generator(),  # as in the loader of a built data set
    )
    # Not by the accelerator, which would share once more what is shared already.
    return prepare_data_loader(
        dataloader, accelerator.device, num_processes=1, process_index=0, put_on_device=True, dispatch_batches=False
    )
