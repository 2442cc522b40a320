"""
Measures the CPU milliseconds that a face takes in one thread, in turn: the model, what the pipeline runs, and a ViT-B/16 at 224 px.

    python -m benchmarks.speed --output benchmarks/speed.json

The pipeline folds batch normalization (`torch`), or runs the model's ONNX file (`onnx`, where there is one). The ViT has random
weights. The median of the rounds counts.
"""

import statistics
import time
from pathlib import Path

import torch
from transformers import ViTConfig, ViTForImageClassification

from benchmarks.reporting import make_parser, report
from hub.errors import run
from hub.loading import load_pipeline
from metrics.results import compute_weights_sha256, describe_machine


BATCH_SIZES = (8, 1)
VIT = "vit_b16"


def time_face(network, pixel_values: torch.Tensor, repeats: int) -> float:
    """Returns the CPU milliseconds for an image of a batch."""
    start = time.process_time()
    for _ in range(repeats):
        network(pixel_values)
    return 1000 * (time.process_time() - start) / (repeats * len(pixel_values))


@torch.no_grad()
def main():
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="Measurements, of which the median counts. Default: 7.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pipe = load_pipeline(arguments.model)
    networks = {"model": pipe.model, "torch": pipe.network, VIT: ViTForImageClassification(ViTConfig()).eval()}
    if (Path(arguments.model) / "onnx" / "model.onnx").exists():
        networks["onnx"] = load_pipeline(arguments.model, backend="onnx").network
    measured = {}
    for batch_size in BATCH_SIZES:
        side = pipe.model.config.image_size
        batches = {name: torch.randn(batch_size, 3, side, side) for name in networks}
        batches[VIT] = torch.randn(batch_size, 3, 224, 224)
        rounds = []
        for number in range(arguments.rounds + 1):
            times = {name: time_face(network, batches[name], 16 // batch_size) for name, network in networks.items()}
            rounds += [times] if number else []  # the first one warms up
        measured[f"batch_{batch_size}"] = {
            name: round(statistics.median(times[name] for times in rounds), 2) for name in networks
        }
    results = {
        "cpu_milliseconds_per_face": measured,
        "threads": 1,
        "weights_sha256": compute_weights_sha256(arguments.model),
        **describe_machine(),
    }
    report(results, arguments.output)


if __name__ == "__main__":
    run(main)
