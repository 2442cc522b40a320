"""
Measures the speed and memory of `predict.py` on a large number of images, made by repeating real ones.

    python -m benchmarks.labelling --output benchmarks/labelling.json
    python -m benchmarks.labelling --data_dir UTKFace.tar.gz --num_images 1000 --num_processes 2 --output labelling.json
"""

import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq

from benchmarks.reporting import ROOT, make_parser, report
from data.sources import Source
from metrics.results import compute_weights_sha256, describe_machine


def repeat_images(data_dir: str, num_different: int, num_images: int, folder: Path) -> int:
    """Fills a folder with links to the first images of a source, in turns; returns the number of different images."""
    originals = folder / "originals"
    originals.mkdir(parents=True)
    files = []
    for entry in islice(Source(data_dir, labelled=False).entries(), num_different):
        file = originals / f"{len(files)}{Path(entry.name).suffix or '.jpg'}"
        file.write_bytes(entry.read())
        files.append(file)
    for index in range(num_images):
        original = files[index % len(files)]
        link = folder / "photos" / f"{index // 1000:03d}" / f"{index:06d}{original.suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(original)
    return len(files)


def read_memory(pid: int) -> float:
    """Returns the resident memory of a process and its children in MiB, without mapped files."""
    total = 0
    try:
        total += int(Path(f"/proc/{pid}/status").read_text(encoding="utf-8").split("RssAnon:")[1].split()[0]) / 1024
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            total += sum(read_memory(int(child)) for child in children.read_text(encoding="utf-8").split())
    except (OSError, IndexError):  # The process ended meanwhile.
        pass
    return total


def watch(command: list[str], parts: Path, pictures_per_part: int, seconds_between: float) -> tuple[list[dict], float]:
    """
    Runs a labelling and samples its progress and memory.

    Args:
        parts: Folder of the parts.
        seconds_between: Seconds between two samples.

    Returns:
        The samples: seconds since the start, pictures in written parts and memory in MiB; and the seconds of the whole run.

    Raises:
        RuntimeError: if the labelling fails.
    """
    start, samples = time.perf_counter(), []
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    while True:
        try:
            process.wait(timeout=seconds_between)
            break
        except subprocess.TimeoutExpired:
            pass
        try:
            pictures = pictures_per_part * sum(1 for _ in parts.glob("part-*.json"))
        except OSError:  # The parts were deleted meanwhile.
            pictures = 0
        if pictures:
            seconds = round(time.perf_counter() - start, 1)
            samples.append({"seconds": seconds, "pictures": pictures, "mib": round(read_memory(process.pid), 1)})
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}.")
    return samples, time.perf_counter() - start


def check_table(file: Path, num_different: int, num_images: int) -> dict:
    """Counts the rows of a table, and checks that all repetitions of an image are there with the same faces."""
    rows_by_image = {}
    rows = pq.read_table(file).to_pylist()
    for row in rows:
        rows_by_image.setdefault(int(Path(row.pop("file")).stem), []).append((row["face"], row["xmin"], row["ymin"]))
    different = {(index % num_different, tuple(found)) for index, found in rows_by_image.items()}
    repeated = Counter(index % num_different for index in rows_by_image)
    return {
        "faces": len(rows),
        "images_with_faces": len(rows_by_image),
        "repetitions_have_the_same_faces": len(different) == len(repeated)
        and all(count == len(range(index, num_images, num_different)) for index, count in repeated.items()),
    }


def summarize(samples: list[dict]) -> dict:
    """Returns the median memory of the first and of the last quarter of the samples, and the maximum, in MiB."""
    if len(samples) < 8:
        return {}
    quarter = len(samples) // 4
    memory = [sample["mib"] for sample in samples]  # It rises and falls with each picture.
    early, late = statistics.median(memory[:quarter]), statistics.median(memory[-quarter:])
    return {
        "mib_of_first_quarter": early,
        "mib_of_last_quarter": late,
        "ratio": round(late / early, 3),
        "mib_at_most": max(memory),
    }


def main():
    parser = make_parser(__doc__)
    parser.add_argument("--data_dir", default=str(ROOT / "assets" / "*t.jpg"), help="Images to repeat.")
    parser.add_argument("--num_different", type=int, default=1000, help="Number of different images, the first ones.")
    parser.add_argument("--num_images", type=int, default=100_000, help="Number of images to label.")
    parser.add_argument("--num_processes", type=int, default=1, help="Number of processes on a CPU.")
    parser.add_argument("--per_device_eval_batch_size", type=int, default=64, help="As in predict.py.")
    parser.add_argument("--pictures_per_part", type=int, default=200, help="As in predict.py.")
    parser.add_argument("--seconds_between", type=float, default=10.0, help="Seconds between samples of the memory.")
    arguments = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        num_different = repeat_images(arguments.data_dir, arguments.num_different, arguments.num_images, folder)
        table = folder / "faces.parquet"
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(arguments.num_processes)]
        command = [sys.executable, *(launcher if arguments.num_processes > 1 else []), "predict.py"]
        command += ["--model", arguments.model, "--data_dir", str(folder / "photos"), "--output", str(table)]
        for option in ("per_device_eval_batch_size", "pictures_per_part"):
            command += [f"--{option}", str(getattr(arguments, option))]
        parts = table.with_name(f"{table.name}.parts")
        samples, seconds = watch(command, parts, arguments.pictures_per_part, arguments.seconds_between)
        figures = {
            "data_dir": Path(arguments.data_dir).name,
            "images": arguments.num_images,
            "different_images": num_different,
            "processes": arguments.num_processes,
            "seconds": round(seconds, 1),
            "images_per_second": round(arguments.num_images / seconds, 1),
            **check_table(table, num_different, arguments.num_images),
            **summarize(samples),
            # At most a hundred samples, enough for a curve.
            "over_time": samples[:: -(-len(samples) // 100) or 1],
            "weights_sha256": compute_weights_sha256(arguments.model),
            **describe_machine(),
        }
    report(figures, arguments.output)


if __name__ == "__main__":
    main()
