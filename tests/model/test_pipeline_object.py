"""The pipeline as an object that is copied, sent to processes and hashed, and what it takes as one or several pictures."""

import copy
import io
import multiprocessing
import pickle
from collections import deque
from collections.abc import Iterator
from itertools import islice

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from datasets.fingerprint import Hasher
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from pipeline_agegender import AgeGenderPipeline


PORTRAIT_BOX = (96, 0, 352, 256)


@pytest.fixture(scope="module")
def portrait(photo):
    return photo.crop(PORTRAIT_BOX)


@pytest.fixture
def paths(noise, tmp_path) -> list[str]:
    """Two pictures of noise."""
    pictures = [tmp_path / "first.png", tmp_path / "second.png"]
    for picture, path in zip((noise, noise.rotate(180)), pictures, strict=True):
        picture.save(path)
    return list(map(str, pictures))


@pytest.fixture
def answers(estimator, paths) -> list[list[dict]]:
    """What the pipeline returns for each path with `detect_faces=False`."""
    found = [estimator(path, detect_faces=False) for path in paths]
    assert found[0] != found[1]
    return found


def assert_same(found: list[list[dict]], expected: list[list[dict]]):
    """Equal up to the rounding of batches."""
    assert len(found) == len(expected)
    for (face,), (reference,) in zip(found, expected, strict=True):
        assert face == reference | {"age": pytest.approx(reference["age"], abs=1e-3)} | {
            "gender_score": pytest.approx(reference["gender_score"], abs=1e-4)
        }


@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda pipe: pickle.loads(pickle.dumps(pipe))])
def test_copies_find_the_same_faces(estimator, portrait, make_copy):
    expected = estimator(portrait)  # loads the detector, which no copy takes along
    assert len(expected) == 1
    assert make_copy(estimator)(portrait) == expected
    assert estimator(portrait) == expected


def answer(pipe: AgeGenderPipeline, path: str, queue):
    torch.set_num_threads(1)
    queue.put(pipe(path, detect_faces=False))


@pytest.mark.processes
@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_another_process(estimator, paths, answers, method):
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=answer, args=(estimator, paths[0], queue))
    process.start()
    assert queue.get(timeout=120) == answers[0]
    process.join()


@pytest.mark.processes
def test_worker_process(estimator, paths, answers):
    options = {"detect_faces": False, "num_workers": 1, "batch_size": 2}
    assert_same(estimator(paths, **options), answers)
    assert_same(list(estimator((path for path in paths), **options)), answers)
    (error,) = estimator(["nowhere.png"], on_error="return", **options)
    assert isinstance(error, ValueError) and str(error).startswith("nowhere.png cannot be read")


def test_hash_is_that_before_a_call(estimator, paths):
    """`Dataset.map` finds its cache by the hash of the function, which holds the pipeline."""

    estimator = copy.deepcopy(estimator)  # which has not checked a crop yet

    def label(row: dict) -> dict:
        return {"faces": len(estimator(row["path"], detect_faces=False))}

    before = Hasher.hash(label)
    assert datasets.Dataset.from_dict({"path": paths}).map(label)["faces"][:] == [1, 1]
    assert Hasher.hash(label) == before
    assert Hasher.hash(copy.deepcopy(estimator)) == Hasher.hash(estimator)
    other = copy.deepcopy(estimator)
    with torch.no_grad():
        other.model.gender_head.layers[-1].bias.add_(1)
    assert Hasher.hash(other) != Hasher.hash(estimator)


def test_pipeline_of_a_model_object(estimator, paths, answers):
    made = pipeline(
        "age-gender-estimation",
        model=estimator.model,
        image_processor=estimator.image_processor,
        detect_faces=False,
        batch_size=2,
    )
    assert_same(made(paths), answers)


@pytest.mark.parametrize(
    "gather",
    [
        tuple,
        deque,
        pd.Series,
        np.array,
        lambda paths: np.array(paths, dtype=object),
        lambda paths: dict.fromkeys(paths).keys(),
        lambda paths: datasets.Dataset.from_dict({"image": paths}).cast_column("image", datasets.Image())["image"],
    ],
    ids=["tuple", "deque", "Series", "array of strings", "array of objects", "keys", "column of a data set"],
)
def test_iterables_are_several_pictures(estimator, paths, answers, gather):
    found = estimator(gather(paths), detect_faces=False)
    assert type(found) is list and found == answers
    assert estimator(gather(paths[:1]), detect_faces=False) == answers[:1]


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy], ids=["array", "tensor"])
@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 3, 1, 2)], ids=["channels last", "channels first"])
def test_batches_are_several_pictures(estimator, noise, paths, answers, convert, axes):
    batch = np.stack([np.asarray(noise), np.asarray(noise.rotate(180))]).transpose(axes)
    assert_same(estimator(convert(batch), detect_faces=False, batch_size=2), answers)


@pytest.mark.parametrize(
    "empty",
    [
        [],
        (),
        set(),
        {}.keys(),
        pd.Series([], dtype=object),
        np.array([], dtype=object),
        np.empty((0, 8, 8, 3), np.uint8),
    ],
)
def test_no_pictures_give_no_lists(estimator, empty):
    assert estimator(empty) == []


@pytest.mark.parametrize(
    "gather",
    [lambda paths: (path for path in paths), iter, lambda paths: map(str, paths)],
    ids=["generator", "iterator", "map"],
)
def test_iterators_are_read_one_after_another(estimator, paths, answers, gather):
    read = []

    def note(path: str) -> str:
        read.append(path)
        return path

    found = estimator(gather(map(note, paths)), detect_faces=False)
    assert isinstance(found, Iterator)
    assert next(found) == answers[0] and len(read) < 3
    assert list(found) == answers[1:]
    assert list(estimator(gather([]), detect_faces=False)) == []


def test_torch_data_sets(estimator, paths, answers):
    rows = datasets.Dataset.from_dict({"image": paths})
    assert_same(list(estimator(KeyDataset(rows, "image"), detect_faces=False, batch_size=2)), answers)
    assert list(estimator(KeyDataset(rows.select([]), "image"))) == []
    endless = type(
        "Endless", (torch.utils.data.Dataset,), {"__len__": lambda self: 2, "__getitem__": lambda self, _: paths[0]}
    )
    assert list(islice(estimator(endless(), detect_faces=False), 3)) == [answers[0]] * 2


@pytest.mark.parametrize("convert", [bytes, bytearray, memoryview, io.BytesIO])
def test_content_of_a_file_is_one_picture(estimator, paths, answers, convert):
    with open(paths[0], "rb") as file:
        content = file.read()
    assert estimator(convert(content), detect_faces=False) == answers[0]
    assert estimator([convert(content), paths[1]], detect_faces=False) == answers
    with pytest.raises(ValueError, match="cannot be read as an image"):
        estimator(convert(b"no picture"))


def test_open_file_is_one_picture(estimator, paths, answers):
    with open(paths[0], "rb") as file:
        assert estimator(file, detect_faces=False) == answers[0]


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        3.5,
        True,
        object(),
        range(3),
        [None],
        [["a.png"]],
        {"image": 1},
        np.array([1, 2]),
        np.array("x"),
        "",
        "\0",
    ]
    + ["nowhere.png", "ftp://127.0.0.1/photo.jpg", "http://127.0.0.1:9/photo.jpg", "data:image/png;base64,xx"],
    ids=lambda value: "object" if type(value) is object else repr(value),
)
def test_each_refusal_is_a_value_error(estimator, value):
    with pytest.raises(ValueError, match="cannot be read as an image"):
        estimator(value)
    refusal = estimator(value, on_error="return")
    refusal = refusal[0] if isinstance(refusal, list) else refusal
    assert isinstance(refusal, ValueError) and "cannot be read as an image" in str(refusal)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_one_bad_picture_does_not_end_the_others(estimator, portrait, paths, batch_size):
    pictures = ["nowhere.png", portrait, None, paths[0], portrait]
    expected = estimator(portrait)
    for given in (pictures, tuple(pictures), iter(pictures)):
        found = list(estimator(given, on_error="return", batch_size=batch_size))
        for answer, kind in zip(found, (ValueError, list, ValueError, list, list), strict=True):
            assert isinstance(answer, kind)
        assert str(found[0]).startswith("nowhere.png cannot be read as an image") and "NoneType" in str(found[2])
        for answer in (found[1], found[4]):
            assert answer[0]["age"] == pytest.approx(expected[0]["age"], abs=1e-3)
        assert found[3] == []
    with pytest.raises(ValueError, match="nowhere.png"):
        estimator(pictures, batch_size=batch_size)


def test_other_ways_to_handle_errors_are_refused(estimator, noise):
    with pytest.raises(ValueError, match="on_error must be 'raise' or 'return', got 'skip'"):
        estimator(noise, on_error="skip")


def test_channels_are_red_green_blue(estimator, portrait):
    """The hint for arrays of OpenCV, whose channels are the other way round."""
    array = np.asarray(portrait)
    opencv = np.ascontiguousarray(array[:, :, ::-1])
    expected = estimator(portrait, detect_faces=False)
    assert estimator(opencv[:, :, ::-1], detect_faces=False) == expected
    assert estimator(opencv, detect_faces=False) != expected
