"""Metadata and formatting of the results JSON. Importing this module loads neither torch nor datasets."""

import hashlib
import json
import math
import os
import platform
from datetime import date
from importlib.metadata import version
from pathlib import Path


GENDERS = ("male", "female")  # the labels 0 and 1
ADULT_AGES = (21, 60)  # years, the range of the published protocol on UTKFace (CORAL, MWR, MiVOLO)
CONFIDENCE = 0.95  # of the interval of an estimate
INTERVAL_COVERAGE = 0.9  # the share of labels that an age interval is meant to contain
AGE_THRESHOLDS = (13, 16, 18, 21, 25)  # years at which the probabilities of being at least so old are calibrated
FEW_IMAGES = 200  # with fewer, errors by age and curves are rough
ADULT_AGE = 18  # years, the age that a line is to tell
LEAST_PROBABILITY = 0.95  # of being at least so old, for the rule of age thresholds that asks for it
PATH_ARGUMENTS = {"model", "config", "data_dir", "output_dir", "extra_data", "teacher", "resume_from_checkpoint"}
PACKAGES = ("torch", "transformers", "datasets", "accelerate", "evaluate", "kornia")
CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_bf16", "amx_int8", "sve")
# A note on CS@5 for models that answer with the median of a distribution over whole years.
WHOLE_YEARS = (
    "Ages are whole years, like the labels: eleven of them lie within five years of a label. Of answers with fractions of "
    "a year, as other models give, ten do."
)


def describe_cpu() -> dict:
    """Returns the CPU's name and cores; on Linux also family, model and instruction sets, which the name may hide."""
    described = {"cpu": platform.processor() or platform.machine(), "cpu_cores": os.cpu_count()}
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        pairs = (line.partition(":") for line in cpu_info.read_text(encoding="utf-8").splitlines())
        info = {key.strip(): value.strip() for key, _, value in pairs}
        described["cpu"] = info.get("model name", described["cpu"])
        described |= {f"cpu_{key.split()[-1]}": info[key] for key in ("cpu family", "model") if key in info}
        flags = info.get("flags", info.get("Features", "")).split()
        described["cpu_flags"] = [flag for flag in CPU_FLAGS if flag in flags]
    return described


def describe_machine() -> dict:
    """Returns `date`, `hardware` and `versions`, on which a result depends besides the command."""
    import torch  # only here, see above

    hardware = describe_cpu()
    if torch.cuda.is_available():
        hardware["gpu"] = torch.cuda.get_device_name()
    return {
        "date": date.today().isoformat(),
        "hardware": hardware,
        "versions": {"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
    }


def format_hardware(hardware: dict) -> str:
    """Returns the GPU, or the CPU's cores and name with the details that `describe_cpu` found."""
    if "gpu" in hardware:
        return hardware["gpu"]
    details = [f"{key} {hardware[f'cpu_{key}']}" for key in ("family", "model") if f"cpu_{key}" in hardware]
    details += hardware.get("cpu_flags", [])
    return f"{hardware['cpu_cores']} cores of {hardware['cpu']}" + (f" ({', '.join(details)})" if details else "")


def name_data(data_dir: str) -> str:
    """Returns the name of a local file, folder or pattern without its path; a Hub id stays as it is."""
    path = Path(data_dir)
    return path.resolve().name if path.exists() or path.is_absolute() else data_dir


def name_paths(values: dict) -> dict:
    """Returns the arguments with local files and folders by name only (`name_data`)."""
    named = {}
    for key in PATH_ARGUMENTS & values.keys():
        value = values[key]
        named[key] = [name_data(item) for item in value] if isinstance(value, list) else value and name_data(value)
    return values | named


def compute_weights_sha256(folder: Path) -> str | None:
    """Returns the SHA-256 of a model folder's weights, or None if the folder has none (a Hub id, for example)."""
    file = Path(folder) / "model.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def write_json(file: Path, values: dict):
    """Writes results as JSON; NaN and infinities become null."""

    def replace(value):
        if isinstance(value, dict):
            return {key: replace(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [replace(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(replace(values), indent=2, ensure_ascii=False, allow_nan=False)
    file.write_text(f"{text}\n", encoding="utf-8")


def is_measured(value: float | None) -> bool:
    """Returns whether a metric has a value: it is NaN, or null in JSON, if no image has the label."""
    return value is not None and math.isfinite(value)


def format_value(value: float | None, style: str) -> str:
    """Returns a metric as a table cell, a dash if it has no value."""
    return format(value, style) if is_measured(value) else "–"


def make_estimate(value: float, low: float = math.nan, high: float = math.nan) -> dict:
    """Returns a figure with the ends of its interval, to six decimals; what is not known is None."""
    figures = {"value": float(value), "low": float(low), "high": float(high)}
    return {name: round(figure, 6) if math.isfinite(figure) else None for name, figure in figures.items()}


def name_count(count: int, thing: str) -> str:
    """Returns a count with its noun: `1 file`, `1,000 files`."""
    return f"{count:,} {thing}" + ("" if count == 1 else "s")


def warn_of_few(num_images: int) -> str:
    """Returns a warning about results that rest on fewer than `FEW_IMAGES` images, "" if there are more."""
    images = f"errors by age and curves rest on {name_count(num_images, 'image')}"
    return f"Few images: {images}, so differences between them may be chance." if num_images < FEW_IMAGES else ""
