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
from tests.support.training import (
    BATCHES,
    SCHEDULER,
    STATE,
    assert_same,
    assert_same_end,
    draw_face,
    latest_checkpoint,
    make_command,
    read_checkpoint,
    read_results,
    start_process,
    write_faces,
    write_table,
)
from training.arguments import TrainArguments
from training.checkpoints import DESCRIPTION, choose_checkpoint, find_checkpoints
from training.state import TrainerState


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
    checkpoints = find_checkpoints(whole)
    states = [torch.load(folder / STATE, weights_only=False) for folder in checkpoints.values()]
    updates = 3 * math.ceil(BATCHES / accumulation)
    assert [state["update"] for state in states] == [*range(2, updates, 2), updates]
    start = next(n for n, state in enumerate(states) if state["epoch"] == 1 and 0 < state["step"] < BATCHES)

    shutil.copytree(whole, copy)
    for file in ("model.safetensors", "train_results.json"):
        (copy / file).unlink()
    run_train(copy, resume_from_checkpoint=copy / "checkpoints" / f"checkpoint_{start}", **options)

    assert_same_end(whole, copy)
    later = [folder for number, folder in checkpoints.items() if number > start]
    resumed = [folder for number, folder in find_checkpoints(copy).items() if number > max(checkpoints)]
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
    # 13 batches an epoch: the third checkpoint lies within the second epoch.
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
    first = find_checkpoints(tmp_path)[0]
    best_then = load_file(first / "best" / "model.safetensors")
    assert read_results(tmp_path)["best_epoch"] > 1
    run_train(tmp_path, num_train_epochs=1, checkpoints_total_limit=9, resume_from_checkpoint=first)
    assert read_results(tmp_path)["best_epoch"] == 1
    assert_same(load_file(tmp_path / "model.safetensors"), best_then)


def write_checkpoint(folder: Path, size: int = 3):
    """A folder that says of itself to hold a file of three bytes."""
    folder.mkdir(parents=True)
    (folder / "optimizer.bin").write_bytes(bytes(size))
    (folder / DESCRIPTION).write_text(json.dumps({"files": {"optimizer.bin": 3}}))


def test_latest_is_the_highest_number(tmp_path):
    for name in ("checkpoint_9", "checkpoint_10", "checkpoint_x", "partial"):
        write_checkpoint(tmp_path / "checkpoints" / name)
    arguments = TrainArguments(output_dir=tmp_path, resume_from_checkpoint="latest")
    assert choose_checkpoint(arguments) == (tmp_path / "checkpoints" / "checkpoint_10", "")


def test_a_checkpoint_that_is_not_whole_is_not_taken(tmp_path):
    folders = [tmp_path / "checkpoints" / f"checkpoint_{number}" for number in range(4)]
    for folder, size in zip(folders, (3, 3, 2, 3)):
        write_checkpoint(folder, size)
    (folders[3] / DESCRIPTION).unlink()
    checkpoint, remark = choose_checkpoint(TrainArguments(output_dir=tmp_path, resume_from_checkpoint="latest"))
    assert checkpoint == folders[1] and remark == f"{folders[3]} is not whole, so the one before it is taken."
    for folder, name in ((folders[2], "optimizer.bin"), (folders[3], DESCRIPTION)):
        with pytest.raises(ValueError, match=f"no whole checkpoint: {name} is missing or cut off"):
            choose_checkpoint(TrainArguments(output_dir=tmp_path, resume_from_checkpoint=str(folder)))


def test_checkpoints_are_limited_to_the_newest(run_train, tmp_path):
    run_train(tmp_path, num_train_epochs=3, checkpointing_steps=3, checkpoints_total_limit=2)
    updates = 3 * BATCHES
    names = sorted(os.listdir(tmp_path / "checkpoints"))
    assert names == [f"checkpoint_{updates // 3 - 2}", f"checkpoint_{updates // 3 - 1}"]
    assert torch.load(latest_checkpoint(tmp_path) / STATE, weights_only=False)["update"] == updates


def test_resuming_from_nowhere_is_refused(run_train, tmp_path):
    with pytest.raises(ValueError, match="There is no checkpoint nowhere"):
        run_train(tmp_path / "empty", resume_from_checkpoint="nowhere")
    assert not (tmp_path / "empty").exists()


def test_latest_without_a_checkpoint_starts_anew(run_train, tmp_path, capsys):
    """So a job that is started again by itself has one command."""
    run_train(tmp_path, num_train_epochs=1, resume_from_checkpoint="latest")
    assert "holds no whole checkpoint yet: the training starts from its beginning." in capsys.readouterr().out
    assert [row["epoch"] for row in read_results(tmp_path)["history"]] == [1]


def test_a_new_training_does_not_mix_with_the_checkpoints_of_another(run_train, tmp_path):
    folder = tmp_path / "checkpoints" / "checkpoint_3"
    folder.mkdir(parents=True)
    with pytest.raises(ValueError, match="--resume_from_checkpoint latest, or choose another --output_dir"):
        run_train(tmp_path)
    assert folder.exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"learning_rate": 0.02}, "checkpoint_0 is of another training: --learning_rate was 0.01 and is 0.02"),
        ({"config_overrides": "hidden_sizes=[8,24]"}, r"the network's hidden_sizes was \[8, 16\] and is \[8, 24\]"),
        ({"ema_decay": 0, "seed": 3}, "--ema_decay was 0.9 and is 0.0; --seed was 0 and is 3"),
        ({"rotation": 3}, "--rotation was 15.0 and is 3.0"),
        ({"validation_share": 0.3}, "--validation_share was 0.25 and is 0.3"),
        ({"data_dir": "others"}, "--data_dir had other images, other labels or another split"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_by_name(run_train, one_epoch, tmp_path, changes, sentence):
    if "data_dir" in changes:
        changes = {"data_dir": write_faces(tmp_path / "others", 41, test_count=3)}
    with pytest.raises(ValueError, match=sentence):
        run_train(one_epoch, resume_from_checkpoint="latest", **changes)
    assert len(find_checkpoints(one_epoch)) == 1


def test_a_checkpoint_holds_the_configuration_and_not_what_newer_code_may_add_to(one_epoch):
    network = json.loads((find_checkpoints(one_epoch)[0] / DESCRIPTION).read_text())["network"]
    stored = json.loads((one_epoch / "config.json").read_text())
    assert {"hidden_sizes", "age_statistic", "age_label_sigma"} <= network.keys() <= stored.keys()


def test_what_may_change_is_told(run_train, one_epoch, tmp_path, capsys):
    shutil.copytree(one_epoch, tmp_path / "run")
    run_train(tmp_path / "run", resume_from_checkpoint="latest", num_train_epochs=2, early_stopping_patience=7)
    printed = capsys.readouterr().out
    assert "Resuming changes the training: --num_train_epochs was 1 and is 2." in printed
    assert "--early_stopping_patience was 4 and is 7." in printed
    assert "Resumed from" in printed and len(read_results(tmp_path / "run")["history"]) == 2


def test_another_batch_size_goes_on_at_the_same_image(run_train, tmp_path, capsys):
    """8 updates of at most 4 images an epoch become 15 of 2; checkpoint 0 has 11 images of the second epoch behind it."""
    options = {"checkpointing_steps": 11, "num_train_epochs": 2}
    run_train(tmp_path, **options)
    checkpoint = find_checkpoints(tmp_path)[0]
    state = torch.load(checkpoint / STATE, weights_only=False)
    assert (state["epoch"], state["step"]) == (1, 3)
    capsys.readouterr()
    run_train(
        tmp_path,
        **options | {"checkpointing_steps": 23, "checkpoints_total_limit": 9},
        resume_from_checkpoint=checkpoint,
        per_device_train_batch_size=2,
    )
    printed = capsys.readouterr().out
    assert "per_device_train_batch_size was 4 and is 2. An update averages 2 images instead of 4" in printed
    assert "schedule goes on at update 20 of 30. Images of epoch 2 that are seen a second time: 1." in printed
    assert "epoch 2, update 20." in printed
    end, scheduler = (
        torch.load(latest_checkpoint(tmp_path) / file, weights_only=False) for file in (STATE, SCHEDULER)
    )
    assert end["update"] == scheduler["last_epoch"] == 30
    assert scheduler["_last_lr"] == pytest.approx([0, 0], abs=1e-12)


def test_state_counts_on_in_steps_of_another_size():
    # Of 80 images, 10 steps an epoch on 2 processes: 5 of 4 images each, 3 genders known each time; 14 steps on one.
    state = TrainerState(epoch=2, step=5, update=25, sums=[10.0, 40.0, 20.0, 10.0, 15.0])
    assert state.recount(80, [10, 14], [2, 1], accumulation=2, epoch_updates=7) == 40 - 34
    assert (state.step, state.update) == (6, 2 * 7 + 3)
    loss, *sums = state.sums
    assert loss / state.step == 10 / 5  # the mean loss stays
    assert sums == pytest.approx([34 / 40 * 2 * value for value in (40, 20, 10, 15)])
    start = TrainerState(epoch=2, update=20)
    assert start.recount(80, [10, 20], [2, 1], accumulation=1, epoch_updates=20) == 0
    assert (start.step, start.update, start.sums) == (0, 40, [0.0] * 5)


def test_the_end_has_a_checkpoint_of_its_own(run_train, tmp_path):
    run_train(tmp_path, num_train_epochs=1, checkpointing_steps=100)
    state = torch.load(latest_checkpoint(tmp_path) / STATE, weights_only=False)
    assert (state["epoch"], state["update"]) == (1, BATCHES)
