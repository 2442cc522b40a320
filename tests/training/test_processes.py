"""Two processes on the CPU, over gloo, with the code of torchrun."""

import json
import os
import runpy
import shutil
import signal
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

import train
from data.augmentation import Degradation, FaceAugmentation
from data.loaders import read_batches
from data.utkface import load_utkface
from metrics import prediction
from metrics.prediction import compute_metrics
from modeling_agegender import AgeGenderModel
from tests.support.processes import read_logs, run_here, run_on_processes, run_train_here
from tests.support.training import (
    ROOT,
    TRAIN_IMAGES,
    TRAINED,
    assert_same_end,
    latest_checkpoint,
    make_command,
    measure_choosing_images,
    read_results,
    read_state,
)
from training import state as training_state
from training.arguments import TrainArguments
from training.checkpoints import find_checkpoints
from training.setup import build_accelerator


pytestmark = [pytest.mark.usefixtures("datasets_cache", "fresh_accelerate_state"), pytest.mark.processes]

PLAIN = {"flip": 0, "rotation": 0, "scale": 0, "shift": 0, "color": 0, "grayscale": 0, "blur": 0, "erasing": 0}


class Watch:
    """Records gradients after the processes have shared them, learning rates, images and seeds of the augmentation."""

    def __init__(self, patch: pytest.MonkeyPatch):
        self.gradients, self.rates, self.images, self.seeds, self.generator = [], [], [], [], None
        clip, augment = Accelerator.clip_grad_norm_, FaceAugmentation.forward
        step = torch.optim.lr_scheduler.LambdaLR.step

        def record_gradients(accelerator, parameters, max_norm):
            parameters = list(parameters)
            self.gradients.append(torch.cat([parameter.grad.flatten() for parameter in parameters]))
            return clip(accelerator, parameters, max_norm)

        def record_images(augmentation, images, seed):
            if self.generator is None:
                self.generator = hash(torch.get_rng_state().numpy().tobytes())
            self.images.append([hash(image.numpy().tobytes()) for image in images])
            self.seeds.append(seed)
            return augment(augmentation, images, seed)

        def record_rate(scheduler):
            step(scheduler)
            self.rates.append(scheduler.get_last_lr()[0])

        patch.setattr(Accelerator, "clip_grad_norm_", record_gradients)
        patch.setattr(FaceAugmentation, "forward", record_images)
        # The calibration uses the augmentation too.
        patch.setattr(Degradation, "forward", lambda degradation, images: images)
        patch.setattr(torch.optim.lr_scheduler.LambdaLR, "step", record_rate)

    def values(self) -> dict:
        return vars(self) | {"gradients": [gradient.tolist() for gradient in self.gradients]}


def freeze_statistics(patch: pytest.MonkeyPatch):
    """Batch normalisation uses its running statistics in training too."""

    def train_without_statistics(model, mode=True):
        nn.Module.train(model, mode)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return model

    patch.setattr(AgeGenderModel, "train", train_without_statistics)


def watch_training(command: list[str], frozen: bool) -> dict:
    """Trains and returns the records of this process."""
    command = [word.replace("RANK", os.environ.get("RANK", "0")) for word in command]
    with pytest.MonkeyPatch.context() as patch:
        if frozen:
            freeze_statistics(patch)
        watch = Watch(patch)
        run_train_here(command)
    return watch.values()


@pytest.fixture(scope="module")
def two(tmp_path_factory, faces, network) -> tuple[Path, list[dict]]:
    """The output folder of an uninterrupted training with two processes, and their records; out1 is of the second one."""
    folder = tmp_path_factory.mktemp("two")
    for name in ("out0", "out1"):
        (folder / name).mkdir()
    (folder / "out1" / "best").symlink_to(folder / "out0" / "best")
    command = make_command(faces, network, folder / "outRANK", num_train_epochs=3)
    return folder / "out0", run_on_processes(watch_training, command, False, log_dir=folder / "logs")


def test_two_processes_follow_one_with_batches_twice_as_large(faces, network, tmp_path):
    """They have the same images, gradients and learning rates in each update."""
    options = PLAIN | {"config_overrides": "age_head_dropout=0.0", "num_train_epochs": 3}
    commands = [
        [*make_command(faces, network, tmp_path / name, per_device_train_batch_size=size, **options)]
        + ["--config_overrides", "gender_head_dropout=0.0"]
        for name, size in (("two", 4), ("one", 8))
    ]
    first, second = run_on_processes(watch_training, commands[0], True, log_dir=tmp_path / "logs")
    alone = watch_training(commands[1], True)
    assert first["gradients"] == second["gradients"] and first["rates"] == second["rates"] == alone["rates"]
    assert len(alone["rates"]) == 1 + 3 * (TRAIN_IMAGES // 8)  # the scheduler begins with a step
    assert [a + b for a, b in zip(first["images"], second["images"])] == alone["images"]
    for ours, theirs in zip(first["gradients"], alone["gradients"], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=5e-4, rtol=1e-5)
    histories = [read_results(tmp_path / name)["history"] for name in ("two", "one")]
    for ours, theirs in zip(*histories, strict=True):
        for key, value in theirs.items():
            assert ours[key] == pytest.approx(value, rel=1e-3), key
    assert read_results(tmp_path / "two")["num_processes"] == 2


def test_each_image_comes_at_most_once_an_epoch_and_is_changed_by_process(two):
    """30 images on two processes are 3 steps of 4 on each, with other images and another order in each epoch."""
    folder, records = two
    epochs = [
        [image for record in records for batch in record["images"][3 * epoch : 3 * epoch + 3] for image in batch]
        for epoch in range(3)
    ]
    assert [len(epoch) for epoch in epochs] == [len(set(epoch)) for epoch in epochs] == [24] * 3
    assert len(set().union(*epochs)) > 24 and epochs[0] != epochs[1]
    seeds = [seed for record in records for seed in record["seeds"]]
    assert len(set(seeds)) == len(seeds) == 2 * 9
    assert records[0]["generator"] != records[1]["generator"]  # of dropout
    # The second process writes its random numbers and nothing else.
    second = folder.with_name("out1")
    written = [path.relative_to(second) for path in second.rglob("*") if path.is_file() and "best" not in path.parts]
    assert list(map(str, written)) == ["checkpoints/partial/random_states_1.pkl"]
    assert (folder / "train_results.json").exists() and latest_checkpoint(folder)


def test_metrics_of_two_processes_are_those_of_one(faces, one_epoch, tmp_path):
    """30 images in batches of 4: the last ones are one full batch and two images."""
    command = ["--model", str(one_epoch), "--data_dir", str(faces), "--split", "train", "--validation_share", "0.25"]
    command += ["--per_device_eval_batch_size", "4", "--dataloader_num_workers", "0", "--output"]
    two_command = [*command, str(tmp_path / "two.json")]
    run_on_processes(run_here, "evaluation", two_command, log_dir=tmp_path / "logs")
    run_here("evaluation", [*command, str(tmp_path / "one.json")])
    two, one = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("two", "one"))
    assert one["metrics"]["num_images"] == TRAIN_IMAGES and TRAIN_IMAGES % 8
    for part in ("metrics", "metrics_where_duplicates_agree", "errors"):
        assert_close(two[part], one[part])


def assert_close(first, second):
    """Counts exactly, means to 1e-5."""
    if isinstance(second, dict):
        assert first.keys() == second.keys()
        for key in second:
            assert_close(first[key], second[key])
    elif isinstance(second, list):
        assert len(first) == len(second)
        for pair in zip(first, second):
            assert_close(*pair)
    elif isinstance(second, float):
        assert first == pytest.approx(second, rel=1e-5, abs=1e-5)
    else:
        assert first == second


def assert_kept_weights_have_the_metrics(folder: Path, faces: Path):
    results, measured = read_results(folder), measure_choosing_images(folder, faces)
    recorded = results["history"][results["best_epoch"] - 1]
    assert_close({key: recorded[key] for key in measured}, measured)


def test_metrics_of_two_processes_are_those_of_the_weights_that_are_kept(two, faces, network, tmp_path):
    """With averaged weights and without: both processes evaluate with the batch statistics of the main one."""
    assert_kept_weights_have_the_metrics(two[0], faces)
    command = make_command(faces, network, tmp_path / "run", ema_decay=0, per_device_eval_batch_size=1)
    run_on_processes(run_train_here, command, log_dir=tmp_path / "logs")
    assert_kept_weights_have_the_metrics(tmp_path / "run", faces)


def train_until_early_stop(command: list[str]) -> tuple[int, int, int]:
    """Makes every metric after the second epoch worse; returns evaluations of this process, epochs and best epoch."""
    evaluations, trainings = [], []
    with pytest.MonkeyPatch.context() as patch:
        finish = train.Training._finish_epoch

        def evaluate(*args):
            evaluations.append(1)
            return compute_metrics(*args) | {"loss": abs(len(evaluations) - 2.0)}

        def record(training):
            finish(training)
            trainings[:] = [training.state]

        patch.setattr(prediction, "compute_metrics", evaluate)
        patch.setattr(train.Training, "_finish_epoch", record)
        run_train_here(command)
    return len(evaluations), trainings[0].epoch, trainings[0].best_epoch


def test_all_processes_stop_early_together(faces, network, tmp_path):
    command = make_command(faces, network, tmp_path / "run", num_train_epochs=9, early_stopping_patience=2)
    first, second = run_on_processes(train_until_early_stop, command, log_dir=tmp_path / "logs")
    assert first == (4, 4, 2)
    assert second == (0, 4, 2)  # the main process evaluates for all
    assert read_results(tmp_path / "run")["best_epoch"] == 2


def interrupt_the_second(command: list[str]):
    """Ctrl-C reaches the second process alone, after the first step of the second epoch."""
    step = train.Training._train_step

    def interrupt(training, batch):
        if os.environ["RANK"] == "1" and (training.state.epoch, training.state.images) == (1, 0):
            os.kill(os.getpid(), signal.SIGINT)
        return step(training, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.Training, "_train_step", interrupt)
        run_train_here(command)


def test_two_processes_are_interrupted_together_and_resume_as_two_or_as_one(
    run_train, two, faces, network, tmp_path, capfd
):
    stopped, alone = tmp_path / "stopped", tmp_path / "alone"
    run_on_processes(
        interrupt_the_second, make_command(faces, network, stopped, num_train_epochs=3), log_dir=tmp_path / "logs"
    )
    state = read_state(latest_checkpoint(stopped))
    assert (state["epoch"], state["images"], state["update"]) == (1, 8, 4)
    assert "--resume_from_checkpoint latest" in read_logs(tmp_path / "logs", 0)
    shutil.copytree(stopped, alone)

    command = make_command(faces, network, stopped, num_train_epochs=3, resume_from_checkpoint="latest")
    run_on_processes(run_train_here, command, log_dir=tmp_path / "resumed")
    assert_same_end(two[0], stopped)

    capfd.readouterr()
    run_train(alone, num_train_epochs=3, resume_from_checkpoint="latest")
    printed = capfd.readouterr().out
    # An epoch has 7 updates; of the second one, 8 images are done: two batches.
    assert "--num_processes was 2 and is 1." in printed and "epoch 2, update 9." in printed
    assert read_state(latest_checkpoint(alone))["update"] == 3 * 7
    assert not list(latest_checkpoint(alone).glob("random_states_1.pkl"))


def test_a_training_of_one_process_resumes_with_two(faces, network, one_epoch, tmp_path):
    shutil.copytree(one_epoch, tmp_path / "run")
    command = make_command(faces, network, tmp_path / "run", resume_from_checkpoint="latest")
    run_on_processes(run_train_here, command, log_dir=tmp_path / "logs")
    assert "--num_processes was 1 and is 2" in read_logs(tmp_path / "logs", 0)
    assert len(read_results(tmp_path / "run")["history"]) == 2


def watch_stream(command: list[str]) -> list[list[int]]:
    """Trains and returns hashes of the images in each step of this process."""
    seen = []

    def record(dataloader):
        for batch in read_batches(dataloader):
            seen.append([hash(image.numpy().tobytes()) for image in batch["pixel_values"]])
            yield batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "read_batches", record)
        run_train_here(command)
    return seen


def test_two_processes_train_on_a_stream_and_resume_within_an_epoch(faces, network, tmp_path, monkeypatch):
    """Each process reads a file of its own. An epoch has 5 steps of 3 images on each."""
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)
    published, whole, copy = (tmp_path / name for name in ("published", "whole", "copy"))
    published.mkdir()
    for name, split in load_utkface(faces, validation_share=0.25).items():
        for index in range(2):
            split.shard(2, index).to_parquet(published / f"{name}-{index:05}-of-00002.parquet")
    options = {"streaming": True, "validation_share": None, "shuffle_buffer_size": 8, "per_device_train_batch_size": 3}
    options |= {"checkpointing_steps": 3, "checkpoints_total_limit": 9}
    command = make_command(published, network, whole, **options)
    shares = run_on_processes(watch_stream, command, log_dir=tmp_path / "logs")
    for epoch in range(2):
        steps = slice(5 * epoch, 5 * epoch + 5)
        images = [image for share in shares for batch in share[steps] for image in batch]
        assert len(images) == len(set(images)) == TRAIN_IMAGES

    shutil.copytree(whole, copy)
    checkpoint = find_checkpoints(copy)[1]  # after one step of the second epoch
    command = make_command(published, network, copy, resume_from_checkpoint=checkpoint, **options)
    resumed = run_on_processes(watch_stream, command, log_dir=tmp_path / "resumed")
    assert resumed == [share[6:] for share in shares]
    assert_same_end(whole, copy)


def fail_in_the_second(command: list[str]):
    """Starts train.py as a program, with one function that fails in the second process."""

    def fail(*args):
        raise ValueError("the second process has lost its data")

    with pytest.MonkeyPatch.context() as patch:
        if os.environ["RANK"] == "1":
            patch.setattr(training_state, "sum_errors", fail)
        patch.setattr("sys.argv", ["train.py", *command])
        try:
            runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
        except RuntimeError:  # in the first process, whose connection has ended
            time.sleep(60)  # torchrun ends it earlier


def test_an_error_in_one_process_ends_all_with_its_message(faces, network, tmp_path, capfd):
    """The summary of torchrun tells which process was the first to fail, and why."""
    with pytest.raises(ChildFailedError) as stop:
        run_on_processes(fail_in_the_second, make_command(faces, network, tmp_path / "run"), log_dir=tmp_path / "logs")
    root_cause = str(stop.value).partition("Root Cause")[2]
    assert "rank      : 1" in root_cause and "ValueError: the second process has lost its data" in root_cause
    assert "train.py: error: the second process has lost its data" in capfd.readouterr().err
    assert not find_checkpoints(tmp_path / "run")


def look_from_another_disk(command: list[str]):
    """The second process sees an output folder without the checkpoints."""
    if os.environ["RANK"] == "1":
        command = [word.replace("shared", "other") for word in command]
    with pytest.raises(ValueError, match="disk that all machines share, but they see .*checkpoint_0 and None"):
        run_train_here(command)


def test_machines_without_a_common_disk_are_told_at_the_start(faces, network, one_epoch, tmp_path):
    (tmp_path / "shared").symlink_to(one_epoch)
    (tmp_path / "other").mkdir()
    command = make_command(faces, network, tmp_path / "shared", resume_from_checkpoint="latest")
    run_on_processes(look_from_another_disk, command, log_dir=tmp_path / "logs")


def test_synchronised_batch_normalisation_is_refused_on_a_cpu(run_train, tmp_path):
    with pytest.raises(ValueError, match="--sync_batchnorm needs GPUs: torch has no synchronized batch normalization"):
        run_train(tmp_path / "run", sync_batchnorm=True)
    assert not (tmp_path / "run").exists()


def test_synchronised_batch_normalisation_keeps_weights_and_their_names(run_train, trained, tmp_path, monkeypatch):
    """With one process it is plain batch normalisation, so a CPU can stand in for a GPU here."""
    used = []

    def forward(layer, values):
        used.append(layer)
        return nn.BatchNorm2d.forward(layer, values)

    monkeypatch.setattr(nn.SyncBatchNorm, "forward", forward)
    monkeypatch.setattr(
        train, "build_accelerator", lambda given: build_accelerator(replace(given, sync_batchnorm=False))
    )
    run_train(tmp_path / "run", sync_batchnorm=True, **TRAINED)
    assert used
    assert_same_end(trained, tmp_path / "run")
    # A checkpoint of such a training resumes without it, as on a single GPU.
    run_train(tmp_path / "run", resume_from_checkpoint=find_checkpoints(tmp_path / "run")[2], **TRAINED)
    assert_same_end(trained, tmp_path / "run")


def test_processes_wait_as_long_as_the_main_one_builds_a_data_set(tmp_path):
    accelerator = build_accelerator(TrainArguments(output_dir=tmp_path))
    assert accelerator.init_handler.timeout == timedelta(hours=3)
