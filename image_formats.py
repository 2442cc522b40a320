"""Knows image formats: recognises and opens files, takes damaged metadata out of them and tells why one cannot be read."""

import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import BinaryIO

from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2


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
    "text PPM": rb"P[123]\s+[#\d]",  # Pillow parses it slowly, in Python.
    "SVG": rb"(?i)(\xef\xbb\xbf)?\s*<(svg|(\?xml|!--|!doctype svg).*<svg)",
    "Photoshop": rb"8BPS",
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
MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 89_478_485)  # above which Pillow opens nothing by default: 178 megapixels
# Each scan takes as long as decoding the whole picture and may be a few bytes long. Programs write about ten.
MAX_SCANS = 100
UNKNOWN_RANGE = "it holds floats, signed or 32-bit numbers, whose range is not known: convert them to 8 bits (0–255)"
CUT_OFF = "it is cut off, a part of its pixels is missing: fetch or save it again"
MAX_WEBP_SIDE = 16_383  # of a frame; a damaged canvas takes seconds and gigabytes

# Chunks and segments of pixels. tRNS, ALPH: transparency. APP0, APP14: the meaning of the colours.
PNG_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
PNG_ORIENTATION = re.compile(rb"eXIf|(iTXtXML:com\.adobe\.xmp|[tz][ET]XtRaw profile type exif)\0", re.DOTALL)
WEBP_PIXELS = {b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"}
WEBP_ORIENTATION = {b"EXIF", b"XMP "}
# Tags of sizes, colours and the places of pixels, and those that tell a camera's raw image.
TIFF_PIXELS = {*range(254, 260), 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, *range(320, 326), 330}
TIFF_PIXELS |= {332, 338, 339, 347, *range(512, 522), 529, 530, 532, 50706}
# A marker with a length that libjpeg trusts, or the end of a JPEG.
JPEG_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")
JPEG_FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
END_OF_IMAGE, SCAN, APP0, APP1, APP14 = 0xD9, 0xDA, 0xE0, 0xE1, 0xEE
# Decoders hold all of a JPEG of several scans, 6 bytes a pixel at most, however small the picture that is wanted.
MAX_PIXELS_IN_SCANS = 250_000_000
JPEG_END = b"\xff\xd9"
JPEG_2000_START, JPEG_2000_TILE = b"\xff\x4f\xff\x51", re.compile(rb"\xff\x90\0\x0a(..)", re.DOTALL)
EMPTY_END = bytes(4096)  # What programs that did not finish leave; too long to be pixels of a JPEG.
# Codes that begin differently from each other and from the zeros that libjpeg takes for missing ones; no marker.
FILLERS = [b"", *(bytes((a + b * index) % 255 for index in range(1000)) for a, b in ((181, 37), (74, 91)))]


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


def name_format(start: bytes) -> str | None:
    """Returns the name of the format that a file has by its first 1,024 bytes, for instance "JPEG" or "video"."""
    return next((name for name, pattern in SIGNATURES.items() if re.match(pattern, start, re.DOTALL)), None)


def looks_like_picture(start: bytes) -> bool:
    """Returns whether a file is a picture by its first 1,024 bytes. HEIC is one even if it cannot be read here."""
    return name_format(start) in READABLE


@cache
def find_picture_suffixes() -> frozenset[str]:
    """Returns the lower-case suffixes of pictures, as ".jpg"; HEIC's even if it cannot be read here."""
    suffixes = {suffix for suffix, name in Image.registered_extensions().items() if name in (*FORMATS, "MPO")}
    return frozenset(suffixes | {".heic", ".heif", ".hif"})


def find_format(file: BinaryIO) -> str:
    """Returns the name of a file's format. Raises ImageError if it cannot be read here."""
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
    return name


def open_image(file: BinaryIO, name: str) -> Image.Image:
    """Opens an undamaged file of a format. Raises ImageError if Pillow would misread it."""
    image = open_jpeg(file.read()) if name == "JPEG" else Image.open(file, formats=FORMATS)
    if misread := find_misread(image):
        raise ImageError(f"{misread} is not supported: convert it to JPEG or PNG", "unsupported", misread)
    if name == "WebP" and max(image.size) > MAX_WEBP_SIDE:
        raise Image.DecompressionBombError(f"a WebP has at most {MAX_WEBP_SIDE} pixels a side")
    return image


def open_jpeg(content: bytes) -> Image.Image:
    """Opens a JPEG; a very large one so that a smaller image of it is decoded, with the factor as `"reduction"` in `info`."""
    scans, marker = 0, None
    for marker, *_ in find_markers(content):
        scans += marker == SCAN
        if scans > MAX_SCANS:
            raise ImageError(f"it is drawn in more than {MAX_SCANS} scans: save it again", "too many scans", "JPEG")
    if marker != END_OF_IMAGE:
        raise OSError("truncated")
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError as error:
        image = JpegImageFile(io.BytesIO(content))  # which opens a file of any size
        if scans > 1 and image.width * image.height > MAX_PIXELS_IN_SCANS:
            raise error
    if is_too_short(image, content):
        raise OSError("truncated")
    factor = next((factor for factor in (1, 2, 4) if image.width * image.height <= factor**2 * MAX_PIXELS), 8)
    if factor > 1:
        image.draft(None, (image.width // factor, image.height // factor))
        image.info["reduction"] = factor
    return image


def find_misread(image: Image.Image) -> str | None:
    """Names the kind of a TIFF whose pixels Pillow would read wrongly, or of which it would read a preview only."""
    tags = getattr(image, "tag_v2", {})
    is_preview = tags.get(ExifTags.Base.NewSubfileType, 0) == 1 and ExifTags.Base.SubIFDs in tags
    if ExifTags.Base.DNGVersion in tags or is_preview:  # DNG; NEF, ARW and others
        return "camera raw"
    if tags.get(ExifTags.Base.PlanarConfiguration) == 2 and max(tags.get(ExifTags.Base.BitsPerSample, (1,))) > 8:
        return "16-bit TIFF in planes"
    if tags.get(ExifTags.Base.PhotometricInterpretation) == 6 and tags.get(ExifTags.Base.Compression, 1) == 1:
        return "uncompressed YCbCr TIFF"
    return None


def repair_png(content: bytes, keep_orientation: bool) -> bytes:
    kept, position, found = [content[:8]], 8, set()
    while position + 12 <= len(content) and b"IEND" not in found:
        length, chunk = struct.unpack_from(">I4s", content, position)
        end = position + 12 + length
        data = content[position + 8 : end - 4]
        is_intact = zlib.crc32(chunk + data) == int.from_bytes(content[end - 4 : end], "big")
        is_critical = chunk[:1].isupper()  # left as it is: a decoder must refuse wrong sizes and palettes
        if chunk in PNG_PIXELS and (is_critical or is_intact):
            kept.append(content[position:end])
        elif keep_orientation and is_intact and PNG_ORIENTATION.match(chunk + data):
            kept.append(content[position:end])
        found.add(chunk)
        position = end
    if b"IDAT" not in found:
        raise ImageError(CUT_OFF, "cut off")
    return b"".join(kept)


def repair_webp(content: bytes, keep_orientation: bool) -> bytes:
    kept, position, has_pixels = [], 12, False
    while position + 8 <= len(content):
        chunk, length = struct.unpack_from("<4sI", content, position)
        data = content[position + 8 : position + 8 + length]
        position += 8 + length + length % 2
        if chunk in WEBP_PIXELS and len(data) < length:
            raise ImageError(CUT_OFF, "cut off")
        if chunk in WEBP_PIXELS or (keep_orientation and chunk in WEBP_ORIENTATION and len(data) == length):
            kept.append(struct.pack("<4sI", chunk, length) + data + bytes(length % 2))
            has_pixels |= chunk in (b"VP8 ", b"VP8L", b"ANMF")
    if not has_pixels:
        raise ImageError(CUT_OFF, "cut off")
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def repair_jpeg(content: bytes, keep_orientation: bool) -> bytes:
    kept, rest, has_end = [content[:2]], None, False
    for marker, start, end in find_markers(content):
        if rest is None and (is_jpeg_pixels(marker, content[start:end]) or (keep_orientation and marker == APP1)):
            kept.append(content[start:end])
        if rest is None and marker == SCAN:
            rest = content[end:]
        has_end = marker == END_OF_IMAGE
    if rest is None:
        raise ImageError(CUT_OFF, "cut off")
    jpeg = b"".join(kept) + rest
    if has_end:
        return jpeg
    is_empty, jpeg = jpeg.endswith(EMPTY_END), jpeg.removesuffix(b"\xff")
    # What follows the last pixel changes none.
    if is_empty or not has_all_scans(jpeg) or len({decode_small(jpeg + filler + JPEG_END) for filler in FILLERS}) > 1:
        raise ImageError(CUT_OFF, "cut off")
    return jpeg + JPEG_END


def has_all_scans(jpeg: bytes) -> bool:
    """Returns whether a JPEG has begun to send each of the 64 coefficients of each colour with all its bits."""
    missing = set()
    for marker, start, end in find_markers(jpeg):
        segment = jpeg[start:end]
        if marker in JPEG_FRAMES:
            missing = {(colour, index) for colour in segment[10:22:3] for index in range(64)}
        elif marker == SCAN and segment[-1] & 15 == 0:  # the bits that are left for a later scan
            colours, indices = segment[5 : 5 + 2 * segment[4] : 2], range(segment[-3], segment[-2] + 1)
            missing -= {(colour, index) for colour in colours for index in indices}
    return not missing


def find_markers(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yields the markers of a JPEG, up to its end: the marker, and the start and end of its segment."""
    position = 0
    while found := JPEG_MARKER.search(content, position):
        marker, position = content[found.end() - 1], found.end()
        if marker != END_OF_IMAGE:
            position += int.from_bytes(content[position : position + 2], "big")
        yield marker, found.start(), position
        if marker == END_OF_IMAGE:
            return


def is_jpeg_pixels(marker: int, segment: bytes) -> bool:
    if marker in (APP0, APP14):
        return segment[4:9] in (b"JFIF\0", b"Adobe") and len(segment) >= 16
    return marker < APP0


def is_too_short(image: JpegImageFile, content: bytes) -> bool:
    """Returns whether a JPEG has more pixels than its bytes can hold: a block of 8 × 8 takes at least one bit."""
    return image.width * image.height > 8 * 64 * len(content)


def decode_small(jpeg: bytes) -> bytes:
    """Decodes a JPEG at up to 1/8 of its size, but 2,000 pixels a side; refuses one that would take much memory."""
    image = JpegImageFile(io.BytesIO(jpeg))
    if is_too_short(image, jpeg) or image.width * image.height > MAX_PIXELS_IN_SCANS:
        raise ImageError(CUT_OFF, "cut off")
    image.draft(None, (2000, 2000))
    return image.tobytes()


def repair_gif(content: bytes, keep_orientation: bool) -> bytes:
    colours = 3 * 2 ** ((content[10] & 7) + 1) if content[10] & 0x80 else 0
    start = 13 + colours
    frame = content.find(b",\0\0\0\0" + content[6:10], start)  # of the size of the whole image
    control = re.findall(rb"!\xf9\x04.{4}\0", content[start:frame], re.DOTALL)[-1:]  # transparency
    return content[:start] + b"".join(control) + content[frame:] if frame > 0 else content


def repair_jpeg_2000(content: bytes, keep_orientation: bool) -> bytes:
    width, height, _, _, *tile = struct.unpack_from(">8I", content, content.index(JPEG_2000_START) + 8)
    num_tiles = -((tile[2] - width) // tile[0]) * -((tile[3] - height) // tile[1])
    if len(set(JPEG_2000_TILE.findall(content))) < num_tiles:  # Pillow would leave the missing ones black.
        raise ImageError(CUT_OFF, "cut off")
    return content.removesuffix(b"\xff") + JPEG_END


def repair_avif(content: bytes, keep_orientation: bool) -> bytes:
    """Renames the item of EXIF. The orientation is no part of it."""
    return re.sub(rb"(infe.{8}|infe.{10})Exif", rb"\1skip", content, flags=re.DOTALL)


def repair_tiff(content: bytes, keep_orientation: bool) -> bytes:
    order = "<" if content.startswith(b"II") else ">"
    (start,) = struct.unpack_from(order + "I", content, 4)
    (count,) = struct.unpack_from(order + "H", content, start)
    entries = [content[position : position + 12] for position in range(start + 2, start + 2 + 12 * count, 12)]
    tags = TIFF_PIXELS | ({ExifTags.Base.Orientation} if keep_orientation else set())
    kept = [entry for entry in entries if struct.unpack_from(order + "H", entry)[0] in tags]
    directory = struct.pack(order + "H", len(kept)) + b"".join(kept) + bytes(4)  # no further page
    return content[:start] + directory + content[start + len(directory) :]  # Whatever lies behind stays where it is.


REPAIRS: dict[str, Callable[[bytes, bool], bytes]] = {
    "TIFF": repair_tiff,
    "PNG": repair_png,
    "JPEG": repair_jpeg,
    "WebP": repair_webp,
    "GIF": repair_gif,
    "JPEG 2000": repair_jpeg_2000,
    "AVIF": repair_avif,
    "HEIC": repair_avif,
}


def repair(name: str, content: bytes) -> Iterator[bytes]:
    """
    Yields files of the same pixels without metadata: first with the orientation, then without.

    Raises:
        ImageError: if pixels are missing.
    """
    for keep_orientation in (True, False) if name in REPAIRS else ():
        try:
            repaired = REPAIRS[name](content, keep_orientation)
        except ImageError:
            raise
        except Exception:  # The damage is not in the metadata alone.
            return
        yield repaired


def has_unknown_range(tiff: bytes) -> bool:
    """Returns whether a TIFF that Pillow does not open holds floats, signed numbers or such of more than 16 bits."""
    try:
        tags, file = ImageFileDirectory_v2(tiff[:8]), io.BytesIO(tiff)
        file.seek(tags.next)
        tags.load(file)
        is_unsigned = set(tags.get(ExifTags.Base.SampleFormat, (1,))) <= {1, 4}
        return not is_unsigned or max(tags.get(ExifTags.Base.BitsPerSample, (1,))) > 16
    except Exception:  # damaged
        return False


def ends_early(name: str, content: bytes) -> bool:
    """Returns whether a damaged file ends before a part that it announces."""
    if content.endswith(EMPTY_END):
        return True
    if name in ("AVIF", "HEIC"):
        position = 0
        while position < len(content):
            size = int.from_bytes(content[position : position + 4], "big")
            position += size if size >= 8 else len(content)  # 0 stands for the rest of the file
        return position > len(content) and size >= 8
    if name == "TIFF":  # which begins with the position of its directory
        order = "little" if content.startswith(b"II") else "big"
        start = int.from_bytes(content[4:8], order)
        return start + 2 + 12 * int.from_bytes(content[start : start + 2], order) > len(content)
    if name == "ICO":  # which lists the sizes and positions of its images
        count = int.from_bytes(content[4:6], "little")
        entries = [content[position : position + 16] for position in range(6, 6 + 16 * count, 16)]
        return any(len(entry) < 16 or sum(struct.unpack("<II", entry[8:])) > len(content) for entry in entries)
    return name == "JPEG 2000" and not content.endswith(JPEG_END)


def explain(error: Exception, name: str, content: bytes) -> ImageError:
    """Returns the reason why a file cannot be decoded although it was repaired."""
    if isinstance(error, Image.DecompressionBombError | MemoryError):
        return ImageError(f"it is too large ({error})", "too large", name)
    if name == "TIFF" and has_unknown_range(content):
        return ImageError(UNKNOWN_RANGE, "unknown range", name)
    if "truncated" in str(error).lower() or ends_early(name, content):
        return ImageError(CUT_OFF, "cut off", name)
    # Pillow's own message names an object in memory.
    is_header = isinstance(error, Image.UnidentifiedImageError)
    reason = "its header cannot be read" if is_header else str(error).partition("\n")[0] or type(error).__name__
    advice = "convert it to PNG or JPEG, or fetch it again"
    return ImageError(f"this {name} is damaged, cut off or of a rare kind ({reason}): {advice}", "damaged", name)
