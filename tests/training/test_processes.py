"""Several processes: torchrun with two of them on the CPU, over gloo."""

import json
import math
import os
import signal
import sys
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import load_file
from torch import nn

import evaluation
import train
from data.augmentation import AugmentationArguments, FaceAugmentation
from metrics import prediction
from metrics.prediction import compute_metrics
from modeling_agegender import AgeGenderModel
from tests.support.processes import read_logs, run_on_processes, run_train_here
from tests.support.training import (
    STATE,
    TRAIN_IMAGES,
    assert_same,
    assert_same_end,
    latest_checkpoint,
    make_command,
    measure_choosing_half,
    read_results,
)
from training.arguments import TrainArguments
from training.checkpoints import find_checkpoints
from training.setup import build_accelerator


pytestmark = pytest.mark.usefixtures("datasets_cache", "fresh_accelerate_state")

PLAIN = {"flip": 0, "rotation": 0, "scale": 0, "shift": 0, "color": 0, "grayscale": 0, "blur": 0, "erasing": 0}


class Watch:
    """Notes what a training does: gradients after the processes have shared them, rates, images and seeds."""

    def __init__(self, patch: pytest.MonkeyPatch):
        self.gradients, self.rates, self.images, self.seeds, self.generator = [], [], [], [], None
        clip, augment, step = (
            train.Accelerator.clip_grad_norm_,
            FaceAugmentation.forward,
            torch.optim.lr_scheduler.LambdaLR.step,
        )

        def note_gradients(accelerator, parameters, max_norm):
            parameters = list(parameters)
            self.gradients.append(torch.cat([parameter.grad.flatten() for parameter in parameters]))
            return clip(accelerator, parameters, max_norm)

        def note_images(augmentation, images, seed):
            if self.generator is None:
                self.generator = hash(torch.get_rng_state().numpy().tobytes())
            self.images.append([hash(image.numpy().tobytes()) for image in images])
            self.seeds.append(seed)
            return augment(augmentation, images, seed)

        def note_rate(scheduler):
            step(scheduler)
            self.rates.append(scheduler.get_last_lr()[0])

        patch.setattr(train.Accelerator, "clip_grad_norm_", note_gradients)
        patch.setattr(FaceAugmentation, "forward", note_images)
        patch.setattr(torch.optim.lr_scheduler.LambdaLR, "step", note_rate)

    def values(self) -> dict:
        """All of it as plain values."""
        return vars(self) | {"gradients": [gradient.tolist() for gradient in self.gradients]}


def freeze_statistics(patch: pytest.MonkeyPatch):
    """Batch normalisation by its running statistics while training too."""

    def train_without_statistics(model, mode=True):
        nn.Module.train(model, mode)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return model

    patch.setattr(AgeGenderModel, "train", train_without_statistics)


def watch_training(command: list[str], frozen: bool) -> dict:
    """Trains; the notes of this process."""
    command = [word.replace("RANK", os.environ.get("RANK", "0")) for word in command]
    with pytest.MonkeyPatch.context() as patch:
        if frozen:
            freeze_statistics(patch)
        watch = Watch(patch)
        run_train_here(command)
    return watch.values()


def test_two_processes_follow_one_with_batches_twice_as_large(faces, network, tmp_path):
    """Also: all processes have the same gradients and the same learning rate. Some batches have one image less."""
    options = PLAIN | {"config_overrides": "age_head_dropout=0.0", "num_train_epochs": 3}
    commands = [
        [*make_command(faces, network, tmp_path / name, per_device_train_batch_size=size, **options)]
        + ["--config_overrides", "gender_head_dropout=0.0"]
        for name, size in (("two", 4), ("one", 8))
    ]
    first, second = run_on_processes(watch_training, commands[0], True, log_dir=tmp_path / "logs")
    alone = watch_training(commands[1], True)
    assert first["gradients"] == second["gradients"] and first["rates"] == second["rates"] == alone["rates"]
    assert len(alone["rates"]) == 1 + 3 * math.ceil(TRAIN_IMAGES / 8)  # the scheduler begins with a step
    # The same images in each update.
    assert [a + b for a, b in zip(first["images"], second["images"])] == alone["images"]
    for ours, theirs in zip(first["gradients"], alone["gradients"], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=1e-5)
    histories = [read_results(tmp_path / name)["history"] for name in ("two", "one")]
    for ours, theirs in zip(*histories):
        for key, value in theirs.items():
            assert ours[key] == pytest.approx(value, rel=1e-3), key
    assert read_results(tmp_path / "two")["num_processes"] == 2


@pytest.mark.parametrize("size", [4, 5])
def test_each_image_once_an_epoch_and_its_changes_by_process(faces, network, tmp_path, size):
    """30 images on two processes are 4 steps of at most 4 on each, or 3 of 5; in another order each epoch."""
    for rank in range(2):
        (tmp_path / f"out{rank}").mkdir()
    (tmp_path / "out1" / "best").symlink_to(tmp_path / "out0" / "best")
    # Each process gets an output folder of its own, to see what it writes.
    command = make_command(faces, network, tmp_path / "outRANK", per_device_train_batch_size=size, num_train_epochs=2)
    notes = run_on_processes(watch_training, command, False, log_dir=tmp_path / "logs")

    steps = math.ceil(TRAIN_IMAGES / (2 * size))
    epochs = [
        [image for note in notes for batch in note["images"][epoch * steps : (epoch + 1) * steps] for image in batch]
        for epoch in range(2)
    ]
    assert [len(epoch) for epoch in epochs] == [TRAIN_IMAGES] * 2
    assert len(set(epochs[0])) == TRAIN_IMAGES and set(epochs[0]) == set(epochs[1]) and epochs[0] != epochs[1]
    assert {len(batch) for note in notes for batch in note["images"]} <= {size, size - 1}
    seeds = [seed for note in notes for seed in note["seeds"]]
    assert len(set(seeds)) == len(seeds) == 4 * steps
    augmentation, images = FaceAugmentation(AugmentationArguments(), 32), torch.rand(4, 3, 32, 32)
    assert not torch.equal(*(augmentation(images, note["seeds"][0]) for note in notes))
    assert notes[0]["generator"] != notes[1]["generator"]  # dropout
    # The other process writes its random numbers and nothing else.
    written = [path for path in (tmp_path / "out1").rglob("*") if path.is_file() and "best" not in path.parts]
    assert {str(path.relative_to(tmp_path / "out1")) for path in written} == {
        "checkpoints/partial/random_states_1.pkl"
    }
    assert (tmp_path / "out0" / "train_results.json").exists() and latest_checkpoint(tmp_path / "out0")


def evaluate_here(command: list[str]):
    AcceleratorState._reset_state(True)
    GradientState._reset_state()
    sys.argv = ["evaluation.py", *command]
    evaluation.main()


def test_metrics_of_two_processes_are_those_of_one(faces, one_epoch, tmp_path):
    """30 images in batches of 4: the last ones are one full batch and two images."""
    command = ["--model", str(one_epoch), "--data_dir", str(faces), "--split", "train", "--validation_share", "0.25"]
    command += ["--per_device_eval_batch_size", "4", "--dataloader_num_workers", "0", "--output"]
    run_on_processes(evaluate_here, [*command, str(tmp_path / "two.json")], log_dir=tmp_path / "logs")
    evaluate_here([*command, str(tmp_path / "one.json")])
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


@pytest.mark.parametrize("ema_decay", [0.9, 0])
def test_metrics_within_a_training_of_two_processes_are_those_of_the_weights_that_are_kept(
    faces, network, tmp_path, ema_decay
):
    """Whose batch normalisation has the statistics of the main process's batches: the other one measures by these too."""
    command = make_command(
        faces, network, tmp_path / "run", num_train_epochs=3, ema_decay=ema_decay, per_device_eval_batch_size=1
    )
    run_on_processes(run_train_here, command, log_dir=tmp_path / "logs")
    results = read_results(tmp_path / "run")
    measured = measure_choosing_half(tmp_path / "run", faces)
    noted = results["history"][results["best_epoch"] - 1]
    assert_close({key: noted[key] for key in measured}, measured)


def train_until_early_stop(command: list[str]) -> tuple[int, int, int]:
    """Every measurement after the second epoch is worse; (measurements of this process, epochs, best epoch)."""
    measured, trainings = [], []
    with pytest.MonkeyPatch.context() as patch:
        compute, finish = compute_metrics, train.Training._finish_epoch

        def measure(*args):
            measured.append(1)
            return compute(*args) | {"loss": abs(len(measured) - 2.0)}

        def note(training):
            finish(training)
            trainings[:] = [training.state]

        patch.setattr(prediction, "compute_metrics", measure)
        patch.setattr(train.Training, "_finish_epoch", note)
        run_train_here(command)
    return len(measured), trainings[0].epoch, trainings[0].best_epoch


def test_all_processes_stop_early_together(faces, network, tmp_path):
    command = make_command(faces, network, tmp_path / "run", num_train_epochs=9, early_stopping_patience=2)
    first, second = run_on_processes(train_until_early_stop, command, log_dir=tmp_path / "logs")
    assert first == (4, 4, 2)
    assert second == (0, 4, 2)  # the main process measures for all
    assert read_results(tmp_path / "run")["best_epoch"] == 2


def interrupt_the_second(command: list[str]):
    """Ctrl-C reaches the second process alone, after the first step of the second epoch."""
    step = train.Training._train_step

    def interrupt(training, batch):
        if os.environ["RANK"] == "1" and (training.state.epoch, training.state.step) == (1, 0):
            os.kill(os.getpid(), signal.SIGINT)
        return step(training, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.Training, "_train_step", interrupt)
        run_train_here(command)


def test_two_processes_are_interrupted_together_and_resume_as_two_or_as_one(
    run_train, faces, network, tmp_path, capfd
):
    whole, stopped, alone = (tmp_path / name for name in ("whole", "stopped", "alone"))
    run_on_processes(run_train_here, make_command(faces, network, whole), log_dir=tmp_path / "logs")
    for folder in (stopped, alone):
        run_on_processes(interrupt_the_second, make_command(faces, network, folder), log_dir=tmp_path / folder.name)
        state = torch.load(latest_checkpoint(folder) / STATE, weights_only=False)
        assert (state["epoch"], state["step"], state["update"]) == (1, 1, 5)
        assert "--resume_from_checkpoint latest" in read_logs(tmp_path / folder.name, 0)

    command = make_command(faces, network, stopped, resume_from_checkpoint="latest")
    run_on_processes(run_train_here, command, log_dir=tmp_path / "resumed")
    assert_same(load_file(whole / "model.safetensors"), load_file(stopped / "model.safetensors"))
    # A checkpoint holds the mean of what the processes have counted in training, so its last bit may differ.
    for key in ("history", "metrics", "best_epoch", "weights_sha256"):
        assert_close(*(read_results(folder)[key] for folder in (stopped, whole)))

    capfd.readouterr()
    run_train(alone, resume_from_checkpoint="latest")
    printed = capfd.readouterr().out
    assert "num_processes was 2 and is 1. An update averages 4 images instead of 8" in printed
    # 8 updates in the first epoch; of the second, 7 images are done: two batches.
    assert "schedule goes on at update 10 of 16. Images of epoch 2 that are seen a second time: 0." in printed
    assert torch.load(latest_checkpoint(alone) / STATE, weights_only=False)["update"] == 16
    assert not list(latest_checkpoint(alone).glob("random_states_1.pkl"))

    run_on_processes(
        run_train_here,
        make_command(faces, network, alone, resume_from_checkpoint="latest", num_train_epochs=3),
        log_dir=tmp_path / "again",
    )
    assert "num_processes was 1 and is 2. An update averages 8 images instead of 4" in read_logs(tmp_path / "again", 0)
    assert len(read_results(alone)["history"]) == 3


def look_from_another_disk(command: list[str]):
    """The second process sees an output folder without the checkpoints."""
    if os.environ["RANK"] == "1":
        command = [word.replace("shared", "other") for word in command]
    with pytest.raises(ValueError, match="disk that all machines share, but its newest checkpoint is"):
        run_train_here(command)


def test_machines_without_a_common_disk_are_told_at_the_start(faces, network, one_epoch, tmp_path):
    (tmp_path / "shared").symlink_to(one_epoch)
    (tmp_path / "other").mkdir()
    command = make_command(faces, network, tmp_path / "shared", resume_from_checkpoint="latest")
    run_on_processes(look_from_another_disk, command, log_dir=tmp_path / "logs")


def test_synchronised_batch_normalisation_is_refused_on_a_cpu(run_train, tmp_path):
    with pytest.raises(ValueError, match="--sync_batchnorm needs GPUs: torch has no synchronised batch normalisation"):
        run_train(tmp_path / "run", sync_batchnorm=True)
    assert not (tmp_path / "run").exists()


def test_synchronised_batch_normalisation_keeps_weights_and_their_names(run_train, tmp_path, monkeypatch):
    """With one process it is plain batch normalisation, so that a CPU can stand in for a GPU here."""
    used = []

    def forward(layer, values):
        used.append(layer)
        return nn.BatchNorm2d.forward(layer, values)

    run_train(tmp_path / "plain")
    monkeypatch.setattr(nn.SyncBatchNorm, "forward", forward)
    build = train.build_accelerator
    monkeypatch.setattr(train, "build_accelerator", lambda given: build(replace(given, sync_batchnorm=False)))
    run_train(tmp_path / "synchronised", sync_batchnorm=True, checkpointing_steps=5, checkpoints_total_limit=9)
    assert used
    assert_same_end(tmp_path / "plain", tmp_path / "synchronised")
    # A checkpoint of such a training goes on without it, as on a single GPU.
    run_train(tmp_path / "synchronised", resume_from_checkpoint=find_checkpoints(tmp_path / "synchronised")[1])
    assert_same_end(tmp_path / "plain", tmp_path / "synchronised")


def test_processes_wait_as_long_as_the_main_one_builds_a_data_set(tmp_path):
    accelerator = build_accelerator(TrainArguments(output_dir=tmp_path))
    assert accelerator.init_handler.timeout == timedelta(hours=3)
