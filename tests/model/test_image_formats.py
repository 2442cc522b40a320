"""Formats: which files are pictures, and how those that are not read are named."""

import io
import sys

import pytest

import image_formats
from image_formats import ImageError, find_picture_suffixes, looks_like_picture, name_format
from image_reading import to_rgb
from tests.support.pictures import PICTURE, encode


pytest.importorskip("pillow_heif")


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
    "text PPM": [b"P3 1 1 255\n1 2 3"],
    "DICOM": [bytes(128) + b"DICM"],
    "archive": [b"PK\3\4\x14\0", b"\x1f\x8b\x08\0", b"7z\xbc\xaf\x27\x1c\0\4", b"Rar!\x1a\7\0"],
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_known_formats_that_are_not_read_are_named(name):
    for start in UNSUPPORTED[name]:
        assert name_format(start + bytes(99)) == name and not looks_like_picture(start + bytes(99))
        with pytest.raises(ImageError, match=f"{name} is not supported"):
            to_rgb(start + bytes(99))


def test_heic_without_its_library_is_named(monkeypatch):
    content = encode("HEIF")
    monkeypatch.setattr(image_formats, "pillow_heif", None)
    with pytest.raises(ImageError, match="HEIC is not supported: convert it to JPEG or PNG, or install pillow-heif"):
        to_rgb(content)


def test_the_file_needs_no_pillow_heif(monkeypatch):
    source = image_formats.__spec__.loader.get_source("image_formats")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    names = {"__name__": "image_formats", "__package__": ""}
    exec(compile(source, "image_formats.py", "exec"), names)
    assert names["pillow_heif"] is None and "HEIF" not in names["FORMATS"]
    assert names["open_image"](io.BytesIO(encode("JPEG")), "JPEG").size == PICTURE.size


def test_pictures_are_known_by_their_start_and_their_suffix():
    formats = ["JPEG", "MPO", "PNG", "WEBP", "GIF", "AVIF", "BMP", "TIFF", "JPEG2000", "PPM", "ICO", "HEIF"]
    assert all(looks_like_picture(encode(format)[:1024]) for format in formats)
    assert not any(map(looks_like_picture, [b"", b"BMW is a car", b"dear diary", b"<html>", b"P5 is a processor"]))
    known = (
        ".jpg .jpeg .jpe .jfif .mpo .png .apng .webp .gif .avif .bmp .tif .tiff .jp2 .j2k .ppm .pgm .ico .heic .heif"
    )
    assert set(known.split()) <= find_picture_suffixes()
    assert not {".eps", ".pdf", ".svg", ".psd", ".txt", ""} & find_picture_suffixes()
