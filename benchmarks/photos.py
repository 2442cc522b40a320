"""
Measures photos per second from the file to the answer, and faces per second of the network alone: CPU seconds of one thread.

    python -m benchmarks.photos --output benchmarks/photos.json

The photos, by default the page's examples, are read as they are, and enlarged to the size of a phone's. Other processes lengthen CPU
seconds less than those of the clock. The median of all rounds counts.
"""

import io
import statistics
import time
from collections.abc import Callable

import torch
from PIL import Image

from benchmarks.reporting import ROOT, make_parser, report
from data.sources import Source
from hub.errors import run
from hub.loading import load_pipeline
from metrics.results import compute_weights_sha256, describe_machine, name_data
from pipeline_agegender import AgeGenderPipeline


BATCH_SIZE = 8
PHONE = (4000, 3000)


def enlarge(content: bytes) -> bytes:
    """Returns a photo as a JPEG of as many pixels as `PHONE` has, with its own sides' ratio."""
    image, enlarged = Image.open(io.BytesIO(content)).convert("RGB"), io.BytesIO()
    factor = (PHONE[0] * PHONE[1] / (image.width * image.height)) ** 0.5
    size = (round(factor * image.width), round(factor * image.height))
    image.resize(size, Image.Resampling.BICUBIC).save(enlarged, "JPEG", quality=90)
    return enlarged.getvalue()


def time_work(work: Callable[[], object], rounds: int) -> float:
    """Returns the median of the CPU seconds that a call takes, after one to warm up."""
    work()
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)


def measure_photos(pipe: AgeGenderPipeline, contents: list[bytes], rounds: int) -> dict:
    """Returns the size of photos and how many of them, and of their faces, are answered in a second."""
    megapixels = [image.width * image.height / 1e6 for image in map(Image.open, map(io.BytesIO, contents))]
    faces = sum(map(len, pipe(contents, batch_size=BATCH_SIZE)))
    seconds = time_work(lambda: pipe(contents, batch_size=BATCH_SIZE), rounds)
    return {
        "photos": len(contents),
        "faces": faces,
        "mean_megapixels": round(statistics.mean(megapixels), 2),
        "photos_per_second": round(len(contents) / seconds, 2),
        "faces_per_second": round(faces / seconds, 2),
    }


@torch.no_grad()
def main():
    parser = make_parser(__doc__)
    parser.add_argument("--data_dir", default=str(ROOT / "assets" / "portraits"), help="Photos, as for predict.py.")
    parser.add_argument("--rounds", type=int, default=9, help="Measurements, of which the median counts. Default: 9.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pipe = load_pipeline(arguments.model)
    contents = [entry.read() for entry in Source(arguments.data_dir, labelled=False).entries()]
    side = pipe.model.config.image_size
    batch = torch.randn(BATCH_SIZE, 3, side, side)
    results = {
        "data_dir": name_data(arguments.data_dir),
        "batch_size": BATCH_SIZE,
        "network_faces_per_second": round(BATCH_SIZE / time_work(lambda: pipe.model(batch), arguments.rounds), 1),
        "as_they_are": measure_photos(pipe, contents, arguments.rounds),
        "enlarged": measure_photos(pipe, list(map(enlarge, contents)), arguments.rounds),
        "threads": 1,
        "weights_sha256": compute_weights_sha256(arguments.model),
        **describe_machine(),
    }
    report(results, arguments.output)


if __name__ == "__main__":
    run(main)
