"""Any address is read within bounds of size and time, or gets a plain sentence."""

import base64
import io
import socket
import ssl
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx2
import pytest
import trustme
from PIL import Image

from photos import fetching
from photos.fetching import UNREACHABLE, fetch, fetch_files
from photos.reading import NOT_A_PICTURE, read_picture


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
    assert fetching.is_public(address) is expected


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
    """A site on the loopback network."""

    protocol_version = "HTTP/1.1"

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
            "/other": (302, {"Location": f"https://other.example:{self.server.server_port}/photo"}, b""),
            "/loop": (302, {"Location": "/loop"}, b""),
            "/large": (200, {}, bytes(3_000_000)),
            "/packed": (200, {"Content-Encoding": "gzip"}, b"no gzip"),
        }
        if "drip" in self.path:
            self.drip()
            return
        status, headers, body = answers.get(self.path, (404, {}, b""))
        self.server.served.append(self.path)
        self.server.hosts.append(self.headers["Host"])
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def drip(self):
        """Sends without end, a little at a time."""
        in_headers = self.path == "/drip-headers"
        self.send_response(302 if self.path == "/moved-drip" else 200)
        self.send_header("Location", "/photo")
        self.send_header("Connection", "close")
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


def start_server(certificate: trustme.LeafCert | None = None) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("0.0.0.0", 0), Site)
    server.served, server.hosts = [], []
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


@pytest.fixture(scope="module")
def servers():
    """Yields an http server, an https server named photo.example and the authority of its certificate."""
    authority = trustme.CA()
    started = start_server(), start_server(authority.issue_cert("photo.example"))
    yield *started, authority
    for server in started:
        server.shutdown()
        server.server_close()


@pytest.fixture
def site(servers, monkeypatch):
    monkeypatch.setattr(fetching, "is_public", lambda address: address == PUBLIC)
    server = servers[0]
    server.served.clear()
    server.url = f"http://{PUBLIC}:{server.server_port}"
    return server


@pytest.fixture
def secure_site(servers, monkeypatch):
    """The https server. photo.example and other.example lead to it, and its authority is trusted."""
    _, server, authority = servers
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    monkeypatch.setattr(httpx2, "AsyncHTTPTransport", partial(httpx2.AsyncHTTPTransport, verify=context))
    monkeypatch.setattr(fetching, "is_public", lambda address: address == PUBLIC)
    set_addresses(monkeypatch, {"photo.example": [PUBLIC], "other.example": [PUBLIC]})
    server.served.clear()
    server.hosts.clear()
    return server


def set_addresses(monkeypatch, addresses: dict[str, list[str]]) -> list[str]:
    """Sets the addresses of names; returns a list that records each look-up of one."""
    looked_up, real = [], socket.getaddrinfo

    def getaddrinfo(host, port, *args, **kwargs):
        if host not in addresses:
            return real(host, port, *args, **kwargs)
        looked_up.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port or 0)) for address in addresses[host]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return looked_up


@pytest.mark.parametrize("path", ["/photo", "/moved", "/moved-drip", "/named", "/ph\u00f6to"])
def test_address_of_a_photo(site, path):
    assert read_picture(fetch(site.url + path)).size == (60, 40)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/inside", "refused: only public sites"),
        ("/file", "no address of a photo"),
        ("/nowhere", "no address of a photo"),
        ("/loop", "redirects too many times"),
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
        fetch(site.url + path, seconds=0.5)
    assert time.monotonic() - start < 3


def test_time_of_a_secure_site_is_bounded(secure_site):
    start = time.monotonic()
    with pytest.raises(ValueError, match="too long"):
        fetch(f"https://photo.example:{secure_site.server_port}/drip", seconds=0.5)
    assert time.monotonic() - start < 3


def test_unreachable_site_gets_a_sentence(site):
    with socket.socket() as unused:
        unused.bind((PUBLIC, 0))
        with pytest.raises(ValueError, match="cannot be reached"):
            fetch(f"http://{PUBLIC}:{unused.getsockname()[1]}/")


def test_name_is_looked_up_once(site, monkeypatch):
    """A name that is public first and private then gains nothing."""
    addresses = {"rebind.example": [PUBLIC]}
    looked_up = set_addresses(monkeypatch, addresses)
    check = fetching.is_public
    # After the check the name has only the private address.
    monkeypatch.setattr(
        fetching, "is_public", lambda address: check(address) and not addresses.update({"rebind.example": [PRIVATE]})
    )
    assert read_picture(fetch(f"http://rebind.example:{site.server_port}/photo")).size == (60, 40)
    assert looked_up == ["rebind.example"] and addresses["rebind.example"] == [PRIVATE]


def test_name_with_one_private_address_is_refused(site, monkeypatch):
    set_addresses(monkeypatch, {"both.example": [PUBLIC, PRIVATE]})
    with pytest.raises(ValueError, match="refused"):
        fetch(f"http://both.example:{site.server_port}/photo")
    assert not site.served


def test_name_whose_first_address_is_out_of_reach_is_read_from_the_next(site, monkeypatch):
    unreachable = "255.255.255.255"
    monkeypatch.setattr(fetching, "is_public", {PUBLIC, unreachable}.__contains__)
    set_addresses(monkeypatch, {"two.example": [unreachable, PUBLIC]})
    assert read_picture(fetch(f"http://two.example:{site.server_port}/photo")).size == (60, 40)


def test_proxies_of_the_environment_are_not_used(site, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{PRIVATE}:9")
    assert read_picture(fetch(f"{site.url}/photo")).size == (60, 40)


def test_secure_site_is_read_by_its_name(secure_site):
    port = secure_site.server_port
    assert read_picture(fetch(f"https://photo.example:{port}/photo")).size == (60, 40)
    assert secure_site.hosts == [f"photo.example:{port}"]


@pytest.mark.parametrize("address", ["https://other.example:{}/photo", "https://photo.example:{}/other"])
def test_certificate_of_another_name_is_refused(secure_site, address):
    """Also after a redirect: the connection to the first name is not used again."""
    with pytest.raises(ValueError, match=UNREACHABLE):
        fetch(address.format(secure_site.server_port))
    assert "/photo" not in secure_site.served


def test_certificate_of_an_unknown_authority_is_refused(secure_site, monkeypatch):
    monkeypatch.setattr(httpx2, "AsyncHTTPTransport", httpx2.AsyncHTTPTransport.func)
    with pytest.raises(ValueError, match=UNREACHABLE):
        fetch(f"https://photo.example:{secure_site.server_port}/photo")


@pytest.mark.parametrize(
    "address",
    [
        "data:image/png;base64," + base64.b64encode(encode(RED)).decode(),
        " data:;base64," + base64.b64encode(encode(RED)).decode().replace("+", "%2B") + "\n",
        "data:image/png," + "".join(f"%{byte:02x}" for byte in encode(RED)),
    ],
)
def test_content_of_a_data_address(address):
    assert fetch(address) == encode(RED)


@pytest.mark.parametrize("address", ["data:", "data:x", "data:image/png;base64,A"])
def test_bad_data_address_gets_a_sentence(address):
    with pytest.raises(ValueError, match=NOT_A_PICTURE):
        fetch(address)


def test_files_have_names_and_content_or_a_sentence(site, tmp_path):
    port, data = site.server_port, "data:," + "a" * 9
    sources = [
        tmp_path / "own.jpg",
        f" {site.url}/photo#size=9",
        data,
        f"http://{PRIVATE}:{port}/a.png",
        f"{site.url}",
    ]
    files = [(name, content if isinstance(content, bytes) else str(content)) for name, content in fetch_files(sources)]
    assert files == [
        ("own.jpg", str(tmp_path / "own.jpg")),
        ("photo", encode(RED)),
        ("file 3", b"a" * 9),
        ("a.png", fetching.REFUSED_ADDRESS),
        (f"{PUBLIC}:{port}", "This address answers with an error (404)."),
    ]
