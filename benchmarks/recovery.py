"""
Kills a small training again and again (kill -9) and checks that it ends like an uninterrupted one.

    python -m benchmarks.recovery --output benchmarks/recovery.json

Each attempt resumes with `--resume_from_checkpoint latest` where the one before was killed. At the end of a training, its
weights and history are compared with those of an uninterrupted one, bit for bit, and the next training starts. To hit its
moment, a kill first stops the training (SIGSTOP) and checks its state. If the moment is over, the training continues.
After each kill, all checkpoints must be whole, and are read in full. Attempts are forked, so no kill is spent on imports.
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
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import datasets
import torch
from safetensors.torch import load_file

from benchmarks.reporting import make_parser, report
from metrics.results import describe_machine
from tests.support.processes import run_train_here
from tests.support.training import NETWORK, assert_same_end, make_command, write_faces
from training.checkpoints import DESCRIPTION_FILE, find_checkpoints, find_damage


os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Otherwise the last bit of a matrix product depends on the place of the weights in memory, which loading changes.
os.environ.setdefault("MKL_CBWR", "COMPATIBLE")


OPTIONS = {"num_train_epochs": 3, "checkpointing_steps": 3, "checkpoints_total_limit": 2, "validation_share": 0.2}
IMAGES = 120
# Attempts for each kill, killed or not.
ATTEMPTS_PER_KILL = 10


class Moment(NamedTuple):
    """
    A moment for kills.

    Args:
        kills: Number of kills.
        key: Key of `Attempt.inspect` whose value is true at this moment.
        delay: Longest time between the begin of the moment and the stop, as a share of the time of an uninterrupted
            training.
    """

    kills: int
    key: str
    delay: float


MOMENTS = {
    "building data": Moment(4, "unfinished_data", 0.04),
    "anywhere": Moment(6, "before_the_last_checkpoint", 1.0),
    "writing a checkpoint": Moment(6, "files_of_an_unfinished_checkpoint", 0.02),
    "deleting a checkpoint": Moment(4, "files_left_of_a_deleted_checkpoint", 0.01),
}


def start_attempt(folder: Path, output_dir: Path, cache: Path) -> int:
    """Starts a training in a child of this process that prints to a file; returns its process id."""
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
        run_train_here(make_command(folder / "faces", folder / "tiny.json", output_dir, **options))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def find_newest(output_dir: Path) -> int:
    """Returns the highest number of a checkpoint, -1 if there is none."""
    return max(find_checkpoints(output_dir), default=-1)


class Attempt:
    """
    A training that resumes where the one before was killed.

    Args:
        folder: Folder with the images and the network.
        output_dir: The `--output_dir`.
        cache: Cache of `datasets`.
    """

    def __init__(self, folder: Path, output_dir: Path, cache: Path):
        self.output_dir, self.cache = output_dir, cache
        self.partial = output_dir / "checkpoints" / "partial"
        self.start, self.start_ns = time.monotonic(), time.time_ns()
        self.child = start_attempt(folder, output_dir, cache)

    @property
    def seconds(self) -> float:
        """Returns the seconds since the start."""
        return time.monotonic() - self.start

    def has_ended(self) -> bool:
        """Returns whether the training has ended; it stays a zombie until `wait`."""
        return os.waitid(os.P_PID, self.child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def wait(self) -> int:
        """Returns the exit code, or minus the number of the signal that ended the training."""
        return os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])

    def wait_until(self, condition: Callable[[], bool]) -> bool:
        """Checks a condition twice a millisecond; returns False if the training ends before it holds."""
        while not condition():
            if self.has_ended():
                return False
            time.sleep(0.0005)
        return True

    def is_building(self) -> bool:
        return any(self.cache.rglob("*.incomplete"))

    def inspect(self, last: int) -> dict:
        """
        Describes the unfinished work of a stopped or killed training.

        Args:
            last: Number of the last checkpoint of an uninterrupted training.
        """
        checkpoints = find_checkpoints(self.output_dir)
        newest = max(((folder / DESCRIPTION_FILE).stat().st_ctime_ns for folder in checkpoints.values()), default=0)
        # The same folder serves for writing and for deleting. Files of a checkpoint that is being written are younger than
        # the newest whole one, those of one that is being deleted are older. Leftovers of the last attempt are neither.
        times = [path.stat().st_ctime_ns for path in self.partial.rglob("*") if path.is_file()]
        is_written = bool(times) and min(times) >= max(newest, self.start_ns)
        is_deleted = bool(times) and max(times) < newest and newest > self.start_ns
        return {
            "checkpoints": list(checkpoints),
            "unfinished_data": self.is_building(),
            "before_the_last_checkpoint": find_newest(self.output_dir) < last,
            "files_of_an_unfinished_checkpoint": len(times) * is_written,
            "files_left_of_a_deleted_checkpoint": len(times) * is_deleted,
        }

    def stop_at(self, moment: str, last: int, seconds: float, generator: random.Random) -> bool:
        """
        Stops the training at a moment. If the moment is over when the training stands still, waits for the next one.

        Args:
            moment: One of `MOMENTS`.
            last: As in `inspect`.
            seconds: Time of an uninterrupted training.
            generator: Draws the delay.

        Returns:
            False if the training ends before.
        """
        while True:
            newest = find_newest(self.output_dir)
            begun = {
                "building data": self.is_building,
                "anywhere": lambda: newest < last,
                "writing a checkpoint": self.partial.is_dir,
                "deleting a checkpoint": lambda: find_newest(self.output_dir) > newest,
            }[moment]
            if not self.wait_until(begun):
                return False
            # A resumed training has less before it than a whole one.
            left = (last - newest) / (last + 1) if moment == "anywhere" else 1
            end = time.monotonic() + generator.uniform(0, MOMENTS[moment].delay * seconds * left)
            if not self.wait_until(lambda: time.monotonic() >= end):
                return False
            os.kill(self.child, signal.SIGSTOP)
            os.waitid(os.P_PID, self.child, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            if self.has_ended():
                return False
            if self.inspect(last)[MOMENTS[moment].key]:
                return True
            os.kill(self.child, signal.SIGCONT)


def read_in_full(checkpoint: Path):
    """Reads all tensors and states of a checkpoint."""
    for file in checkpoint.rglob("*"):
        if file.suffix == ".safetensors":
            load_file(file)
        elif file.suffix in (".bin", ".pkl"):
            torch.load(file, weights_only=False)


def check_checkpoints(output_dir: Path):
    """Raises ValueError if a checkpoint is not whole, and passes on what reading it raises."""
    for checkpoint in find_checkpoints(output_dir).values():
        if damage := find_damage(checkpoint):
            raise ValueError(f"{checkpoint} is not whole: {damage} is missing or cut off.")
        read_in_full(checkpoint)


def run_kills(folder: Path, moments: list[str], seconds: float, seed: int) -> tuple[list[dict], int]:
    """Kills once at each moment, in order; returns the state after each kill and the number of compared killed trainings."""
    generator, kills, compared = random.Random(seed), [], 0
    output_dir, cache, last = folder / "killed", folder / "cache", find_newest(folder / "whole")
    killed = False
    for _ in range(ATTEMPTS_PER_KILL * len(moments)):
        moment = moments[len(kills)] if len(kills) < len(moments) else None
        if moment == "building data" and output_dir.exists():
            moment = None  # the killed training first runs to its end
        elif moment == "building data":
            shutil.rmtree(cache)
        attempt = Attempt(folder, output_dir, cache)
        try:
            met = moment and attempt.stop_at(moment, last, seconds, generator)
        except BaseException:
            os.kill(attempt.child, signal.SIGKILL)  # it may be stopped
            raise
        if met:
            os.kill(attempt.child, signal.SIGKILL)
        code, ended = attempt.wait(), round(attempt.seconds, 3)
        if code == -signal.SIGKILL:
            killed = True
            check_checkpoints(output_dir)
            kills.append({"moment": moment, "seconds_after_start": ended} | attempt.inspect(last))
            print(json.dumps(kills[-1]), flush=True)
            continue
        if code != 0:
            log = (folder / "log").read_text(encoding="utf-8")
            raise ValueError(f"After {len(kills)} kills the training did not resume:\n{log}")
        assert_same_end(folder / "whole", output_dir)
        if not killed:
            seconds = ended  # the machine may be faster or slower than it was
        compared, killed = compared + killed, False
        shutil.rmtree(output_dir)
        if len(kills) == len(moments):
            return kills, compared
    raise ValueError(f"Only {len(kills)} of {len(moments)} kills met their moment: give them other delays.")


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, with_model=False)
    parser.add_argument("--seed", type=int, default=0, help="Seed of the moments.")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    torch.set_num_threads(1)
    moments = [name for name, moment in MOMENTS.items() for _ in range(moment.kills)]
    random.Random(arguments.seed).shuffle(moments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_faces(folder / "faces", IMAGES, test_count=3)
        (folder / "tiny.json").write_text(json.dumps(NETWORK), encoding="utf-8")
        whole = Attempt(folder, folder / "whole", folder / "cache")
        if whole.wait() != 0:
            raise ValueError(f"The uninterrupted training failed:\n{(folder / 'log').read_text(encoding='utf-8')}")
        seconds = whole.seconds
        kills, compared = run_kills(folder, moments, seconds, arguments.seed)
        checkpoint = find_checkpoints(folder / "whole")[find_newest(folder / "whole")]
        num_files = sum(path.is_file() for path in checkpoint.rglob("*"))
    keys = [moment.key for moment in MOMENTS.values()]
    results = {
        "seed": arguments.seed,
        "kills": len(kills),
        "killed_trainings_that_ended_as_the_uninterrupted_one": compared,
        "kills_that_left": {key: sum(bool(kill[key]) for kill in kills) for key in keys},
        "seconds_of_the_uninterrupted_one": round(seconds, 1),
        "files_of_a_whole_checkpoint": num_files,
        "each": kills,
        **describe_machine(),
    }
    report(results, arguments.output)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
