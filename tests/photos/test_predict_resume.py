"""Labelling many pictures: no row is lost or doubled by interruptions, and parts of other runs are refused."""

from itertools import pairwise
from pathlib import Path

import pytest

import predict
from photos.table_parts import Parts
from tests.support.picture_sources import write_folder
from tests.support.predictions import (
    BROKEN,
    assert_same_rows,
    list_unreadable,
    make_command,
    read_rows,
    run_killed,
    start_python,
)
from tests.support.training import ROOT


pytestmark = pytest.mark.usefixtures("datasets_cache", "fresh_accelerate_state")


@pytest.mark.processes
def test_two_processes_give_the_rows_of_one(model_folder, folder, expected, tmp_path):
    command = make_command(model_folder, folder, tmp_path / "faces.parquet", "--pictures_per_part", "1")
    ended = start_python("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *command)
    assert ended.returncode == 0, ended.stderr
    assert_same_rows(read_rows(tmp_path / "faces.parquet"), expected)
    assert list(list_unreadable(tmp_path)) == [BROKEN]
    assert ended.stdout.count("6 pictures: 5 faces") == 1 and "6/6" in ended.stderr


@pytest.mark.processes
def test_kills_lose_and_double_no_row(model_folder, folder, expected, run_predict, tmp_path):
    """Within a part, before a part and the table are renamed, and before the parts are deleted."""
    output = tmp_path / "faces.parquet"
    words = ("--pictures_per_part", "2", "--per_device_eval_batch_size", "1")
    moments = [("predict", "read_entry", 6), ("os", "fsync", 1), ("os", "fsync", 4), ("shutil", "rmtree", 1)]
    command = make_command(model_folder, folder, output, *words)
    parts = run_killed(moments, output, command)
    assert [len(found) for found in parts] == [1, 1, 3, 3]
    # No part is written again.
    assert all(earlier.items() <= later.items() for earlier, later in pairwise(parts))
    assert_same_rows(read_rows(output), expected)
    assert list(list_unreadable(tmp_path)) == [BROKEN] and not list(tmp_path.glob("*.partial*"))
    with pytest.raises(SystemExit):
        run_predict(folder, "--pictures_per_part", "2")
    assert_same_rows(run_predict(folder, "--pictures_per_part", "2", "--overwrite"), expected)


def interrupt_at_sixth(seen: list[str]):
    """Makes a `predict.read_entry` that records paths in `seen` and raises KeyboardInterrupt at the sixth picture."""
    read_entry = predict.read_entry

    def interrupt(entry):
        if len(seen) == 5:
            raise KeyboardInterrupt
        seen.append(entry.path)
        return read_entry(entry)

    return interrupt


def test_whole_parts_are_kept_and_the_rest_is_done(run_predict, folder, expected, tmp_path, monkeypatch):
    """A resumed run does not read the pictures of whole parts again, also with another batch size."""
    read_entry, seen = predict.read_entry, []
    monkeypatch.setattr(predict, "read_entry", interrupt_at_sixth(seen))
    words = ("--pictures_per_part", "2", "--per_device_eval_batch_size")
    with pytest.raises(KeyboardInterrupt):
        run_predict(folder, *words, "1")
    monkeypatch.setattr(predict, "read_entry", lambda entry: seen.append(entry.path) or read_entry(entry))
    assert_same_rows(run_predict(folder, *words, "2"), expected)
    # Of five pictures, the last three were read ahead or are of a part that lacks one.
    assert seen[5:] == [*seen[2:4], "sub/a/1.jpg", BROKEN]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_own_table_and_parts_may_lie_among_the_pictures(run_predict, pictures, expected, tmp_path, monkeypatch, kind):
    """They are not labelled, and other files written there do not make it another run."""
    folder = write_folder(tmp_path / "photos", pictures)
    output, words = f"photos/faces.{kind}", ("--pictures_per_part", "2", "--per_device_eval_batch_size", "1")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(predict, "read_entry", interrupt_at_sixth([]))
        run_predict(folder, *words, output=output)
    assert list(Path(folder, f"faces.{kind}.parts").glob("part-*.json"))
    Path(folder, "more notes.txt").write_text("Written meanwhile.")
    rows = run_predict(folder, *words, output=output)
    assert_same_rows([row | {"file": row["file"].removeprefix("'")} for row in rows], expected)
    with pytest.raises(SystemExit):
        run_predict(folder, *words, output=output)


def test_parts_of_another_run_are_refused(run_predict, folder, tmp_path, monkeypatch):
    words = ("--pictures_per_part", "2")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(predict, "read_entry", interrupt_at_sixth([]))
        run_predict(folder, *words, "--per_device_eval_batch_size", "1")
    for changes, difference in (
        (("--no_detection",), "no_detection False, now True"),
        (("--pictures_per_part", "3"), "pictures_per_part 2, now 3"),
        (("--model", str(ROOT)), "model "),
    ):
        with pytest.raises(ValueError, match=rf"parts holds the parts of another run \({difference}"):
            run_predict(folder, *words, *changes)
    with pytest.raises(ValueError, match="another run .data_dir photos, now sub, .*pictures 6, now 3"):
        run_predict(f"{folder}/sub", *words)


def test_part_that_another_run_wrote_meanwhile_is_refused(run_predict, folder, monkeypatch):
    """Two runs with one output that start together both see no parts."""
    write = Parts.write

    def write_two(parts, number, rows):
        write(parts, number, rows)
        monkeypatch.setitem(parts.run, "model", "another")

    monkeypatch.setattr(Parts, "write", write_two)
    with pytest.raises(ValueError, match=r"another run \(model "):
        run_predict(folder, "--pictures_per_part", "2")
