"""Reads images: paths, addresses, files, bytes, PIL images, arrays and tensors. All files are decoded here."""

try:
    from .image_addresses import is_address, open_address
    from .image_repair import (
        END_OF_IMAGE,
        MAX_PIXELS_IN_SCANS,
        SCAN,
        CutOffError,
        ends_early,
        find_markers,
        find_misread,
        has_unknown_range,
        is_too_short,
        read_exif_orientation,
        repair,
    )
except ImportError:
    if __package__:  # remote code: the file is there, so this is an error in it
        raise
    from image_addresses import is_address, open_address
    from image_repair import (
        END_OF_IMAGE,
        MAX_PIXELS_IN_SCANS,
        SCAN,
        CutOffError,
        ends_early,
        find_markers,
        find_misread,
        has_unknown_range,
        is_too_short,
        read_exif_orientation,
        repair,
    )

import io
import os
import re
from functools import cache
from typing import BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile


# In `try`: transformers requires the packages of all other imports to be installed before it loads remote code.
try:
    import pillow_heif  # optional: photos of telephones

    pillow_heif.register_heif_opener()
except ImportError:
    pillow_heif = None


# Pillow's other formats are left out: for EPS, it runs the program in the file.
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "AVIF", "BMP", "TIFF", "JPEG2000", "PPM", "ICO"]
FORMATS += ["HEIF"] if pillow_heif else []
START_BYTES = 1024  # enough to name a format
# What a file starts with; the first that fits counts. Formats that are not read have names too, for a useful error.
SIGNATURES = {
    "camera raw": rb"II\*\0....CR\x02\0|....ftypcrx |FUJIFILMCCD-RAW|IIR[OS]|MMOR|IIU\0|FOVb|\0MRM|II\x1a\0\0\0HEAP",
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WebP": rb"RIFF....WEBP",
    "GIF": rb"GIF8[79]a",
    "AVIF": rb"....ftyp(avi[fs]|(mif1|miaf).{4}(....)*?avif)",
    "HEIC": rb"....ftyp(hei[cxms]|hev[cxms]|mif[12]|miaf|msf1|avc[is]|jpeg|jpgs|j2ki)",
    "BMP": rb"BM.{12}[\x0c(48@l|]\0\0\0",
    "TIFF": rb"II(\*\0|\0\*|\+\0)|MM(\*\0|\0\*|\0\+)",
    "JPEG 2000": rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n",
    "PPM": rb"P[4-6Ff]\s+[#\d]",
    "ICO": rb"\0\0\x01\0",
    "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n",
    "JPEG XR": rb"II\xbc",
    "text PPM": rb"P[123]\s+[#\d]",  # Pillow parses it slowly, in Python.
    "SVG": rb"(?i)(\xef\xbb\xbf)?\s*<(svg|(\?xml|!--|!doctype svg).*<svg)",
    "Photoshop": rb"8BPS",
    "GIMP": rb"gimp xcf",
    "PDF": rb"\s*%PDF",
    "PostScript": rb"%!|\xc5\xd0\xd3\xc6",
    "OpenEXR": rb"v/1\x01",
    "Radiance HDR": rb"#\?R",
    "video": rb"....(ftyp|moov|mdat|wide|free|skip)|\x1aE\xdf\xa3|RIFF....AVI |FLV|\0\0\x01[\xb3\xba]|0&\xb2u|OggS",
    "DICOM": rb".{128}DICM",
    "QOI": rb"qoif",
    "DDS": rb"DDS ",
    "archive": rb"PK\x03\x04|PK\x05\x06|\x1f\x8b|7z\xbc\xaf\x27\x1c|Rar!|BZh|\xfd7zXZ|.{257}ustar",
}
READABLE = {"JPEG", "PNG", "WebP", "GIF", "AVIF", "HEIC", "BMP", "TIFF", "JPEG 2000", "PPM", "ICO"}
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
REDUCTION, MORE_PAGES = "reduction", "more_pages"  # keys of `info` of the images that `to_rgb` returns
MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 89_478_485)  # above which Pillow opens nothing by default: 178 megapixels
# Each scan takes as long as decoding the whole picture and may be a few bytes long. Programs write about ten.
MAX_SCANS = 100
MAX_WEBP_SIDE = 16_383  # of a frame; a damaged canvas takes seconds and gigabytes
STRIP = 256  # rows of an image that are processed at a time
UNKNOWN_RANGE = "it holds floats, signed or 32-bit numbers, whose range is not known: convert them to 8 bits (0–255)"


class ImageError(ValueError):
    """
    An image that cannot be read.

    Args:
        reason: What was given and what to do.
        kind: "empty", "cut off", "too large", "too many scans", "unknown range", "unsupported", "damaged" or "unknown".
        format: Name of the file's format, if it is known.
    """

    def __init__(self, reason: str, kind: str = "unknown", format: str | None = None):
        super().__init__(reason)
        self.reason, self.kind, self.format = reason, kind, format


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
            with open_image(os.fsdecode(image), timeout) as file:
                return read_file(file)
        if isinstance(image, bytes | bytearray | memoryview):
            return read_file(io.BytesIO(image))
        if hasattr(image, "read"):
            return read_file(image)
        raise ImageError("expected a path, an address, bytes, a binary file, a PIL image, an array or a tensor")
    except ImageError as error:
        raise ImageError(f"{name} cannot be read as an image: {error}", error.kind, error.format) from error
    except Exception as error:  # of files, addresses and of whatever an input does
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ImageError(f"{name} cannot be read as an image: {reason}") from error


def find_name(image) -> str:
    """Returns what to call an input in errors."""
    if isinstance(image, bytes | bytearray | memoryview):
        return "The file"
    if isinstance(image, str | os.PathLike):
        return os.fsdecode(image)[:200]
    return f"A {type(image).__name__}"


def open_image(source: str, timeout: float | None = None) -> BinaryIO:
    """Opens the file at a path or an address."""
    return open_address(source, timeout) if is_address(source) else open(source, "rb")


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
    file.seek(0)
    start = file.read(START_BYTES)
    name = name_format(start)
    if not start:
        raise ImageError("it is empty", "empty")
    if name is None:
        raise ImageError("it is of no known format: give a JPEG, PNG, WebP or GIF, for instance")
    if name not in READABLE or (name == "HEIC" and not pillow_heif):
        hint = ", or install pillow-heif" if name == "HEIC" else ""
        raise ImageError(f"{name} is not supported: convert it to JPEG or PNG{hint}", "unsupported", name)
    try:
        return decode(file, name)
    except ImageError as error:
        error.format = error.format or name
        raise
    except Exception as error:  # Damaged files make decoders raise RuntimeError, NotImplementedError and others.
        file.seek(0)
        return decode_damaged(file.read(), name, error)


def decode_damaged(content: bytes, name: str, error: Exception) -> Image.Image:
    """Decodes a file whose pixels may be whole though decoding raised `error`."""
    is_cut_off = False
    try:
        for repaired in repair(name, content):
            try:
                return decode(io.BytesIO(repaired), name)
            except Exception as other:
                error = other
    except CutOffError:
        is_cut_off = True
    if isinstance(error, ImageError):
        raise error
    if isinstance(error, Image.DecompressionBombError | MemoryError):
        raise ImageError(f"it is too large ({error})", "too large", name) from error
    if is_cut_off or "truncated" in str(error).lower() or ends_early(name, content):
        reason = "it is cut off, a part of its pixels is missing: fetch or save it again"
        raise ImageError(reason, "cut off", name) from error
    if name == "TIFF" and has_unknown_range(content):
        raise ImageError(UNKNOWN_RANGE, "unknown range", name) from error
    # Pillow's own message names an object in memory.
    is_header = isinstance(error, Image.UnidentifiedImageError)
    reason = "its header cannot be read" if is_header else str(error).partition("\n")[0] or type(error).__name__
    advice = "convert it to PNG or JPEG, or fetch it again"
    raise ImageError(
        f"this {name} is damaged, cut off or of a rare kind ({reason}): {advice}", "damaged", name
    ) from error


def decode(file: BinaryIO, name: str) -> Image.Image:
    """Decodes the first page of an undamaged file."""
    file.seek(0)
    with open_jpeg(file.read()) if name == "JPEG" else Image.open(file, formats=FORMATS) as image:
        info = {REDUCTION: image.info[REDUCTION]} if REDUCTION in image.info else {}
        if misread := find_misread(image):
            raise ImageError(f"{misread} is not supported: convert it to JPEG or PNG", "unsupported", misread)
        if name == "WebP" and max(image.size) > MAX_WEBP_SIDE:
            raise Image.DecompressionBombError(f"a WebP has at most {MAX_WEBP_SIDE} pixels a side")
        image.load()
        # The further images of a JPEG are no pages: phones add previews and gain maps to photos.
        info |= {MORE_PAGES: True} if name != "JPEG" and has_more_pages(image) else {}
        orientation = find_orientation(image)
        if name == "HEIC":
            file.seek(0)
            # These properties turn it while it is decoded, and EXIF repeats them. Some programs write EXIF alone.
            is_turned = re.search(rb"irot|imir", file.read())
            orientation = 1 if is_turned else image.info.get("original_orientation")
        image = make_upright_rgb(image, orientation)
    image.info = info
    return image


def open_jpeg(content: bytes) -> Image.Image:
    """Opens a JPEG; a very large one so that a smaller image of it is decoded, with `"reduction"` in `info`."""
    scans, marker = 0, None
    for marker, *_ in find_markers(content):
        scans += marker == SCAN
        if scans > MAX_SCANS:
            raise ImageError(f"it is drawn in more than {MAX_SCANS} scans: save it again", "too many scans", "JPEG")
    if marker != END_OF_IMAGE:
        raise CutOffError
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError as error:
        image = JpegImageFile(io.BytesIO(content))  # which opens a file of any size
        if scans > 1 and image.width * image.height > MAX_PIXELS_IN_SCANS:
            raise error
    if is_too_short(image, content):
        raise CutOffError
    if image.width * image.height > MAX_PIXELS:
        image.info[REDUCTION] = reduce_jpeg(image)
    return image


def reduce_jpeg(image: JpegImageFile) -> int:
    """Makes a JPEG decode to 1/2, 1/4 or 1/8 of its size, the largest within Pillow's limit; returns 2, 4 or 8."""
    for factor in (2, 4, 8):
        if image.width * image.height <= factor**2 * MAX_PIXELS:
            break
    image.draft(None, (image.width // factor, image.height // factor))
    return factor


def has_more_pages(image: Image.Image) -> bool:
    try:
        return getattr(image, "is_animated", False)
    except Exception:  # a damaged second page, which nobody needs
        return True


def find_reduction(image: Image.Image) -> int:
    """Returns how many times smaller than its file an image from `to_rgb` is: 1, or 2, 4 or 8 for a very large JPEG."""
    reduction = image.info.get(REDUCTION)
    return reduction if reduction in (2, 4, 8) else 1


def make_upright_rgb(image: Image.Image, orientation: int | None) -> Image.Image:
    """Returns a loaded image as upright RGB, transparent pixels white; the image itself if it is that."""
    turn = TURNS.get(orientation)
    image = to_8_bits(image)
    if image.has_transparency_data:
        image = lay_on_white(image)
    image = image if image.mode == "RGB" else image.convert("RGB")
    # Only if needed: it copies upright images too, which takes gigabytes for the largest ones.
    if turn is not None:
        image = image.transpose(turn)
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
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # Damaged EXIF raises SyntaxError, struct.error and others, and costs no photo.
        orientation = None
    # In other formats, EXIF does not decide.
    if orientation is None and image.format in ("JPEG", "MPO", "PNG", "WEBP"):
        orientation = read_exif_orientation(image.info.get("exif") or b"")
    return orientation


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


def name_format(start: bytes) -> str | None:
    """Returns the name of the format that a file has by its first 1,024 bytes, for instance "JPEG" or "video"."""
    return next((name for name, pattern in SIGNATURES.items() if re.match(pattern, start, re.DOTALL)), None)


def looks_like_picture(start: bytes) -> bool:
    """Whether a file is a picture by its first 1,024 bytes. HEIC is one even if it cannot be read here."""
    return name_format(start) in READABLE


@cache
def find_picture_suffixes() -> frozenset[str]:
    """Returns the lower-case suffixes of pictures, as ".jpg"; HEIC's even if it cannot be read here."""
    suffixes = {suffix for suffix, name in Image.registered_extensions().items() if name in (*FORMATS, "MPO")}
    return frozenset(suffixes | {".heic", ".heif", ".hif"})
