"""
Kills a small training again and again (kill -9) and looks whether it ends as if nothing had happened.

    python benchmarks/recovery.py --output benchmarks/recovery.json

Each attempt goes on with `--resume_from_checkpoint latest` where the one before was killed; when a training reaches its
end, its weights and history are compared with those of an uninterrupted run, bit for bit, and the next one starts. After
each kill all checkpoints are read in full. Attempts are forked, so that no kill is spent on imports.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path


os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Else the last bit of a matrix product hangs on where in memory the weights lie, another place after loading.
os.environ.setdefault("MKL_CBWR", "COMPATIBLE")

import datasets  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402


ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import train  # noqa: E402
from checkpoints import find_checkpoints, is_whole  # noqa: E402
from results import describe_machine, write_json  # noqa: E402
from training_setup import NETWORK, assert_same_end, make_command, write_faces  # noqa: E402


OPTIONS = {"num_train_epochs": 4, "checkpointing_steps": 3, "checkpoints_total_limit": 2, "validation_share": 0.2}
IMAGES = 120
# How many kills at each of the moments, which `wait_for` explains.
MOMENTS = {"building data": 4, "anywhere": 6, "writing a checkpoint": 6, "after a checkpoint": 4}


def start_attempt(folder: Path, output_dir: Path, cache: Path) -> int:
    """A training in a child of this process, printing to a file; its process id."""
    child = os.fork()
    if child:
        return child
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 1
    try:
        datasets.config.HF_DATASETS_CACHE = cache
        options = OPTIONS | {"resume_from_checkpoint": "latest"}
        sys.argv = ["train.py", *make_command(folder / "faces", folder / "tiny.json", output_dir, **options)]
        train.main()
        code = 0
    finally:
        sys.stdout.flush()
        os._exit(code)


def has_ended(child: int) -> bool:
    """True once a child is dead or done; it stays a zombie until waited for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def wait_until(child: int, condition: Callable[[], bool]) -> bool:
    """Looks twice a millisecond whether a condition holds; False if the child ends before."""
    while not condition():
        if has_ended(child):
            return False
        time.sleep(0.0005)
    return True


def wait_for(moment: str, child: int, output_dir: Path, cache: Path, seconds: float, generator: random.Random) -> bool:
    """
    Waits for the moment of a kill.

    Args:
        moment: `building data`: up to 0.1 s after the data set's folder appears in the cache; `anywhere`: up to `seconds`
            after the start; `writing a checkpoint`: up to 0.05 s after its unfinished folder appears; `after a checkpoint`:
            up to 0.02 s after one gets its name, when older ones are deleted.
        child: The training.
        output_dir: Of the training.
        cache: Of `datasets`.
        seconds: That an uninterrupted training takes.
        generator: Draws the delay.

    Returns:
        False if the training ends before.
    """
    before = set(find_checkpoints(output_dir))
    condition, delay = {
        "building data": (lambda: any(cache.rglob("*.incomplete")), 0.1),
        "anywhere": (lambda: True, seconds),
        "writing a checkpoint": ((output_dir / "checkpoints" / "partial").is_dir, 0.05),
        "after a checkpoint": (lambda: not set(find_checkpoints(output_dir)) <= before, 0.02),
    }[moment]
    if not wait_until(child, condition):
        return False
    end = time.monotonic() + generator.uniform(0, delay)
    return wait_until(child, lambda: time.monotonic() >= end)


def read_in_full(checkpoint: Path):
    """Reads all tensors and states of a checkpoint; raises if it cannot."""
    for file in checkpoint.rglob("*"):
        if file.suffix == ".safetensors":
            load_file(file)
        elif file.suffix in (".bin", ".pkl"):
            torch.load(file, weights_only=False)


def describe_kill(moment: str, output_dir: Path, cache: Path, seconds: float) -> dict:
    """What a kill left behind."""
    checkpoints = find_checkpoints(output_dir)
    for checkpoint in checkpoints.values():
        if is_whole(checkpoint):
            read_in_full(checkpoint)
    return {
        "moment": moment,
        "seconds_after_start": round(seconds, 3),
        "checkpoints": list(checkpoints),
        "not_whole": [number for number, checkpoint in checkpoints.items() if not is_whole(checkpoint)],
        "unfinished_folder": (output_dir / "checkpoints" / "partial").is_dir(),
        "unfinished_data": any(cache.rglob("*.incomplete")),
    }


def run_kills(folder: Path, moments: list[str], seconds: float, seed: int) -> tuple[list[dict], int]:
    """One kill at each moment, in order; what they left, and how many trainings came to their end and were compared."""
    generator, kills, compared = random.Random(seed), [], 0
    output_dir, cache = folder / "killed", folder / "cache"
    while True:
        moment = moments[len(kills)] if len(kills) < len(moments) else None
        if moment == "building data" and output_dir.exists():
            moment = None  # the killed training first goes on to its end
        elif moment == "building data":
            shutil.rmtree(cache)
        child, start = start_attempt(folder, output_dir, cache), time.monotonic()
        due = moment and wait_for(moment, child, output_dir, cache, seconds, generator)
        if due:
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        log = (folder / "log").read_text()
        if code == -signal.SIGKILL:
            kills.append(describe_kill(moment, output_dir, cache, time.monotonic() - start))
            print(json.dumps(kills[-1]), flush=True)
            continue
        if code != 0:
            raise ValueError(f"After {len(kills)} kills the training did not go on:\n{log}")
        assert_same_end(folder / "whole", output_dir)
        compared += 1
        if moment == "anywhere":
            seconds = min(seconds, time.monotonic() - start)  # the machine is faster than before
        shutil.rmtree(output_dir)
        if len(kills) == len(moments):
            return kills, compared


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    torch.set_num_threads(1)
    moments = [moment for moment, count in MOMENTS.items() for _ in range(count)]
    random.Random(arguments.seed).shuffle(moments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_faces(folder / "faces", IMAGES, test_count=3)
        (folder / "tiny.json").write_text(json.dumps(NETWORK))
        start = time.monotonic()
        code = os.waitstatus_to_exitcode(os.waitpid(start_attempt(folder, folder / "whole", folder / "cache"), 0)[1])
        if code:
            raise ValueError(f"The uninterrupted training failed:\n{(folder / 'log').read_text()}")
        seconds = time.monotonic() - start
        kills, compared = run_kills(folder, moments, seconds, arguments.seed)
    results = {
        "seed": arguments.seed,
        "kills": len(kills),
        "trainings_that_ended_as_the_uninterrupted_one": compared,
        "seconds_of_the_uninterrupted_one": round(seconds, 1),
        "each": kills,
        **describe_machine(),
    }
    print(f"{len(kills)} kills; {compared} trainings ended with the weights and history of an uninterrupted one.")
    if arguments.output:
        write_json(arguments.output, results)
        print(f"Wrote {arguments.output}")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
