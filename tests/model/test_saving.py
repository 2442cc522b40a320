"""Whatever saves a model leaves a folder that the pipeline loads in a new process, and so does a copy saved from it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from transformers import Trainer, TrainingArguments

from configuration_agegender import AgeGenderConfig
from image_processing_agegender import AgeGenderImageProcessor
from modeling_agegender import AgeGenderModel
from pipeline_agegender import AgeGenderPipeline
from tests.support.models import BODIES, SIDE, make_config, make_model
from tests.test_imports import MODEL_FILES


ROOT = Path(__file__).parents[2]
CODE = {f"{name}.py" for name in MODEL_FILES}
JSON_FILES = {"config.json", "preprocessor_config.json"}
# Each folder, then a copy that its model saves, then that copy: without this folder on the path and with its own code cache.
LOAD = """
import copy
import json
import pickle
import shutil
import sys

import torch
from transformers import AutoConfig, AutoImageProcessor, AutoModel, pipeline

torch.set_num_threads(1)
picture, *folders = sys.argv[1:]
answers = []
for folder in folders:
    loaded = pickle.loads(pickle.dumps(copy.deepcopy(pipeline(model=folder, trust_remote_code=True))))
    answers.append(loaded(picture, detect_faces=False)[0])
    loaded.model.save_pretrained(f"{folder}/copy")
    shutil.move(f"{folder}/copy", f"{folder}-copy")
    shutil.rmtree(folder)
    options = {"trust_remote_code": True}
    model = AutoModel.from_pretrained(f"{folder}-copy", **options)
    processor = AutoImageProcessor.from_pretrained(f"{folder}-copy", **options)
    copied = pipeline("age-gender-estimation", model=model, image_processor=processor)
    answers.append(copied(picture, detect_faces=False)[0])
    AutoConfig.from_pretrained(f"{folder}-copy", **options).save_pretrained(f"{folder}-config")
    config = AutoConfig.from_pretrained(f"{folder}-config", **options)
    assert AutoModel.from_config(config, **options).num_parameters() == model.num_parameters()
print(json.dumps(answers))
"""


def train(model: AgeGenderModel, folder: Path, processor: AgeGenderImageProcessor | None = None) -> Trainer:
    """Trains a model for one step without changing it, and saves checkpoint-1."""
    arguments = TrainingArguments(
        output_dir=folder,
        max_steps=1,
        learning_rate=0,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        save_steps=1,
    )
    examples = [{"pixel_values": torch.zeros(3, SIDE, SIDE), "age_labels": 30.0, "gender_labels": 1}] * 2
    trainer = Trainer(model=model, args=arguments, train_dataset=examples, processing_class=processor)
    trainer.train()
    return trainer


def save_in_each_way(model: AgeGenderModel, processor: AgeGenderImageProcessor, folder: Path) -> list[Path]:
    """Saves a model in each way, with and without its image processor; returns the folders."""
    model.save_pretrained(folder / "model")
    model.save_pretrained(folder / "sharded", max_shard_size="10KB")
    AgeGenderPipeline(model=model, image_processor=processor).save_pretrained(folder / "pipeline")
    processor.save_pretrained(folder / "processor_first")
    model.save_pretrained(folder / "processor_first")
    accelerator = Accelerator(cpu=True)
    unwrapped = accelerator.unwrap_model(accelerator.prepare(model))
    unwrapped.save_pretrained(folder / "accelerate", save_function=accelerator.save)
    train(model, folder / "trainer").save_model()
    train(model, folder / "trained_with_processor", processor).save_model(folder / "trainer_with_processor")
    checkpoints = [folder / name / "checkpoint-1" for name in ("trainer", "trained_with_processor")]
    for checkpoint, name in zip(checkpoints, ("checkpoint", "checkpoint_with_processor"), strict=True):
        shutil.move(checkpoint, folder / name)
    shutil.rmtree(folder / "trained_with_processor")
    return sorted(folder.iterdir())


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.usefixtures("fresh_accelerate_state")
def test_folders_work_alone(noise, tmp_path):
    source, picture = tmp_path / "source", tmp_path / "picture.png"
    noise.save(picture)
    # Normalization that is not the default one: of the folder that the model comes from.
    processor = AgeGenderImageProcessor(size={"height": SIDE, "width": SIDE}, image_std=[0.5, 0.5, 0.5])
    still = {"batch_norm_momentum": 1e-9}  # in training
    others = [BODIES["more_encoders"][0] | still]
    new_model = make_model(age_statistic="interpolated_median", more_encoders=others, **still)
    with torch.no_grad():
        new_model.age_head.layers[-1].weight.mul_(200)  # tells similar pictures apart
    AgeGenderPipeline(model=new_model, image_processor=processor).save_pretrained(source)
    model = AgeGenderModel.from_pretrained(source)
    (expected,) = AgeGenderPipeline(model=model, image_processor=processor)(noise, detect_faces=False)
    other = AgeGenderPipeline(model=model, image_processor=AgeGenderImageProcessor())(noise, detect_faces=False)[0]
    assert abs(other["age"] - expected["age"]) > 1
    folders = save_in_each_way(model, processor, tmp_path / "saved")
    assert len(folders) == 9
    for folder in folders:
        names = {path.name for path in folder.iterdir()}
        assert CODE | JSON_FILES <= names, folder
        assert all((folder / name).read_text() == (ROOT / name).read_text() for name in CODE)
    (tmp_path / "elsewhere").mkdir()
    shutil.rmtree(source)
    process = subprocess.run(
        [sys.executable, "-c", LOAD, picture, *folders],
        cwd=tmp_path / "elsewhere",
        env={"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules"), "MKL_CBWR": "COMPATIBLE"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    answers = json.loads(process.stdout.splitlines()[-1])
    assert len(answers) == 2 * len(folders)
    for face in answers:
        assert face["age"] == pytest.approx(expected["age"], abs=1e-3)
        assert face["gender_score"] == pytest.approx(expected["gender_score"], abs=1e-5)


def test_new_model_brings_an_image_processor_of_its_size(tmp_path):
    AgeGenderModel(make_config(image_size=48)).save_pretrained(tmp_path)
    assert CODE | JSON_FILES <= {path.name for path in tmp_path.iterdir()}
    processor = AgeGenderImageProcessor.from_pretrained(tmp_path)
    assert dict(processor.size) == {"height": 48, "width": 48}
    assert list(processor.image_std) == AgeGenderImageProcessor.image_std


def test_image_processor_of_a_folder_is_kept(tmp_path):
    AgeGenderImageProcessor(image_std=[0.5, 0.5, 0.5]).save_pretrained(tmp_path / "first")
    assert CODE < {path.name for path in (tmp_path / "first").iterdir()}
    make_model().save_pretrained(tmp_path / "first")
    AgeGenderModel.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second")
    for folder in ("first", "second"):
        assert list(AgeGenderImageProcessor.from_pretrained(tmp_path / folder).image_std) == [0.5, 0.5, 0.5]


def test_model_of_weights_alone_or_of_a_folder_that_is_gone(model, tmp_path):
    for folder, removed in (("weights", "preprocessor_config.json"), ("gone", "")):
        model.save_pretrained(tmp_path / folder)
        loaded = AgeGenderModel.from_pretrained(tmp_path / folder)
        path = tmp_path / folder / removed
        path.unlink() if path.is_file() else shutil.rmtree(path)
        loaded.save_pretrained(tmp_path / "saved" / folder)
        assert AgeGenderImageProcessor.from_pretrained(tmp_path / "saved" / folder).size["height"] == SIDE


def test_saved_configuration_names_its_own_folder(tmp_path):
    """A configuration from the Hub names files of its repo."""
    config = make_config(
        auto_map={"AutoModel": "somebody/faces--modeling_agegender.AgeGenderModel"},
        custom_pipelines={"age-gender-estimation": {"impl": "somebody/faces--pipeline_agegender.AgeGenderPipeline"}},
    )
    config.save_pretrained(tmp_path)
    assert "somebody" not in (tmp_path / "config.json").read_text()
    loaded = AgeGenderConfig.from_pretrained(tmp_path)
    assert loaded.auto_map["AutoModel"] == "modeling_agegender.AgeGenderModel"
    assert CODE < {path.name for path in tmp_path.iterdir()}


def test_weights_with_a_second_encoder_load(pixel_values, tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path)
    file, config_file = tmp_path / "model.safetensors", tmp_path / "config.json"
    weights = {name.replace("more_encoders.0.", "second_encoder."): value for name, value in load_file(file).items()}
    assert any(name.startswith("second_encoder.") for name in weights)
    save_file(weights, file, metadata={"format": "pt"})
    values = json.loads(config_file.read_text())
    (values["second_encoder"],) = values.pop("more_encoders")
    config_file.write_text(json.dumps(values))
    loaded = AgeGenderModel.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(loaded(pixel_values).age_logits, model(pixel_values).age_logits)
    loaded.save_pretrained(tmp_path / "again")
    again = AgeGenderModel.from_pretrained(tmp_path / "again").eval()
    assert torch.equal(again(pixel_values).age_logits, loaded(pixel_values).age_logits)
