"""Reads the pictures that strangers send: files, zip archives and addresses, each within bounds."""

import io
import ipaddress
import socket
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from urllib.request import urlopen

import httpcore
import httpx
from PIL import Image

from pipeline_agegender import to_rgb


NOT_A_PICTURE = "This file cannot be read as a picture: choose a photo such as a JPEG, PNG, WebP or GIF."
TOO_LARGE = f"This picture is too large: choose one with at most {2 * Image.MAX_IMAGE_PIXELS // 10**6} million pixels."
EMPTY = "This file is empty."
HEIC = "HEIC pictures cannot be read here: save it as JPEG first."
SVG = "SVG drawings cannot be read here: save it as PNG or JPEG first."
# The rest of Pillow's are left out: EPS, for one, is a program that it would have Ghostscript run.
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "AVIF", "BMP", "TIFF", "JPEG2000", "PPM", "ICO"]
HEIC_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}

NOT_A_ZIP = "This archive is broken."
NESTED = "Archives inside archives are not read."
ENCRYPTED = "This file is encrypted."
UNKNOWN_PACKING = "This file is broken, or packed in a way that is not known here."
TOO_MUCH_DATA = "This file is too large: at most {} MB of one are read."
TOO_MUCH_IN_ALL = "This and what follows is not read: {} GB of one upload are the most."
MAX_MEMBER_BYTES = 50 * 10**6
MAX_TOTAL_BYTES = 2 * 10**9
CHUNK_BYTES = 2**16

NOT_AN_ADDRESS = (
    "This is no address of a photo: it starts with http:// or https:// and names a site, without a password."
)
REFUSED_ADDRESS = "This address is refused: only public sites are read."
UNREACHABLE = "This address cannot be reached."
TOO_SLOW = "This address takes too long to answer."
TOO_MANY_REDIRECTS = "This address leads to ever other addresses."
MAX_REDIRECTS = 5
# What `is_global` of Python 3.11 lets pass: protocol assignments (the metadata of some clouds), IPv4-compatible, local
# NAT64 and site-local addresses.
REFUSED_NETWORKS = [
    ipaddress.ip_network(network) for network in ("192.0.0.0/24", "::/96", "64:ff9b:1::/48", "fec0::/10")
]
HEADERS = {"User-Agent": "agegender", "Accept": "image/*", "Accept-Encoding": "identity"}


def read_picture(source: str | Path | bytes) -> Image.Image:
    """
    An upright RGB picture.

    Args:
        source: A path, a data: address or the content of a file. A path is never taken for an address of the net.

    Raises:
        ValueError: with a sentence for the visitor, if it is no picture.
    """
    start = b""
    try:
        if isinstance(source, str) and source.startswith("data:"):
            source = urlopen(source).read()
        with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
            start = file.read(1024)
            file.seek(0)
            with Image.open(file, formats=FORMATS) as image:
                return to_rgb(image)
    except Exception as error:  # damaged files make decoders raise RuntimeError, NotImplementedError and others
        raise ValueError(explain(error, start)) from error


def explain(error: BaseException, start: bytes) -> str:
    """What to tell a visitor of an error met while reading a picture that starts with these bytes."""
    while error is not None:
        if isinstance(error, Image.DecompressionBombError | MemoryError):
            return TOO_LARGE
        error = error.__cause__
    if not start:
        return EMPTY
    if start[4:8] == b"ftyp" and start[8:12] in HEIC_BRANDS:
        return HEIC
    return SVG if b"<svg" in start.lower() else NOT_A_PICTURE


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public net, that which it may be a cover of included."""
    address = ipaddress.ip_address(address.split("%")[0])
    if any(address in network for network in REFUSED_NETWORKS):
        return False
    if address.version == 6:
        if address in ipaddress.ip_network("64:ff9b::/96"):  # NAT64
            address = ipaddress.ip_address(int(address) & 0xFFFFFFFF)
        else:
            address = address.ipv4_mapped or address.sixtofour or address
    return address.is_global and not address.is_multicast


class BoundedStream(httpcore.NetworkStream):
    """A connection that ends at a deadline, however little comes at a time."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float):
        self._stream, self._deadline = stream, deadline

    def _time_left(self, timeout: float | None) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout()
        return left if timeout is None else min(left, timeout)

    def read(self, max_bytes, timeout=None):
        return self._stream.read(max_bytes, self._time_left(timeout))

    def write(self, buffer, timeout=None):
        self._stream.write(buffer, self._time_left(timeout))

    def close(self):
        self._stream.close()

    def start_tls(self, ssl_context, server_hostname=None, timeout=None):
        stream = self._stream.start_tls(ssl_context, server_hostname, self._time_left(timeout))
        return BoundedStream(stream, self._deadline)

    def get_extra_info(self, info):
        return self._stream.get_extra_info(info)


class PublicBackend(httpcore.SyncBackend):
    """
    Connects to public addresses alone, until a deadline.

    A name is looked up once, here, and the connection goes to the address that was checked; a name that changes between
    two look-ups gains nothing, and a redirect is a connection like any other.
    """

    def __init__(self, deadline: float):
        self._deadline = deadline

    def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(UNREACHABLE) from error
        addresses = [entry[4][0] for entry in found]
        if not addresses or not all(is_public(address) for address in addresses):
            raise ValueError(REFUSED_ADDRESS)
        left = max(0.1, self._deadline - time.monotonic())
        stream = super().connect_tcp(addresses[0], port, left, local_address, socket_options)
        return BoundedStream(stream, self._deadline)

    def connect_unix_socket(self, path, timeout=None, socket_options=None):
        raise ValueError(REFUSED_ADDRESS)


def fetch(address: str, max_bytes: int = 20 * 2**20, seconds: float = 10.0) -> bytes:
    """
    What an http(s) address of a public site holds.

    Args:
        address: With or without redirects, of which five are followed.
        max_bytes: The longest answer.
        seconds: The longest time for all of it. A look-up of a name can take longer: it cannot be interrupted.

    Raises:
        ValueError: with a sentence for the visitor.
    """
    deadline = time.monotonic() + seconds
    try:
        with httpcore.ConnectionPool(network_backend=PublicBackend(deadline)) as pool:
            url = httpx.URL(address)
            for _ in range(MAX_REDIRECTS + 1):
                check_url(url)
                content, location = request(pool, url, max_bytes)
                if location is None:
                    return content
                url = url.join(location)
    except httpx.InvalidURL as error:
        raise ValueError(NOT_AN_ADDRESS) from error
    except httpcore.TimeoutException as error:
        raise ValueError(TOO_SLOW) from error
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError, UnicodeError) as error:
        raise ValueError(UNREACHABLE) from error
    raise ValueError(TOO_MANY_REDIRECTS)


def check_url(url: httpx.URL):
    """Raises ValueError with a sentence if an address is not one that a browser would show a photo from."""
    if url.scheme not in ("http", "https") or not url.host or "%" in url.host or url.userinfo:
        raise ValueError(NOT_AN_ADDRESS)


def request(pool: httpcore.ConnectionPool, url: httpx.URL, max_bytes: int) -> tuple[bytes, str | None]:
    """The body of an answer, or the address that it redirects to."""
    target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    with pool.stream("GET", target, headers={"Host": url.netloc.decode(), **HEADERS}) as response:
        headers = {name.lower(): value.decode("utf-8", "replace") for name, value in response.headers}
        if response.status in (301, 302, 303, 307, 308) and b"location" in headers:
            return b"", headers[b"location"]
        if not 200 <= response.status < 300:
            raise ValueError(f"This address answers with an error ({response.status}).")
        if headers.get(b"content-encoding", "identity").lower() != "identity":
            raise ValueError(NOT_A_PICTURE)  # it was asked not to, and what it unpacks to has no bound
        content = bytearray()
        for chunk in response.iter_stream():
            content += chunk
            if len(content) > max_bytes:
                raise ValueError(f"This file is too large: at most {max_bytes // 2**20} MB are read.")
    return bytes(content), None


def read_pictures(
    paths: Iterable[str | Path], max_files: int = 1000
) -> Iterator[tuple[str, Image.Image | ValueError]]:
    """
    The pictures of several files, one at a time; those of zip archives without unpacking them to the disk.

    Args:
        paths: Pictures, or zip archives of pictures.
        max_files: The most files that are read.

    Yields:
        The name to show and either the picture or the ValueError with a sentence that says why there is none. If there are
        more than `max_files`, the last one says so.
    """
    count = 0
    for name, source in find_sources(paths):
        if count == max_files:
            yield "…", ValueError(f"Only the first {max_files:,} files are read.")
            return
        count += 1
        if isinstance(source, ValueError):
            yield name, source
            continue
        try:
            picture = read_picture(source)
        except ValueError as error:
            yield name, error
        else:
            yield name, picture


def count_pictures(paths: Iterable[str | Path], max_files: int = 1000) -> int:
    """How many times `read_pictures` yields, from the directories of the archives alone."""
    total = 0
    for path in paths:
        try:
            with zipfile.ZipFile(path) as archive:
                total += len(list_members(archive))
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
            total += 1
        if total > max_files:
            return max_files + 1
    return total


def find_sources(paths: Iterable[str | Path]) -> Iterator[tuple[str, Path | bytes | ValueError]]:
    """Names with the path or content of each file."""
    left = MAX_TOTAL_BYTES
    for path in map(Path, paths):
        if not zipfile.is_zipfile(path):
            yield path.name, path
            continue
        try:
            archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
            yield path.name, ValueError(NOT_A_ZIP)
            continue
        with archive:
            for member in list_members(archive):
                name = clean_name(member.filename)
                if left <= 0:
                    yield name, ValueError(TOO_MUCH_IN_ALL.format(MAX_TOTAL_BYTES // 10**9))
                    return
                try:
                    content = read_member(archive, member, min(left, MAX_MEMBER_BYTES))
                except ValueError as error:
                    if str(error) != ENCRYPTED:
                        left -= MAX_MEMBER_BYTES  # as much may have been unpacked
                    yield name, error
                else:
                    left -= len(content)
                    yield name, content


def list_members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files of an archive without those that systems leave there."""
    return [
        member
        for member in archive.infolist()
        if not member.is_dir()
        and "__MACOSX" not in member.filename
        and not PurePosixPath(member.filename).name.startswith(".")
    ]


def clean_name(name: str) -> str:
    """The path of a member without what climbs out of the archive; it only serves to be shown."""
    return "/".join(part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("..", "/"))


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, max_bytes: int) -> bytes:
    """
    The content of a member.

    Args:
        max_bytes: Bound on what is unpacked, whatever the archive says of its size.

    Raises:
        ValueError: with a sentence for the visitor.
    """
    if member.flag_bits & 1:
        raise ValueError(ENCRYPTED)
    # Others unpack as much as they like at once: a few bytes of bzip2 become hundreds of megabytes before any are counted.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(UNKNOWN_PACKING)
    content = bytearray()
    try:
        with archive.open(member) as file:
            while len(content) <= max_bytes and (chunk := file.read(CHUNK_BYTES)):
                content += chunk
    # ValueError: a name that is no UTF-8, or a place outside the file.
    except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(UNKNOWN_PACKING) from error
    if len(content) > max_bytes:
        raise ValueError(TOO_MUCH_DATA.format(max_bytes // 10**6))
    if content.startswith(b"PK\x03\x04"):
        raise ValueError(NESTED)
    return bytes(content)
