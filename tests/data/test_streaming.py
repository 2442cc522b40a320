"""Streamed training images: the same as those of a built data set, shared between processes, resumed within an epoch."""

import pickle
import shutil
from itertools import islice
from pathlib import Path

import datasets
import pytest
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from data.labels import LABELS
from data.streaming import Shards, StreamedFaces, load_streamed_faces, make_streaming_dataloader
from data.training_set import hash_labels
from data.utkface import load_utkface
from image_processing_agegender import AgeGenderImageProcessor
from tests.support.faces import make_image, make_jpeg, make_name, write_nested
from tests.support.training import find_checkpoints, read_results


pytestmark = pytest.mark.usefixtures("datasets_cache", "fresh_accelerate_state")

PROCESSOR = AgeGenderImageProcessor(size={"height": 32, "width": 32})
LISTED_TEST = "100_1_0_20170112213001988.jpg.chip.jpg"


@pytest.fixture(autouse=True, scope="module")
def no_sleep():
    """`datasets` waits five seconds at the end of each pass over Parquet files, for Arrow's threads to end before Python."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)
        yield


def write_shards(dataset: datasets.DatasetDict, folder: Path, num_shards: int) -> Path:
    """Writes the splits as Parquet files with the names and cuts of `push_to_hub`, in small row groups."""
    folder.mkdir()
    for name, split in dataset.items():
        count = num_shards if name == "train" else 1
        for index in range(count):
            file = folder / f"{name}-{index:05}-of-{count:05}.parquet"
            split.shard(count, index, contiguous=True).to_parquet(file, batch_size=3)
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory, datasets_cache) -> datasets.DatasetDict:
    """30 training images and 10 validation images, and one of the published test split."""
    names = [make_name(index) for index in range(40)] + [LISTED_TEST]
    folder = tmp_path_factory.mktemp("built") / "faces"
    images = {name: make_jpeg(seed) for seed, name in enumerate(names)}
    return load_utkface(write_nested(folder, images), validation_share=0.25)


@pytest.fixture(scope="module")
def published(built, tmp_path_factory) -> Path:
    """The training images in four files."""
    return write_shards(built, tmp_path_factory.mktemp("published") / "faces", 4)


@pytest.fixture(scope="module")
def shards(published) -> Shards:
    return load_streamed_faces(str(published), strict=True)[1]


def make_loader(shards: Shards, batch_size: int = 4, num_workers: int = 0, strict: bool = True) -> DataLoader:
    return make_streaming_dataloader(
        shards,
        PROCESSOR,
        batch_size=batch_size,
        num_workers=num_workers,
        buffer_size=8,
        seed=0,
        strict=strict,
        accelerator=Accelerator(cpu=True),
    )


def test_streams_where_names_hold_characters_of_patterns(published, tmp_path, shards):
    folder = tmp_path / "[2019] f?ces*"
    shutil.copytree(published, folder)
    for path in (folder, folder / "*.parquet"):
        streamed = load_streamed_faces(str(path), strict=True)
        assert [Path(file).name for file in streamed[1].files] == [Path(file).name for file in shards.files]
        assert len(streamed[0]["train"]) == 30 and next(iter(StreamedFaces(streamed[1], 8, 0, 0, 1)))["image"]


def test_workers_that_are_spawned_get_the_stream(shards):
    """As on Windows and macOS, which fork no workers."""
    loader = make_loader(shards)
    stream, collate = pickle.loads(pickle.dumps((loader.dataset, loader.collate_fn)))
    assert collate(list(islice(stream, 2)))["pixel_values"].shape == (2, 3, 32, 32)


def list_names(shards: Shards, rank: int = 0, processes: int = 1, epoch: int = 0, images: int = 0) -> list[str]:
    """Returns the names that a process streams after so many images of an epoch are done."""
    faces = StreamedFaces(shards, buffer_size=8, seed=0, process_index=rank, num_processes=processes)
    faces.load_state_dict({"epoch": epoch, "images": images})
    return [row["file_name"] for row in faces]


def test_a_stream_holds_the_images_of_the_built_data_set(published):
    """Names and labels that are known before, and labels and pixels of the batches."""
    built, (streamed, shards) = load_utkface(published), load_streamed_faces(str(published), strict=True)
    assert shards.sizes == [8, 8, 7, 7]
    for split in ("validation", "test"):
        columns = [*LABELS, "file_name"]
        assert streamed[split].select_columns(columns).to_list() == built[split].select_columns(columns).to_list()
    assert hash_labels(streamed["train"]) == hash_labels(built["train"])

    batches = list(make_loader(shards))
    known = {
        PROCESSOR(row["image"], do_normalize=False, return_tensors="pt").pixel_values.numpy().tobytes(): row
        for row in built["train"]
    }
    rows = [known.pop(pixels.numpy().tobytes()) for batch in batches for pixels in batch["pixel_values"]]
    assert len(batches) == len(make_loader(shards)) == 7 and len(rows) == 28
    assert torch.cat([batch["age_labels"] for batch in batches]).tolist() == [[row["age"]] * 2 for row in rows]
    assert torch.cat([batch["gender_labels"] for batch in batches]).tolist() == [row["gender"] for row in rows]


@pytest.mark.processes
def test_a_worker_changes_nothing(shards):
    plain, with_worker = (list(make_loader(shards, num_workers=workers)) for workers in (0, 2))
    for first, second in zip(plain, with_worker, strict=True):
        assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("files", "processes", "images"), [(4, 1, 30), (6, 2, 15), (4, 4, 7), (4, 2, 15), (4, 3, 10), (1, 2, 15)]
)
def test_processes_share_the_images_of_an_epoch(built, tmp_path, files, processes, images):
    """The same number on each, none twice, in another order each epoch; the first three by files of their own."""
    shards = load_streamed_faces(str(write_shards(built, tmp_path / "shards", files)), strict=True)[1]
    orders = []
    for epoch in range(2):
        shares = [list_names(shards, rank, processes, epoch) for rank in range(processes)]
        assert [len(share) for share in shares] == [images] * processes
        assert shares[0] == list_names(shards, 0, processes, epoch)
        orders.append(sum(shares, []))
        assert len(set(orders[-1])) == images * processes and set(orders[-1]) <= set(built["train"]["file_name"])
    assert orders[0] != orders[1]


@pytest.mark.parametrize(
    ("sizes", "processes", "images"),
    [([100, 100, 3, 3], 2, 103), ([52, 50, 52, 50], 2, 100), ([30], 1, 30), ([9], 2, 4)],
)
def test_files_of_unequal_sizes_are_read_by_all_processes(shards, sizes, processes, images):
    """Otherwise an epoch would end with the process that has the small ones."""
    assert len(StreamedFaces(Shards(shards.files[:1] * len(sizes), sizes), 8, 0, 0, processes)) == images


@pytest.mark.parametrize("processes", [1, 2])
def test_a_resumed_epoch_gives_the_rest_of_it(shards, processes):
    for rank in range(processes):
        whole = list_names(shards, rank, processes, epoch=1)
        assert list_names(shards, rank, processes, epoch=1, images=4 * processes) == whole[4:]


def test_another_number_of_processes_resumes_without_an_image_twice(shards):
    rest = [name for rank in range(2) for name in list_names(shards, rank, 2, epoch=1, images=12)]
    assert len(rest) == len(set(rest)) == 2 * (15 - 6)


def test_the_loader_counts_a_whole_epoch_and_the_next_one_starts_at_its_beginning(shards):
    loader = make_loader(shards)
    loader.dataset.load_state_dict({"epoch": 1, "images": 20})
    loader.set_epoch(1)
    assert loader.dataset.state_dict() == {"epoch": 1, "images": 20}
    assert len(list(loader)) == 2 and len(loader) == 7
    loader.set_epoch(2)
    assert loader.dataset.state_dict() == {"epoch": 2, "images": 0}
    assert len(list(loader)) == 7


def test_unknown_labels_and_classes_in_another_order_are_those_of_a_built_data_set(tmp_path):
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "age": datasets.Value("string"),
            "Gender": datasets.ClassLabel(names=["Female", "Male"]),
        }
    )
    rows = {
        "image": [make_image(700 + index) for index in range(6)],
        "age": ["31", None, "40.0", "more than 70", "0-2", "5"],
        "Gender": [0, 1, -1, None, 1, 0],
    }
    table = datasets.Dataset.from_dict(rows, features=features)
    splits = datasets.DatasetDict({"train": table, "validation": table.select([0, 1])})
    # The validation images are training images too, which a table without names does not tell.
    streamed, shards = load_streamed_faces(str(write_shards(splits, tmp_path / "shards", 2)), strict=True)
    assert streamed["train"]["age"][:] == [31, None, 40, None, None, 5]
    assert streamed["train"]["age_high"][:] == [31, None, 40, 120, 2, 5]
    (batch,) = make_loader(shards, batch_size=6)
    ages = map(tuple, batch["age_labels"].nan_to_num(-1.0).tolist())
    assert sorted(zip(ages, batch["gender_labels"].tolist())) == sorted(
        [((31, 31), 1), ((-1, -1), 0), ((40, 40), -100), ((70, 120), -100), ((0, 2), 0), ((5, 5), 1)]
    )


def test_what_cannot_be_streamed_is_refused_in_a_sentence(built, tmp_path):
    images = write_nested(tmp_path / "images", {"a.jpg": b""})
    (tmp_path / "faces.tar.gz").write_bytes(b"")
    for path in (images, tmp_path / "faces.tar.gz"):
        with pytest.raises(ValueError, match="--streaming needs Parquet files .* has none"):
            load_streamed_faces(str(path), strict=False)
    with pytest.raises(ValueError, match="is no file or folder here"):
        load_streamed_faces("nobody/nothing", strict=False)
    train = datasets.DatasetDict({"train": built["train"]})
    with pytest.raises(ValueError, match="needs Parquet files of the splits train and validation.* has train: "):
        load_streamed_faces(str(write_shards(train, tmp_path / "train", 1)), strict=False)
    leaking = datasets.DatasetDict({**built, "train": datasets.concatenate_datasets([built["train"], built["test"]])})
    with pytest.raises(
        ValueError, match=f"^1 training images of .* are evaluation images, for instance {LISTED_TEST}"
    ):
        load_streamed_faces(str(write_shards(leaking, tmp_path / "leaking", 2)), strict=False)
    twice = datasets.DatasetDict({**built, "train": built["train"].select([0, 1, 2, 1])})
    with pytest.raises(ValueError, match="another image has the same name. --streaming needs usable images"):
        load_streamed_faces(str(write_shards(twice, tmp_path / "twice", 2)), strict=False)
    ageless = datasets.DatasetDict({**built, "train": built["train"].remove_columns(["age", "age_low", "age_high"])})
    with pytest.raises(ValueError, match=r"but lacks \['age'\]"):
        load_streamed_faces(str(write_shards(ageless, tmp_path / "ageless", 2)), strict=False)
    old = built["train"].select(range(4)).map(lambda row: {"age": row["age"] + 150})
    folder = write_shards(datasets.DatasetDict({**built, "train": old}), tmp_path / "old", 1)
    with pytest.raises(ValueError, match="jpg in .*train-00000-of-00001.parquet: the age .* is not in 0–120"):
        load_streamed_faces(str(folder), strict=False)


def break_images(published: Path, folder: Path, count: int) -> tuple[Shards, list[str]]:
    """Replaces the first training images by other bytes; returns their names too."""
    shutil.copytree(published, folder)
    file = min(folder.glob("train-*"))
    table = datasets.Dataset.from_parquet(str(file)).cast_column("image", datasets.Image(decode=False))
    names = table["file_name"][:count]
    rows = [row | ({"image": row["image"] | {"bytes": b"none"}} if row["file_name"] in names else {}) for row in table]
    table = datasets.Dataset.from_list(rows, features=table.features)
    table.cast_column("image", datasets.Image()).to_parquet(file, batch_size=3)
    return load_streamed_faces(str(folder), strict=True)[1], names


def test_a_broken_image_is_left_out_with_a_line_or_raises_if_strict(published, tmp_path, warnings):
    shards, (name,) = break_images(published, tmp_path / "broken", 1)
    batches = list(make_loader(shards, batch_size=30, strict=False))
    assert [len(batch["age_labels"]) for batch in batches] == [29]
    assert f"{name} is left out: The file cannot be read as an image" in warnings.text
    with pytest.raises(ValueError, match=f"^{name}: The file cannot be read as an image"):
        list(make_loader(shards, batch_size=30))


def test_a_batch_keeps_two_images_or_is_an_error(published, tmp_path):
    shards, _ = break_images(published, tmp_path / "broken", 7)
    first = Shards(shards.files[:1], shards.sizes[:1])
    with pytest.raises(ValueError, match="Of a batch of 8 images fewer than two can be used"):
        list(make_loader(first, batch_size=8, strict=False))


@pytest.mark.slow
def test_a_streamed_training_resumes_within_an_epoch_as_if_uninterrupted(run_train, published, tmp_path):
    """And gives the results of a training on the built data set, but for the weights."""
    options = {"data_dir": published, "validation_share": None}
    streaming = options | {"streaming": True, "shuffle_buffer_size": 8, "checkpointing_steps": 3}
    whole, copy = tmp_path / "whole", tmp_path / "copy"
    run_train(whole, checkpoints_total_limit=50, **streaming)
    run_train(tmp_path / "built", num_train_epochs=1, **options)
    results, expected = read_results(whole), read_results(tmp_path / "built")
    assert results.keys() == expected.keys() and results["history"][0].keys() == expected["history"][0].keys()
    for key in ("split_images", "is_utkface", "split", "extra_images"):
        assert results[key] == expected[key], key

    shutil.copytree(whole, copy)
    checkpoint = sorted(find_checkpoints(copy).items())[-2][1]
    run_train(copy, resume_from_checkpoint=checkpoint, **streaming | {"dataloader_num_workers": 2})
    resumed = read_results(copy)
    for key in ("history", "metrics", "best_epoch", "weights_sha256"):
        assert resumed[key] == results[key], key
    with pytest.raises(ValueError, match="--streaming was True and is False"):
        run_train(copy, resume_from_checkpoint="latest", **streaming | {"streaming": None})
