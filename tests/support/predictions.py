"""The command of predict.py, also in processes that are killed, and its tables."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from photos.table_parts import FACE_COLUMNS
from tests.support.training import ROOT


NUMBERS = {"age", "age_low", "age_high", "gender_score", "detection_score"}
BROKEN = "sub/broken.jpg"  # the picture that cannot be read
# Runs the command once for each moment, in a process that kills itself at that call of a function.
KILLED = """
import json, os, shutil, signal, sys
from pathlib import Path
import predict

def kill_at(module, name, call):
    replaced, calls = getattr(module, name), []
    def count(*arguments, **options):
        calls.append(name)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return replaced(*arguments, **options)
    setattr(module, name, count)

folder, moments, sys.argv = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
for module, name, call in moments:
    child = os.fork()
    if child == 0:
        kill_at(sys.modules[module], name, call)
        predict.main()
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps([code, {file.name: file.stat().st_mtime_ns for file in folder.glob("part-*.json")}]))
"""


def make_command(model_folder: Path, data_dir: str, output: Path, *words: str) -> list[str]:
    return ["predict.py", "--model", str(model_folder), "--data_dir", data_dir, "--output", str(output), *words]


def read_rows(file: Path) -> list[dict]:
    if file.suffix == ".parquet":
        return pq.read_table(file).to_pylist()
    with file.open(encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    text = {"file", "gender", "smoothed_gender", "error"}
    return [{key: value if key in text else json.loads(value or "null") for key, value in row.items()} for row in rows]


def assert_same_rows(rows: list[dict], expected: list[dict]):
    """Compares rows; numbers may differ by rounding, as batches differ."""
    assert [tuple(row) for row in rows] == [FACE_COLUMNS] * len(expected)
    for row, other in zip(rows, expected):
        for name in FACE_COLUMNS:
            wanted = other[name]
            assert row[name] == (pytest.approx(wanted, abs=0.11) if name in NUMBERS and wanted else wanted), row


def list_unreadable(tmp_path: Path, output: str = "faces.parquet") -> dict[str, str]:
    file = tmp_path / f"{output}.unreadable.csv"
    return {row["file"]: row["error"] for row in read_rows(file)} if file.exists() else {}


def start_python(*words: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500
    )


def run_killed(moments: list[tuple[str, str, int]], output: Path, command: list[str]) -> list[dict[str, int]]:
    """
    Runs the command of predict.py once for each moment, in a process that kills itself then.

    Args:
        moments: Module, name of its function, and the number of the call before which the process ends.

    Returns:
        For each moment the parts that are there then, by name, with their times of change.
    """
    ended = start_python("-c", KILLED, f"{output}.parts", json.dumps(moments), *command)
    assert ended.returncode == 0, ended.stderr
    codes, parts = zip(*map(json.loads, ended.stdout.splitlines()))
    assert set(codes) == {-9}, ended.stderr
    return parts
