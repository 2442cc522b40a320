"""One notion of what is a picture: by suffix, else by first bytes, and never what a system lays beside photos."""

import io

import pytest
from PIL import Image

from files.pictures import PassedOver, is_picture, to_text


def encode(name: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, name)
    return stream.getvalue()


@pytest.mark.parametrize(
    "suffix", "jpg JPEG jpe jfif png webp bmp gif tif tiff avif jp2 mpo ppm ico heic HEIF".split()
)
def test_suffix_of_a_picture_decides(suffix):
    """A damaged photo is to be reported, not passed over."""
    assert is_picture(f"folder/photo.{suffix}", lambda: b"damaged")


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "PPM"])
def test_first_bytes_decide_where_the_suffix_is_unknown(name):
    assert is_picture("IMG_0001", lambda: encode(name)) and is_picture("photo.bak", lambda: encode(name))


@pytest.mark.parametrize("name", ["notes.txt", "clip.mp4", "README", "faces.parquet", "photo.jpg.json", "album.zip"])
def test_other_files_are_no_pictures(name):
    assert not is_picture(name, lambda: b"some text")


@pytest.mark.parametrize(
    "name",
    [
        "._a.jpg",
        "sub/._a.jpg",
        "__MACOSX/sub/a.jpg",
        ".DS_Store",
        "Thumbs.db",
        "sub/desktop.ini",
        ".thumbnails/a.jpg",
        "@eaDir/a.jpg",
    ],
)
def test_files_of_systems_are_no_pictures(name):
    assert not is_picture(name, lambda: encode("JPEG"))


def test_names_may_lead_out_of_a_folder():
    assert is_picture("../a.jpg", lambda: b"") and is_picture("./a.jpg", lambda: b"")


def fail():
    raise PermissionError("refused")


def test_file_that_cannot_be_looked_at_is_reported_like_a_picture():
    assert is_picture("photo", fail) and not is_picture(".hidden", fail)


def test_what_is_passed_over_is_counted():
    passed_over = PassedOver()
    assert str(passed_over) == ""
    passed_over.append("notes.txt")
    assert str(passed_over) == "1 other file was passed over, such as notes.txt."
    for _ in range(1999):
        passed_over.append("b.txt")
    assert str(passed_over) == "2,000 other files were passed over, such as notes.txt."


def test_names_can_be_stored_as_text():
    assert to_text("Größe 🎂 caf\udce9.jpg") == "Größe 🎂 caf\\udce9.jpg"
