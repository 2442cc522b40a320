"""The command of predict.py and its tables."""

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from photos.table_parts import FACE_COLUMNS


NUMBERS = {"age", "age_low", "age_high", "gender_score", "detection_score"}
BROKEN = "sub/broken.jpg"  # the picture that cannot be read


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
