"""Reads images as upright RGB: paths, addresses, files, bytes, PIL images, arrays and tensors. All are read here."""

try:
    from .image_formats import UNKNOWN_RANGE, ImageError, explain, find_format, open_image, repair
except ImportError:
    if __package__:  # remote code: the file is there, so this is an error in it
        raise
    from image_formats import UNKNOWN_RANGE, ImageError, explain, find_format, open_image, repair

import base64
import io
import os
import re
import string
import struct
from collections.abc import Iterable, Mapping
from typing import BinaryIO
from unicodedata import normalize
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit, urlunsplit
from urllib.request import url2pathname

import numpy as np
import torch
from PIL import ExifTags, Image


# In `try`: transformers requires the packages of all other imports to be installed before it loads remote code.
try:
    from huggingface_hub.utils import httpx  # the HTTP library of transformers
except ImportError:
    import httpx  # before huggingface_hub 2


TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TIMEOUT = 60.0  # seconds without a byte
ADDRESS = re.compile(r"(https?:[/\\]|file:[/\\]|data:)", re.IGNORECASE)
QUOTES = {'"': '"', "'": "'", "<": ">", "\u201c": "\u201d"}  # around an address that was copied from a text
NO_HOST = re.compile(r"[\x00- /?#@\\<>^|%\"`{}]")  # what the name of a site never holds
# Some sites refuse requests that do not name their sender.
HEADERS = {"User-Agent": "agegender", "Accept": "image/*,*/*;q=0.8"}
TIFF_SHORT = 3
STRIP = 256  # rows of an image that are processed at a time


def to_rgb(image, timeout: float | None = None) -> Image.Image:
    """
    Converts an image to an upright RGB image, transparent pixels to white.

    Of a file with several pages the first is read. A JPEG of more than 178 megapixels is read at 1/2, 1/4 or 1/8 of its size.

    Args:
        image: A path, an http(s), data: or file: address, the content of a file as bytes, a binary file, a PIL image, or a
            uint8 array or tensor of shape `(height, width)`, `(height, width, 3)` or `(3, height, width)`, channels in the
            order RGB.
        timeout: Seconds to wait for an http(s) address that sends nothing, by default 60.

    Returns:
        The image. For a file, its `info` holds `"reduction"`, 2, 4 or 8, if it was read at a part of its size, and
        `"more_pages"`, True, if the file holds further pages or frames.

    Raises:
        ImageError: a ValueError, if the input cannot be read as an image.
    """
    name = find_name(image)
    try:
        if isinstance(image, np.ndarray | torch.Tensor):
            return array_to_image(image).convert("RGB")
        if isinstance(image, Image.Image):
            return read_pil_image(image)
        if isinstance(image, str | os.PathLike):
            path = os.fsdecode(image)
            with open_address(path, timeout) if is_address(path) else open(path, "rb") as file:
                return read_file(file)
        if isinstance(image, bytes | bytearray | memoryview):
            return read_file(io.BytesIO(image))
        if hasattr(image, "read"):
            return read_file(image)
        hint = '; of a row, pass the image in it, as in row["image"]' if isinstance(image, Mapping) else ""
        raise ImageError(f"expected a path, an address, bytes, a binary file, a PIL image, an array or a tensor{hint}")
    except ImageError as error:
        raise ImageError(f"{name} cannot be read as an image: {error}", error.kind, error.format) from error
    except Exception as error:  # of files, addresses and of whatever an input does
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ImageError(f"{name} cannot be read as an image: {reason}") from error


def is_several(inputs) -> bool:
    """Returns whether an input is an iterable of images, such as a batch of shape `(batch, height, width, 3)`, not one image."""
    if isinstance(inputs, np.ndarray | torch.Tensor):
        is_list = isinstance(inputs, np.ndarray) and inputs.dtype.kind in "OUS"  # of paths or images, not of numbers
        return inputs.ndim == (1 if is_list else 4)
    one = (str, os.PathLike, bytes, bytearray, memoryview, Mapping, Image.Image)
    if isinstance(inputs, one) or hasattr(inputs, "read"):
        return False
    return isinstance(inputs, Iterable | torch.utils.data.Dataset)


def find_name(image) -> str:
    """Returns what to call an input in errors."""
    if isinstance(image, bytes | bytearray | memoryview):
        return "The file"
    if isinstance(image, str | os.PathLike):
        return os.fsdecode(image)[:200]
    path = getattr(image, "filename", "") if isinstance(image, Image.Image) else ""  # if it was opened by its path
    return find_name(path) if path else f"A {type(image).__name__}"


def read_pil_image(image: Image.Image) -> Image.Image:
    """Returns a PIL image as upright RGB; reads its file once more if it is opened but damaged."""
    try:
        image.load()
    except Exception:
        file = getattr(image, "fp", None)
        if file is None or image.tell():
            raise
        return read_file(file)
    return make_upright_rgb(image, find_orientation(image))


def read_file(file: BinaryIO) -> Image.Image:
    """Reads the first page of an image file as an upright RGB image, as `to_rgb` describes it."""
    if isinstance(file, io.TextIOBase):
        raise ImageError("it is open as text: open it with the mode 'rb'")
    if not hasattr(file, "seekable") or not file.seekable():
        file = io.BytesIO(file.read())
    name = find_format(file)
    try:
        return decode(file, name)
    except ImageError as error:
        error.format = error.format or name
        raise
    except Exception as error:  # Damaged files make decoders raise RuntimeError, NotImplementedError and others.
        file.seek(0)
        return read_damaged(file.read(), name, error)


def read_damaged(content: bytes, name: str, error: Exception) -> Image.Image:
    """Reads a file whose pixels may be whole though decoding raised `error`."""
    for repaired in repair(name, content):
        try:
            return decode(io.BytesIO(repaired), name)
        except ImageError:
            raise
        except Exception as other:
            error = other
    raise explain(error, name, content) from error


def decode(file: BinaryIO, name: str) -> Image.Image:
    """Decodes the first page of an undamaged file."""
    file.seek(0)
    with open_image(file, name) as image:
        info = {"reduction": image.info["reduction"]} if name == "JPEG" and "reduction" in image.info else {}
        image.load()
        # The further images of a JPEG are no pages: phones add previews and gain maps to photos.
        info |= {"more_pages": True} if name != "JPEG" and has_more_pages(image) else {}
        orientation = find_orientation(image)
        if name == "HEIC":
            file.seek(0)
            # These properties turn it while it is decoded, and EXIF repeats them. Some programs write EXIF alone.
            is_turned = re.search(rb"irot|imir", file.read())
            orientation = 1 if is_turned else image.info.get("original_orientation")
        image = make_upright_rgb(image, orientation)
    image.info = info
    return image


def has_more_pages(image: Image.Image) -> bool:
    try:
        return getattr(image, "is_animated", False)
    except Exception:  # a damaged second page, which nobody needs
        return True


def find_reduction(image: Image.Image) -> int:
    """Returns how many times smaller than its file an image from `to_rgb` is: 1, or 2, 4 or 8 for a very large JPEG."""
    reduction = image.info.get("reduction")
    return reduction if reduction in (2, 4, 8) else 1


def make_upright_rgb(image: Image.Image, orientation: int | None) -> Image.Image:
    """Returns a loaded image as upright RGB, transparent pixels white; the image itself if it is that."""
    image = to_8_bits(image)
    if image.has_transparency_data:
        image = lay_on_white(image)
    image = image if image.mode == "RGB" else image.convert("RGB")
    # Only if needed: it copies upright images too, which takes gigabytes for the largest ones.
    if orientation in TURNS:
        image = image.transpose(TURNS[orientation])
        image.info = {}  # It may hold the orientation, which would turn the image once more.
    return image


def lay_on_white(image: Image.Image) -> Image.Image:
    """Makes transparent pixels white, as the image processor does, since they can hide any colour."""
    flat = Image.new("RGB", image.size)
    for top in range(0, image.height, STRIP):  # Whole copies of the largest images would take gigabytes.
        strip = image.crop((0, top, image.width, min(top + STRIP, image.height))).convert("RGBA")
        flat.paste(Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip), (0, top))
    return flat


def find_orientation(image: Image.Image) -> int | None:
    """Returns the EXIF orientation, 1–8; another value or None if there is none."""
    try:
        if orientation := image.getexif().get(ExifTags.Base.Orientation):
            return orientation
    except Exception:  # Damaged EXIF raises SyntaxError, struct.error and others, and costs no photo.
        pass
    # In other formats, EXIF does not decide.
    return read_orientation(image.info.get("exif") or b"") if image.format in ("JPEG", "MPO", "PNG", "WEBP") else None


def read_orientation(exif: bytes) -> int | None:
    """Reads the orientation out of damaged EXIF, of which Pillow reads nothing behind the first damaged entry."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = "<" if exif.startswith(b"II") else ">"
    try:
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, start)
        for position in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, position)
            if (tag, kind) == (ExifTags.Base.Orientation, TIFF_SHORT):
                return value
    except struct.error:  # It ends before.
        pass
    return None


def to_8_bits(image: Image.Image) -> Image.Image:
    """
    Converts a 16-bit grey image to 8 bits, which PIL would clip at 255. Returns 8-bit images unchanged.

    Raises:
        ImageError: if the image holds floats or numbers of 32 bits, whose range is not known.
    """
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    is_16_bit = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if set(tags.get(ExifTags.Base.SampleFormat, (1,))) <= {1, 4} and (is_16_bit or image.mode not in ("I", "F")):
        return scale_to_8_bits(image, tags) if is_16_bit else image
    raise ImageError(UNKNOWN_RANGE, "unknown range")


def scale_to_8_bits(image: Image.Image, tags: dict) -> Image.Image:
    bits = 12 if tags.get(ExifTags.Base.BitsPerSample) == (12,) else 16
    pixels = (np.asarray(image) >> (bits - 8)).clip(0, 255).astype(np.uint8)
    is_negative = tags.get(ExifTags.Base.PhotometricInterpretation) == 0  # which Pillow handles for 8 bits only
    return Image.fromarray(255 - pixels if is_negative else pixels)


def array_to_image(array: np.ndarray | torch.Tensor) -> Image.Image:
    """Converts uint8 values of shape (height, width), (height, width, 1 or 3) or (1 or 3, height, width)."""
    if array.dtype not in (np.uint8, torch.uint8):
        raise ImageError(f"arrays and tensors must hold uint8 pixels (0–255), got {array.dtype}", "unknown range")
    if isinstance(array, torch.Tensor):
        array = array.cpu().numpy()
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3) or 0 in array.shape:
        raise ImageError(f"expected the shape (height, width[, 3]) or (3, height, width), got {array.shape}")
    return Image.fromarray(np.ascontiguousarray(array))


def is_address(text: str) -> bool:
    """Returns whether a text is an address rather than a path."""
    return bool(ADDRESS.match(strip_quotes(text)))


def is_data(text: str) -> bool:
    """Returns whether a text is a data: address."""
    return strip_quotes(text)[:5].lower() == "data:"


def strip_quotes(text: str) -> str:
    """Removes the blanks, and a pair of quotes or angle brackets, around an address."""
    text = text.strip()
    return text[1:-1].strip() if len(text) > 1 and QUOTES.get(text[0]) == text[-1] else text


def clean_address(address: str) -> str:
    """
    Writes an http(s) address as browsers understand it: without line breaks, with slashes, and with a host that is a name.

    Raises:
        ValueError: if the host or the port cannot be one.
    """
    before, *query = re.split("(?=[?#])", strip_quotes(address), maxsplit=1)
    before = re.sub("^(https?):/*", r"\1://", before.replace("\\", "/"), flags=re.IGNORECASE)
    parts = urlsplit("".join([before, *query]))  # removes tabs and line breaks, and writes the scheme in small letters
    user, at, host = parts.netloc.rpartition("@")
    host = normalize("NFKC", unquote(host)).lower()
    if NO_HOST.search(host) or parts.port == 0:  # `port` raises ValueError for anything else that is none
        raise ValueError(f"{host} is no name of a site")
    try:
        httpx.URL(f"http://{host}")
    except httpx.InvalidURL:  # a name that only browsers take, such as one of emoji
        host = host.encode("idna").decode()
    return urlunsplit(parts._replace(netloc=user + at + host))


def read_location(response: httpx.Response) -> str:
    """Returns the address in the header `Location`, in which servers write names in bytes of any encoding."""
    [location] = [value for name, value in response.headers.raw if name.lower() == b"location"][:1]
    return clean_address(quote(location, safe=string.printable))


def open_address(address: str, timeout: float | None = None) -> BinaryIO:
    """
    Opens what lies at an address.

    Args:
        address: An http(s), data: or file: address. Blanks and quotes around it are ignored.
        timeout: Seconds to wait for a byte from an http(s) address, by default `TIMEOUT`.

    Raises:
        ValueError, OSError or an error of httpx: if there is nothing to read.
    """
    address = strip_quotes(address)
    if is_data(address):
        return io.BytesIO(decode_data(address))
    if address[:5].lower() == "file:":
        return open(find_path(address), "rb")
    options = {"timeout": TIMEOUT if timeout is None else timeout, "follow_redirects": True, "headers": HEADERS}
    with httpx.Client(**options, event_hooks={"response": [mend_headers]}) as client:
        response = client.get(clean_address(address))
    content = response.raise_for_status().content
    if not content:
        raise ValueError("the answer is empty")
    return io.BytesIO(content)


def mend_headers(response: httpx.Response):
    """Writes the headers of a response so that httpx reads them as a browser does."""
    if response.has_redirect_location:
        response.headers["location"] = read_location(response)
    if "content-encoding" in response.headers:
        response.headers["content-encoding"] = response.headers["content-encoding"].lower().replace("x-gzip", "gzip")


def decode_data(address: str) -> bytes:
    """Decodes the content of a data: address: percent-encoded or base64 of either alphabet, with or without its padding."""
    header, comma, content = strip_quotes(address).partition(",")
    if not comma:
        raise ValueError("a data: address needs a comma before its content")
    content = unquote_to_bytes(content.partition("#")[0])
    if not re.search(r";\s*base64\s*$", header, re.IGNORECASE):
        return content
    content = re.sub(rb"\s+", b"", content).translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
    return base64.b64decode(content + b"=" * (-len(content) % 4), validate=True)


def find_path(address: str) -> str:
    """Returns the path of a file: address. Raises ValueError if it names another computer."""
    parts = urlsplit(address.replace("\\", "/"))
    if parts.netloc.lower() not in ("", "localhost"):
        raise ValueError(
            f"{parts.netloc} is another computer: give a path, or an address such as file:///home/me/photo.jpg"
        )
    return url2pathname(parts.path)
