"""Whatever address a stranger names is read within bounds of size and time, or gets a plain sentence."""

import io
import socket
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from PIL import Image

from photos import fetching as safe_fetching
from photos.fetching import fetch
from photos.reading import read_picture


PUBLIC, PRIVATE = "127.0.0.2", "127.0.0.1"  # in the tests; Linux answers on all of 127/8


def encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


RED = Image.new("RGB", (60, 40), (200, 0, 0))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("192.0.0.192", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("fec0::1", False),
        ("::7f00:1", False),
        ("64:ff9b:1::7f00:1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("2002:7f00:1::", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::5db8:d822", True),
    ],
)
def test_public_addresses(address, expected):
    assert safe_fetching.is_public(address) is expected


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "169.254.169.254", "10.0.0.1", "2130706433", "[::ffff:127.0.0.1]"],
)
def test_private_addresses_are_refused(host):
    with pytest.raises(ValueError, match="refused: only public sites"):
        fetch(f"http://{host}:9/a.jpg")


@pytest.mark.parametrize(
    "address",
    [
        "",
        "a.jpg",
        "ftp://a.example/b",
        "file:///etc/hostname",
        "http://",
        "http://me:pw@a.example/",
        "http://:pw@a.example/",
        "http://[/",
    ],
)
def test_what_is_no_address_gets_a_sentence(address):
    with pytest.raises(ValueError, match="This is no address of a photo"):
        fetch(address)


class Site(BaseHTTPRequestHandler):
    """A site on the loopback net."""

    def do_GET(self):
        answers = {
            "/photo": (200, {}, encode(RED)),
            "/page": (200, {"Content-Type": "image/png"}, b"<html>no photo</html>"),
            "/moved": (302, {"Location": "/photo"}, b""),
            "/inside": (302, {"Location": f"http://{PRIVATE}:{self.server.server_port}/photo"}, b""),
            "/file": (302, {"Location": "file:///etc/hostname"}, b""),
            "/nowhere": (302, {"Location": "http://["}, b""),
            "/named": (302, {"Location": "/ph\u00f6to".encode().decode("latin-1")}, b""),
            "/ph%C3%B6to": (200, {}, encode(RED)),
            "/loop": (302, {"Location": "/loop"}, b""),
            "/large": (200, {}, bytes(3_000_000)),
            "/packed": (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b"),
        }
        if self.path in ("/drip", "/drip-headers"):
            self.drip(self.path == "/drip-headers")
            return
        status, headers, body = answers.get(self.path, (404, {}, b""))
        self.server.served.append(self.path)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def drip(self, in_headers: bool):
        """Sends for ever, a little at a time."""
        self.send_response(200)
        if not in_headers:
            self.end_headers()
        try:
            while True:
                self.wfile.write(b"X-More: 1\r\n" if in_headers else b"x")
                self.wfile.flush()
                time.sleep(0.1)
        except OSError:
            pass

    def log_message(self, *args):
        pass


@contextmanager
def serve():
    server = ThreadingHTTPServer(("0.0.0.0", 0), Site)
    server.served = []
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(safe_fetching, "is_public", lambda address: address == PUBLIC)
    with serve() as server:
        server.url = f"http://{PUBLIC}:{server.server_port}"
        yield server


@pytest.mark.parametrize("path", ["/photo", "/moved", "/named", "/ph\u00f6to"])
def test_address_of_a_photo(site, path):
    assert read_picture(fetch(site.url + path)).size == (60, 40)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/inside", "refused: only public sites"),
        ("/file", "no address of a photo"),
        ("/nowhere", "no address of a photo"),
        ("/loop", "ever other addresses"),
        ("/none", r"answers with an error \(404\)"),
        ("/packed", "cannot be read as a picture"),
    ],
)
def test_bad_answers_get_a_sentence(site, path, sentence):
    with pytest.raises(ValueError, match=sentence):
        fetch(site.url + path)
    assert "/photo" not in site.served


def test_blanks_around_an_address_are_none_of_it(site):
    assert fetch(f"\t {site.url}/photo \n") == fetch(f"{site.url}/photo")


def test_page_is_no_picture(site):
    with pytest.raises(ValueError, match="cannot be read as a picture"):
        read_picture(fetch(site.url + "/page"))


def test_size_of_an_answer_is_bounded(site):
    assert len(fetch(site.url + "/large", max_bytes=3_000_000)) == 3_000_000
    with pytest.raises(ValueError, match="too large: at most 1 MB"):
        fetch(site.url + "/large", max_bytes=2**20)


@pytest.mark.parametrize("path", ["/drip", "/drip-headers"])
def test_time_is_bounded_however_little_comes(site, path):
    start = time.monotonic()
    with pytest.raises(ValueError, match="too long"):
        fetch(site.url + path, seconds=1.0)
    assert time.monotonic() - start < 3


def test_unreachable_site_gets_a_sentence(site):
    with socket.socket() as unused:
        unused.bind((PUBLIC, 0))
        with pytest.raises(ValueError, match="cannot be reached"):
            fetch(f"http://{PUBLIC}:{unused.getsockname()[1]}/")


def test_name_that_changes_gains_nothing(site, monkeypatch):
    """The first look-up says public, a second would say private."""
    looked_up = []

    def getaddrinfo(host, port, *args, **kwargs):
        looked_up.append(host)
        address = PUBLIC if looked_up.count(host) == 1 else PRIVATE
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *args, **kwargs: (getaddrinfo if host == "rebind.example" else real)(host, *args, **kwargs),
    )
    assert read_picture(fetch(f"http://rebind.example:{site.server_port}/photo")).size == (60, 40)
    assert looked_up == ["rebind.example"]


def test_name_with_one_private_address_is_refused(site, monkeypatch):
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in (PUBLIC, PRIVATE)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: entries)
    with pytest.raises(ValueError, match="refused"):
        fetch("http://both.example/")


def test_name_whose_first_address_is_out_of_reach_is_read_from_the_next(site, monkeypatch):
    unreachable = "255.255.255.255"
    monkeypatch.setattr(safe_fetching, "is_public", {PUBLIC, unreachable}.__contains__)
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in (unreachable, PUBLIC)]
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *args, **kwargs: entries if host == "two.example" else real(host, *args, **kwargs),
    )
    assert read_picture(fetch(f"http://two.example:{site.server_port}/photo")).size == (60, 40)
