"""Reads images: paths, addresses, PIL images, arrays and tensors."""

try:
    from .image_addresses import httpx, is_address, open_address
except ImportError:
    if __package__:  # remote code: the file is there, so this is an error in it
        raise
    from image_addresses import httpx, is_address, open_address

import os

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps


UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def to_rgb(image, timeout: float | None = None) -> Image.Image:
    """
    Converts an image to an upright RGB image, transparent pixels to white.

    Args:
        image: A path, an http(s), data: or file: address, a PIL image, or a uint8 array or tensor of shape `(height, width)`,
            `(height, width, 3)` or `(3, height, width)`.
        timeout: Seconds to wait for an http(s) address that sends nothing, by default 60.

    Raises:
        ValueError: if the input cannot be read as an image.
    """
    name = f"A {type(image).__name__}"
    try:
        if isinstance(image, torch.Tensor):
            image = image.cpu().numpy()
        if isinstance(image, np.ndarray):
            image = array_to_image(image)
        elif isinstance(image, str | os.PathLike):
            name = os.fspath(image)[:200]
            image = open_image(os.fspath(image), timeout)
        elif not isinstance(image, Image.Image):
            raise ValueError("expected a path, an address, a PIL image, an array or a tensor")
        image.load()
        # Only if needed: it copies upright images too, which takes gigabytes for the largest ones.
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
    except (*UNREADABLE, httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{name} cannot be read as an image: {reason}") from error
    image = to_8_bits(image)
    if image.has_transparency_data:  # white as in the image processor, since transparent pixels can hide any colour
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def open_image(source: str, timeout: float | None = None) -> Image.Image:
    """Opens the image at a path or an address without decoding it."""
    return Image.open(open_address(source, timeout) if is_address(source) else source)


def array_to_image(array: np.ndarray) -> Image.Image:
    """Converts a uint8 array of shape (height, width), (height, width, 1 or 3) or (1 or 3, height, width)."""
    if array.dtype != np.uint8:
        raise ValueError(f"arrays and tensors must hold uint8 pixels (0–255), got {array.dtype}")
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3) or 0 in array.shape:
        raise ValueError(f"expected the shape (height, width[, 3]) or (3, height, width), got {array.shape}")
    return Image.fromarray(np.ascontiguousarray(array))


def to_8_bits(image: Image.Image) -> Image.Image:
    """Converts a 16-bit grey image to 8 bits, which PIL would clip at 255. Returns other images unchanged."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
