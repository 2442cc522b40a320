"""Reads visitors' photos; holds the sentences for files that cannot be read."""

from pathlib import Path

from PIL import Image

from files.pictures import PhotoError
from image_formats import MAX_PIXELS, ImageError
from image_reading import to_rgb


NOT_A_PICTURE = "This file cannot be read as a picture: choose a photo such as a JPEG, PNG, WebP or GIF."
DAMAGED = "This {} picture is damaged, cut off or of a rare kind: open it in another program and save it as JPEG or PNG first."
CUT_OFF = "This picture is cut off, a part of it is missing: copy or download the file again."
TOO_LARGE = (
    f"This picture is too large: choose one with at most {MAX_PIXELS // 10**6} million pixels, or save it as JPEG without "
    "“progressive”."
)
UNKNOWN_RANGE = (
    "The numbers in this {} picture have no known range: save it with 8 bits per colour, as JPEG or PNG, first."
)
UNSUPPORTED = "{} files cannot be read here: save this one as JPEG or PNG first."
TOO_MANY_SCANS = "This JPEG is drawn in too many steps: save it again first."
EMPTY = "This file is empty."
GONE = "This file is no longer on the server: choose it again."
LOCKED = "This file cannot be opened: {}."
SENTENCES = {
    "empty": EMPTY,
    "cut off": CUT_OFF,
    "too large": TOO_LARGE,
    "too many scans": TOO_MANY_SCANS,
    "unknown range": UNKNOWN_RANGE,
    "unsupported": UNSUPPORTED,
    "damaged": DAMAGED,
    "unknown": NOT_A_PICTURE,
}


def read_picture(source: str | Path | bytes) -> Image.Image:
    """
    Reads a picture as an upright RGB image, as `image_reading.to_rgb` does.

    Args:
        source: The path or the content of a file. A string is always a path, never an address.

    Raises:
        PhotoError: if the file is not a picture or exceeds a limit.
    """
    try:
        if isinstance(source, bytes):
            return to_rgb(source)
        with open(source, "rb") as file:
            return to_rgb(file)
    except ImageError as error:
        format = error.format or "file"
        raise PhotoError(SENTENCES[error.kind].format(format[:1].upper() + format[1:])) from error
    except FileNotFoundError as error:
        raise PhotoError(GONE) from error
    except OSError as error:
        raise PhotoError(LOCKED.format(error.strerror)) from error
