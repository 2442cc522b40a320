"""Damaged files: metadata never costs a photo, and missing pixels are named."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from image_formats import ImageError
from image_reading import to_rgb
from tests.support.pictures import MAKER, ORIENTATION, PICTURE, TURN_CLOCKWISE, encode, make_exif


pytest.importorskip("pillow_heif")


def make_chunk(name: bytes, data: bytes, error: int = 0) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data) ^ error)


def insert_chunk(name: bytes, data: bytes, error: int = 0, **options) -> bytes:
    """A PNG with one more chunk; an `error` makes its checksum wrong."""
    png = encode("PNG", **options)
    return png[:33] + make_chunk(name, data, error) + png[33:]


def insert_segment(marker: int, data: bytes) -> bytes:
    jpeg = encode("JPEG")
    return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data + jpeg[2:]


def change_riff_size(difference: int) -> bytes:
    webp = encode("WEBP", lossless=True)
    return webp[:4] + struct.pack("<I", len(webp) - 8 + difference) + webp[8:]


def damage_exif(format: str) -> bytes:
    exif = make_exif().tobytes()[6:]
    return encode(format, exif=exif, quality=100).replace(exif[:8], b"no exif!")


def damage_gif(extension: bytes) -> bytes:
    gif = encode("GIF", PICTURE.convert("L"))
    place = gif.index(b",\0\0\0\0")
    return gif[:place] + extension + gif[place:]


def damage_tiff(**options) -> bytes:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[MAKER] = "a maker with a long name"
    tiff = encode("TIFF", tiffinfo=tags, **options)
    entry = tiff.index(struct.pack("<HH", MAKER, 2))
    return tiff[: entry + 8] + struct.pack("<I", 2**32 - 9) + tiff[entry + 12 :]


MANY_TEXTS = b"".join(make_chunk(b"tEXt", b"key\0" + bytes(2**21)) for _ in range(33))  # 69 MB
# Each has the pixels of the second, however its metadata is damaged.
WHOLE = {
    "png, large compressed text": (insert_chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(2**21))), encode("PNG")),
    "png, much text": (encode("PNG")[:33] + MANY_TEXTS + encode("PNG")[33:], encode("PNG")),
    "png, large profile": (insert_chunk(b"iCCP", b"key\0\0" + zlib.compress(bytes(2**21))), encode("PNG")),
    "png, damaged profile": (insert_chunk(b"iCCP", b"key\0\0no zlib"), encode("PNG")),
    "png, wrong checksum of text": (insert_chunk(b"tEXt", b"key\0text", 1), encode("PNG")),
    "png, wrong checksum of gAMA": (insert_chunk(b"gAMA", bytes(4), 1), encode("PNG")),
    "png, wrong checksum of a private chunk": (insert_chunk(b"prIv", b"x", 1), encode("PNG")),
    "png, wrong checksum of pixels": (encode("PNG")[:-16] + b"same" + encode("PNG")[-12:], encode("PNG")),
    "png, short pHYs": (insert_chunk(b"pHYs", b"x"), encode("PNG")),
    "png, short acTL": (insert_chunk(b"acTL", b"x"), encode("PNG")),
    "png, damaged exif": (damage_exif("PNG"), encode("PNG")),
    "png, text behind the pixels": (encode("PNG")[:-12] + make_chunk(b"zTXt", b"key\0\1x") * 2, encode("PNG")),
    "png, no end": (encode("PNG")[:-12], encode("PNG")),
    "png, bytes behind the end": (encode("PNG") + b"bytes", encode("PNG")),
    "jpeg, no end": (encode("JPEG")[:-2], encode("JPEG")),
    "jpeg, half an end": (encode("JPEG")[:-1], encode("JPEG")),
    "jpeg, progressive, no end": (encode("JPEG", progressive=True)[:-2], encode("JPEG", progressive=True)),
    "jpeg, bytes behind the end": (encode("JPEG") + b"bytes" * 99, encode("JPEG")),
    "jpeg, short JFIF": (insert_segment(0xE0, b"JFIF\0"), encode("JPEG")),
    "jpeg, short profile": (insert_segment(0xE2, b"ICC_PROFILE\0"), encode("JPEG")),
    "jpeg, damaged index of pictures": (insert_segment(0xE2, b"MPF\0" + bytes(20)), encode("JPEG")),
    "jpeg, damaged Photoshop": (insert_segment(0xED, b"Photoshop 3.0\x008BIM\3\xed\0\0\0\0\0\x10"), encode("JPEG")),
    "jpeg, short Adobe": (insert_segment(0xEE, b"Adobe"), encode("JPEG")),
    "jpeg, damaged exif": (damage_exif("JPEG"), encode("JPEG", quality=100)),
    "webp, size too small": (change_riff_size(-2), encode("WEBP", lossless=True)),
    "webp, size too large": (change_riff_size(1), encode("WEBP", lossless=True)),
    "webp, bytes behind the end": (encode("WEBP", lossless=True) + b"x", encode("WEBP", lossless=True)),
    "webp, damaged exif": (damage_exif("WEBP"), encode("WEBP", quality=100)),
    "webp, cut off in its exif": (encode("WEBP", exif=make_exif(1))[:-9], encode("WEBP")),
    "avif, damaged exif": (damage_exif("AVIF"), None),
    "heic, damaged exif": (damage_exif("HEIF"), None),
    "gif, no end": (damage_gif(b"")[:-1], damage_gif(b"")),
    "gif, comment without end": (damage_gif(b"!\xfe\x05hello"), damage_gif(b"")),
    "gif, short extension": (damage_gif(b"!\xf9\1\0\0"), damage_gif(b"")),
    "tiff, tag of bytes elsewhere": (damage_tiff(), encode("TIFF")),
    "tiff, compressed": (damage_tiff(compression="tiff_lzw"), encode("TIFF")),
    "jpeg 2000, no end": (encode("JPEG2000")[:-2], encode("JPEG2000")),
    "bmp, wrong size": (encode("BMP")[:2] + bytes(4) + encode("BMP")[6:], encode("BMP")),
}


@pytest.mark.parametrize("name", WHOLE)
def test_metadata_never_costs_a_photo(name):
    content, undamaged = WHOLE[name]
    picture = to_rgb(content)
    expected = PICTURE if undamaged is None else Image.open(io.BytesIO(undamaged)).convert("RGB")
    if picture.size != PICTURE.size:  # AVIF and HEIC keep their orientation outside EXIF.
        expected = expected.rotate(-90, expand=True)
    error = np.abs(np.asarray(picture).astype(int) - np.asarray(expected))
    assert error.max() == 0 if undamaged else error.mean() < 4


def test_a_pil_image_of_a_damaged_file_is_read(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encode("JPEG")[:-2])
    with Image.open(tmp_path / "a.jpg") as image:
        assert to_rgb(image).tobytes() == Image.open(io.BytesIO(encode("JPEG"))).tobytes()


CUT = [
    *(("JPEG", share, {}) for share in (0.1, 0.5, 0.9, 0.99)),
    *(("JPEG", share, {"progressive": True}) for share in (0.3, 0.6, 0.97)),
    *(("PNG", share, {}) for share in (0.02, 0.1, 0.5, 0.95)),
    *((format, 0.6, {}) for format in ("WEBP", "GIF", "AVIF", "HEIF", "BMP", "TIFF", "JPEG2000", "PPM", "ICO")),
]


@pytest.mark.parametrize(("format", "share", "options"), CUT)
def test_missing_pixels_are_named(format, share, options):
    content = encode(format, **options)
    with pytest.raises(ImageError, match="cut off") as error:
        to_rgb(content[: int(len(content) * share)])
    assert error.value.kind == "cut off"


def test_jpeg_lacks_more_than_its_end():
    jpeg = encode("JPEG")
    for missing in range(4, 40):
        with pytest.raises(ImageError, match="cut off"):
            to_rgb(jpeg[:-missing])
    progressive = encode("JPEG", progressive=True)
    for missing in (progressive[progressive.rindex(b"\xff\xda") :], progressive[progressive.rindex(b"\xff\xc4") :]):
        with pytest.raises(ImageError, match="cut off"):
            to_rgb(progressive[: -len(missing)])


def test_jpeg_2000_lacks_whole_tiles():
    """Which Pillow leaves black."""
    content = encode("JPEG2000", tile_size=(40, 40))
    tiles = [found.start() for found in re.finditer(rb"\xff\x90\0\x0a", content)]
    assert len(tiles) == 4 and to_rgb(content[:-2]).size == PICTURE.size
    for start in tiles:
        with pytest.raises(ImageError, match="cut off"):
            to_rgb(content[:start])


def test_every_cut_is_named():
    """Also where a header ends early."""
    for format in ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "HEIF", "BMP", "TIFF", "JPEG2000", "PPM", "ICO"):
        content = encode(format)
        for length in range(20, min(len(content) * 3 // 4, 500), 7):
            with pytest.raises(ImageError, match="cut off"):
                to_rgb(content[:length])


def test_file_whose_end_was_not_written_is_cut_off():
    jpeg = encode("JPEG")
    with pytest.raises(ImageError, match="cut off"):
        to_rgb(jpeg[: len(jpeg) // 2] + bytes(9000))


def test_small_file_that_promises_a_huge_picture_is_cut_off():
    jpeg = encode("JPEG")
    place = jpeg.index(b"\xff\xc0") + 5
    with pytest.raises(ImageError, match="cut off"):
        to_rgb(jpeg[:place] + struct.pack(">HH", 65000, 65000) + jpeg[place + 4 :])


def make_raw_exif(entries: bytes) -> bytes:
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries) // 12) + entries + bytes(4)


TURNED = struct.pack("<HHIHH", ORIENTATION, 3, 1, TURN_CLOCKWISE, 0)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "entry",
    [
        struct.pack("<HHII", MAKER, 2, 99, 2**31),  # the place of its text
        struct.pack("<HHII", MAKER, 2, 2**31, 0),
        struct.pack("<HHII", MAKER, 77, 1, 0),
        struct.pack("<HHII", 0x8769, 4, 1, 8),  # a directory in itself
    ],
)
def test_orientation_is_read_from_damaged_exif(format, entry):
    for entries in (entry + TURNED, TURNED + entry):
        assert to_rgb(encode(format, exif=make_raw_exif(entries))).size == (60, 80)
    assert to_rgb(encode(format, exif=make_raw_exif(TURNED + entry)[:-9])).size == (60, 80)


@pytest.mark.parametrize(
    ("kind", "value"), [(3, b"\0\0"), (3, b"\x09\0"), (3, b"\xff\xff"), (2, b"6\0"), (7, b"\6\0")]
)
def test_orientation_that_means_nothing_turns_nothing(kind, value):
    entry = struct.pack("<HHI", ORIENTATION, kind, 1) + value + bytes(2)
    assert to_rgb(encode("JPEG", exif=make_raw_exif(entry))).size == (80, 60)
