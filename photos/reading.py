"""Reads visitors' photos within limits of memory and time; holds the sentences for files that cannot be read."""

import io
import re
from pathlib import Path

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from image_reading import to_rgb


NOT_A_PICTURE = "This file cannot be read as a picture: choose a photo such as a JPEG, PNG, WebP or GIF."
TOO_LARGE = f"This picture is too large: choose one with at most {2 * Image.MAX_IMAGE_PIXELS // 10**6} million pixels."
EMPTY = "This file is empty."
GONE = "This file is no longer on the server: choose it again."
HEIC = "HEIC pictures cannot be read here: save this one as JPEG first."
TEXT = "Pictures written as text (PBM, PGM or PPM) cannot be read here: save this one as PNG or JPEG first."
TOO_MANY_SCANS = "This JPEG is drawn in too many steps: save it again first."
SVG = "SVG drawings cannot be read here: save this one as PNG or JPEG first."
# Pillow's other formats are left out: for EPS it starts Ghostscript, which runs the program in the file.
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "AVIF", "BMP", "TIFF", "JPEG2000", "PPM", "ICO"]
TEXT_STARTS = (b"P1", b"P2", b"P3")  # Pillow parses these formats slowly, in Python.
# Each scan takes as long as decoding the whole picture and may be a few bytes long. Programs write about ten.
MAX_SCANS = 100
SCAN, END_OF_IMAGE = 0xDA, 0xD9
# A marker with a length that libjpeg trusts, or the end of a JPEG.
MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")
HEIC_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}


class PhotoError(ValueError):
    """A photo, archive or address that cannot be read. The message is a sentence for the visitor."""


def read_picture(source: str | Path | bytes) -> Image.Image:
    """
    Reads a picture as an upright RGB image.

    Args:
        source: The path or the content of a file. A string is always a path, never an address.

    Raises:
        PhotoError: if the file is not a picture or exceeds a limit.
    """
    start = b""
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
            start = file.read(1024)
            file.seek(0)
            if start.startswith(TEXT_STARTS):
                raise PhotoError(TEXT)
            with Image.open(file, formats=FORMATS) as image:
                if isinstance(image, JpegImageFile):
                    file.seek(0)
                    if count_scans(file.read()) > MAX_SCANS:
                        raise PhotoError(TOO_MANY_SCANS)
                    file.seek(0)
                return to_rgb(image)
    except PhotoError:
        raise
    except Exception as error:  # Damaged files make decoders raise RuntimeError, NotImplementedError and others.
        raise PhotoError(explain_unreadable(error, start)) from error


def count_scans(content: bytes) -> int:
    """Counts the scans of a JPEG up to its end, and stops counting at `MAX_SCANS + 1`."""
    scans, position = 0, 0
    while scans <= MAX_SCANS and (found := MARKER.search(content, position)):
        marker, position = content[found.end() - 1], found.end()
        if marker == END_OF_IMAGE:
            break
        scans += marker == SCAN
        position += int.from_bytes(content[position : position + 2], "big")
    return scans


def explain_unreadable(error: Exception, start: bytes) -> str:
    """Returns the sentence for an error raised while reading a picture whose first bytes are `start`."""
    errors = (error, error.__cause__)  # `to_rgb` raises ValueError from the decoder's error.
    if any(isinstance(error, Image.DecompressionBombError | MemoryError) for error in errors):
        return TOO_LARGE
    if isinstance(error, FileNotFoundError):
        return GONE
    if not start:
        return EMPTY
    if start[4:8] == b"ftyp" and start[8:12] in HEIC_BRANDS:
        return HEIC
    return SVG if b"<svg" in start.lower() else NOT_A_PICTURE
