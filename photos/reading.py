"""Reads the pictures that strangers send, files and zip archives, each within bounds."""

import io
import re
from pathlib import Path
from urllib.request import urlopen

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from pipeline_agegender import to_rgb


NOT_A_PICTURE = "This file cannot be read as a picture: choose a photo such as a JPEG, PNG, WebP or GIF."
TOO_LARGE = f"This picture is too large: choose one with at most {2 * Image.MAX_IMAGE_PIXELS // 10**6} million pixels."
EMPTY = "This file is empty."
GONE = "This file is no longer on the server: choose it again."
HEIC = "HEIC pictures cannot be read here: save it as JPEG first."
TEXT = "Pictures written as text (PBM, PGM or PPM) cannot be read here: save it as PNG or JPEG first."
TOO_MANY_SCANS = "This JPEG is drawn in too many steps: save it anew first."
SVG = "SVG drawings cannot be read here: save it as PNG or JPEG first."
# The rest of Pillow's are left out: EPS, for one, is a program that it would have Ghostscript run.
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "AVIF", "BMP", "TIFF", "JPEG2000", "PPM", "ICO"]
TEXT_STARTS = (b"P1", b"P2", b"P3")  # which Pillow reads in Python, a comment a line or not
# Each is decoded over the whole picture, and may be a few bytes; programs write ten or so.
MAX_SCANS = 100
SCAN = 0xDA
END_OF_IMAGE = 0xD9
# What begins a segment whose length libjpeg believes, or ends a JPEG.
MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")
HEIC_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}


# Pillow's own blocks of 16 MB glibc soon keeps for itself, and with them gigabytes after a few large pictures. Those of more
# than 32 MB it always gives back.
Image.core.set_block_size(2**26)


def read_picture(source: str | Path | bytes) -> Image.Image:
    """
    An upright RGB picture.

    Args:
        source: A path, a data: address or the content of a file. A path is never taken for an address of the net.

    Raises:
        ValueError: with a sentence for the visitor, if it is no picture.
    """
    start = b""
    try:
        if isinstance(source, str) and source.startswith("data:"):
            source = urlopen(source).read()
        with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
            start = file.read(1024)
            file.seek(0)
            if start.startswith(TEXT_STARTS):
                raise UnreadablePicture(TEXT)
            with Image.open(file, formats=FORMATS) as image:
                if isinstance(image, JpegImageFile):
                    file.seek(0)
                    if count_scans(file.read()) > MAX_SCANS:
                        raise UnreadablePicture(TOO_MANY_SCANS)
                    file.seek(0)
                return to_rgb(image)
    except Exception as error:  # damaged files make decoders raise RuntimeError, NotImplementedError and others
        raise ValueError(explain(error, start)) from error


class UnreadablePicture(Exception):
    """A picture that takes too long, with a sentence for the visitor."""


def count_scans(content: bytes) -> int:
    """How many times a JPEG goes over the picture, as far as `MAX_SCANS` and one; what follows its end does not count."""
    scans, position = 0, 0
    while scans <= MAX_SCANS and (found := MARKER.search(content, position)):
        marker, position = content[found.end() - 1], found.end()
        if marker == END_OF_IMAGE:
            break
        scans += marker == SCAN
        position += int.from_bytes(content[position : position + 2], "big")
    return scans


def explain(error: BaseException, start: bytes) -> str:
    """What to tell a visitor of an error met while reading a picture that starts with these bytes."""
    while error is not None:
        if isinstance(error, UnreadablePicture):
            return str(error)
        if isinstance(error, Image.DecompressionBombError | MemoryError):
            return TOO_LARGE
        if isinstance(error, FileNotFoundError):
            return GONE
        error = error.__cause__
    if not start:
        return EMPTY
    if start[4:8] == b"ftyp" and start[8:12] in HEIC_BRANDS:
        return HEIC
    return SVG if b"<svg" in start.lower() else NOT_A_PICTURE
