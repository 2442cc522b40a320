"""
Fine-tunes a model with the default arguments of train.py on few faces of another kind, and measures what is won and forgotten.

    python -m benchmarks.fine_tuning --data_dir UTKFace.tar.gz --portraits official_portraits.parquet \
      --output benchmarks/fine_tuning.json

Kinds: portraits (other people's faces) and UTKFace's faces in a wider framing, grey and blurred, as in old scanned photos. Each
model is evaluated on faces of its kind that it was not trained on and on UTKFace's validation images as they are. Finished
trainings are kept in the working folder, so the same command continues a stopped run.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image, ImageFilter

from benchmarks.blurring import ChangedImages
from benchmarks.reporting import ROOT, make_parser, report
from data.loaders import make_evaluation_dataloader
from data.utkface import load_utkface
from hub.errors import run
from hub.loading import load_model
from metrics.age_gender import compare_errors
from metrics.prediction import compute_predictions
from metrics.results import compute_weights_sha256, describe_machine, write_json


SIZES = (100, 300, 1000, 5000)
UTKFACE = "utkface"


def keep(image: Image.Image) -> Image.Image:
    return image


def scan(image: Image.Image) -> Image.Image:
    """Makes a face grey, a quarter smaller in its picture, and blurred by 3 of 200 px."""
    pixels = np.asarray(image.convert("L").convert("RGB"))
    margin = round(len(pixels) / 6)
    wide = Image.fromarray(np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="edge"))
    return wide.resize(image.size, Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(image.width * 3 / 200))


CHANGES = {"portraits": keep, "scanned": scan, UTKFACE: keep}


class Faces:
    """
    The faces of a kind to train on, and those to evaluate on.

    Args:
        data_dir: UTKFace.
        portraits: Portraits with ages and genders.
        limit: Largest number of faces to evaluate on.
    """

    def __init__(self, data_dir: str, portraits: str, limit: int):
        utkface = load_utkface(data_dir)
        others = load_utkface(portraits, validation_share=0.0, test_share=0.25)
        self.pools = {"portraits": find_exact(others["train"]), "scanned": utkface["train"]}
        held_out = {"portraits": find_exact(others["test"]), "scanned": utkface["validation"]}
        held_out[UTKFACE] = utkface["validation"]
        self.held_out = {kind: draw(images, limit) for kind, images in held_out.items()}

    def write(self, kind: str, size: int, folder: Path) -> int:
        """Writes faces to train on as a table; returns how many they are."""
        images = draw(self.pools[kind], size)
        table = {
            "image": [CHANGES[kind](row["image"].convert("RGB")) for row in images],
            "age": images["age"],
            "gender": images["gender"],
            "file_name": [f"{kind}-{number}" for number in range(len(images))],
        }
        features = datasets.Features(
            {"image": datasets.Image(), "age": datasets.Value("float64"), "gender": datasets.Value("int64")}
            | {"file_name": datasets.Value("string")}
        )
        folder.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_dict(table, features=features).to_parquet(folder / "faces.parquet")
        return len(images)

    def predict(self, model_folder: str, kinds: list[str]) -> dict:
        """Returns a model's predictions for the faces to evaluate on, by kind."""
        model, processor = load_model(model_folder)
        model, accelerator = model.to(memory_format=torch.channels_last), Accelerator(cpu=True, mixed_precision="bf16")
        loaders = {
            kind: make_evaluation_dataloader(self.held_out[kind], ChangedImages(processor, CHANGES[kind]), 50, 0)
            for kind in kinds
        }
        return {kind: compute_predictions(model, loader, accelerator) for kind, loader in loaders.items()}


def find_exact(images: datasets.Dataset) -> datasets.Dataset:
    """Returns the images whose age and gender are known."""
    known = [age is not None and gender is not None for age, gender in zip(images["age"], images["gender"])]
    return images.select(np.flatnonzero(known))


def draw(images: datasets.Dataset, count: int) -> datasets.Dataset:
    return images.select(np.random.default_rng(0).permutation(len(images))[:count])


def fine_tune(model: str, folder: Path):
    """Runs train.py with its default arguments; bf16 only saves time. A stopped training continues."""
    command = [sys.executable, str(ROOT / "train.py"), "--model", model, "--data_dir", str(folder / "faces.parquet")]
    command += ["--output_dir", str(folder / "run"), "--mixed_precision", "bf16", "--resume_from_checkpoint", "latest"]
    with open(folder / "log", "a", encoding="utf-8") as log:
        subprocess.run(
            command, stdout=log, stderr=log, check=True, cwd=ROOT, env=os.environ | {"PYTHONUNBUFFERED": "1"}
        )


def measure(faces: Faces, arguments, kind: str, size: int, before: dict) -> dict:
    """Trains and evaluates one cell of the table, or reads its earlier result."""
    folder = arguments.work_dir / f"{kind}-{size}"
    if (folder / "result.json").exists():
        return json.loads((folder / "result.json").read_text(encoding="utf-8"))
    images = faces.write(kind, size, folder)
    fine_tune(arguments.model, folder)
    after = faces.predict(str(folder / "run"), [kind, UTKFACE])
    training = json.loads((folder / "run" / "train_results.json").read_text(encoding="utf-8"))
    result = {
        "kind": kind,
        "images": images,
        "split_images": training["split_images"],
        "best_epoch": training["best_epoch"],
        "training_seconds": training["training_seconds"],
        "own": compare_errors(before[kind], after[kind]),
        UTKFACE: compare_errors(before[UTKFACE], after[UTKFACE]),
    }
    write_json(folder / "result.json", result)
    return result


def main():
    parser = make_parser(__doc__)
    parser.add_argument("--data_dir", required=True, help="UTKFace: folder, archive, Parquet folder or data set id.")
    parser.add_argument("--portraits", required=True, help="Other faces with ages and genders, in the same forms.")
    parser.add_argument("--work_dir", type=Path, default=Path("runs/fine_tuning"), help="Folder of the trainings.")
    parser.add_argument("--limit", type=int, default=940, help="Largest number of faces to evaluate on, of each kind.")
    arguments = parser.parse_args()
    faces = Faces(arguments.data_dir, arguments.portraits, arguments.limit)
    before = faces.predict(arguments.model, list(CHANGES))
    cells = [(kind, min(size, len(faces.pools[kind]))) for size in SIZES for kind in faces.pools]
    results = {
        "held_out": {kind: len(images) for kind, images in faces.held_out.items()},
        "weights_sha256": compute_weights_sha256(arguments.model),
        **describe_machine(),
        "trainings": [],
    }
    for kind, size in cells:
        results["trainings"].append(measure(faces, arguments, kind, size, before))
        report(results, arguments.output)


if __name__ == "__main__":
    run(main)
