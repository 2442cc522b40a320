"""Pictures as files of many formats, whole and with metadata of a known kind."""

import io

import numpy as np
from PIL import Image


ORIENTATION, MAKER, TURN_CLOCKWISE = 0x0112, 0x010F, 6
WAVES = np.sin(np.mgrid[0:60, 0:80].sum(axis=0)[..., None] / [15, 21, 27]) * 100 + 128
PICTURE = Image.fromarray(WAVES.astype(np.uint8))


def make_exif(orientation: object = TURN_CLOCKWISE) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION], exif[MAKER] = orientation, "a maker with a long name"
    return exif


def encode(format: str, image: Image.Image = PICTURE, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()
