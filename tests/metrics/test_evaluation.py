"""evaluation.py: its metrics against those computed by hand, and what it prints, writes and refuses."""

import hashlib
import json
import runpy
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

import evaluation
from data.loaders import make_evaluation_dataloader
from data.splits import describe_split
from data.utkface import load_utkface
from image_processing_agegender import AgeGenderImageProcessor
from metrics.calibration import CALIBRATED_FIELDS
from metrics.prediction import compute_metrics, compute_weighted_loss, evaluate_model
from metrics.tables import VALIDATION_NOTE
from modeling_agegender import AgeGenderModel
from tests.support.models import make_config
from tests.support.processes import run_here


ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("datasets_cache", "fresh_accelerate_state")
TEST_NAMES = (ROOT / "splits" / "utkface_test.txt").read_text().split()[::400][:5]


def write_pictures(folder: Path, names: list[str]) -> Path:
    """Random textures, none like another, with these names."""
    folder.mkdir(parents=True)
    for seed, name in enumerate(names):
        texture = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(texture).resize((64, 64)).save(folder / name, quality=95)
    return folder


def make_names(count: int) -> list[str]:
    return [f"{3 + 11 * i % 90}_{i % 2}_{i % 5}_{20170109150557335 + i}.jpg.chip.jpg" for i in range(count)]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, datasets_cache) -> Path:
    """30 images for training and validation, 5 of the published test split."""
    return write_pictures(tmp_path_factory.mktemp("evaluation_data") / "faces", make_names(30) + TEST_NAMES)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    model = AgeGenderModel(make_config())
    with torch.no_grad():  # as after some training: spread ages and both genders
        for parameter in (*model.age_head.parameters(), *model.gender_head.parameters()):
            parameter.mul_(20)
    folder = tmp_path_factory.mktemp("evaluation_model")
    model.save_pretrained(folder)
    AgeGenderImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture
def run_evaluation(pictures, model_folder, tmp_path):
    """Calls main() as the command line does; returns the results that it wrote."""

    def run(*words, data_dir=pictures, split="validation") -> dict:
        file = tmp_path / "deep" / "results.json"
        command = ["--model", str(model_folder), "--data_dir", str(data_dir), "--split", split]
        run_here("evaluation", [*command, "--output", str(file), "--overwrite", *words])
        return json.loads(file.read_text())

    return run


def compute_by_hand(model_folder: Path, files: list[Path], age_statistic: str) -> dict:
    """Returns the metrics, image by image, from the outputs of the model and the file names."""
    model = AgeGenderModel.from_pretrained(model_folder, age_statistic=age_statistic).eval()
    processor = AgeGenderImageProcessor.from_pretrained(model_folder)
    rows = []
    for file in files:
        age, gender = (int(word) for word in file.name.split("_")[:2])
        with Image.open(file) as image, torch.no_grad():
            output = model(
                processor(image, return_tensors="pt").pixel_values,
                age_labels=torch.tensor([float(age)]),
                gender_labels=torch.tensor([gender]),
            )
        right = int(output.gender_logits[0, 1] > output.gender_logits[0, 0]) == gender
        rows.append((age, abs(output.age.item() - age), right, output.loss.item()))
    metrics = {"loss": sum(row[3] for row in rows) / len(rows)}
    for suffix, chosen in (("", rows), ("_21_60", [row for row in rows if 21 <= row[0] <= 60])):
        count = len(chosen)
        metrics |= {
            f"age_mae{suffix}": sum(row[1] for row in chosen) / count,
            f"age_cs5{suffix}": sum(row[1] <= 5 for row in chosen) / count,
            f"gender_accuracy{suffix}": sum(row[2] for row in chosen) / count,
            f"num_images{suffix}": count,
        }
    return metrics


def test_metrics_equal_those_computed_by_hand(run_evaluation, pictures, model_folder):
    results = run_evaluation("--per_device_eval_batch_size", "4", split="train")
    files = [pictures / name for name in load_utkface(pictures)["train"]["file_name"]]
    for name, statistic in (("metrics", "median"), ("metrics_of_interpolated_median", "interpolated_median")):
        expected = compute_by_hand(model_folder, files, statistic)
        assert set(results[name]) == set(expected)
        for key, value in expected.items():
            assert results[name][key] == pytest.approx(value, rel=1e-4), (name, key)
    assert results["metrics"]["age_mae"] != results["metrics_of_interpolated_median"]["age_mae"]
    # An accuracy of all or nothing would hide a mistake.
    assert 0 < expected["gender_accuracy"] < 1 and expected["num_images"] % 4 and expected["num_images_21_60"] > 5


def test_both_ranges_are_printed_and_written(run_evaluation, model_folder, capsys):
    results = run_evaluation()
    printed = capsys.readouterr().out
    metrics = results["metrics"]
    assert f"all ages: age MAE {metrics['age_mae']:.2f} years" in printed
    assert f"21–60 years: age MAE {metrics['age_mae_21_60']:.2f} years" in printed
    assert results["split"] == "validation" and metrics["num_images"] == 3
    assert VALIDATION_NOTE in printed
    weights = (model_folder / "model.safetensors").read_bytes()
    assert results["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    assert {"model", "data_dir", "seconds", "date", "hardware", "versions"} <= set(results)


def test_groups_and_report_are_written(run_evaluation, tmp_path, capsys):
    report = tmp_path / "report"
    results = run_evaluation("--report", str(report), split="train")
    printed = capsys.readouterr().out
    assert f"Wrote {report / 'report.html'}" in printed and VALIDATION_NOTE not in printed
    rows = results["groups"]["by_group"]
    assert rows[0]["num_images"] == results["metrics"]["num_images"] == 27
    assert rows[0]["age_mae"]["value"] == pytest.approx(results["metrics"]["age_mae"], abs=1e-4)
    assert {row["race"] for row in rows if "race" in row} == {"White", "Black", "Asian", "Indian", "Others"}
    page = (report / "report.html").read_text(encoding="utf-8")
    assert results["weights_sha256"] in page and f"{results['metrics']['age_mae']:.2f}" in page
    assert str(tmp_path) not in page


def test_nothing_is_written_unasked(pictures, model_folder, monkeypatch, capsys):
    before = {file: file.read_bytes() for file in model_folder.iterdir()}
    monkeypatch.chdir(model_folder)
    run_here("evaluation", ["--data_dir", str(pictures)])
    assert "age MAE" in capsys.readouterr().out
    assert {file: file.read_bytes() for file in model_folder.iterdir()} == before


def test_split_test_measures_the_published_test_images(run_evaluation, pictures, model_folder):
    written = run_evaluation(split="test")
    expected = compute_by_hand(model_folder, [pictures / name for name in TEST_NAMES], "median")
    assert written["split"] == "test"
    assert written["metrics"]["num_images"] == len(TEST_NAMES) == 5
    assert written["metrics"]["age_mae"] == pytest.approx(expected["age_mae"], rel=1e-4)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batch_size_does_not_change_the_results(run_evaluation, batch_size):
    reference = run_evaluation("--per_device_eval_batch_size", "27", split="train")["metrics"]
    metrics = run_evaluation("--per_device_eval_batch_size", str(batch_size), split="train")["metrics"]
    for key, value in reference.items():
        assert metrics[key] == pytest.approx(value, rel=1e-5), key


def test_missing_labels_weigh_the_same_in_any_batch(model_folder):
    """The loss is the mean over the known labels, not that of the batches' means. Bands count in it, in no age error."""
    generator = np.random.default_rng(0)
    images = [Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(7)]
    rows = {
        "image": images,
        "age_low": [5.0, None, 60.0, None, 60.0, 20.0, None],
        "age_high": [5.0, None, 120.0, None, 60.0, 20.0, None],
        "gender": [0, 1, None, None, 1, 1, 0],
    }
    dataset = datasets.Dataset.from_dict(rows)
    processor = AgeGenderImageProcessor.from_pretrained(model_folder)
    model = AgeGenderModel.from_pretrained(model_folder).train()
    accelerator = Accelerator()
    found = []
    for batch_size in (2, 7):
        dataloader = accelerator.prepare(make_evaluation_dataloader(dataset, processor, batch_size, num_workers=0))
        found.append(evaluate_model(model, dataloader, accelerator))
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], rel=1e-5)
    assert found[0]["age_mae"] == pytest.approx(found[1]["age_mae"], rel=1e-5)
    with torch.no_grad():
        pixels = processor(images, return_tensors="pt").pixel_values
        output = model.eval()(
            pixels,
            age_labels=torch.from_numpy(np.array([rows["age_low"], rows["age_high"]], dtype=np.float32).T),
            gender_labels=torch.tensor([0, 1, -100, -100, 1, 1, 0]),
        )
    assert found[0]["loss"] == pytest.approx(output.loss.item(), rel=1e-5)
    errors = (output.age[[0, 4, 5]] - torch.tensor([5.0, 60.0, 20.0])).abs()
    assert found[0]["age_mae"] == pytest.approx(errors.mean().item(), rel=1e-5)


def test_measuring_changes_neither_mode_nor_weights_nor_statistics(model_folder, pictures):
    model = AgeGenderModel.from_pretrained(model_folder).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    accelerator = Accelerator()
    processor = AgeGenderImageProcessor.from_pretrained(model_folder)
    dataset = load_utkface(pictures)["validation"]
    evaluate_model(
        model, accelerator.prepare(make_evaluation_dataloader(dataset, processor, 2, num_workers=0)), accelerator
    )
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_seed_and_share_choose_the_validation_images_as_in_training(run_evaluation, pictures):
    results = run_evaluation("--split_seed", "3", "--validation_share", "0.4")
    assert results["metrics"]["num_images"] == len(load_utkface(pictures, seed=3, validation_share=0.4)["validation"])
    assert results["metrics"]["num_images"] > 8
    assert (results["split_seed"], results["validation_share"]) == (3, 0.4)


def test_calibration_is_written_into_the_configuration_and_nothing_else(run_evaluation, model_folder, tmp_path):
    """On half of the validation images of a larger data set, with weights that stay as they are."""
    pictures = write_pictures(tmp_path / "many", make_names(480))
    before = json.loads((model_folder / "config.json").read_text())
    weights = (model_folder / "model.safetensors").read_bytes()
    results = run_evaluation("--calibrate", "--validation_share", "0.5", data_dir=pictures)
    after = json.loads((model_folder / "config.json").read_text())
    (model_folder / "config.json").write_text(json.dumps(before))
    assert {name for name in after if after[name] != before.get(name)} == set(CALIBRATED_FIELDS)
    assert {name: after[name] for name in CALIBRATED_FIELDS} == results["calibration"]
    assert results["errors"]["by_age"][0]["num_images"] == 240
    assert (model_folder / "model.safetensors").read_bytes() == weights


def test_too_few_images_to_calibrate_are_refused(run_evaluation, model_folder):
    before = (model_folder / "config.json").read_bytes()
    with pytest.raises(ValueError, match="cannot calibrate a model: it takes 100 labels"):
        run_evaluation("--calibrate")
    assert (model_folder / "config.json").read_bytes() == before


def test_errors_by_age_are_written(run_evaluation):
    errors = run_evaluation("--validation_share", "0.4")["errors"]
    assert errors["by_age"][0]["ages"] == "all" and errors["by_age"][0]["num_images"] > 8
    assert sum(sum(row) for row in errors["gender_confusion"]) == errors["by_age"][0]["num_images"]


def test_another_split_than_that_of_training_is_refused(run_evaluation, pictures, model_folder):
    """Else validation images would be among those that the model was trained on."""
    trained = describe_split(load_utkface(pictures, seed=5))
    file = model_folder / "train_results.json"
    file.write_text(json.dumps({"split": trained}))
    try:
        assert run_evaluation("--split_seed", "5") is not None
        with pytest.raises(ValueError, match="was trained on some of these validation images"):
            run_evaluation("--split_seed", "6")
        assert run_evaluation("--split_seed", "6", split="train") is not None
        file.write_text(json.dumps({"split": trained | {"images_sha256": "other images"}}))
        assert run_evaluation("--split_seed", "6") is not None
    finally:
        file.unlink()


def test_an_absent_split_is_named(run_evaluation, tmp_path):
    without_test = write_pictures(tmp_path / "without_test", make_names(20))
    with pytest.raises(ValueError, match="no test images: choose --split train or validation"):
        run_evaluation(split="test", data_dir=without_test)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--spl", "test"], "unrecognized arguments: --spl test"),
        (["--split", "holdout"], "invalid choice: 'holdout'"),
        (["--colour", "red"], "unrecognized arguments: --colour red"),
        (["--calibrate", "--split", "test"], "--calibrate takes validation images: leave out --split."),
        (["--calibrate", "--report", "report"], "calibrate it first, then measure without --calibrate."),
        (["--calibrate", "--model", "user/name"], "--calibrate writes into a model folder, but user/name is not one."),
    ],
)
def test_bad_arguments_are_refused(run_evaluation, capsys, words, sentence):
    with pytest.raises(SystemExit) as stop:
        run_evaluation(*words)
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err.splitlines()[-1]


def test_a_missing_model_reaches_the_user_as_a_sentence(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["evaluation.py", "--model", "no/such/folder", "--data_dir", str(pictures)]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / "evaluation.py"), run_name="__main__")
    # Python prints such an exit without a traceback and returns 1.
    assert stop.value.code.startswith("evaluation.py: error: ") and "no/such/folder" in stop.value.code


def test_images_whose_duplicates_have_other_labels_are_told():
    columns = {
        "age_low": [20, 20, 30, 31, 40, 40, 50, 60, 60],
        "age_high": [20, 20, 30, 31, 40, 40, None, 69, 70],
        "gender": [0, 0, 1, 1, 0, 1, None, 0, 0],
        "group": [5, 5, 2, 2, 9, 9, 1, 3, 3],
    }
    agreeing = evaluation.find_agreeing(datasets.Dataset.from_dict(columns))
    assert agreeing.tolist() == [True, True, False, False, False, False, True, False, False]


def test_metrics_where_duplicates_agree_are_written(run_evaluation, monkeypatch):
    everything = run_evaluation("--dataloader_num_workers", "0")
    assert everything["metrics_where_duplicates_agree"] == everything["metrics"]
    monkeypatch.setattr(evaluation, "find_agreeing", lambda images: np.arange(len(images)) < 3)
    assert run_evaluation("--dataloader_num_workers", "0")["metrics_where_duplicates_agree"]["num_images"] == 3


def test_weighted_loss_is_that_of_repeated_images():
    torch.manual_seed(0)
    model = AgeGenderModel(make_config()).eval()
    ages = np.array([10.0, 10.0, 30.0], dtype=np.float32)
    predictions = {
        "ages": ages,
        "age_labels": ages,
        "age_bands": np.stack([ages, ages], axis=1),
        "age_classes": ages,
        "age_logits": torch.randn(3, model.config.num_age_classes).numpy(),
        "gender_logits": torch.randn(3, 2).numpy(),
        "gender_labels": np.array([0, 1, 1]),
    }
    plain = compute_metrics(model, predictions)["loss"]
    weights = np.ones(model.config.num_age_classes)
    assert compute_weighted_loss(model, predictions, weights) == pytest.approx(plain, rel=1e-5)
    weights[30] = 3
    repeated = {name: values[[0, 1, 2, 2, 2]] for name, values in predictions.items()}
    expected = compute_metrics(model, repeated)["loss"]
    assert compute_weighted_loss(model, predictions, weights) == pytest.approx(expected, rel=1e-5) != plain
