"""Takes damaged metadata out of image files, since it costs no pixels; tells what Pillow would misread or misname."""

import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator

from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2


# Chunks and segments of pixels. tRNS, ALPH: transparency. APP0, APP14: the meaning of the colours.
PNG_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
PNG_ORIENTATION = re.compile(rb"eXIf|(iTXtXML:com\.adobe\.xmp|[tz][ET]XtRaw profile type exif)\0", re.DOTALL)
WEBP_PIXELS = {b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"}
WEBP_ORIENTATION = {b"EXIF": 0x08, b"XMP ": 0x04}  # and their flags
WEBP_PROFILE_FLAG = 0x20
# Tags of sizes, colours and the places of pixels, and those that tell a camera's raw image.
TIFF_PIXELS = {*range(254, 260), 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, *range(320, 326), 330}
TIFF_PIXELS |= {332, 338, 339, 347, *range(512, 522), 529, 530, 532, 50706}
TIFF_SHORT = 3
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
FILLERS = [bytes((start + step * index) % 255 for index in range(1000)) for start, step in ((181, 37), (74, 91))]


class CutOffError(ValueError):
    """A file that ends before its pixels do."""

    def __init__(self):
        super().__init__("truncated")


def repair(name: str, content: bytes) -> Iterator[bytes]:
    """
    Yields files of the same pixels without metadata: first with the orientation, then without.

    Args:
        name: Name of the format, as of `image_reading.name_format`. Formats without damage of this kind yield nothing.
        content: The whole file.

    Raises:
        CutOffError: if pixels are missing.
    """
    for keep_orientation in (True, False) if name in REPAIRS else ():
        try:
            repaired = REPAIRS[name](content, keep_orientation)
        except CutOffError:
            raise
        except Exception:  # The damage is not in the metadata alone.
            return
        yield repaired


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
        raise CutOffError
    return b"".join(kept)


def repair_webp(content: bytes, keep_orientation: bool) -> bytes:
    kept, position, has_pixels = [], 12, False
    while position + 8 <= len(content):
        chunk, length = struct.unpack_from("<4sI", content, position)
        data = content[position + 8 : position + 8 + length]
        position += 8 + length + length % 2
        if chunk in WEBP_PIXELS and len(data) < length:
            raise CutOffError
        if chunk == b"VP8X":
            dropped = WEBP_PROFILE_FLAG | (0 if keep_orientation else sum(WEBP_ORIENTATION.values()))
            data = bytes([data[0] & ~dropped]) + data[1:]
        if chunk in WEBP_PIXELS or (keep_orientation and chunk in WEBP_ORIENTATION and len(data) == length):
            kept.append(struct.pack("<4sI", chunk, length) + data + bytes(length % 2))
            has_pixels |= chunk in (b"VP8 ", b"VP8L", b"ANMF")
    if not has_pixels:
        raise CutOffError
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
        raise CutOffError
    jpeg = b"".join(kept) + rest
    if has_end:
        return jpeg
    if jpeg.endswith(EMPTY_END):
        raise CutOffError
    jpeg = jpeg.removesuffix(b"\xff")
    # What follows the last pixel changes none.
    if not has_all_scans(jpeg) or len({decode_small(jpeg + filler + JPEG_END) for filler in (b"", *FILLERS)}) > 1:
        raise CutOffError
    return jpeg + JPEG_END


def has_all_scans(jpeg: bytes) -> bool:
    """Whether a JPEG has begun to send each of the 64 coefficients of each colour with all its bits."""
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
    if marker in (APP0, APP14):  # which tell how the colours are stored
        return segment[4:9] in (b"JFIF\0", b"Adobe") and len(segment) >= 16
    return marker < APP0


def is_too_short(image: JpegImageFile, content: bytes) -> bool:
    """Whether a JPEG has more pixels than its bytes can hold: a block of 8 × 8 takes at least one bit."""
    return image.width * image.height > 8 * 64 * len(content)


def decode_small(jpeg: bytes) -> bytes:
    """Decodes a JPEG at up to 1/8 of its size, but 2,000 pixels a side; refuses one that would take much memory."""
    image = JpegImageFile(io.BytesIO(jpeg))
    if is_too_short(image, jpeg) or image.width * image.height > MAX_PIXELS_IN_SCANS:
        raise CutOffError
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
        raise CutOffError
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


def read_exif_orientation(exif: bytes) -> int | None:
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


def has_unknown_range(tiff: bytes) -> bool:
    """Whether a TIFF that Pillow does not open holds floats, signed numbers or such of more than 16 bits."""
    try:
        tags, file = ImageFileDirectory_v2(tiff[:8]), io.BytesIO(tiff)
        file.seek(tags.next)
        tags.load(file)
        is_unsigned = set(tags.get(ExifTags.Base.SampleFormat, (1,))) <= {1, 4}
        return not is_unsigned or max(tags.get(ExifTags.Base.BitsPerSample, (1,))) > 16
    except Exception:  # damaged
        return False


def ends_early(name: str, content: bytes) -> bool:
    """Whether a damaged file ends before a part that it announces."""
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
