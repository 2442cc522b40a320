"""Training images that are streamed: the same as those of a built data set, shared between processes, each once an epoch."""

import re
import shutil
from pathlib import Path

import datasets
import pytest
import torch

from data.streaming import FaceStream, RowDecoder, Shards, choose_strategy, load_streamed_faces
from data.training_set import TrainingData, hash_content
from data.utkface import load_utkface
from image_processing_agegender import AgeGenderImageProcessor
from tests.support.processes import read_logs, run_on_processes, run_train_here
from tests.support.training import (
    STATE,
    TRAIN_IMAGES,
    assert_same_end,
    draw_face,
    find_checkpoints,
    make_command,
    read_results,
    write_table,
)
from training.arguments import DataArguments


pytestmark = pytest.mark.usefixtures("datasets_cache", "fresh_accelerate_state")

STREAMING = {"streaming": True, "validation_share": None, "shuffle_buffer_size": 8}


@pytest.fixture(autouse=True)
def no_sleep(monkeypatch):
    """`datasets` waits five seconds at the end of each pass over Parquet files, lest Python end before Arrow's threads."""
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)


def write_shards(dataset: datasets.DatasetDict, folder: Path, num_shards: int) -> Path:
    """The splits as Parquet files, as `push_to_hub` cuts and names them; small row groups."""
    folder.mkdir()
    for name, split in dataset.items():
        count = num_shards if name == "train" else 1
        for index in range(count):
            file = folder / f"{name}-{index:05}-of-{count:05}.parquet"
            split.shard(count, index, contiguous=True).to_parquet(file, batch_size=3)
    return folder


@pytest.fixture(scope="module")
def built(faces) -> datasets.DatasetDict:
    return load_utkface(faces, validation_share=0.25)


@pytest.fixture(scope="module")
def published(built, tmp_path_factory) -> Path:
    """30 training images in four files, 10 of validation and 3 of test."""
    return write_shards(built, tmp_path_factory.mktemp("published") / "faces", 4)


def load(folder: Path, **changes) -> tuple[datasets.DatasetDict, Shards]:
    return load_streamed_faces(DataArguments(str(folder), streaming=True, **changes))


def list_batches(shards: Shards, batch_size: int, rank: int = 0, processes: int = 1, epoch: int = 0, skipped: int = 0):
    """The names in each batch of one process's epoch."""
    stream = FaceStream(shards, batch_size, 8, 0, rank, processes)
    stream.set_epoch(epoch)
    stream.num_skipped = skipped
    return [[row["file_name"] for row in rows] for rows in stream]


def test_what_is_streamed_is_what_is_built(published):
    """The same shards: images, labels and pixels of an epoch, and the splits that measure."""
    whole, (streamed, shards) = load_utkface(published), load(published)
    assert shards.sizes == [8, 8, 7, 7] and len(streamed["train"]) == TRAIN_IMAGES
    assert {name: sorted(split["file_name"]) for name, split in streamed.items()} == {
        name: sorted(split["file_name"]) for name, split in whole.items()
    }
    for split in ("validation", "test"):
        columns = ["age", "gender", "race", "file_name"]
        assert streamed[split].select_columns(columns).to_list() == whole[split].select_columns(columns).to_list()
    assert hash_content(streamed["train"]) == hash_content(
        whole["train"].select_columns(["age", "gender", "file_name"])
    )

    processor = AgeGenderImageProcessor(size={"height": 32, "width": 32})
    stream = FaceStream(shards, 5, 8, 0, 0, 1)
    decode = RowDecoder(stream.features, processor, num_threads=3, strict=True)
    batches = [decode(rows) | {"names": [row["file_name"] for row in rows]} for rows in stream]
    streamed_images = {
        name: [batch[key][index] for key in ("pixel_values", "age_labels", "gender_labels")]
        for batch in batches
        for index, name in enumerate(batch["names"])
    }
    assert len(streamed_images) == len(whole["train"]) == TRAIN_IMAGES
    assert [batch["pixel_values"].shape for batch in batches] == [(5, 3, 32, 32)] * 6
    for row in whole["train"]:
        pixels, age, gender = streamed_images[row["file_name"]]
        assert (age, gender) == (row["age"], row["gender"])
        assert torch.equal(pixels, processor(row["image"], do_normalize=False, return_tensors="pt").pixel_values[0])


@pytest.mark.parametrize(
    ("processes", "batch_size", "strategy", "steps"),
    [(1, 4, "shards", 8), (2, 3, "shards", 6), (2, 5, "shards", 4), (3, 5, "examples", 2), (2, 14, "shards", 2)]
    + [(3, 4, "examples", 3), (4, 3, "shards", 3)],
)
def test_processes_share_all_images_of_an_epoch(built, published, processes, batch_size, strategy, steps):
    """Each once, in as many steps on each process, in batches that differ by an image, though the files differ in size."""
    shards = load(published)[1]
    assert choose_strategy(shards.sizes, batch_size, processes) == (strategy, steps)
    orders = []
    for epoch in range(3):
        shares = [list_batches(shards, batch_size, rank, processes, epoch) for rank in range(processes)]
        for share in shares:
            sizes = {len(batch) for batch in share}
            assert len(share) == steps and max(sizes) <= batch_size and max(sizes) - min(sizes) <= 1 < min(sizes)
        orders.append([name for share in shares for batch in share for name in batch])
        assert sorted(orders[-1]) == sorted(built["train"]["file_name"])
        assert shares[0] == list_batches(shards, batch_size, 0, processes, epoch)
    assert orders[0] != orders[1] != orders[2]


def test_two_processes_see_halves_that_are_everything(built, tmp_path):
    """Files of one size: each process reads its own. One file: each reads all of it and takes half."""
    for number, strategy in ((2, "shards"), (1, "examples")):
        shards = load(write_shards(built, tmp_path / str(number), number))[1]
        assert choose_strategy(shards.sizes, 5, 2) == (strategy, 3)
        first, second = (sum(list_batches(shards, 5, rank, 2, epoch=1), []) for rank in range(2))
        assert not set(first) & set(second)
        assert sorted(first + second) == sorted(built["train"]["file_name"])


def test_unequal_files_are_read_by_all():
    """Two large and two small files: a process with both small ones would end long before the other."""
    assert choose_strategy([100, 100, 3, 3], 10, 2) == ("examples", 11)
    assert choose_strategy([52, 51, 52, 51], 10, 2) == ("shards", 11)
    assert choose_strategy([30], 4, 1) == ("shards", 8)
    assert choose_strategy([3], 2, 1) == ("shards", 1)  # three together, since one alone has no variance


def test_a_resumed_epoch_gives_the_rest_of_it_also_to_another_number_of_processes(built, published, tmp_path):
    shards = load(published)[1]
    assert list_batches(shards, 4, epoch=1, skipped=3) == list_batches(shards, 4, epoch=1)[3:]
    # One file, which all processes read: 15 images are two steps of two processes with 4, or four of one.
    shards = load(write_shards(built, tmp_path / "one", 1))[1]
    rest = [name for rank in range(2) for name in sum(list_batches(shards, 4, rank, 2, epoch=1, skipped=2), [])]
    assert sorted(rest) == sorted(sum(list_batches(shards, 4, epoch=1)[4:], [])) and len(rest) == 15


@pytest.mark.parametrize(
    ("sizes", "processes", "own"),
    [([8, 8, 7, 7], 2, True), ([8, 8, 7, 7], 3, False), ([30], 2, False), ([30], 1, False)],
)
def test_what_another_number_of_processes_does_again_is_known_but_for_files_of_ones_own(sizes, processes, own):
    data = TrainingData(datasets.DatasetDict(), shards=Shards([], sizes))
    assert data.has_own_files(3, processes) is own
    assert not TrainingData(datasets.DatasetDict()).has_own_files(3, processes)


def test_a_stream_that_ends_early_is_an_error(published):
    files, sizes = vars(load(published)[1]).values()
    with pytest.raises(ValueError, match="The files end after 8 of 11 batches: have they changed"):
        list_batches(Shards(files, [size + 3 for size in sizes]), 4)


def test_unknown_labels_and_classes_in_another_order_are_those_of_a_built_data_set(tmp_path):
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "age": datasets.Value("float64"),
            "gender": datasets.ClassLabel(names=["Female", "Male"]),
        }
    )
    rows = {
        "image": [draw_face(40, 0, seed=700 + index) for index in range(6)],
        "age": [31.0, None, 40.0, float("nan"), 0.0, 5.0],
        "gender": [0, 1, -1, None, 1, 0],
    }
    table = datasets.Dataset.from_dict(rows, features=features)
    folder = write_shards(
        datasets.DatasetDict({"train": table, "validation": table.select([0, 1])}), tmp_path / "p", 2
    )
    # The images of validation are among those to train on, which names in a table without a column for them do not show.
    stream = FaceStream(load(folder)[1], 6, 8, 0, 0, 1)
    decode = RowDecoder(stream.features, AgeGenderImageProcessor(size={"height": 32, "width": 32}), 1, strict=True)
    (batch,) = map(decode, stream)
    found = sorted(zip(batch["age_labels"].nan_to_num(-1.0).tolist(), batch["gender_labels"].tolist()))
    assert found == sorted([(31.0, 1), (-1.0, 0), (40.0, -100), (-1.0, -100), (0.0, 0), (5.0, 1)])


def test_what_cannot_be_streamed_is_refused_in_a_sentence(faces, built, published, tmp_path):
    with pytest.raises(ValueError, match="reads Parquet files or a data set of them on the Hub, but .* is none"):
        load(faces)
    with pytest.raises(ValueError, match="but .* has train: it needs train and validation"):
        load(write_table(tmp_path / "single", [draw_face(40, 0, seed=1)], [40.0]))
    with pytest.raises(ValueError, match="no file or folder here, and it could not be loaded from the Hub"):
        load(Path("nobody/nothing"))
    for argument, value in (("extra_data", ["more"]), ("validation_share", 0.2), ("split_seed", 0)):
        with pytest.raises(ValueError, match=f"--{argument} needs a data set that is built"):
            DataArguments("faces", streaming=True, **{argument: value})

    leaking = datasets.DatasetDict({**built, "train": datasets.concatenate_datasets([built["train"], built["test"]])})
    with pytest.raises(ValueError, match="^3 training images of .* are among those that measure"):
        load(write_shards(leaking, tmp_path / "leaking", 2))
    twice = datasets.DatasetDict({**built, "train": built["train"].select([0, 1, 2, 1])})
    with pytest.raises(ValueError, match="another image has the same name. --streaming needs usable images alone"):
        load(write_shards(twice, tmp_path / "twice", 2))
    old = built["train"].select(range(4)).map(lambda row: {"age": row["age"] + 150})
    folder = write_shards(datasets.DatasetDict({**built, "train": old}), tmp_path / "old", 1)
    with pytest.raises(ValueError, match="jpg in .*train-00000-of-00001.parquet: the age .* is not in 0–120"):
        load(folder)


def break_images(published: Path, folder: Path, count: int) -> tuple[Path, list[str]]:
    """The files with training images that are none; the names of these."""
    shutil.copytree(published, folder)
    file = min(folder.glob("train-*"))
    table = datasets.Dataset.from_parquet(str(file)).cast_column("image", datasets.Image(decode=False))
    names = table["file_name"][:count]
    rows = [row | ({"image": row["image"] | {"bytes": b"none"}} if row["file_name"] in names else {}) for row in table]
    table = datasets.Dataset.from_list(rows, features=table.features)
    table.cast_column("image", datasets.Image()).to_parquet(file, batch_size=3)
    return folder, names


def test_a_broken_image_is_left_out_with_a_line_or_ends_a_strict_training_with_one(
    run_train, published, tmp_path, caplog
):
    """As in a data set that is built; the sentence is the same where a worker meets it."""
    folder, (name,) = break_images(published, tmp_path / "broken", 1)
    options = STREAMING | {"data_dir": folder, "num_train_epochs": 1}
    run_train(tmp_path / "run", **options)
    assert f"{name} is left out: cannot identify image file" in caplog.text
    for workers in (0, 1):
        with pytest.raises(ValueError, match=rf"\A{re.escape(name)}: cannot identify image file [^\n]+\Z"):
            run_train(tmp_path / "strict", strict=True, **options | {"dataloader_num_workers": workers})


def test_a_batch_keeps_two_images_or_is_an_error(published, tmp_path):
    stream = FaceStream(load(published)[1], 4, 8, 0, 0, 1)
    rows = next(rows for rows in stream if len(rows) == 4)
    decode = RowDecoder(stream.features, AgeGenderImageProcessor(size={"height": 32, "width": 32}), 4, strict=False)
    rows[0]["image"]["bytes"] = rows[3]["image"]["bytes"] = b"none"
    assert decode(rows)["age_labels"].tolist() == [row["age"] for row in rows[1:3]]
    rows[1]["image"]["bytes"] = b"none"
    with pytest.raises(ValueError, match="Of a batch of 4 images fewer than two can be used"):
        decode(rows)


def test_a_streamed_training_resumes_within_an_epoch_as_if_uninterrupted(run_train, published, faces, tmp_path):
    """By the command line to the end, with the results that a built data set has, with and without a worker."""
    options = STREAMING | {"data_dir": published, "checkpointing_steps": 3, "checkpoints_total_limit": 50}
    whole, copy = tmp_path / "whole", tmp_path / "copy"
    run_train(whole, **options)
    run_train(tmp_path / "built", data_dir=published, validation_share=None)
    results, expected = read_results(whole), read_results(tmp_path / "built")
    assert results.keys() == expected.keys() and results["history"][0].keys() == expected["history"][0].keys()
    assert results["split_images"] == {"train": TRAIN_IMAGES, "validation": 10, "test": 3}
    for key in ("split_images", "is_utkface", "split", "extra_images"):
        assert results[key] == expected[key], key

    shutil.copytree(whole, copy)
    states = {n: torch.load(folder / STATE, weights_only=False) for n, folder in find_checkpoints(whole).items()}
    start = next(n for n, state in states.items() if state["epoch"] == 1 and state["step"] > 0)
    checkpoint = copy / "checkpoints" / f"checkpoint_{start}"
    run_train(copy, resume_from_checkpoint=checkpoint, **options | {"dataloader_num_workers": 2})
    assert_same_end(whole, copy)
    with pytest.raises(ValueError, match="--streaming was True and is False"):
        run_train(copy, resume_from_checkpoint=checkpoint, **options | {"streaming": None})


def watch_stream(command: list[str]) -> list[list[int]]:
    """Trains; what this process saw in each step, as hashes of the images."""
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        decode = RowDecoder.__call__

        def note(decoder, rows):
            seen.append([hash(row["image"]["bytes"]) for row in rows])
            return decode(decoder, rows)

        patch.setattr(RowDecoder, "__call__", note)
        run_train_here(command)
    return seen


def count_seen(shares: list[list[list[int]]]) -> tuple[int, int]:
    """Images in some steps of all processes, and how many of them are different ones."""
    seen = [image for share in shares for batch in share for image in batch]
    return len(seen), len(set(seen))


def test_two_processes_with_files_of_their_own_train_and_resume_as_one_and_as_two(
    published, faces, network, tmp_path, capfd
):
    """6 steps an epoch on two processes, 10 on one, which then read other files: one epoch is not whole, and that is said."""
    changes = STREAMING | {"data_dir": published, "per_device_train_batch_size": 3, "checkpoints_total_limit": 9}
    command = make_command(faces, network, tmp_path / "run", **changes, checkpointing_steps=4)
    shares = run_on_processes(watch_stream, command, log_dir=tmp_path / "logs")
    assert [len(share) for share in shares] == [12, 12]
    for start, end in ((0, 6), (6, 12)):
        assert count_seen([share[start:end] for share in shares]) == (TRAIN_IMAGES, TRAIN_IMAGES)
    assert read_results(tmp_path / "run")["num_processes"] == 2

    changes |= {"num_train_epochs": 3, "checkpointing_steps": 14}
    middle = find_checkpoints(tmp_path / "run")[1]  # 2 steps of the second epoch
    command = make_command(faces, network, tmp_path / "run", **changes, resume_from_checkpoint=middle)
    capfd.readouterr()
    alone = watch_stream(command)
    printed = capfd.readouterr().out
    sentence = "Some images of epoch 2 may be seen a second time, and as many not."
    assert "num_processes was 2 and is 1" in printed and sentence in printed
    assert count_seen([alone[:7]]) == (21, 21) and len(alone) == 7 + 10  # 10 images were done: 3 steps of 10
    assert count_seen([alone[7:]]) == (TRAIN_IMAGES, TRAIN_IMAGES)

    middle = find_checkpoints(tmp_path / "run")[3]  # 4 steps of the second epoch
    command = make_command(faces, network, tmp_path / "run", **changes, resume_from_checkpoint=middle)
    shares = run_on_processes(watch_stream, command, log_dir=tmp_path / "again")
    assert "num_processes was 1 and is 2" in read_logs(tmp_path / "again", 0)
    assert sentence in read_logs(tmp_path / "again", 0)
    assert [len(share) for share in shares] == [4 + 6, 4 + 6]  # 12 images were done: 2 steps of 6
    assert count_seen([share[4:] for share in shares]) == (TRAIN_IMAGES, TRAIN_IMAGES)
    assert len(read_results(tmp_path / "run")["history"]) == 3
