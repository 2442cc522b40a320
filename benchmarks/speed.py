"""
Measures faces per second of a model and of a ViT-B/16 with random weights at 224 px: fp32, batch 8, CPU, in alternation.

    python -m benchmarks.speed --model . --output benchmarks/speed.json
"""

import time
from pathlib import Path

import torch
from transformers import ViTConfig, ViTForImageClassification

from benchmarks.reporting import make_parser, report
from hub.errors import run
from hub.loading import load_model
from metrics.results import compute_weights_sha256, describe_machine


ROOT = Path(__file__).resolve().parent.parent
BATCH_SIZE = 8


@torch.no_grad()
def time_batch(model: torch.nn.Module, pixel_values: torch.Tensor, repeats: int) -> float:
    """Returns the mean seconds per batch over `repeats` passes, after one to warm up."""
    model(pixel_values=pixel_values)
    start = time.perf_counter()
    for _ in range(repeats):
        model(pixel_values=pixel_values)
    return (time.perf_counter() - start) / repeats


def main():
    parser = make_parser(__doc__)
    parser.add_argument(
        "--rounds", type=int, default=5, help="Measurements of each model, of which the fastest counts."
    )
    arguments = parser.parse_args()

    ours, processor = load_model(arguments.model)
    ours = ours.to(memory_format=torch.channels_last)
    height = processor.size["height"]
    ours_input = torch.randn(BATCH_SIZE, 3, height, height).contiguous(memory_format=torch.channels_last)
    vit = ViTForImageClassification(ViTConfig()).eval()
    vit_input = torch.randn(BATCH_SIZE, 3, 224, 224)
    seconds = [
        (
            time_batch(ours, ours_input, repeats=20),
            time_batch(ours, ours_input[:1], repeats=20),
            time_batch(vit, vit_input, repeats=2),
        )
        for _ in range(arguments.rounds)
    ]
    sizes = (BATCH_SIZE, 1, BATCH_SIZE)
    ours_rate, alone_rate, vit_rate = (size / min(column) for size, column in zip(sizes, zip(*seconds)))
    results = {
        "faces_per_second": round(ours_rate, 1),
        "faces_per_second_one_by_one": round(alone_rate, 1),
        "vit_b16_faces_per_second": round(vit_rate, 2),
        "ratio": round(ours_rate / vit_rate, 1),
        "threads": torch.get_num_threads(),
        "weights_sha256": compute_weights_sha256(arguments.model),
        **describe_machine(),
    }
    report(results, arguments.output)


if __name__ == "__main__":
    run(main)
