"""Training: stopping, averaging, other data, and what is refused."""

import json
import math
import runpy
import sys

import pytest
import torch
from accelerate import Accelerator
from datasets import Image
from safetensors.torch import load_file
from torch import nn

import train
from configuration_agegender import AgeGenderConfig
from data.transforms import to_model_inputs
from data.utkface import load_utkface
from image_processing_agegender import AgeGenderImageProcessor
from metrics.prediction import evaluate_model
from modeling_agegender import AgeGenderModel
from tests.support.training import (
    BATCHES,
    NETWORK,
    ROOT,
    assert_same,
    draw_face,
    make_command,
    measure_choosing_images,
    read_results,
    write_faces,
    write_table,
)
from tests.support.windows import follow_windows_rules
from training import setup
from training.arguments import TrainArguments
from training.initial_model import load_config
from training.state import TrainerState


pytestmark = pytest.mark.usefixtures("datasets_cache", "fresh_accelerate_state")


@pytest.mark.parametrize(
    ("metric", "threshold", "values", "best_epoch", "last_epoch"),
    [
        ("loss", 0.0, [3.0, 2.0, 2.5, 2.0, 1.0], 2, 4),  # equal is no improvement
        ("loss", 0.0, [3.0, 2.0, 2.5, 1.9, 2.0], 4, 5),
        ("loss", 0.5, [3.0, 2.6, 2.5, 1.0], 1, 3),  # changes of at most 0.5 do not count
        ("loss", 0.5, [3.0, 2.6, 2.4, 2.3], 3, 4),  # measured from the best, not from the last
        ("gender_accuracy", 0.0, [0.5, 0.6, 0.7, 0.6, 0.7, 0.9], 3, 5),
        ("age_mae", 0.0, [math.nan, 9.0, math.nan, math.nan, 1.0], 2, 4),
        ("loss", 0.0, [math.nan, math.inf, 1.0], None, 2),
    ],
)
def test_early_stopping(tmp_path, metric, threshold, values, best_epoch, last_epoch):
    arguments = TrainArguments(
        output_dir=tmp_path,
        num_train_epochs=10,
        metric_for_best_model=metric,
        early_stopping_patience=2,
        early_stopping_threshold=threshold,
    )
    state = TrainerState()
    for value in values:
        if state.is_finished(arguments):
            break
        improved = state.finish_epoch({metric: value}, arguments)
        assert improved == (state.best_epoch == state.epoch)
    assert (state.best_epoch, state.epoch) == (best_epoch, last_epoch)
    assert [row["epoch"] for row in state.history] == list(range(1, last_epoch + 1))


def test_a_patience_of_zero_never_stops(tmp_path):
    arguments = TrainArguments(output_dir=tmp_path, num_train_epochs=101, early_stopping_patience=0)
    assert not TrainerState(epoch=100).is_finished(arguments)


def test_a_stopped_training_exports_its_best_epoch(run_train, tmp_path, monkeypatch):
    """The measurement is made worse from the third epoch on, so that the second is the best."""
    measured = []

    def measure(model, *args):
        copied = {name: value.clone() for name, value in model.state_dict().items()}
        measured.append(copied)
        return evaluate_model(model, *args) | {"loss": abs(len(measured) - 2.0)}

    monkeypatch.setattr(train, "evaluate_model", measure)
    run_train(tmp_path, num_train_epochs=9, early_stopping_patience=2)
    results = read_results(tmp_path)
    assert [row["epoch"] for row in results["history"]] == [1, 2, 3, 4]
    assert results["best_epoch"] == 2
    exported = load_file(tmp_path / "model.safetensors")
    assert_same(exported, measured[1])
    assert not torch.equal(exported["age_head.layers.0.weight"], measured[3]["age_head.layers.0.weight"])


def test_without_a_finite_metric_there_is_nothing_to_export(run_train, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "evaluate_model", lambda *args: evaluate_model(*args) | {"loss": math.nan})
    with pytest.raises(ValueError, match="No epoch gave a finite loss"):
        run_train(tmp_path, early_stopping_patience=1)
    assert not (tmp_path / "model.safetensors").exists()


def test_average_of_weights_and_buffers():
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    average = setup.build_average(network, decay=0.25)
    weights, means = [2.0, 4.0, 8.0, 16.0], [1.0, 0.0, 3.0, 5.0]
    # The first value is taken over; then the decay is min(0.25, (1 + n) / (10 + n)) after n values: 2/11, 3/12, 0.25.
    expected_weight, expected_mean = weights[0], means[0]
    decays = [None, 2 / 11, 0.25, 0.25]
    for count, (weight, mean, decay) in enumerate(zip(weights, means, decays), start=1):
        with torch.no_grad():
            network[0].weight.fill_(weight)
            network[1].running_mean.fill_(mean)
            network[1].num_batches_tracked.fill_(count)
        average.update_parameters(network)
        if decay is not None:
            expected_weight = decay * expected_weight + (1 - decay) * weight
            expected_mean = decay * expected_mean + (1 - decay) * mean
        assert average.module[0].weight.item() == pytest.approx(expected_weight, rel=1e-6)
        assert average.module[1].running_mean.item() == pytest.approx(expected_mean, rel=1e-6)
        assert average.module[1].num_batches_tracked.item() == count
    assert network[0].weight.item() == 16.0


def test_biases_and_normalisations_do_not_decay(tmp_path):
    model = AgeGenderModel(AgeGenderConfig(**NETWORK))
    optimizer = setup.build_optimizer(model, TrainArguments(output_dir=tmp_path, learning_rate=1e-3, weight_decay=0.3))
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    parameters = dict(model.named_parameters())
    assert len(decays) == len(parameters)
    for name, parameter in parameters.items():
        assert decays[id(parameter)] == (0.0 if "normalization" in name or name.endswith("bias") else 0.3), name


@pytest.mark.parametrize(("rate", "expected"), [(None, 1e-3), (2e-4, 2e-4), (0, 0)])
def test_encoders_have_a_rate_of_their_own(tmp_path, rate, expected):
    model = AgeGenderModel(AgeGenderConfig(**NETWORK))
    arguments = TrainArguments(output_dir=tmp_path, learning_rate=1e-3, encoder_learning_rate=rate)
    optimizer = setup.build_optimizer(model, arguments)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert rates[id(parameter)] == (1e-3 if "head" in name else expected), name
        assert parameter.requires_grad == ("head" in name or expected > 0)


@pytest.mark.slow
def test_trains_and_resumes_by_the_rules_of_windows(run_train, tmp_path):
    """Checkpoints, the best weights, their deletion and the export."""
    with pytest.MonkeyPatch.context() as patch:
        follow_windows_rules(patch, tmp_path)
        run_train(tmp_path, num_train_epochs=1, checkpointing_steps=2, checkpoints_total_limit=1)
        run_train(tmp_path, num_train_epochs=2, checkpoints_total_limit=1, resume_from_checkpoint="latest")
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1 and (tmp_path / "model.safetensors").exists()


def test_a_table_without_genders_trains(run_train, tmp_path):
    ages = [5 + 13 * index % 80 for index in range(24)]
    images = [draw_face(age, 0, seed=1000 + index) for index, age in enumerate(ages)]
    table = write_table(tmp_path / "table", images, [float(age) for age in ages])
    run_train(tmp_path / "run", data_dir=table, num_train_epochs=1)
    metrics = read_results(tmp_path / "run")["metrics"]["validation"]
    assert math.isfinite(metrics["age_mae"]) and math.isfinite(metrics["loss"])
    assert metrics["gender_accuracy"] is None


def test_bands_of_ages_train(run_train, tmp_path, capsys):
    """Of all faces only a band is known: the model learns it, and no age counts in the metrics."""
    images = [draw_face(5 + 3 * index, index % 2, seed=1000 + index) for index in range(24)]
    table = write_table(tmp_path / "table", images, ["60-69"] * 24)
    run_train(
        tmp_path / "run",
        data_dir=table,
        num_train_epochs=1,
        per_device_train_batch_size=2,
        ema_decay=0,
        learning_rate=0.03,
    )
    results = read_results(tmp_path / "run")
    assert "age MAE – years, CS@5 –, gender –" in capsys.readouterr().out
    metrics, history = results["metrics"]["validation"], results["history"][0]
    assert metrics["age_mae"] is None and history["train_age_mae"] is None and metrics["loss"] < history["train_loss"]
    output = AgeGenderModel.from_pretrained(tmp_path / "run").eval()(torch.randn(4, 3, 32, 32))
    assert 60 <= output.age.min() and output.age.max() <= 69


def test_too_few_images_are_refused(run_train, tmp_path):
    with pytest.raises(ValueError, match="30 training images do not fill one batch of 64"):
        run_train(tmp_path / "run", per_device_train_batch_size=64)


def test_data_without_a_validation_image_are_refused(run_train, tmp_path):
    few = write_faces(tmp_path / "few", 4)
    with pytest.raises(ValueError, match="has no validation images"):
        run_train(tmp_path / "run", data_dir=few, validation_share=0.01)


def test_bf16_with_gradient_checkpointing(run_train, faces, tmp_path):
    run_train(tmp_path, num_train_epochs=1, mixed_precision="bf16", gradient_checkpointing=True)
    results = read_results(tmp_path)
    assert math.isfinite(results["history"][0]["train_loss"])
    weights = load_file(tmp_path / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32, torch.int64}
    # Of the average, not of the network beside it, whose forward accelerate replaces.
    metrics = measure_choosing_images(tmp_path, faces)
    assert results["history"][0]["age_mae"] == pytest.approx(metrics["age_mae"], rel=1e-2)


def test_bf16_results_are_those_of_the_weights_in_float32(run_train, faces, tmp_path):
    run_train(tmp_path, num_train_epochs=1, mixed_precision="bf16")
    validation = load_utkface(faces, validation_share=0.25)["validation"].cast_column("image", Image(decode=False))
    inputs = to_model_inputs(validation[:], AgeGenderImageProcessor.from_pretrained(tmp_path), do_normalize=True)
    with torch.no_grad():
        loss = AgeGenderModel.from_pretrained(tmp_path).eval()(**inputs).loss.item()
    assert read_results(tmp_path)["metrics"]["validation"]["loss"] == pytest.approx(loss, rel=1e-5)


@pytest.mark.slow
def test_compiled(run_train, tmp_path, monkeypatch):
    """Without the C++ compiler, which takes most of the time: tests/model compiles with it."""

    def build(dynamo_backend, **options):
        assert dynamo_backend == "inductor"
        return Accelerator(dynamo_backend="aot_eager", **options)

    monkeypatch.setattr(setup, "Accelerator", build)
    run_train(tmp_path, num_train_epochs=1, torch_compile=True)
    assert math.isfinite(read_results(tmp_path)["history"][0]["train_loss"])
    assert not any("_orig_mod" in name for name in load_file(tmp_path / "model.safetensors"))


def test_gradients_are_clipped(run_train, tmp_path, monkeypatch):
    norms = []
    clip = Accelerator.clip_grad_norm_

    def clip_and_measure(self, parameters, max_norm):
        parameters = list(parameters)
        clip(self, parameters, max_norm)
        norms.append(torch.cat([p.grad.flatten() for p in parameters]).norm().item())

    monkeypatch.setattr(Accelerator, "clip_grad_norm_", clip_and_measure)
    run_train(tmp_path, num_train_epochs=1, max_grad_norm=0.5)
    assert len(norms) == BATCHES
    assert max(norms) == pytest.approx(0.5, abs=1e-3)


def test_tensorboard_gets_the_metrics(run_train, tmp_path):
    run_train(tmp_path, num_train_epochs=1, report_to="tensorboard")
    assert list((tmp_path / "logs").rglob("events.out.tfevents.*"))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (json.dumps(NETWORK | {"max_agee": 3}), r"\['max_agee'\], which AgeGenderConfig does not know"),
        (json.dumps(NETWORK | {"hidden_act": "sine"}), "hidden_act must be one of"),
        ('{"image_size": 32,', "must hold the fields of AgeGenderConfig as JSON"),
        ("[1, 2]", "must hold the fields of AgeGenderConfig as JSON: cannot convert"),
        (None, "must hold the fields of AgeGenderConfig as JSON"),
    ],
)
def test_a_bad_config_is_refused_before_the_data_are_read(run_train, tmp_path, monkeypatch, content, sentence):
    monkeypatch.setattr(train, "load_training_data", lambda *args, **kwargs: pytest.fail("the data were read"))
    file = tmp_path / "network.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ValueError, match=sentence):
        run_train(tmp_path / "run", config=file)


def test_the_shipped_configs_are_known():
    files = sorted((ROOT / "configs").glob("*.json"))
    assert [load_config(file).model_type for file in files] == ["agegender"] * len(files) and files


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"data_dir": "no/such/folder"}, "is no file or folder here"),
        ({"model": "no/such/folder", "from_scratch": None, "config": None}, "no/such/folder"),
    ],
)
def test_a_wrong_path_reaches_the_user_as_a_sentence(faces, network, tmp_path, monkeypatch, changes, sentence):
    monkeypatch.setattr(sys, "argv", ["train.py", *make_command(faces, network, tmp_path, **changes)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    # Python prints such an exit without a traceback and returns 1.
    assert stop.value.code.startswith("train.py: error: ") and sentence in stop.value.code
