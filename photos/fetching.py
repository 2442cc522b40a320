"""Reads addresses that strangers name: public sites alone, within bounds of size and time."""

import ipaddress
import re
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from urllib.request import urlopen

import httpcore
import httpx

from photos.reading import NOT_A_PICTURE


NOT_AN_ADDRESS = (
    "This is no address of a photo: it starts with http:// or https:// and names a site, without a password."
)
REFUSED_ADDRESS = "This address is refused: only public sites are read."
UNREACHABLE = "This address cannot be reached."
TOO_SLOW = "This address takes too long to answer."
TOO_MANY_REDIRECTS = "This address leads to ever other addresses."
MAX_REDIRECTS = 5
MAX_ADDRESSES = 4  # of one name that are tried
# What `is_global` of Python 3.11 lets pass: protocol assignments (the metadata of some clouds), IPv4-compatible, local
# NAT64 and site-local addresses.
REFUSED_NETWORKS = [
    ipaddress.ip_network(network) for network in ("192.0.0.0/24", "::/96", "64:ff9b:1::/48", "fec0::/10")
]
HEADERS = {"User-Agent": "agegender", "Accept": "image/*", "Accept-Encoding": "identity"}


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
        return BoundedStream(
            self._connect_first(addresses[:MAX_ADDRESSES], port, local_address, socket_options), self._deadline
        )

    def _connect_first(self, addresses: list[str], port, local_address, socket_options) -> httpcore.NetworkStream:
        """A connection to the first address that takes one: a machine may have no way to those of IPv6."""
        for others, address in zip(reversed(range(len(addresses))), addresses):
            left = max(0.1, self._deadline - time.monotonic()) / (others + 1)
            try:
                return super().connect_tcp(address, port, left, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if others == 0:
                    raise

    def connect_unix_socket(self, path, timeout=None, socket_options=None):
        raise ValueError(REFUSED_ADDRESS)


def fetch(address: str, max_bytes: int = 20 * 2**20, seconds: float = 10.0) -> bytes:
    """
    What an http(s) address of a public site holds.

    Args:
        address: With or without redirects, of which five are followed, and blanks around it.
        max_bytes: The longest answer.
        seconds: The longest time for all of it. A look-up of a name can take longer: it cannot be interrupted.

    Raises:
        ValueError: with a sentence for the visitor.
    """
    deadline = time.monotonic() + seconds
    try:
        with httpcore.ConnectionPool(network_backend=PublicBackend(deadline)) as pool:
            url = httpx.URL(address.strip())
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


def find_address(upload: object) -> str | None:
    """The http(s) address that a program names where it may name an upload."""
    path = upload.get("path") if isinstance(upload, dict) else None
    return path if isinstance(path, str) and path.startswith(("http://", "https://")) else None


def is_data(address: str) -> bool:
    """Whether an address is itself what it holds."""
    return address.strip().startswith("data:")


def read_data(address: str) -> bytes:
    """
    What a data: address holds.

    Raises:
        ValueError: with a sentence for the visitor.
    """
    try:
        with urlopen(address.strip()) as file:
            return file.read()
    except (OSError, ValueError) as error:  # without a comma, or of broken base64
        raise ValueError(NOT_A_PICTURE) from error


def fetch_files(sources: Iterable[Path | str], folder: Path) -> Iterator[tuple[str, Path | ValueError]]:
    """
    Files with names to show.

    Args:
        sources: The path of a file, or as a string an address: http(s) or data:.
        folder: Where what an address holds lies until the next is asked for.

    Yields:
        The name, and the path or a ValueError with a sentence that says why there is none.
    """
    fetched = folder / "file"
    for number, source in enumerate(sources, start=1):
        if isinstance(source, Path):
            yield source.name, source
            continue
        path = "" if is_data(source) else re.split("[?#]", source.strip())[0]
        name = PurePosixPath(path).name or f"file {number}"
        try:
            fetched.write_bytes(read_data(source) if is_data(source) else fetch(source))
        except ValueError as error:
            yield name, error
        else:
            yield name, fetched
