"""Any file is read as a picture or gets a plain sentence, within bounds of memory and time."""

import io

import numpy as np
import pytest
from PIL import Image

from photos.reading import (
    CUT_OFF,
    DAMAGED,
    EMPTY,
    NOT_A_PICTURE,
    TOO_LARGE,
    TOO_MANY_SCANS,
    UNKNOWN_RANGE,
    UNSUPPORTED,
    read_picture,
)
from tests.support.picture_sources import hide_scans, repeat_last_scan


def encode(image: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


RED = Image.new("RGB", (60, 40), (200, 0, 0))
EXIF = Image.Exif()
EXIF[0x0112] = 6
GOOD = {
    "wrong extension.jpg": (encode(RED), (60, 40)),
    "one pixel.png": (encode(RED.resize((1, 1))), (1, 1)),
    "thread.png": (encode(RED.resize((30000, 2))), (30000, 2)),
    "cmyk.jpg": (encode(RED.convert("CMYK"), "JPEG"), (60, 40)),
    "palette.png": (encode(RED.convert("P")), (60, 40)),
    "16 bit.png": (encode(Image.fromarray(np.full((40, 60), 40000, np.uint16))), (60, 40)),
    "alpha.webp": (encode(RED.convert("RGBA"), "WEBP"), (60, 40)),
    "animated.gif": (encode(RED, "GIF", save_all=True, append_images=[Image.new("RGB", (60, 40))]), (60, 40)),
    "few scans.jpg": (repeat_last_scan(encode(RED, "JPEG", progressive=True), 50), (60, 40)),
    # A film behind the picture, as telephones put it, may hold whatever marks a scan.
    "with film.jpg": (encode(RED, "JPEG", progressive=True) + b"\xff\xda\0\2" * 500, (60, 40)),
    "with thumbnail.jpg": (encode(RED, "JPEG", comment=b"\xff\xda\0\2" * 500), (60, 40)),
    "rotated.jpg": (encode(RED, "JPEG", exif=EXIF), (40, 60)),
    "no end.jpg": (encode(RED, "JPEG")[:-2], (60, 40)),
}
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), dtype=np.uint8))
FLOATS = Image.fromarray(np.zeros((40, 60), np.float32))
BAD = {
    "empty.jpg": (b"", EMPTY),
    "truncated.jpg": (encode(NOISE, "JPEG")[:2000], CUT_OFF),
    "damaged.png": (encode(RED).replace(b"IHDR", b"IHDX"), DAMAGED.format("PNG")),
    "page.jpg": (b"<!doctype html><html><body>dear diary</body></html>", NOT_A_PICTURE),
    "bomb.ppm": (b"P6 20000 20000 255\n", TOO_LARGE),
    "drawing.svg": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', UNSUPPORTED.format("SVG")),
    "text.ppm": (b"P3 1 1 255\n" + b"#\n" * 1000 + b"1 2 3\n", UNSUPPORTED.format("Text PPM")),
    "many scans.jpg": (repeat_last_scan(encode(RED, "JPEG", progressive=True), 500), TOO_MANY_SCANS),
    "hidden scans.jpg": (hide_scans(500), TOO_MANY_SCANS),
    "new.jxl": (b"\xff\x0a\xfa\x1f\x41\x91\x08\x06\x01\x00\x54\x00", UNSUPPORTED.format("JPEG XL")),
    "numbers.tif": (encode(FLOATS, "TIFF"), UNKNOWN_RANGE.format("TIFF")),
}


@pytest.mark.parametrize("name", GOOD)
def test_kinds_of_pictures(tmp_path, name):
    content, size = GOOD[name]
    (tmp_path / name).write_bytes(content)
    for source in (content, tmp_path / name, str(tmp_path / name)):
        picture = read_picture(source)
        assert (picture.mode, picture.size) == ("RGB", size)


@pytest.mark.parametrize("name", BAD)
def test_bad_files_get_one_sentence(tmp_path, name):
    content, sentence = BAD[name]
    (tmp_path / name).write_bytes(content)
    for source in (content, tmp_path / name):
        with pytest.raises(ValueError) as error:
            read_picture(source)
        assert str(error.value) == sentence


def test_heic_without_its_library_is_named(monkeypatch):
    monkeypatch.setattr("image_formats.pillow_heif", None)
    with pytest.raises(ValueError) as error:
        read_picture(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    assert str(error.value) == UNSUPPORTED.format("HEIC")


def test_file_that_was_deleted_meanwhile_gets_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="no longer on the server"):
        read_picture(tmp_path / "photo.jpg")


def test_folder_gets_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="cannot be opened: Is a directory"):
        read_picture(tmp_path)


def test_program_in_a_picture_is_not_run(monkeypatch):
    content = encode(RED, "EPS")
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *args, **kwargs: pytest.fail("run"))
    with pytest.raises(ValueError, match="PostScript files cannot be read"):
        read_picture(content)


@pytest.mark.parametrize("error", [RuntimeError("Failed to decode image"), NotImplementedError("format 0")])
def test_whatever_a_decoder_raises_gets_a_sentence(monkeypatch, error):
    def decode(image):
        raise error

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", decode)
    with pytest.raises(ValueError) as raised:
        read_picture(encode(RED))
    assert str(raised.value) == DAMAGED.format("PNG")


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/a.jpg", "data:image/png;base64,iVBORw0KGgo="])
def test_path_is_never_an_address(monkeypatch, address):
    monkeypatch.setattr("socket.create_connection", lambda *args, **kwargs: pytest.fail("connected"))
    with pytest.raises(ValueError, match="no longer on the server"):
        read_picture(address)
