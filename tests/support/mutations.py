"""Pictures of fourteen formats, and seeded damage to them."""

import io
import random
from collections.abc import Iterator

import numpy as np
from PIL import Image


# Name, Pillow's format and options of `save`.
FORMATS = [
    ("JPEG", "JPEG", {"quality": 90}),
    ("progressive JPEG", "JPEG", {"progressive": True}),
    ("MPO", "MPO", {"save_all": True}),
    ("PNG", "PNG", {}),
    ("APNG", "PNG", {"save_all": True}),
    ("WebP", "WEBP", {}),
    ("animated WebP", "WEBP", {"save_all": True}),
    ("GIF", "GIF", {"save_all": True}),
    ("AVIF", "AVIF", {"speed": 10}),
    ("HEIC", "HEIF", {}),
    ("BMP", "BMP", {}),
    ("TIFF", "TIFF", {}),
    ("compressed TIFF", "TIFF", {"compression": "tiff_lzw", "save_all": True}),
    ("JPEG 2000", "JPEG2000", {}),
    ("PPM", "PPM", {}),
    ("ICO", "ICO", {}),
]


def make_pictures() -> dict[str, bytes]:
    """Returns small pictures by the names of their formats, several pages where the format has them, with EXIF."""
    waves = np.sin(np.mgrid[0:72, 0:90].sum(axis=0) / 9) * 100 + 128
    noise = np.random.default_rng(0).integers(-20, 20, (72, 90, 3))
    image = Image.fromarray((waves[..., None] + noise).clip(0, 255).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera with a long name"
    pictures = {}
    for name, format, options in FORMATS:
        if options.get("save_all"):
            options = options | {"append_images": [image.rotate(180)]}
        buffer = io.BytesIO()
        image.save(buffer, format, **options, **({} if format in ("GIF", "BMP", "PPM", "ICO") else {"exif": exif}))
        pictures[name] = buffer.getvalue()
    return pictures


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Cuts, doubles, deletes or overwrites parts of a file, oftener near its start, where the sizes are."""
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        # Mostly behind what tells the format.
        place = rng.choice([0, 16, 16, 16]) + int(len(content) * rng.random() ** rng.choice([1, 4]))
        length = rng.choice([1, 2, 4, 8, 64])
        kind = rng.randrange(8)
        if kind == 0:
            del content[place:]
        elif kind == 1:
            del content[place : place + length]
        elif kind == 2:
            content[place:place] = content[place : place + length]
        elif kind == 3:
            content[place : place + length] = bytes([rng.choice([0, 255])]) * length
        elif kind == 4:
            content[place : place + length] = rng.randbytes(length)
        elif content:
            content[min(place, len(content) - 1)] = rng.randrange(256)
    return bytes(content)


def make_mutations(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yields the format and the content of damaged pictures, as many of each format."""
    rng, pictures = random.Random(seed), list(make_pictures().items())
    for number in range(count):
        name, content = pictures[number % len(pictures)]
        yield name, mutate(content, rng)
