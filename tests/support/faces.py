"""Face data sets as people store them, from names and encoded images."""

import io
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
from PIL import Image

from data.labels import parse_file_name
from tests.support.picture_sources import write_tar, write_zip


def make_image(seed: int) -> Image.Image:
    """Returns an image unlike that of any other seed, smooth enough to stay a near-duplicate under JPEG."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((48, 48), Image.Resampling.BILINEAR)


def make_jpeg(seed: int, quality: int = 95, side: int = 48) -> bytes:
    stream = io.BytesIO()
    make_image(seed).resize((side, side)).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def make_name(index: int) -> str:
    return f"{1 + index % 90}_{index % 2}_{index % 5}_2017{index:013d}.jpg.chip.jpg"


def write_nested(path: Path, faces: dict[str, bytes]) -> Path:
    for index, (name, data) in enumerate(faces.items()):
        part = path / f"part{index % 3}"
        part.mkdir(parents=True, exist_ok=True)
        (part / name).write_bytes(data)
    return path


def write_parquet(path: Path, faces: dict[str, bytes]) -> Path:
    rows = [
        {"image": {"bytes": data, "path": name}, "file_name": name} | parse_file_name(name)
        for name, data in faces.items()
    ]
    path.mkdir()
    datasets.Dataset.from_list(rows).cast_column("image", datasets.Image()).to_parquet(path / "faces.parquet")
    return path


def within(write: Callable[[Path, dict], str]) -> Callable[[Path, dict], str]:
    """Wraps a writer so that all images lie in one folder, as in the archive of UTKFace."""
    return lambda path, faces: write(path, {f"UTKFace/{name}": data for name, data in faces.items()})


FORMS = [write_nested, within(write_tar), within(write_zip), write_parquet]


def make_table(seeds, **columns) -> datasets.Dataset:
    """Makes a table with an image for each seed, 30 years old unless a column gives another age."""
    columns = {"image": [make_image(seed) for seed in seeds], "age": [30.0] * len(seeds)} | columns
    features = {name: columns.pop(name) for name in list(columns) if isinstance(columns[name], datasets.ClassLabel)}
    table = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    for name, feature in features.items():
        table = table.add_column(name, list(range(len(feature.names))) * (len(seeds) // len(feature.names)))
        table = table.cast_column(name, feature)
    return table


def write_splits(path: Path, **tables: datasets.Dataset) -> Path:
    path.mkdir()
    for name, table in tables.items():
        table.to_parquet(path / f"{name}.parquet")
    return path
