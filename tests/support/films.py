"""Short films, written by OpenCV, and changes to their headers that it cannot make."""

import struct
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image


CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
TURNED = struct.pack(
    ">9i", 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000
)  # to be shown turned clockwise by a quarter


def write_film(file: Path, pictures: Iterable[Image.Image], rate: float = 5) -> Path:
    """Writes a film of pictures of one size; .webm holds VP8, .avi motion JPEG, all others MPEG-4 Part 2."""
    writer = None
    for picture in pictures:
        if writer is None:
            codec = cv2.VideoWriter_fourcc(*{".webm": "VP80", ".avi": "MJPG"}.get(file.suffix, "mp4v"))
            writer = cv2.VideoWriter(str(file), cv2.CAP_FFMPEG, codec, rate, picture.size)
        writer.write(np.ascontiguousarray(np.asarray(picture)[:, :, ::-1]))
    writer.release()
    return file


def turn(file: Path):
    """Makes an MP4 one that a phone took upright: its frames lie on their side, and its header says so."""
    content = bytearray(file.read_bytes())
    start = content.index(b"tkhd") + 44
    content[start : start + len(TURNED)] = TURNED
    file.write_bytes(content)


def trim(file: Path, seconds: float):
    """Makes an MP4 of OpenCV one that a phone trimmed: its header tells to leave out the first seconds, which it still holds."""
    content = bytearray(file.read_bytes())
    [units_a_second] = struct.unpack_from(">I", content, content.index(b"mdhd") + 16)
    for name, place in ((b"mvhd", 20), (b"elst", 12)):  # in thousandths
        [length] = struct.unpack_from(">I", content, content.index(name) + place)
        struct.pack_into(">I", content, content.index(name) + place, length - round(1000 * seconds))
    struct.pack_into(">I", content, content.index(b"elst") + 16, round(units_a_second * seconds))
    file.write_bytes(content)


def vary_rate(file: Path, durations: list[tuple[int, int]]):
    """Replaces the durations of an MP4's frames: each number of frames is so many times as long as the film has it."""
    content = file.read_bytes().replace(b"edts", b"free")  # it names the length of the film
    [length] = struct.unpack_from(">I", content, content.index(b"stts") + 16)
    entries = b"".join(struct.pack(">II", count, times * length) for count, times in durations)
    table = b"stts" + struct.pack(">II", 0, len(durations)) + entries
    start = content.index(b"moov") - 4  # after the frames, so that these stay where the header says
    file.write_bytes(content[:start] + replace_box(content[start:], b"stts", table))


def replace_box(boxes: bytes, name: bytes, table: bytes) -> bytes:
    """Replaces a box in a row of boxes, in nested ones too, and corrects the sizes of those around it."""
    changed = b""
    while boxes:
        [size] = struct.unpack_from(">I", boxes)
        kind, inside, boxes = boxes[4:8], boxes[8:size], boxes[size:]
        if kind == name:
            inside = table[4:]
        elif kind in CONTAINERS:
            inside = replace_box(inside, name, table)
        changed += struct.pack(">I", len(inside) + 8) + kind + inside
    return changed
