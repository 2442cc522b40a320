"""Trainings that kill -9 or a full disk ends at chosen moments. benchmarks/recovery.py kills at random ones."""

import os
import resource
import signal
from functools import partial
from pathlib import Path

import accelerate.accelerator
import datasets
import pytest

import train
from data.utkface import UTKFace
from modeling_agegender import AgeGenderModel
from pipeline_agegender import AgeGenderPipeline
from tests.support.processes import run_forked, run_train_here
from tests.support.training import TRAINED, assert_same_end, make_command
from training import checkpoints, export
from training.checkpoints import find_checkpoints, find_damage


pytestmark = [pytest.mark.usefixtures("datasets_cache", "fresh_accelerate_state"), pytest.mark.processes]

# Checkpoints after 5, 10, 15, 20 and 21 updates.
OPTIONS = TRAINED | {"checkpoints_total_limit": 1}


def die_at_call(owner, name: str, number: int, after: bool, command: list[str]):
    """Trains until kill -9 before or after a call of a function."""
    called = []
    function = getattr(owner, name)

    def call(*args, **kwargs):
        called.append(1)
        if len(called) == number and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **kwargs)
        if len(called) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, call)
    run_train_here(command)


KILLS = {
    "before any checkpoint": (train.Training, "_train_step", 3, False, []),
    "in the middle of a checkpoint": (accelerate.accelerator, "save_custom_state", 5, False, [0]),
    "with a checkpoint that has no name yet": (Path, "rename", 3, False, [0]),
    "between its name and the deletion of the one before": (checkpoints, "delete_old_checkpoints", 2, False, [0, 1]),
    "in the middle of that deletion": (os, "unlink", 3, False, [1]),
    "between two best weights": (Path, "rename", 5, False, [1]),
    "in the middle of the export": (export, "write_results", 1, False, [4]),
}


@pytest.mark.parametrize("moment", KILLS)
def test_a_killed_training_goes_on(faces, network, trained, tmp_path, moment):
    owner, name, number, after, left = KILLS[moment]
    killed, log = tmp_path / "killed", tmp_path / "log"
    command = make_command(faces, network, killed, resume_from_checkpoint="latest", **OPTIONS)
    code = run_forked(partial(die_at_call, owner, name, number, after), command, log=log)
    assert code == -signal.SIGKILL, log.read_text()
    assert not (killed / "train_results.json").exists()
    assert list(find_checkpoints(killed)) == left
    assert not any(map(find_damage, find_checkpoints(killed).values()))
    assert run_forked(run_train_here, command, log=log) == 0, log.read_text()
    assert_same_end(trained, killed)
    assert [path.name for path in (killed / "checkpoints").iterdir()] == ["checkpoint_4"]


def test_a_kill_while_data_are_built_leaves_nothing_half_built(faces, network, trained, tmp_path):
    killed, log, cache = tmp_path / "killed", tmp_path / "log", tmp_path / "cache"
    command = make_command(faces, network, killed, resume_from_checkpoint="latest", **OPTIONS)
    generate = UTKFace._generate_examples

    def die_among_examples(builder, rows, split):
        for number, example in enumerate(generate(builder, rows, split)):
            if number == 12:
                os.kill(os.getpid(), signal.SIGKILL)
            yield example

    def build_and_die():
        UTKFace._generate_examples = die_among_examples
        datasets.config.HF_DATASETS_CACHE = cache
        run_train_here(command)

    def train_with_the_cache():
        datasets.config.HF_DATASETS_CACHE = cache
        run_train_here(command)

    assert run_forked(build_and_die, log=log) == -signal.SIGKILL
    assert list(cache.rglob("*.incomplete"))
    assert run_forked(train_with_the_cache, log=log) == 0, log.read_text()
    assert "the training starts from its beginning" in log.read_text()
    assert_same_end(trained, killed)


@pytest.mark.parametrize(
    ("owner", "name", "first", "what"),
    [
        (train.Accelerator, "save_state", 2, "checkpoint_1"),
        (AgeGenderModel, "save_pretrained", 2, "best"),
        (AgeGenderPipeline, "save_pretrained", 1, ""),
    ],
)
def test_a_full_disk_leaves_the_last_checkpoint_and_a_sentence(
    run_train, trained, tmp_path, monkeypatch, owner, name, first, what
):
    """Files above 4,000 bytes fail from one of the calls on, as by `ulimit -f`."""
    save, calls = getattr(owner, name), []

    def save_on_a_full_disk(*args, **kwargs):
        calls.append(1)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        if len(calls) >= first:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
        try:
            return save(*args, **kwargs)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, save_on_a_full_disk)
        with pytest.raises(
            ValueError, match=rf"{what} could not be written \(.+\)\. Earlier checkpoints are kept"
        ) as stop:
            run_train(tmp_path, **OPTIONS)
    assert "\n" not in str(stop.value) and "--resume_from_checkpoint latest" in str(stop.value)
    assert [find_damage(folder) for folder in find_checkpoints(tmp_path).values()] == [None]
    assert not list(tmp_path.rglob("*partial"))
    run_train(tmp_path, resume_from_checkpoint="latest", **OPTIONS)
    assert_same_end(trained, tmp_path)
