"""Decoding: orientation, transparency, depth."""

from image_reading import to_rgb


def test_transparent_pixels_are_white(noise):
    clear = noise.copy()
    clear.putalpha(0)
    assert to_rgb(clear).getcolors() == [(48 * 40, (255, 255, 255))]


def test_upright_rgb_picture_is_not_copied(photo):
    """The largest that the page takes would be 0.7 GB each time."""
    assert to_rgb(photo) is photo
