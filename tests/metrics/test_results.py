"""Metadata and formatting of the results JSON."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from metrics.results import describe_cpu, format_hardware, format_value, name_count, name_data, write_json


ROOT = Path(__file__).parents[2]
CPU_INFO = """processor	: 0
vendor_id	: AuthenticAMD
cpu family	: 25
model		: 17
model name	: AMD EPYC
flags		: fpu avx avx2 avx512f avx512_bf16 fsrm
"""


def test_cpu_is_described_beyond_its_name(tmp_path, monkeypatch):
    file = tmp_path / "cpuinfo"
    file.write_text(CPU_INFO)
    monkeypatch.setattr("metrics.results.Path", lambda path: file)
    cpu = describe_cpu()
    assert cpu["cpu"] == "AMD EPYC" and cpu["cpu_flags"] == ["avx2", "avx512f", "avx512_bf16"]
    assert format_hardware(cpu | {"cpu_cores": 2}) == (
        "2 cores of AMD EPYC (family 25, model 17, avx2, avx512f, avx512_bf16)"
    )


@pytest.mark.parametrize(
    ("hardware", "text"),
    [
        ({"cpu": "AMD EPYC", "cpu_cores": 2}, "2 cores of AMD EPYC"),  # as earlier versions wrote it
        ({"cpu": "AMD EPYC", "cpu_cores": 16, "gpu": "NVIDIA H100"}, "NVIDIA H100"),
    ],
)
def test_hardware_in_words(hardware, text):
    assert format_hardware(hardware) == text


@pytest.mark.processes
def test_import_is_light():
    code = "import sys, metrics.results; sys.exit(bool({'torch', 'datasets', 'numpy'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_json_has_null_for_what_has_no_value(tmp_path):
    file = tmp_path / "new" / "results.json"
    write_json(file, {"rows": [{"mae": float("nan")}, {"mae": 4.5}], "range": (0.0, float("inf"))})
    assert json.loads(file.read_text()) == {"rows": [{"mae": None}, {"mae": 4.5}], "range": [0.0, None]}


def test_values_in_words(tmp_path):
    assert [format_value(value, ".1%") for value in (0.5, None, float("nan"))] == ["50.0%", "–", "–"]
    assert [name_count(count, "file") for count in (1, 1000)] == ["1 file", "1,000 files"]
    assert [name_data(str(tmp_path)), name_data("user/data")] == [tmp_path.name, "user/data"]
    assert name_data(str(tmp_path / "*.jpg")) == "*.jpg"
