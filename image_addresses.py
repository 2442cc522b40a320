"""Reads what lies at http(s), data: and file: addresses, written in any way that a browser takes."""

import base64
import io
import re
import string
from typing import BinaryIO
from unicodedata import normalize
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit, urlunsplit
from urllib.request import url2pathname


# In `try`: transformers requires the packages of all other imports to be installed before it loads remote code.
try:
    from huggingface_hub.utils import httpx  # the HTTP library of transformers
except ImportError:
    import httpx  # before huggingface_hub 2


TIMEOUT = 60.0  # seconds without a byte
ADDRESS = re.compile(r"(https?:[/\\]|file:[/\\]|data:)", re.IGNORECASE)
QUOTES = {'"': '"', "'": "'", "<": ">", "\u201c": "\u201d"}  # around an address that was copied from a text
NO_HOST = re.compile(r"[\x00- /?#@\\<>^|%\"`{}]")  # what the name of a site never holds
# Some sites refuse requests that do not name their sender.
HEADERS = {"User-Agent": "agegender", "Accept": "image/*,*/*;q=0.8"}


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
