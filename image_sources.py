"""Reads labelled pictures from what people have: folders, archives, Parquet files, data sets on the Hub."""

import hashlib
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import datasets


# UTKFace's own names end in the date and time of their making, to the millisecond.
UTKFACE_NAME = re.compile(r"\d+_\d_(\d_)?\d{17}\.jpg(\.chip\.jpg)?$")
SPLIT_NAMES = ("train", "validation", "test")
SPLIT_ALIASES = {"training": "train", "val": "validation", "valid": "validation", "dev": "validation"}
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


class Record(NamedTuple):
    """One image as a reader found it; `labels` and `split` where the source carries them beside the name."""

    name: str
    data: bytes
    labels: dict | None = None
    split: str | None = None


def read_folder(path: Path) -> Iterator[Record]:
    """The images of a folder and of all folders below it, in the order of their paths."""
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file():
            yield Record(file.name, file.read_bytes())


def read_tar(path: Path) -> Iterator[Record]:
    """The images of a tar archive, compressed or not, without unpacking it."""
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and Path(member.name).suffix.lower() in IMAGE_SUFFIXES:
                yield Record(Path(member.name).name, archive.extractfile(member).read())


def read_zip(path: Path) -> Iterator[Record]:
    """The images of a zip archive, without unpacking it."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.is_dir() and Path(member.filename).suffix.lower() in IMAGE_SUFFIXES:
                yield Record(Path(member.filename).name, archive.read(member))


def read_table(dataset_dict: datasets.DatasetDict) -> Iterator[Record]:
    """The rows of a Parquet folder or Hub data set; its splits are kept where it has more than one."""
    for split_name, split in dataset_dict.items():
        classes = {key: feature for key, feature in split.features.items() if isinstance(feature, datasets.ClassLabel)}
        split = split.cast_column("image", datasets.Image(decode=False))
        for index, row in enumerate(split):
            image = row["image"]
            data = image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()
            labels = {key: row.get(key) for key in ("age", "gender", "race")}
            for key in labels.keys() & classes.keys():
                # By name, since others number their classes in another order. -1 is how such a column says unknown.
                known = labels[key] is not None and labels[key] >= 0
                labels[key] = classes[key].int2str(labels[key]) if known else None
            name = Path(image["path"] or "").name
            name = row.get("file_name") or (name if UTKFACE_NAME.match(name) else f"{split_name}-{index}")
            yield Record(name, data, labels, split_name if len(dataset_dict) > 1 else None)


def find_split(file: Path) -> str:
    """The split that the first word of a file's name says, as in test-00000-of-00002.parquet, or its folder; else train."""
    for part in reversed(file.parts):
        word = re.match(r"[a-z]*", part.lower()).group()
        split = SPLIT_ALIASES.get(word, word)
        if split in SPLIT_NAMES:
            return split
    return "train"


def load_table(source: str) -> datasets.DatasetDict:
    """A Parquet file or folder, or a Hub data set, by its path or id. Raises ValueError if it is not usable."""
    path = Path(source)
    if path.exists():
        files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
        by_split, root = {}, path if path.is_dir() else path.parent
        for file in files:
            by_split.setdefault(find_split(file.relative_to(root)), []).append(str(file))
        table = datasets.load_dataset("parquet", data_files=by_split)
    else:
        try:
            table = datasets.load_dataset(source)
        except Exception as error:
            raise ValueError(
                f"{source!r} is no file or folder here, and it could not be loaded from the Hub either ({error}). Give "
                "a folder of UTKFace images, its .tar.gz or .zip, a folder of Parquet files, or a data set id."
            ) from error
        table = datasets.DatasetDict({SPLIT_ALIASES.get(name, name): split for name, split in table.items()})
        if len(table) > 1 and not set(table) <= set(SPLIT_NAMES):
            raise ValueError(f"{source!r} has the splits {sorted(table)}; known are {', '.join(SPLIT_NAMES)}.")
    features = next(iter(table.values())).features
    missing = {"image", "age"} - set(features)
    if missing:
        raise ValueError(f"{source!r} has the columns {sorted(features)}, but lacks {sorted(missing)}.")
    if isinstance(features["age"], datasets.ClassLabel):
        raise ValueError(f"{source!r} has classes of ages, {features['age'].names[:3]} and so on, but needs years.")
    return table


class Source:
    """Where images come from: chooses the reader for a path and tells when its content has changed."""

    def __init__(self, data_dir: str | Path):
        path = Path(data_dir)
        # Resolved, so that the cache knows a path however it is written.
        self.data_dir = str(path.resolve()) if path.exists() else str(data_dir)
        if path.is_dir() and not any(path.rglob("*.parquet")):
            self.files, self._read = [file for file in sorted(path.rglob("*")) if file.is_file()], read_folder
        elif path.is_file() and tarfile.is_tarfile(path):
            self.files, self._read = [path], read_tar
        elif path.is_file() and zipfile.is_zipfile(path):
            self.files, self._read = [path], read_zip
        elif path.is_file() and path.suffix != ".parquet":
            raise ValueError(f"{data_dir} is neither a tar or zip archive nor a Parquet file.")
        else:
            self.files, self._read = [], None
            self.table = load_table(self.data_dir)

    def records(self) -> Iterator[Record]:
        """
        All images of the source, always in the same order.

        Raises:
            ValueError: if an archive is damaged.
        """
        try:
            yield from self._read(Path(self.data_dir)) if self._read else read_table(self.table)
        except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ValueError(f"{self.data_dir} is damaged ({error}): fetch it again.") from error

    def fingerprint(self) -> str:
        """Changes with the name, size or date of any file, or with the content of a table."""
        digest = hashlib.sha256(self.data_dir.encode())
        for file in self.files:
            status = file.stat()
            digest.update(f"{file}|{status.st_size}|{status.st_mtime_ns}\n".encode())
        if not self._read:
            digest.update("".join(split._fingerprint for split in self.table.values()).encode())
        return digest.hexdigest()[:16]
