"""Training that is interrupted, killed and resumed."""

import json
import math
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import train
import training_state
from training_arguments import TrainArguments
from training_setup import (
    BATCHES,
    NETWORK,
    STATE,
    assert_same,
    assert_same_end,
    draw_face,
    latest_checkpoint,
    make_command,
    read_checkpoint,
    read_results,
    start_process,
    write_table,
)


pytestmark = pytest.mark.usefixtures("datasets_cache", "fresh_accelerate_state")


@pytest.mark.parametrize("accumulation", [1, 2])
def test_resuming_within_an_epoch_equals_an_uninterrupted_run(run_train, tmp_path, accumulation):
    options = {
        "gradient_accumulation_steps": accumulation,
        "checkpointing_steps": 2,
        "checkpoints_total_limit": 50,
        "num_train_epochs": 3,
    }
    whole, copy = tmp_path / "whole", tmp_path / "copy"
    run_train(whole, **options)
    checkpoints = training_state.find_checkpoints(whole)
    states = [torch.load(folder / STATE, weights_only=False) for folder in checkpoints.values()]
    updates = 3 * math.ceil(BATCHES / accumulation)
    assert [state["update"] for state in states] == list(range(2, updates + 1, 2))
    start = next(n for n, state in enumerate(states) if state["epoch"] == 1 and 0 < state["step"] < BATCHES)

    shutil.copytree(whole, copy)
    for file in ("model.safetensors", "train_results.json"):
        (copy / file).unlink()
    run_train(copy, resume_from_checkpoint=copy / "checkpoints" / f"checkpoint_{start}", **options)

    assert_same_end(whole, copy)
    later = [folder for number, folder in checkpoints.items() if number > start]
    resumed = [folder for number, folder in training_state.find_checkpoints(copy).items() if number > max(checkpoints)]
    assert len(resumed) == len(later) > 0
    for first, second in zip(later, resumed):
        assert_same(read_checkpoint(first), read_checkpoint(second))


def test_resuming_with_extra_faces_and_a_teacher_equals_an_uninterrupted_run(run_train, tmp_path):
    """The extra faces and their place in the epoch are drawn anew as they were."""
    run_train(tmp_path / "teacher", num_train_epochs=1)
    extra = write_table(tmp_path / "extra", [draw_face(40, 0, seed=500 + i) for i in range(40)], [40.0] * 40)
    options = {"extra_data": extra, "extra_share": 0.4, "teacher": tmp_path / "teacher", "checkpointing_steps": 5}
    whole, copy = tmp_path / "whole", tmp_path / "copy"
    run_train(whole, checkpoints_total_limit=50, **options)
    shutil.copytree(whole, copy)
    # 12 batches an epoch: the third checkpoint lies within the second epoch.
    run_train(copy, resume_from_checkpoint=copy / "checkpoints" / "checkpoint_2", **options)
    assert_same_end(whole, copy)


def test_ctrl_c_saves_a_checkpoint_and_latest_goes_on_from_it(run_train, faces, network, tmp_path):
    options = {"num_train_epochs": 12, "dataloader_num_workers": 1}
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run_train(whole, **options)

    process = start_process(make_command(faces, network, stopped, **options), tmp_path)
    seen = ""
    while "Epoch 3/12:" not in seen and (character := process.stdout.read(1)):
        seen += character
    os.killpg(process.pid, signal.SIGINT)
    seen += process.communicate(timeout=60)[0]

    assert process.returncode == 0, seen
    assert "--resume_from_checkpoint latest" in seen and "Traceback" not in seen
    assert not (stopped / "train_results.json").exists()
    state = torch.load(latest_checkpoint(stopped) / STATE, weights_only=False)
    assert 2 <= state["epoch"] < 12 and state["step"] > 0
    run_train(stopped, resume_from_checkpoint="latest", **options)
    assert_same_end(whole, stopped)


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(run_train, tmp_path, monkeypatch):
    options = {"num_train_epochs": 3, "checkpoints_total_limit": 1}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_train(whole, **options)

    class Killed(BaseException):
        pass

    save_state = train.Accelerator.save_state
    calls = []

    def die_in_the_second(self, folder):
        calls.append(folder)
        save_state(self, folder)
        if len(calls) == 2:
            (Path(folder) / "optimizer.bin").unlink()
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(train.Accelerator, "save_state", die_in_the_second)
        with pytest.raises(Killed):
            run_train(killed, **options)
    run_train(killed, resume_from_checkpoint="latest", **options)
    assert_same_end(whole, killed)


def test_going_back_to_a_checkpoint_goes_back_to_its_best_weights(run_train, tmp_path):
    """A later epoch's best must not be exported as that of the epoch that the checkpoint knows."""
    run_train(tmp_path, num_train_epochs=3, checkpoints_total_limit=9)
    first = training_state.find_checkpoints(tmp_path)[0]
    best_then = load_file(first / "best" / "model.safetensors")
    assert read_results(tmp_path)["best_epoch"] > 1
    run_train(tmp_path, num_train_epochs=1, checkpoints_total_limit=9, resume_from_checkpoint=first)
    assert read_results(tmp_path)["best_epoch"] == 1
    assert_same(load_file(tmp_path / "model.safetensors"), best_then)


def test_latest_is_the_highest_number(tmp_path):
    for name in ("checkpoint_9", "checkpoint_10", "checkpoint_x", "partial"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    arguments = TrainArguments(output_dir=tmp_path, resume_from_checkpoint="latest")
    assert training_state.choose_checkpoint(arguments) == tmp_path / "checkpoints" / "checkpoint_10"


def test_checkpoints_are_limited_to_the_newest(run_train, tmp_path):
    run_train(tmp_path, num_train_epochs=3, checkpointing_steps=3, checkpoints_total_limit=2)
    updates = 3 * BATCHES
    names = sorted(os.listdir(tmp_path / "checkpoints"))
    assert names == [f"checkpoint_{updates // 3 - 2}", f"checkpoint_{updates // 3 - 1}"]
    assert torch.load(latest_checkpoint(tmp_path) / STATE, weights_only=False)["update"] == updates


@pytest.mark.parametrize(
    ("checkpoint", "sentence"), [("latest", "holds no checkpoint"), ("nowhere", "There is no checkpoint nowhere")]
)
def test_resuming_from_nothing_is_refused(run_train, tmp_path, checkpoint, sentence):
    with pytest.raises(ValueError, match=sentence):
        run_train(tmp_path / "empty", resume_from_checkpoint=checkpoint)
    assert not (tmp_path / "empty").exists()


def test_a_new_training_does_not_mix_with_the_checkpoints_of_another(run_train, tmp_path):
    folder = tmp_path / "checkpoints" / "checkpoint_3"
    folder.mkdir(parents=True)
    with pytest.raises(ValueError, match="--resume_from_checkpoint latest, or choose another --output_dir"):
        run_train(tmp_path)
    assert folder.exists()


def test_a_checkpoint_of_another_network_is_refused(run_train, tmp_path):
    run_train(tmp_path / "run", num_train_epochs=1)
    wider = tmp_path / "wider.json"
    wider.write_text(json.dumps(NETWORK | {"hidden_sizes": [8, 24]}))
    with pytest.raises(ValueError, match="checkpoint_0 is no checkpoint of a training with these arguments"):
        run_train(tmp_path / "run", config=wider, resume_from_checkpoint="latest")
