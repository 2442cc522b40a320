"""Fetches photos from addresses that visitors give: public sites only, within limits of size and time."""

import asyncio
import ipaddress
import re
import socket
import zlib
from collections.abc import Iterable, Iterator
from contextlib import aclosing
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import httpx2

from files.pictures import PhotoError
from image_reading import HEADERS, clean_address, decode_data, is_data, read_location, strip_quotes
from photos.reading import NOT_A_PICTURE


try:
    import brotli  # comes with Gradio
except ImportError:
    brotli = None


NOT_AN_ADDRESS = (
    "This is no address of a photo: it must start with http:// or https:// and name a site, without a password."
)
REFUSED_ADDRESS = "This address is refused: only public sites are read."
UNREACHABLE = "This address cannot be reached."
BROKEN_OFF = "This address does not send its whole answer."
TOO_SLOW = "This address takes too long to answer."
TOO_MANY_REDIRECTS = "This address redirects too many times."
MAX_REDIRECTS = 5
MAX_ADDRESSES = 4  # IP addresses of one name that are tried
# Networks that `is_global` of Python 3.11 lets pass: protocol assignments (the metadata of some clouds), IPv4-compatible,
# local NAT64 and site-local addresses.
REFUSED_NETWORKS = [
    ipaddress.ip_network(network) for network in ("192.0.0.0/24", "::/96", "64:ff9b:1::/48", "fec0::/10")
]
REQUEST_HEADERS = HEADERS | {"Accept-Encoding": "identity"}


def is_public(address: str) -> bool:
    """Returns whether an IP address, or the IPv4 address inside it, is one of the public internet."""
    address = ipaddress.ip_address(address.split("%")[0])
    if any(address in network for network in REFUSED_NETWORKS):
        return False
    if address.version == 6:
        if address in ipaddress.ip_network("64:ff9b::/96"):  # NAT64
            address = ipaddress.ip_address(int(address) & 0xFFFFFFFF)
        else:
            address = address.ipv4_mapped or address.sixtofour or address
    return address.is_global and not address.is_multicast


def fetch(address: str, max_bytes: int = 20 * 2**20, seconds: float = 10.0) -> bytes:
    """
    Reads the content of a data: address, or of an http(s) address of a public site.

    Args:
        address: As a browser takes it; blanks and quotes around it are ignored. Up to `MAX_REDIRECTS` redirects are followed.
        max_bytes: Maximum size of the content, packed and unpacked.
        seconds: Maximum time of the request. Only the look-up of a name can exceed it, as it cannot be interrupted.

    Raises:
        PhotoError: if there is no content within these limits.
    """
    try:
        if is_data(address):
            return check_size(decode_data(address), max_bytes)
        return asyncio.run(follow_redirects(address, max_bytes, seconds))
    except PhotoError:
        raise
    except (httpx2.TimeoutException, TimeoutError) as error:
        raise PhotoError(TOO_SLOW) from error
    except (httpx2.ProtocolError, httpx2.ReadError) as error:
        raise PhotoError(BROKEN_OFF) from error
    except (httpx2.TransportError, OSError) as error:
        raise PhotoError(UNREACHABLE) from error
    except (httpx2.InvalidURL, ValueError) as error:
        raise PhotoError(NOT_A_PICTURE if is_data(address) else NOT_AN_ADDRESS) from error


async def follow_redirects(address: str, max_bytes: int, seconds: float) -> bytes:
    """Reads the content of an address or of the one that it redirects to."""
    url = httpx2.URL(clean_address(address))
    async with asyncio.timeout(seconds), httpx2.AsyncHTTPTransport(trust_env=False) as transport:
        for _ in range(MAX_REDIRECTS + 1):
            # The body of a redirect is not read: it has no limit, and a connection that was not read to its end is closed,
            # so it never serves another site at the same IP address.
            async with aclosing(await send_request(transport, url, seconds)) as response:
                if not response.has_redirect_location:
                    return await read_body(response, max_bytes)
                url = url.join(read_location(response))
    raise PhotoError(TOO_MANY_REDIRECTS)


async def send_request(transport: httpx2.AsyncHTTPTransport, url: httpx2.URL, seconds: float) -> httpx2.Response:
    """
    Requests a URL from the first of its site's IP addresses that takes a connection.

    The connection goes to the very address that was checked, so a name that changes between two look-ups gains nothing.
    TLS still verifies the name.
    """
    addresses = find_addresses(url)
    for address in addresses:
        request = httpx2.Request(
            "GET",
            url.copy_with(host=address),
            headers={"Host": url.netloc.decode(), **REQUEST_HEADERS},
            extensions={"sni_hostname": url.raw_host.decode(), "timeout": {"connect": seconds / len(addresses)}},
        )
        try:
            return await transport.handle_async_request(request)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            failure = error
    raise failure


def find_addresses(url: httpx2.URL) -> list[str]:
    """Looks up the IP addresses of a URL's site. Raises PhotoError unless all of them are public."""
    if url.scheme not in ("http", "https") or not url.host or "%" in url.host or url.userinfo:
        raise PhotoError(NOT_AN_ADDRESS)
    found = socket.getaddrinfo(url.raw_host.decode(), url.port, type=socket.SOCK_STREAM)
    addresses = [entry[4][0] for entry in found]
    if not addresses or not all(map(is_public, addresses)):
        raise PhotoError(REFUSED_ADDRESS)
    return addresses[:MAX_ADDRESSES]


async def read_body(response: httpx2.Response, max_bytes: int) -> bytes:
    """Reads and unpacks the body of a response. Raises PhotoError if it has none or exceeds `max_bytes`."""
    if not response.is_success:
        raise PhotoError(f"This address answers with an error ({response.status_code}).")
    content = bytearray()
    async for chunk in response.aiter_raw():
        content += chunk
        check_size(content, max_bytes)
    coding = response.headers.get("content-encoding", "").strip().lower()
    return check_size(unpack(bytes(content), coding, max_bytes), max_bytes)


def check_size(content: bytes | bytearray, max_bytes: int) -> bytes | bytearray:
    """Returns the content. Raises PhotoError if it exceeds `max_bytes`."""
    if len(content) > max_bytes:
        raise PhotoError(f"This file is too large: at most {max_bytes // 2**20} MB are read.")
    return content


def unpack(content: bytes, coding: str, max_bytes: int) -> bytes:
    """
    Undoes a compression of HTTP, up to one byte above `max_bytes`. Ignores an unknown one, as browsers do.

    None is requested, but some servers send files as they keep them.
    """
    try:
        if coding == "br" and brotli:
            return brotli.Decompressor().process(content, output_buffer_limit=max_bytes + 1)
        if coding in ("gzip", "x-gzip", "deflate"):
            has_header = content[:1] in (b"\x1f", b"\x78")  # "deflate" may lack it
            bits = zlib.MAX_WBITS | 32 if has_header else -zlib.MAX_WBITS
            return zlib.decompressobj(bits).decompress(content, max_bytes + 1)
    except Exception as error:  # brotli's is no class of its own in each version
        raise PhotoError(NOT_A_PICTURE) from error
    return content


def fetch_files(sources: Iterable[Path | str]) -> Iterator[tuple[str, Path | bytes | ValueError]]:
    """
    Fetches files one at a time, as the iterator advances.

    Args:
        sources: Paths of files as `Path`; http(s) or data: addresses as strings.

    Yields:
        The name to show, and the path, the content at the address or a ValueError with a sentence for the visitor.
    """
    for number, source in enumerate(sources, start=1):
        if isinstance(source, Path):
            yield source.name, source
            continue
        address = "" if is_data(source) else re.split("[?#]", strip_quotes(source))[0]
        name = PurePosixPath(unquote(address)).name or f"file {number}"
        try:
            content = fetch(source)
        except ValueError as error:
            yield name, error
        else:
            yield name, content
