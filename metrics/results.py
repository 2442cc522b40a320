"""What stands in the JSON files of results beside the numbers, and how these are written and shown."""

import hashlib
import json
import math
import os
import platform
from datetime import date
from importlib.metadata import version
from pathlib import Path


PATH_ARGUMENTS = {"model", "config", "data_dir", "output_dir", "extra_data", "teacher", "resume_from_checkpoint"}
PACKAGES = ("torch", "transformers", "datasets", "accelerate", "evaluate", "kornia")
# What is to be said of CS@5 where a model's answer is the median of a distribution over whole years.
WHOLE_YEARS = (
    "Ages are whole years, as labels are, and eleven of those lie within five years of one; of fractions of years, in which "
    "other models answer, ten do."
)


def describe_machine() -> dict:
    """What a result depends on beside the command: date, hardware and versions."""
    import torch  # only here: whoever reads or uploads results need not wait for it

    processor = platform.processor() or platform.machine()
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        names = [line.split(":")[1].strip() for line in cpu_info.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    hardware = {"cpu": processor, "cpu_cores": os.cpu_count()}
    if torch.cuda.is_available():
        hardware["gpu"] = torch.cuda.get_device_name()
    return {
        "date": date.today().isoformat(),
        "hardware": hardware,
        "versions": {"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
    }


def name_data(data_dir: str) -> str:
    """The name of a file or folder without the path, which says nothing elsewhere; a Hub id as it is."""
    return Path(data_dir).resolve().name if Path(data_dir).exists() else data_dir


def name_paths(values: dict) -> dict:
    """The arguments with files and folders by name alone, since their paths say nothing elsewhere."""
    named = {}
    for key in PATH_ARGUMENTS & values.keys():
        value = values[key]
        named[key] = [name_data(item) for item in value] if isinstance(value, list) else value and name_data(value)
    return values | named


def weights_sha256(folder: Path) -> str | None:
    """sha256 of the weights in a model folder; None where the model is no folder here but lies on the Hub."""
    file = Path(folder) / "model.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def write_json(file: Path, values: dict):
    """Writes results; a number that could not be measured (NaN), which JSON lacks, becomes null."""

    def replace(value):
        if isinstance(value, dict):
            return {key: replace(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [replace(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(replace(values), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def is_measured(value: float | None) -> bool:
    """False for a metric without an image that has the label: NaN, or null in JSON."""
    return value is not None and math.isfinite(value)


def format_value(value: float | None, style: str) -> str:
    """A metric for a table, a dash where it was not measured."""
    return format(value, style) if is_measured(value) else "–"


def name_count(count: int, thing: str) -> str:
    """A number of things in words: `1 file`, `1,000 files`."""
    return f"{count:,} {thing}" + ("" if count == 1 else "s")
