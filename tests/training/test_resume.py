"""Trainings that resume: bit for bit, with other batches, with other arguments, and what is refused."""

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
from tests.support.picture_sources import make_table, write_zip
from tests.support.processes import run_forked, run_train_here
from tests.support.training import (
    BATCHES,
    SCHEDULER,
    STATE,
    TRAINED,
    assert_same,
    assert_same_end,
    draw_face,
    latest_checkpoint,
    make_command,
    read_checkpoint,
    read_results,
    read_state,
    write_faces,
    write_table,
)
from training.checkpoints import DESCRIPTION_FILE, choose_checkpoint, find_checkpoints


pytestmark = pytest.mark.usefixtures("datasets_cache", "fresh_accelerate_state")
OTHER_IMAGES = r"checkpoint_0 is of another training: the train_sha256 \(of names and labels\) was"


def copy_run(folder: Path, copy: Path) -> Path:
    """A copy of an output folder as it was before the export."""
    shutil.copytree(folder, copy)
    for file in ("model.safetensors", "train_results.json"):
        (copy / file).unlink()
    return copy


def assert_resumes_bit_for_bit(run_train, whole: Path, copy: Path, start: int, **options):
    """The rest of a training from a checkpoint writes the same checkpoints and the same result."""
    checkpoints = find_checkpoints(whole)
    state = read_state(checkpoints[start])
    assert state["epoch"] == 1 and state["images"] > 0
    run_train(copy_run(whole, copy), resume_from_checkpoint=copy / "checkpoints" / f"checkpoint_{start}", **options)
    assert_same_end(whole, copy)
    later = [folder for number, folder in checkpoints.items() if number > start]
    resumed = [folder for number, folder in find_checkpoints(copy).items() if number > max(checkpoints)]
    assert len(resumed) == len(later) > 0
    for first, second in zip(later, resumed):
        assert_same(read_checkpoint(first), read_checkpoint(second))


def test_resuming_within_an_epoch_equals_an_uninterrupted_training(run_train, trained, tmp_path):
    assert [read_state(folder)["update"] for folder in find_checkpoints(trained).values()] == [5, 10, 15, 20, 21]
    assert_resumes_bit_for_bit(run_train, trained, tmp_path / "copy", start=1, **TRAINED)


@pytest.mark.slow
def test_resuming_with_extra_faces_a_teacher_and_accumulation_equals_an_uninterrupted_training(
    run_train, one_epoch, tmp_path
):
    """The extra faces and their places in the epoch are the same. 12 batches an epoch make 3 updates of 5, 5 and 2."""
    extra = write_table(tmp_path / "extra", [draw_face(40, 0, seed=500 + i) for i in range(40)], [40.0] * 40)
    options = {"extra_data": extra, "extra_share": 0.4, "teacher": one_epoch, "gradient_accumulation_steps": 5}
    options |= {"checkpointing_steps": 2, "checkpoints_total_limit": 9, "num_train_epochs": 2, "age_balance": 0.5}
    run_train(tmp_path / "whole", **options)
    state, scheduler = (
        torch.load(latest_checkpoint(tmp_path / "whole") / file, weights_only=False) for file in (STATE, SCHEDULER)
    )
    assert state["update"] == scheduler["last_epoch"] == 2 * math.ceil(12 / 5)
    assert max(scheduler["_last_lr"]) == pytest.approx(0, abs=1e-12)
    assert_resumes_bit_for_bit(run_train, tmp_path / "whole", tmp_path / "copy", start=1, **options)


def interrupt_itself(command: list[str], images: int, number: int):
    """Trains with a signal, which reaches data workers too, in a step of the second epoch."""
    os.setsid()
    step = train.Training._train_step

    def interrupt(training, batch):
        if (training.state.epoch, training.state.images) == (1, images):
            os.killpg(0, number)
        return step(training, batch)

    train.Training._train_step = interrupt
    run_train_here(command)


@pytest.mark.processes
@pytest.mark.parametrize(
    ("number", "images", "workers"), [(signal.SIGINT, 8, 1), (signal.SIGINT, 24, 0), (signal.SIGTERM, 8, 1)]
)
def test_ctrl_c_saves_a_checkpoint_and_latest_resumes_from_it(
    run_train, faces, network, trained, tmp_path, number, images, workers
):
    """In the midst of an epoch, and in its last step."""
    options = TRAINED | {"dataloader_num_workers": workers}
    stopped, log = tmp_path / "stopped", tmp_path / "log"
    code = run_forked(interrupt_itself, make_command(faces, network, stopped, **options), images, number, log=log)
    printed = log.read_text()
    assert code == 0, printed
    assert "--resume_from_checkpoint latest" in printed and "Traceback" not in printed
    assert not (stopped / "train_results.json").exists()
    state = read_state(latest_checkpoint(stopped))
    assert (state["epoch"], state["images"], state["update"]) == (1, images + 4, BATCHES + images // 4 + 1)
    run_train(stopped, resume_from_checkpoint="latest", **options)
    assert_same_end(trained, stopped)


def test_going_back_to_a_checkpoint_goes_back_to_its_best_weights(run_train, trained, tmp_path):
    """A later epoch's weights must not be exported as those of the best epoch that the checkpoint knows."""
    assert read_results(trained)["best_epoch"] > 1
    copy = copy_run(trained, tmp_path / "copy")
    best_then = load_file(find_checkpoints(copy)[1] / "best" / "model.safetensors")
    run_train(copy, num_train_epochs=1, resume_from_checkpoint=find_checkpoints(copy)[1])
    assert read_results(copy)["best_epoch"] == 1
    assert_same(load_file(copy / "model.safetensors"), best_then)


@pytest.mark.parametrize(
    ("changes", "resumed_at", "end"),
    [
        # An epoch of 30 images has 15 updates of 2. Of the second epoch, 12 images are done.
        pytest.param({"per_device_train_batch_size": 2}, 15 + 6, 3 * 15, marks=pytest.mark.slow),
        # An epoch has 7 steps of 4, so 4 updates.
        pytest.param({"gradient_accumulation_steps": 2}, 4 + 2, 3 * 4, marks=pytest.mark.slow),
        # An epoch has 3 updates of 8. The 18 images that are left make two, one more than the schedule has left.
        ({"per_device_train_batch_size": 8}, 3 + 2, 3 * 3),
    ],
)
def test_other_batches_resume_at_the_same_image(run_train, trained, tmp_path, capsys, changes, resumed_at, end):
    copy = copy_run(trained, tmp_path / "copy")
    checkpoint = find_checkpoints(copy)[1]
    assert (read_state(checkpoint)["epoch"], read_state(checkpoint)["images"]) == (1, 12)
    run_train(copy, **TRAINED | changes, resume_from_checkpoint=checkpoint)
    printed = capsys.readouterr().out
    for name, value in changes.items():
        assert f"--{name} was {1 if 'accumulation' in name else 4} and is {value}" in printed
    assert f"checkpoint_1: epoch 2, update {resumed_at}." in printed
    state, scheduler = (torch.load(latest_checkpoint(copy) / file, weights_only=False) for file in (STATE, SCHEDULER))
    assert state["update"] == scheduler["last_epoch"] == end
    assert max(scheduler["_last_lr"]) == pytest.approx(0, abs=1e-12)
    losses = [row["train_loss"] for row in read_results(copy)["history"]]
    assert losses[2] < losses[0] < 2 * losses[2]  # still means over images


def write_checkpoint(folder: Path, size: int = 3):
    """A folder whose description records a file of three bytes."""
    folder.mkdir(parents=True)
    (folder / "optimizer.bin").write_bytes(bytes(size))
    (folder / DESCRIPTION_FILE).write_text(json.dumps({"files": {"optimizer.bin": 3}}))


def test_latest_is_the_highest_number(tmp_path):
    for name in ("checkpoint_9", "checkpoint_10", "checkpoint_x", "partial"):
        write_checkpoint(tmp_path / "checkpoints" / name)
    assert choose_checkpoint(tmp_path, "latest") == tmp_path / "checkpoints" / "checkpoint_10"


def test_a_checkpoint_that_is_not_whole_is_not_taken(tmp_path):
    folders = [tmp_path / "checkpoints" / f"checkpoint_{number}" for number in range(4)]
    for folder, size in zip(folders, (3, 3, 2, 3)):
        write_checkpoint(folder, size)
    (folders[3] / DESCRIPTION_FILE).unlink()
    assert choose_checkpoint(tmp_path, "latest") == folders[1]
    for folder, name in ((folders[2], "optimizer.bin"), (folders[3], DESCRIPTION_FILE)):
        with pytest.raises(ValueError, match=f"not a whole checkpoint: {name} is missing or cut off"):
            choose_checkpoint(tmp_path, str(folder))


def test_resuming_from_nowhere_is_refused(run_train, tmp_path):
    with pytest.raises(ValueError, match="There is no checkpoint nowhere"):
        run_train(tmp_path / "empty", resume_from_checkpoint="nowhere")
    assert not (tmp_path / "empty").exists()


def test_latest_without_a_checkpoint_starts_anew_and_checkpoints_are_limited(run_train, tmp_path, capsys):
    """So a job that is restarted automatically has one command."""
    options = {"num_train_epochs": 2, "checkpointing_steps": 4, "checkpoints_total_limit": 2}
    run_train(tmp_path, resume_from_checkpoint="latest", **options)
    assert "holds no whole checkpoint yet: the training starts from its beginning." in capsys.readouterr().out
    assert [row["epoch"] for row in read_results(tmp_path)["history"]] == [1, 2]
    # After 4, 8, 12 and, at the end, 14 updates.
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["checkpoint_2", "checkpoint_3"]
    state = read_state(latest_checkpoint(tmp_path))
    assert (state["epoch"], state["update"]) == (2, 2 * BATCHES)


def test_a_new_training_does_not_mix_with_the_checkpoints_of_another(run_train, tmp_path):
    folder = tmp_path / "checkpoints" / "checkpoint_3"
    folder.mkdir(parents=True)
    with pytest.raises(ValueError, match="--resume_from_checkpoint latest, or choose another --output_dir"):
        run_train(tmp_path)
    assert folder.exists()
    folder.rmdir()
    (tmp_path / "model.safetensors").touch()
    for wanted in (None, "latest"):
        with pytest.raises(ValueError, match="holds weights of another training: choose another --output_dir"):
            run_train(tmp_path, resume_from_checkpoint=wanted)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"learning_rate": 0.02}, "checkpoint_0 is of another training: --learning_rate was 0.01 and is 0.02"),
        ({"config_overrides": "hidden_sizes=[8,24]"}, r"the network's hidden_sizes was \[8, 16\] and is \[8, 24\]"),
        ({"ema_decay": 0, "seed": 3}, "--ema_decay was 0.9 and is 0.0; --seed was 0 and is 3"),
        ({"rotation": 3}, "--rotation was 15.0 and is 3.0"),
        ({"validation_share": 0.3}, "--validation_share was 0.25 and is 0.3"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_by_name(run_train, one_epoch, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        run_train(one_epoch, resume_from_checkpoint="latest", **changes)
    assert len(find_checkpoints(one_epoch)) == 1


def test_a_checkpoint_of_an_older_version_is_refused(run_train, one_epoch, tmp_path):
    """It described the arguments in another form."""
    shutil.copytree(one_epoch, tmp_path / "run")
    file = find_checkpoints(tmp_path / "run")[0] / DESCRIPTION_FILE
    file.write_text(json.dumps({"arguments": {"seed": 0}, "files": json.loads(file.read_text())["files"]}))
    with pytest.raises(ValueError, match="checkpoint_0 was written by another version of train.py"):
        run_train(tmp_path / "run", resume_from_checkpoint="latest")


def test_arguments_that_may_change_are_printed(run_train, one_epoch, tmp_path, capsys):
    shutil.copytree(one_epoch, tmp_path / "run")
    run_train(tmp_path / "run", resume_from_checkpoint="latest", num_train_epochs=2, early_stopping_patience=7)
    printed = capsys.readouterr().out
    assert (
        "Changed since the checkpoint: --early_stopping_patience was 4 and is 7; --num_train_epochs was 1 and is 2."
        in printed
    )
    assert "Resumed from" in printed and len(read_results(tmp_path / "run")["history"]) == 2


def test_a_checkpoint_describes_the_configuration_without_the_fields_of_all_transformers_models(one_epoch):
    names = json.loads((find_checkpoints(one_epoch)[0] / DESCRIPTION_FILE).read_text()).keys()
    network = {name.removeprefix("the network's ") for name in names if name.startswith("the network's ")}
    stored = json.loads((one_epoch / "config.json").read_text())
    assert {"hidden_sizes", "age_statistic", "age_label_sigma"} <= network <= stored.keys()


def write_labelled_table(faces: Path, path: Path, years: int = 0) -> str:
    """A Parquet file with the labels in UTKFace's names as columns, and so many years added to each age."""
    pictures = {file.name: file.read_bytes() for file in sorted(faces.iterdir())}
    labels = [[int(value) for value in name.split("_")[:2]] for name in pictures]
    table = make_table(pictures).add_column("age", [float(age + years) for age, _ in labels])
    table.add_column("gender", [gender for _, gender in labels]).to_parquet(path)
    return str(path)


@pytest.mark.parametrize("form", ["zip", "table"])
def test_the_same_images_in_another_form_resume(run_train, faces, one_epoch, tmp_path, capsys, form):
    """The zip has subfolders, and another order than that of the names."""
    shutil.copytree(one_epoch, tmp_path / "run")
    if form == "zip":
        pictures = {f"{file.name[-12]}/{file.name}": file.read_bytes() for file in sorted(faces.iterdir())[::-1]}
        data = write_zip(tmp_path / "faces", pictures)
    else:
        data = write_labelled_table(faces, tmp_path / "faces.parquet")
    run_train(tmp_path / "run", data_dir=data, num_train_epochs=1, resume_from_checkpoint="latest")
    assert "Resumed from" in capsys.readouterr().out


@pytest.mark.parametrize("others", ["one image more", "five years more"])
def test_other_images_or_labels_are_refused(run_train, faces, one_epoch, tmp_path, others):
    """With five years more, the split is the same, since it is drawn by bands of five years."""
    if others == "one image more":
        data = write_faces(tmp_path / "others", 41, test_count=3)
    else:
        data = write_labelled_table(faces, tmp_path / "older.parquet", years=5)
    with pytest.raises(ValueError, match=OTHER_IMAGES):
        run_train(one_epoch, data_dir=data, resume_from_checkpoint="latest")


def test_other_extra_faces_are_refused(run_train, tmp_path):
    """As many, in a file of the same name."""
    first, second = (
        write_table(tmp_path / name, [draw_face(40, 0, seed=500 + i) for i in range(20)], [age] * 20)
        for name, age in (("first", 40.0), ("second", 41.0))
    )
    run_train(tmp_path / "run", extra_data=first, num_train_epochs=1)
    with pytest.raises(ValueError, match=r"another training: the extra_sha256 \(of names and labels\) was"):
        run_train(tmp_path / "run", extra_data=second, num_train_epochs=1, resume_from_checkpoint="latest")
