"""Which pixels an image has: orientation, pages, depth, size and kind of input."""

import io
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import image_formats
import image_reading
from image_formats import ImageError
from image_reading import to_rgb
from tests.support.pictures import PICTURE, encode, make_exif
from tests.support.training import ROOT


pillow_heif = pytest.importorskip("pillow_heif")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(format, orientation):
    """To files, to open PIL images, and not to the answer once more."""
    turn = image_reading.TURNS.get(orientation)
    back = {
        Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
        Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90,
    }
    stored = PICTURE if turn is None else PICTURE.transpose(back.get(turn, turn))
    content = encode(format, stored, exif=make_exif(orientation).tobytes(), quality=95)
    for picture in (to_rgb(content), to_rgb(Image.open(io.BytesIO(content))), to_rgb(to_rgb(content))):
        assert picture.size == PICTURE.size
        assert np.abs(np.asarray(picture).astype(int) - np.asarray(PICTURE)).mean() < 8


def test_heic_that_only_exif_turns():
    """As Pillow's `save(exif=image.getexif())` writes it."""
    stored = PICTURE.transpose(Image.Transpose.ROTATE_90)
    content = encode("HEIF", stored, exif=make_exif(), quality=95)
    assert b"irot" not in content and to_rgb(content).size == PICTURE.size


@pytest.mark.parametrize("depth", [10, 12])
def test_heic_of_more_than_8_bits(depth):
    pixels = np.asarray(PICTURE).astype(np.uint16) << (depth - 8)
    buffer = io.BytesIO()
    pillow_heif.from_bytes(f"RGB;{depth}", PICTURE.size, pixels.tobytes()).save(buffer, quality=95)
    assert np.abs(np.asarray(to_rgb(buffer.getvalue())).astype(int) - np.asarray(PICTURE)).mean() < 8


def test_primary_image_of_a_heic_is_read():
    other = Image.new("RGB", PICTURE.size)
    content = encode("HEIF", other, save_all=True, append_images=[PICTURE], primary_index=1)
    picture = to_rgb(content)
    assert np.asarray(picture).mean() > 100 and picture.info == {"more_pages": True}


@pytest.mark.parametrize(
    "format", ["TIFF", "GIF", "PNG", "WEBP", "AVIF", "HEIF", "MPO"], ids=lambda format: format.lower()
)
def test_first_page_is_read_and_further_ones_are_told(format):
    """Not those of a JPEG, which are the previews and gain maps that phones add to one photo."""
    several = encode(format, save_all=True, append_images=[Image.new("RGB", PICTURE.size)])
    assert to_rgb(several).info == ({} if format == "MPO" else {"more_pages": True})
    assert to_rgb(encode("JPEG" if format == "MPO" else format)).info == {}
    assert abs(np.asarray(to_rgb(several)).mean() - np.asarray(PICTURE).mean()) < 5


RAMP = np.tile(np.arange(256, dtype=np.uint8), (9, 1))
DEEP = RAMP.astype(np.uint16) * 257
GREY_16 = b"P5 256 9 %d\n"


def make_tiff(pixels: np.ndarray, bits: int, white_is_zero: bool = False) -> bytes:
    height, width = RAMP.shape
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: int(not white_is_zero), 273: 8, 277: 1, 278: height}
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in (tags | {279: pixels.nbytes}).items()]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + pixels.nbytes) + pixels.tobytes() + directory


def pack_12_bits(values: np.ndarray) -> np.ndarray:
    first, second = values.reshape(-1, 2).astype(np.uint16).T
    return np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=1).astype(np.uint8)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(DEEP),
        Image.fromarray(DEEP.astype(">u2")),
        encode("PNG", Image.fromarray(DEEP)),
        encode("TIFF", Image.fromarray(DEEP)),
        encode("JPEG2000", Image.fromarray(DEEP)),
        GREY_16 % 65535 + DEEP.astype(">u2").tobytes(),
        GREY_16 % 1023 + (RAMP.astype(np.uint32) * 1023 // 255).astype(">u2").tobytes(),
        make_tiff(DEEP, 16),
        make_tiff(65535 - DEEP, 16, white_is_zero=True),
        make_tiff(pack_12_bits(RAMP.astype(np.uint16) * 16), 12),
    ],
)
def test_16_bits_keep_their_whole_range(image):
    grey = np.asarray(to_rgb(image))[..., 0].astype(int)
    assert np.abs(grey - RAMP).max() <= 1


def make_signed_tiff() -> bytes:
    image = Image.fromarray(RAMP)
    return encode("TIFF", image, tiffinfo={339: 2})


UNKNOWN_RANGES = [
    Image.fromarray(RAMP.astype(np.float32)),
    Image.fromarray(RAMP.astype(np.float32) / 255),
    Image.fromarray(RAMP.astype(np.int32)),
    encode("TIFF", Image.fromarray(RAMP.astype(np.float32))),
    encode("TIFF", Image.fromarray(RAMP.astype(np.int32))),
    make_signed_tiff(),
    encode("TIFF", tiffinfo={339: (3, 3, 3)}),
    b"Pf\n256 9\n-1.0\n" + RAMP.astype("<f4").tobytes(),
    *(RAMP.astype(dtype) for dtype in (np.float16, np.float64, np.int8, np.int32, np.int64, np.uint16, bool, complex)),
    *(torch.zeros(3, 8, 8, dtype=dtype) for dtype in (torch.float32, torch.bfloat16, torch.int32, torch.bool)),
]


@pytest.mark.parametrize("image", UNKNOWN_RANGES)
def test_no_range_is_guessed(image):
    with pytest.raises(ImageError, match="range is not known: convert|must hold uint8") as error:
        to_rgb(image)
    assert error.value.kind == "unknown range"


class Stream(io.RawIOBase):
    """A file that can be read once, from its start to its end."""

    def __init__(self, content: bytes):
        self.rest = io.BytesIO(content)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self.rest.readinto(buffer)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "HEIF"])
def test_bytes_and_files_are_pictures_too(tmp_path, format):
    content = encode(format)
    expected = to_rgb(content).tobytes()
    (tmp_path / "photo").write_bytes(content)
    at_end = io.BytesIO(content)
    at_end.seek(0, io.SEEK_END)
    for image in (bytearray(content), memoryview(content), at_end, Stream(content), tmp_path / "photo"):
        assert to_rgb(image).tobytes() == expected
    with open(tmp_path / "photo", "rb") as file:
        assert to_rgb(file).tobytes() == expected
        assert not file.closed


def test_file_that_is_open_as_text(tmp_path):
    (tmp_path / "a.png").write_bytes(encode("PNG"))
    with open(tmp_path / "a.png", encoding="utf-8") as file, pytest.raises(ImageError, match="open as text.*'rb'"):
        to_rgb(file)


@pytest.mark.parametrize("image", [b"", b"text", io.StringIO("text"), io.BytesIO(), encode("AVIF")[:-9] + bytes(3)])
def test_every_refusal_is_a_value_error(image):
    with pytest.raises(ValueError, match="cannot be read as an image"):
        to_rgb(image)


def test_damaged_avif_is_a_value_error():
    content = bytearray(encode("AVIF"))
    place = content.index(b"mdat") + 8
    content[place : place + 60] = bytes(60)
    with pytest.raises(ValueError, match="cannot be read as an image"):
        to_rgb(bytes(content))


@pytest.fixture
def low_limit(monkeypatch):
    """The largest picture has 100,000 pixels."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50_000)
    monkeypatch.setattr(image_formats, "MAX_PIXELS", 100_000)


@pytest.mark.parametrize(("side", "factor"), [(300, 1), (317, 2), (601, 2), (640, 4), (2500, 8)])
@pytest.mark.parametrize("progressive", [False, True])
def test_only_very_large_jpegs_are_reduced(low_limit, photo, side, factor, progressive):
    picture = to_rgb(encode("JPEG", photo.resize((side, side)), progressive=progressive))
    assert picture.info == ({} if factor == 1 else {"reduction": factor})
    assert picture.size == (-(-side // factor),) * 2


def test_other_very_large_pictures_are_refused(low_limit, monkeypatch, photo):
    with pytest.raises(ImageError, match="too large") as error:
        to_rgb(encode("PNG", photo))
    assert error.value.kind == "too large"
    monkeypatch.setattr(image_formats, "MAX_PIXELS_IN_SCANS", 250_000)
    with pytest.raises(ImageError, match="too large"):
        to_rgb(encode("JPEG", photo, progressive=True))
    assert to_rgb(encode("JPEG", photo)).info == {"reduction": 2}


def test_boxes_are_those_of_the_photo_as_it_was_given(monkeypatch, estimator, photo):
    content = encode("JPEG", photo.resize((1024, 1024)), quality=95)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200_000)
    monkeypatch.setattr(image_formats, "MAX_PIXELS", 400_000)
    picture = to_rgb(content)
    assert picture.size == (512, 512)
    [face], [small] = estimator(picture), estimator(np.asarray(picture))
    assert face["box"] == pytest.approx({side: 2 * value for side, value in small["box"].items()}, abs=1)
    assert estimator(picture, detect_faces=False)[0]["box"] == {"xmin": 0, "ymin": 0, "xmax": 1024, "ymax": 1024}


# Prints the picture's width, its reduction and the memory that reading took, in MB.
READ_ALONE = """
import resource, sys
from image_reading import to_rgb
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
picture = to_rgb(sys.argv[1])
print(picture.width, picture.info["reduction"], (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize(("progressive", "megabytes"), [(False, 400), (True, 1000)])
def test_photo_of_200_megapixels_takes_little_memory(photo, tmp_path, progressive, megabytes):
    photo.resize((16320, 12240), Image.Resampling.NEAREST).save(tmp_path / "phone.jpg", progressive=progressive)
    command = [sys.executable, "-c", READ_ALONE, str(tmp_path / "phone.jpg")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=100)
    width, reduction, memory = map(int, ended.stdout.split())
    assert (width, reduction) == (8160, 2) and memory < megabytes


def test_text_in_a_png_is_no_reduction(photo):
    image = Image.new("RGB", (9, 9))
    image.info["reduction"] = "8"
    assert image_reading.find_reduction(image) == 1


def test_transparent_pixels_are_white(noise):
    clear = noise.copy()
    clear.putalpha(0)
    assert to_rgb(clear).getcolors() == [(48 * 40, (255, 255, 255))]


def test_upright_rgb_picture_is_not_copied(photo):
    """The largest that the page takes would be 0.7 GB each time."""
    assert to_rgb(photo) is photo
