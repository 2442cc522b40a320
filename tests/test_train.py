"""Training: resuming, stopping, averaging, checkpoints, what a run leaves behind, and what is refused."""

import hashlib
import json
import math
import os
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.utils import filter_repo_objects
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import model_card
import train
import training_state
from augmentation import AugmentationArguments
from configuration_agegender import AgeGenderConfig
from evaluation import evaluate_model
from image_processing_agegender import AgeGenderImageProcessor
from modeling_agegender import AgeGenderModel
from training_arguments import TRACKERS, TrainArguments, parse_arguments


ROOT = Path(__file__).parents[1]
NETWORK = {
    "image_size": 32,
    "block_types": ["conv", "depthwise_separable"],
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "strides": [2, 2],
    "pool_sizes": [1, 1],
    "age_head_dropout": 0.3,
    "gender_head_dropout": 0.3,
}
TRAIN_IMAGES, BATCH_SIZE = 30, 4
SCHEDULER, STATE, AVERAGE = (f"custom_checkpoint_{index}.pkl" for index in range(3))
BATCHES = TRAIN_IMAGES // BATCH_SIZE


def draw_face(age: int, gender: int, seed: int) -> Image.Image:
    """A random texture, unlike any other, the brighter the older, redder or bluer by gender."""
    generator = np.random.default_rng(seed)
    texture = generator.normal(40 + 1.5 * age, 30, (8, 8, 3))
    texture[..., 2 * gender] += 40
    return Image.fromarray(texture.clip(0, 255).astype(np.uint8)).resize((64, 64))


def write_faces(folder: Path, count: int, test_count: int = 0) -> Path:
    """UTKFace-like files, the last of them with names of the published test split."""
    folder.mkdir(parents=True)
    names = [f"{5 + 13 * i % 80}_{i % 2}_{i % 5}_{20170116181301976 + i}.jpg.chip.jpg" for i in range(count)]
    names += (ROOT / "splits" / "utkface_test.txt").read_text().split()[:test_count]
    for seed, name in enumerate(names):
        age, gender = name.split("_")[:2]
        draw_face(int(age), int(gender), seed).save(folder / name, quality=95)
    return folder


@pytest.fixture(scope="module", autouse=True)
def train_caches(tmp_path_factory):
    """The cache of `datasets` in a folder that goes away, and one thread, as in the subprocesses."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets_cache"))
        yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def fresh_accelerate_state():
    """accelerate keeps its state for the whole process, and a training its handler of Ctrl-C."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)
    AcceleratorState._reset_state(True)
    GradientState._reset_state()


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    """40 images, of which --validation_share 0.25 leaves 30 for training, and 3 of the test split."""
    return write_faces(tmp_path_factory.mktemp("train_data") / "faces", 40, test_count=3)


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("train_config") / "tiny.json"
    file.write_text(json.dumps(NETWORK))
    return file


def make_command(faces: Path, network: Path, output_dir: Path, **changes) -> list[str]:
    """A command line without `python train.py`; None takes an argument out, True makes it a flag."""
    values = {
        "from_scratch": True,
        "config": network,
        "data_dir": faces,
        "output_dir": output_dir,
        "validation_share": 0.25,
        "num_train_epochs": 2,
        "per_device_train_batch_size": BATCH_SIZE,
        "per_device_eval_batch_size": 8,
        "learning_rate": 0.01,
        "ema_decay": 0.9,
        "dataloader_num_workers": 0,
    } | changes
    pairs = ((f"--{name}", value) for name, value in values.items() if value is not None)
    return [word for name, value in pairs for word in ([name] if value is True else [name, str(value)])]


@pytest.fixture
def run_train(faces, network, monkeypatch):
    """Calls main() as the command line does, in this process; each call is a training of its own."""

    def run(output_dir: Path, **changes):
        AcceleratorState._reset_state(True)
        GradientState._reset_state()
        monkeypatch.setattr(sys, "argv", ["train.py", *make_command(faces, network, output_dir, **changes)])
        train.main()

    return run


def start_process(command: list[str], tmp_path: Path) -> subprocess.Popen:
    environment = os.environ | {
        "HF_HOME": str(tmp_path / "hf"),
        "HF_DATASETS_CACHE": str(datasets.config.HF_DATASETS_CACHE),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "train.py", *command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a process group of its own, as a terminal's foreground job
    )


def read_results(output_dir: Path) -> dict:
    return json.loads((output_dir / "train_results.json").read_text())


def latest_checkpoint(output_dir: Path) -> Path:
    checkpoints = training_state.find_checkpoints(output_dir)
    return checkpoints[max(checkpoints)]


def read_checkpoint(folder: Path) -> dict:
    """The tensors and numbers of a checkpoint, by name; clock times left out."""
    network = load_file(folder / "model.safetensors")
    values = {f"model.{name}": value for name, value in network.items()}
    for file in ("optimizer.bin", SCHEDULER, STATE, AVERAGE):
        values |= flatten(torch.load(folder / file, weights_only=False), file)
    return {name: value for name, value in values.items() if not name.endswith(".seconds")}


def flatten(value, name: str) -> dict:
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {key: leaf for part, item in items for key, leaf in flatten(item, f"{name}.{part}").items()}
    return {name: value}


def assert_same(first: dict, second: dict):
    """Equal bit for bit."""
    assert first.keys() == second.keys()
    differing = [
        name
        for name, value in first.items()
        if not (torch.equal(value, second[name]) if isinstance(value, torch.Tensor) else value == second[name])
    ]
    assert differing == []


def assert_same_end(first: Path, second: Path):
    """Two output folders hold the same weights and history, and went through the same checkpoint in the end."""
    assert_same(load_file(first / "model.safetensors"), load_file(second / "model.safetensors"))
    first_results, second_results = read_results(first), read_results(second)
    for key in ("history", "metrics", "best_epoch", "weights_sha256"):
        assert first_results[key] == second_results[key]


# Interrupted and resumed


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


# Early stopping, averaging


@pytest.mark.parametrize(
    ("metric", "threshold", "values", "best_epoch", "last_epoch"),
    [
        ("loss", 0.0, [3.0, 2.0, 2.5, 2.0, 1.0], 2, 4),  # equal is no improvement
        ("loss", 0.0, [3.0, 2.0, 2.5, 1.9, 2.0], 4, 5),
        ("loss", 0.5, [3.0, 2.6, 2.5, 1.0], 1, 3),  # changes of at most 0.5 do not count
        ("loss", 0.5, [3.0, 2.6, 2.4, 2.3], 3, 4),  # measured from the best, not from the last
        ("gender_accuracy", 0.0, [0.5, 0.6, 0.7, 0.6, 0.7, 0.9], 3, 5),
        ("age_mae", 0.0, [math.nan, 9.0, math.nan, math.nan, 1.0], 2, 4),
        ("loss", 0.0, [math.nan, math.inf, 1.0], 0, 2),
    ],
)
def test_early_stopping(tmp_path, metric, threshold, values, best_epoch, last_epoch):
    arguments = TrainArguments(
        output_dir=tmp_path,
        metric_for_best_model=metric,
        early_stopping_patience=2,
        early_stopping_threshold=threshold,
    )
    state = training_state.TrainerState()
    for value in values:
        if state.should_stop(arguments):
            break
        state.epoch += 1
        improved = state.add_epoch({metric: value}, arguments)
        assert improved == (state.best_epoch == state.epoch)
    assert (state.best_epoch, state.epoch) == (best_epoch, last_epoch)
    assert [row["epoch"] for row in state.history] == list(range(1, last_epoch + 1))


def test_a_patience_of_zero_never_stops(tmp_path):
    arguments = TrainArguments(output_dir=tmp_path, early_stopping_patience=0)
    assert not training_state.TrainerState(bad_epochs=100).should_stop(arguments)


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
    average = train.build_average(network, decay=0.25)
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
    optimizer = train.build_optimizer(model, TrainArguments(output_dir=tmp_path, weight_decay=0.3))
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    parameters = dict(model.named_parameters())
    assert len(decays) == len(parameters)
    for name, parameter in parameters.items():
        assert decays[id(parameter)] == (0.0 if "normalization" in name or name.endswith("bias") else 0.3), name


# What a run leaves behind


@pytest.fixture(scope="module")
def finished(tmp_path_factory, faces, network) -> Path:
    """The output folder of a training of four epochs."""
    folder = tmp_path_factory.mktemp("finished") / "tiny-faces"
    with pytest.MonkeyPatch.context() as patch:
        AcceleratorState._reset_state(True)
        handler = signal.getsignal(signal.SIGINT)
        patch.setattr(sys, "argv", ["train.py", *make_command(faces, network, folder, num_train_epochs=4)])
        train.main()
        signal.signal(signal.SIGINT, handler)
        AcceleratorState._reset_state(True)
    return folder


def test_a_run_leaves_a_complete_model_folder(finished):
    names = set(os.listdir(finished))
    code = {"configuration_agegender.py", "modeling_agegender.py", "image_processing_agegender.py"}
    code |= {"pipeline_agegender.py", "face_detection.py"}
    assert code | {"config.json", "model.safetensors", "preprocessor_config.json", "README.md"} <= names
    config = json.loads((finished / "config.json").read_text())
    assert (
        set(config["auto_map"]) == {"AutoConfig", "AutoModel"}
        and "age-gender-estimation" in config["custom_pipelines"]
    )
    processor = AgeGenderImageProcessor.from_pretrained(finished)
    assert dict(processor.size) == {"height": 32, "width": 32}
    output = AgeGenderModel.from_pretrained(finished).eval()(torch.zeros(2, 3, 32, 32))
    assert output.age.shape == (2,) and torch.isfinite(output.age).all()
    with Image.open(finished / "curves.png") as curves:
        assert curves.width > 600
        assert len(curves.convert("L").getcolors()) > 10


def test_results_name_all_that_they_depend_on(finished, faces):
    results = read_results(finished)
    assert set(results) == {
        "arguments", "split_images", "metrics", "best_epoch", "history", "training_seconds", "num_processes",
        "weights_sha256", "date", "hardware", "versions",
    }  # fmt: skip
    assert results["weights_sha256"] == hashlib.sha256((finished / "model.safetensors").read_bytes()).hexdigest()
    assert results["split_images"] == {"train": TRAIN_IMAGES, "validation": 10, "test": 3}
    arguments = results["arguments"]
    assert (arguments["data_dir"], arguments["seed"], arguments["learning_rate"]) == (faces.name, 0, 0.01)
    assert arguments["flip"] == AugmentationArguments().flip
    assert results["versions"]["torch"] == torch.__version__ and results["hardware"]["cpu_cores"] == os.cpu_count()
    assert set(results["metrics"]) == {"validation", "test"}
    assert results["metrics"]["test"]["num_images"] == 3
    best = results["history"][results["best_epoch"] - 1]
    assert best["loss"] == min(row["loss"] for row in results["history"])
    for key, value in results["metrics"]["validation"].items():
        assert best[key] == pytest.approx(value, rel=1e-5), key
    losses = [row["train_loss"] for row in results["history"]]
    assert losses[-1] < losses[0]


def test_card_carries_the_results_as_the_hub_reads_them(finished):
    card, results = ModelCard.load(finished / "README.md"), read_results(finished)
    found = {(entry.dataset_split, entry.metric_type): entry.metric_value for entry in card.data.eval_results}
    expected = {
        (split, key): metrics[key]
        for split, metrics in results["metrics"].items()
        for key in ("age_mae", "age_cs5", "gender_accuracy")
    }
    assert found == expected
    assert card.data.model_name == "tiny-faces" and card.data.library_name == "transformers"
    assert f"| validation | 10 | {results['metrics']['validation']['age_mae']:.2f} |" in card.text
    assert "{" not in card.text


def test_card_names_the_hub_repository_and_survives_a_dot_and_missing_labels(finished, monkeypatch):
    monkeypatch.chdir(finished)
    results = read_results(finished)
    results["metrics"]["test"]["gender_accuracy"] = math.nan
    card_before = (finished / "README.md").read_text()
    try:
        model_card.write_card(Path("."), results)
        card = ModelCard.load("README.md")
        assert card.data.model_name == "tiny-faces"
        assert ("test", "gender_accuracy") not in {(e.dataset_split, e.metric_type) for e in card.data.eval_results}
        results["arguments"]["hub_model_id"] = "somebody/faces"
        model_card.write_card(Path("."), results)
        assert 'model="somebody/faces"' in Path("README.md").read_text()
    finally:
        (finished / "README.md").write_text(card_before)


def test_upload_leaves_checkpoints_out(finished, monkeypatch):
    uploads = []
    monkeypatch.setattr(HfApi, "create_repo", lambda self, name, **kwargs: type("Repo", (), {"repo_id": name})())
    monkeypatch.setattr(HfApi, "upload_folder", lambda self, **kwargs: uploads.append(kwargs))
    model_card.push_to_hub(finished)
    files = [str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()]
    sent = set(filter_repo_objects(files, ignore_patterns=uploads[0]["ignore_patterns"]))
    assert uploads[0]["repo_id"] == "tiny-faces"
    assert any(name.startswith("checkpoints/") for name in files)
    assert sent == {name for name in files if "/" not in name}


def test_printed_lines(run_train, tmp_path, capsys):
    run_train(tmp_path, num_train_epochs=1)
    lines = capsys.readouterr().out.splitlines()
    epoch_lines = [line for line in lines if line.startswith("Epoch 1:")]
    assert len(epoch_lines) == 1
    assert all(word in epoch_lines[0] for word in ("train loss", "age MAE", "CS@5", "gender", "best so far"))
    assert any("validation split" in line for line in lines) and any("21–60 years" in line for line in lines)


# Other starts and data


def test_fine_tuning_keeps_network_and_processor(run_train, finished, tmp_path):
    start = tmp_path / "start"
    shutil.copytree(finished, start, ignore=shutil.ignore_patterns("checkpoints", "best"))
    processor = AgeGenderImageProcessor.from_pretrained(start, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.2, 0.3])
    processor.save_pretrained(start)
    run_train(tmp_path / "tuned", from_scratch=None, config=None, model=start, num_train_epochs=1, learning_rate=1e-6)
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (start, tmp_path / "tuned"))
    assert {name: after[name] for name in NETWORK} == {name: before[name] for name in NETWORK}
    tuned = AgeGenderImageProcessor.from_pretrained(tmp_path / "tuned")
    assert list(tuned.image_mean) == [0.4, 0.5, 0.6] and list(tuned.image_std) == [0.2, 0.2, 0.3]
    first, second = (load_file(folder / "model.safetensors") for folder in (start, tmp_path / "tuned"))
    weight = "age_head.layers.0.weight"
    assert torch.allclose(first[weight], second[weight], atol=1e-4) and not torch.equal(first[weight], second[weight])
    assert "`" + str(start) + "`" in (tmp_path / "tuned" / "README.md").read_text()


def test_a_table_without_genders_trains(run_train, tmp_path):
    ages = [5 + 13 * index % 80 for index in range(24)]
    images = [draw_face(age, 0, seed=1000 + index) for index, age in enumerate(ages)]
    features = datasets.Features({"image": datasets.Image(), "age": datasets.Value("float32")})
    table = datasets.Dataset.from_dict({"image": images, "age": ages}, features=features)
    (tmp_path / "table").mkdir()
    table.to_parquet(tmp_path / "table" / "faces.parquet")
    run_train(tmp_path / "run", data_dir=tmp_path / "table", num_train_epochs=1)
    metrics = read_results(tmp_path / "run")["metrics"]["validation"]
    assert math.isfinite(metrics["age_mae"]) and math.isfinite(metrics["loss"])
    assert math.isnan(metrics["gender_accuracy"])


def test_too_few_images_are_refused(run_train, tmp_path):
    with pytest.raises(ValueError, match="30 training images do not fill one batch of 64"):
        run_train(tmp_path / "run", per_device_train_batch_size=64)


def test_data_without_a_validation_image_are_refused(run_train, tmp_path):
    few = write_faces(tmp_path / "few", 4)
    with pytest.raises(ValueError, match="has no validation images"):
        run_train(tmp_path / "run", data_dir=few, validation_share=0.01)


def test_bf16_with_gradient_checkpointing(run_train, tmp_path):
    run_train(tmp_path, num_train_epochs=1, mixed_precision="bf16", gradient_checkpointing=True)
    results = read_results(tmp_path)
    assert math.isfinite(results["history"][0]["train_loss"])
    weights = load_file(tmp_path / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32, torch.int64}
    # The average is what was measured, not the network beside it, whose forward accelerate replaces.
    assert results["history"][0]["age_mae"] == pytest.approx(results["metrics"]["validation"]["age_mae"], rel=1e-3)


def test_gradients_are_clipped(run_train, tmp_path, monkeypatch):
    norms = []
    clip = train.Accelerator.clip_grad_norm_

    def clip_and_measure(self, parameters, max_norm):
        parameters = list(parameters)
        clip(self, parameters, max_norm)
        norms.append(torch.cat([p.grad.flatten() for p in parameters]).norm().item())

    monkeypatch.setattr(train.Accelerator, "clip_grad_norm_", clip_and_measure)
    run_train(tmp_path, num_train_epochs=1, max_grad_norm=0.5)
    assert len(norms) == BATCHES
    assert max(norms) == pytest.approx(0.5, abs=1e-3)


def test_accumulated_batches_make_one_update_and_the_rate_ends_at_zero(run_train, tmp_path):
    run_train(tmp_path, gradient_accumulation_steps=2)
    state, scheduler = (
        torch.load(latest_checkpoint(tmp_path) / file, weights_only=False) for file in (STATE, SCHEDULER)
    )
    assert state["update"] == scheduler["last_epoch"] == 2 * math.ceil(BATCHES / 2)
    assert scheduler["_last_lr"] == pytest.approx([0, 0], abs=1e-12)


def test_tensorboard_gets_the_metrics(run_train, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    run_train(tmp_path, num_train_epochs=1, report_to="tensorboard")
    assert list((tmp_path / "agegender").rglob("events.out.tfevents.*"))


# Refusals


def parse_error(arguments: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as stop:
        parse_arguments(arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"learning_rat": 1}, "unknown arguments: --learning_rat 1"),
        ({"num_train_epoch": 3}, "unknown arguments: --num_train_epoch 3"),  # no abbreviations
        ({"model": "somewhere"}, "Give either --model"),
        ({"from_scratch": None, "config": None}, "Give either --model"),
        ({"from_scratch": None, "model": "somewhere"}, "--config describes a network for --from_scratch"),
        ({"num_train_epochs": 0}, "--num_train_epochs must be at least 1, got 0"),
        ({"num_train_epochs": "many"}, "invalid int value: 'many'"),
        ({"per_device_train_batch_size": 1}, "--per_device_train_batch_size must be at least 2"),
        ({"gradient_accumulation_steps": 0}, "--gradient_accumulation_steps must be at least 1"),
        ({"checkpoints_total_limit": 0}, "--checkpoints_total_limit must be at least 1"),
        ({"checkpointing_steps": "0"}, "--checkpointing_steps must be a number of updates or epoch, got 0"),
        ({"checkpointing_steps": "-3"}, "--checkpointing_steps must be"),
        ({"learning_rate": -0.1}, "--learning_rate must be above 0, got -0.1"),
        ({"learning_rate": "nan"}, "--learning_rate must be above 0, got nan"),
        ({"warmup_ratio": 1.5}, "--warmup_ratio must be in 0–1"),
        ({"weight_decay": -1}, "--weight_decay must be at least 0"),
        ({"max_grad_norm": -1}, "--max_grad_norm must be at least 0"),
        ({"early_stopping_patience": -1}, "--early_stopping_patience must be at least 0"),
        ({"ema_decay": 1}, "--ema_decay must be in [0, 1), got 1.0"),
        ({"lr_scheduler_type": "staircase"}, "--lr_scheduler_type must be one of linear, cosine"),
        ({"mixed_precision": "int4"}, "--mixed_precision must be one of no, bf16, fp16, got int4"),
        ({"metric_for_best_model": "f1"}, "--metric_for_best_model must be one of loss, age_mae"),
        ({"report_to": "paper"}, "--report_to must be one of tensorboard, wandb, trackio, got paper"),
        ({"validation_share": 1.5}, "--validation_share must be between 0 and 1, got 1.5"),
        ({"dataloader_num_workers": -1}, "--dataloader_num_workers must be at least 0"),
        ({"seed": -1}, "--seed must be at least 0"),
        ({"flip": 2}, "flip must be in 0–1, got 2.0"),
        ({"data_dir": None}, "the following arguments are required: --data_dir"),
    ],
)
def test_bad_arguments_are_refused_in_a_sentence(tmp_path, capsys, changes, sentence):
    assert sentence in parse_error(make_command(tmp_path, tmp_path / "x.json", tmp_path, **changes), capsys)


def test_a_tracker_that_is_not_installed_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(TRACKERS, "trackio", lambda: False)
    command = make_command(tmp_path, tmp_path / "x.json", tmp_path, report_to="trackio")
    assert "--report_to trackio needs a package: pip install trackio" in parse_error(command, capsys)


def test_flags_and_defaults():
    arguments = parse_arguments(
        "--from_scratch --data_dir d --output_dir o --torch_compile --gradient_checkpointing --push_to_hub "
        "--hub_model_id a/b --mixed_precision bf16 --checkpointing_steps 500 --seed 3".split()
    )
    assert arguments.train.torch_compile and arguments.train.gradient_checkpointing and arguments.train.push_to_hub
    assert arguments.model.config == ROOT / "configs" / "default.json"
    values = arguments.to_dict()
    assert (values["hub_model_id"], values["mixed_precision"], values["seed"]) == ("a/b", "bf16", 3)
    assert values["checkpointing_steps"] == "500" and values["output_dir"] == "o"


def test_a_file_beside_the_script_is_no_second_command_line(tmp_path, monkeypatch):
    (tmp_path / "train.args").write_text("--seed 5")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "train.py")])
    assert parse_arguments(["--from_scratch", "--data_dir", "d", "--output_dir", "o"]).train.seed == 0


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (json.dumps(NETWORK | {"max_agee": 3}), r"\['max_agee'\], which AgeGenderConfig does not know"),
        (json.dumps(NETWORK | {"hidden_act": "sine"}), "hidden_act must be one of"),
        ('{"image_size": 32,', "cannot be read as JSON"),
        ("[1, 2]", "must hold the fields of AgeGenderConfig, got a list"),
        (None, "cannot be read as JSON"),
    ],
)
def test_a_bad_config_is_refused_before_the_data_are_read(run_train, tmp_path, monkeypatch, content, sentence):
    monkeypatch.setattr(train, "load_utkface", lambda *args, **kwargs: pytest.fail("the data were read"))
    file = tmp_path / "network.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ValueError, match=sentence):
        run_train(tmp_path / "run", config=file)


def test_the_shipped_configs_are_known():
    files = sorted((ROOT / "configs").glob("*.json"))
    assert [train.load_config(file).model_type for file in files] == ["agegender"] * len(files) and files


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"data_dir": "no/such/folder"}, "is no file or folder here"),
        ({"model": "no/such/folder", "from_scratch": None, "config": None}, "no/such/folder"),
    ],
)
def test_a_wrong_path_reaches_the_user_as_a_sentence(faces, network, tmp_path, monkeypatch, changes, sentence):
    AcceleratorState._reset_state(True)
    monkeypatch.setattr(sys, "argv", ["train.py", *make_command(faces, network, tmp_path, **changes)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    # Python prints such an exit without a traceback and returns 1.
    assert stop.value.code.startswith("train.py: error: ") and sentence in stop.value.code
