"""Pictures by name, written in the forms in which people have them: each such function returns the path to give."""

import io
import tarfile
import zipfile
from pathlib import Path

import datasets
from PIL import Image


def write_folder(path: Path, pictures: dict) -> str:
    for name, content in pictures.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    (path / "notes.txt").write_text("No picture, and not taken for one.")
    return str(path)


def write_zip(path: Path, pictures: dict) -> str:
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
        for name, content in pictures.items():
            archive.writestr(name, content)
    return str(path.with_suffix(".zip"))


def write_tar(path: Path, pictures: dict) -> str:
    with tarfile.open(path.with_suffix(".tar.gz"), "w:gz") as archive:
        for name, content in pictures.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return str(path.with_suffix(".tar.gz"))


def make_table(pictures: dict) -> datasets.Dataset:
    rows = {"image": [{"bytes": content, "path": None} for content in pictures.values()], "file_name": list(pictures)}
    return datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())


def write_table(path: Path, pictures: dict) -> str:
    make_table(pictures).to_parquet(path.with_suffix(".parquet"))
    return str(path.with_suffix(".parquet"))


def hide_scans(times: int) -> bytes:
    """
    A JPEG with two scans in sight and more behind a marker (FF 02) that has no length for a decoder, which, since there is a
    restart interval, looks for the next marker right behind it.
    """
    buffer = io.BytesIO()
    Image.new("L", (64, 64), 128).save(buffer, "JPEG", progressive=True)
    jpeg = buffer.getvalue()
    start = jpeg.index(b"\xff\xda")
    tables, position = b"", 2
    while (found := jpeg.find(b"\xff\xc4", position)) >= 0:  # all of them
        position = found + 2 + int.from_bytes(jpeg[found + 2 : found + 4])
        tables += jpeg[found:position]
    first, other = bytes.fromhex("ffda0008010100000001"), bytes.fromhex("ffda00080101 00013f02".replace(" ", ""))
    hidden = b"\xff\x02" + (2 + times * len(other)).to_bytes(2) + times * other
    return jpeg[:start] + bytes.fromhex("ffdd00040001") + tables + first + hidden + b"\xff\xd9"


def repeat_last_scan(jpeg: bytes, times: int) -> bytes:
    """A valid picture that takes as many times as long."""
    start = jpeg.rindex(b"\xff\xda")
    return jpeg[:start] + jpeg[start:-2] * times + jpeg[-2:]
