"""
Measures the speed and memory of `predict.py` on a film of a portrait that moves, and of writing the annotated film.

    python -m benchmarks.films --minutes 60 --output benchmarks/films.json
    python -m benchmarks.films --minutes 0.17 --size 1280 720 --suffix .mp4
"""

import math
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from PIL import Image

from benchmarks.labelling import summarize, watch
from benchmarks.reporting import ROOT, make_parser, report
from metrics.results import compute_weights_sha256, describe_machine


PORTRAIT = ROOT / "assets" / "portraits" / "jeanette-epps.jpg"


def write_film(file: Path, minutes: float, rate: float, size: tuple[int, int]):
    """Writes a film (MPEG-4 Part 2) of a portrait, three quarters as high as the frame, that goes from side to side."""
    width, height = size
    portrait = Image.open(PORTRAIT).convert("RGB")
    portrait = portrait.resize((round(portrait.width * 0.75 * height / portrait.height), round(0.75 * height)))
    pixels = np.asarray(portrait)[:, :, ::-1]
    writer = cv2.VideoWriter(str(file), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"mp4v"), rate, size)
    for number in range(round(60 * minutes * rate)):
        frame = np.full((height, width, 3), 128, np.uint8)
        left = round((width - portrait.width) * (0.5 + 0.5 * math.sin(number / rate)))
        frame[height // 8 : height // 8 + portrait.height, left : left + portrait.width] = pixels
        writer.write(frame)
    writer.release()


def main():
    parser = make_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="Minutes of the film.")
    parser.add_argument("--rate", type=float, default=25.0, help="Frames a second of the film.")
    parser.add_argument("--size", type=int, nargs=2, default=[640, 360], help="Width and height in pixels.")
    parser.add_argument("--frames_per_second", type=float, default=5.0, help="As in predict.py.")
    parser.add_argument("--suffix", default=".webm", help="Of the annotated film. Default: .webm.")
    parser.add_argument("--seconds_between", type=float, default=1.0, help="Seconds between samples of the memory.")
    arguments = parser.parse_args()
    frames = round(60 * arguments.minutes * arguments.frames_per_second)
    pictures_per_part = min(200, -(-frames // 10))
    with TemporaryDirectory() as name:
        film, table = Path(name, "film.mp4"), Path(name, "faces.parquet")
        write_film(film, arguments.minutes, arguments.rate, tuple(arguments.size))
        command = [sys.executable, "predict.py", "--model", arguments.model, "--data_dir", str(film)]
        command += ["--output", str(table), "--annotated_video", str(Path(name, f"annotated{arguments.suffix}"))]
        command += ["--frames_per_second", str(arguments.frames_per_second)]
        command += ["--pictures_per_part", str(pictures_per_part)]
        parts = table.with_name(f"{table.name}.parts")
        samples, seconds = watch(command, parts, pictures_per_part, arguments.seconds_between)
    labelling = [sample for sample in samples if sample["pictures"] < frames]
    writing = [sample for sample in samples if sample["pictures"] >= frames]
    figures = {name: getattr(arguments, name) for name in ("minutes", "rate", "size", "frames_per_second", "suffix")}
    figures |= {
        "frames_read": frames,
        "seconds": round(seconds, 1),
        "seconds_of_writing": round(seconds - writing[0]["seconds"], 1),
        "mib_of_writing_at_most": max(sample["mib"] for sample in writing),
        **summarize(labelling),
        # At most a hundred samples, enough for a curve.
        "over_time": samples[:: -(-len(samples) // 100)],
        "weights_sha256": compute_weights_sha256(arguments.model),
        **describe_machine(),
    }
    if len(labelling) > 1:
        pictures = labelling[-1]["pictures"] - labelling[0]["pictures"]
        figures["frames_a_second"] = round(pictures / (labelling[-1]["seconds"] - labelling[0]["seconds"]), 2)
    report(figures, arguments.output)


if __name__ == "__main__":
    main()
