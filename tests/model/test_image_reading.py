"""Decoding: what is a picture, which pixels it has, and why one cannot be read."""

import io
import re
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, TiffImagePlugin

import image_reading
from image_reading import ImageError, find_picture_suffixes, looks_like_picture, name_format, to_rgb
from tests.support.training import ROOT


pillow_heif = pytest.importorskip("pillow_heif")

ORIENTATION, MAKER, TURN_CLOCKWISE = 0x0112, 0x010F, 6
WAVES = np.sin(np.mgrid[0:60, 0:80].sum(axis=0)[..., None] / [15, 21, 27]) * 100 + 128
PICTURE = Image.fromarray(WAVES.astype(np.uint8))
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def make_exif(orientation: object = TURN_CLOCKWISE) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION], exif[MAKER] = orientation, "a maker with a long name"
    return exif


def encode(format: str, image: Image.Image = PICTURE, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


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


def test_file_that_is_open_as_text(tmp_path):
    (tmp_path / "a.png").write_bytes(encode("PNG"))
    with open(tmp_path / "a.png", encoding="utf-8") as file, pytest.raises(ImageError, match="open as text.*'rb'"):
        to_rgb(file)


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


def test_tiffs_that_pillow_would_misread_are_refused():
    cases = {
        "camera raw": encode("TIFF", tiffinfo={50706: bytes([1, 4, 0, 0])}),
        "uncompressed YCbCr TIFF": encode("TIFF", PICTURE.convert("YCbCr")),
    }
    for name, content in cases.items():
        with pytest.raises(ImageError, match=f"{name} is not supported: convert it to JPEG or PNG"):
            to_rgb(content)


UNSUPPORTED = {
    "JPEG XL": [b"\xff\x0a\xfa\x1f", b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl "],
    "SVG": [b"<svg xmlns='x'/>", b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- a --><svg/>"],
    "Photoshop": [b"8BPS\0\1"],
    "camera raw": [b"II*\0\x10\0\0\0CR\2\0", b"\0\0\0\x18ftypcrx \0\0\0\1", b"FUJIFILMCCD-RAW 0201"],
    "PDF": [b"%PDF-1.7"],
    "PostScript": [b"%!PS-Adobe"],
    "video": [b"\0\0\0\x20ftypisom", b"\0\0\0\x14ftypqt  ", b"\x1aE\xdf\xa3\1", b"RIFF\1\1\1\1AVI LIST"],
    "archive": [b"PK\3\4\x14\0", b"\x1f\x8b\x08\0", b"7z\xbc\xaf\x27\x1c\0\4", b"Rar!\x1a\7\0"],
    "text PPM": [b"P3 1 1 255\n1 2 3"],
    "DICOM": [bytes(128) + b"DICM"],
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_known_formats_that_are_not_read_are_named(name):
    for start in UNSUPPORTED[name]:
        assert name_format(start + bytes(99)) == name and not looks_like_picture(start + bytes(99))
        with pytest.raises(ImageError, match=f"{name} is not supported"):
            to_rgb(start + bytes(99))


def test_heic_without_its_library_is_named(monkeypatch):
    content = encode("HEIF")
    monkeypatch.setattr(image_reading, "pillow_heif", None)
    with pytest.raises(ImageError, match="HEIC is not supported: convert it to JPEG or PNG, or install pillow-heif"):
        to_rgb(content)


def test_the_file_needs_no_pillow_heif(monkeypatch):
    source = image_reading.__spec__.loader.get_source("image_reading")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    names = {"__name__": "image_reading", "__package__": ""}
    exec(compile(source, "image_reading.py", "exec"), names)
    assert names["pillow_heif"] is None and "HEIF" not in names["FORMATS"]
    assert names["to_rgb"](encode("JPEG")).size == PICTURE.size


def test_pictures_are_known_by_their_start_and_their_suffix():
    formats = ["JPEG", "MPO", "PNG", "WEBP", "GIF", "AVIF", "BMP", "TIFF", "JPEG2000", "PPM", "ICO", "HEIF"]
    assert all(looks_like_picture(encode(format)[:1024]) for format in formats)
    assert not any(map(looks_like_picture, [b"", b"BMW is a car", b"dear diary", b"<html>", b"P5 is a processor"]))
    known = (
        ".jpg .jpeg .jpe .jfif .mpo .png .apng .webp .gif .avif .bmp .tif .tiff .jp2 .j2k .ppm .pgm .ico .heic .heif"
    )
    assert set(known.split()) <= find_picture_suffixes()
    assert not {".eps", ".pdf", ".svg", ".psd", ".txt", ""} & find_picture_suffixes()


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
    monkeypatch.setattr(image_reading, "MAX_PIXELS", 100_000)


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
    monkeypatch.setattr(image_reading, "MAX_PIXELS_IN_SCANS", 250_000)
    with pytest.raises(ImageError, match="too large"):
        to_rgb(encode("JPEG", photo, progressive=True))
    assert to_rgb(encode("JPEG", photo)).info == {"reduction": 2}


def test_boxes_are_those_of_the_photo_as_it_was_given(monkeypatch, estimator, photo):
    content = encode("JPEG", photo.resize((1024, 1024)), quality=95)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200_000)
    monkeypatch.setattr(image_reading, "MAX_PIXELS", 400_000)
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


def test_small_file_that_promises_a_huge_picture_is_cut_off():
    jpeg = encode("JPEG")
    place = jpeg.index(b"\xff\xc0") + 5
    with pytest.raises(ImageError, match="cut off"):
        to_rgb(jpeg[:place] + struct.pack(">HH", 65000, 65000) + jpeg[place + 4 :])


def test_transparent_pixels_are_white(noise):
    clear = noise.copy()
    clear.putalpha(0)
    assert to_rgb(clear).getcolors() == [(48 * 40, (255, 255, 255))]


def test_upright_rgb_picture_is_not_copied(photo):
    """The largest that the page takes would be 0.7 GB each time."""
    assert to_rgb(photo) is photo
