"""Addresses as people write them and servers answer them, read as a browser reads them."""

import base64
import io
import nturl2path
import socket
from urllib.parse import quote

import pytest
from PIL import Image

import image_reading
from image_reading import clean_address, decode_data, find_path, is_address, to_rgb
from tests.support.web_site import HOSTS, NO_HOSTS, PACKERS, SPELLINGS, renew, run_site


SIZE = (60, 40)


@pytest.fixture(scope="module")
def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", SIZE, (200, 0, 0)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def running(jpeg):
    with run_site(jpeg) as site:
        yield site


@pytest.fixture
def site(running, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    return renew(running, "127.0.0.1")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_spellings(site, spelling):
    assert to_rgb(spelling.format(site.host)).size == SIZE


@pytest.mark.parametrize(("host", "name"), HOSTS.items())
def test_names_of_sites_in_any_script(site, monkeypatch, host, name):
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *rest, **options: real({name: "127.0.0.1"}.get(host, host), *rest, **options),
    )
    assert to_rgb(f"http://{host}:{site.server_port}/photo.jpg").size == SIZE
    assert site.requests[0][1]["Host"] == f"{name}:{site.server_port}"


@pytest.mark.parametrize("packing", PACKERS)
def test_packed_answers(site, packing):
    site.packing = packing
    assert to_rgb(f"http://{site.host}/photo.jpg").size == SIZE


def test_chunked_answer(site):
    assert to_rgb(f"http://{site.host}/chunks").size == SIZE


def test_password_reaches_the_site(site):
    assert to_rgb(f"http://me:p%40ss@{site.host}/photo.jpg").size == SIZE
    assert site.requests[0][1]["Authorization"] == "Basic " + base64.b64encode(b"me:p@ss").decode()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/none", "404"),
        ("/empty", "the answer is empty"),
        ("/elsewhere", "file"),
        ("/cut-off", "closed connection"),
    ],
)
def test_every_failure_names_the_address(site, path, reason):
    address = f"http://{site.host}{path}"
    with pytest.raises(ValueError, match=f"{address} cannot be read as an image: .*{reason}"):
        to_rgb(address)


@pytest.mark.parametrize("host", NO_HOSTS)
def test_what_is_no_host_is_named(host):
    with pytest.raises(ValueError, match="cannot be read as an image"):
        to_rgb(f"http://{host}/photo.jpg")


def test_site_that_sends_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(image_reading, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(ValueError, match="cannot be read as an image: .*timed out"):
            to_rgb(f"http://127.0.0.1:{silent.getsockname()[1]}/photo.jpg")


def test_file_addresses(tmp_path, jpeg):
    path = tmp_path / "f\u00f6to #1 50%.jpg"
    path.write_bytes(jpeg)
    for start in ("file://", "FILE://", "file://localhost", " file:"):
        assert to_rgb(start + quote(str(path))).size == SIZE
    assert to_rgb(f"<{path.as_uri()}>").size == SIZE
    with pytest.raises(ValueError, match="other.example is another computer"):
        to_rgb("file://other.example/photo.jpg")
    with pytest.raises(ValueError, match="file:///nowhere/a.jpg cannot be read as an image: .*No such file"):
        to_rgb("file:///nowhere/a.jpg")


def test_file_addresses_of_windows(monkeypatch):
    monkeypatch.setattr(image_reading, "url2pathname", nturl2path.url2pathname)
    for address in ("file:///C:/My%20photos/a.jpg", "file:///C|/My photos/a.jpg", "file:\\\\\\C:\\My photos\\a.jpg"):
        assert find_path(address) == "C:\\My photos\\a.jpg"


@pytest.mark.parametrize(
    "write",
    [
        lambda text: f"data:image/jpeg;base64,{text}",
        lambda text: f" DATA:image/jpeg;charset=utf-8; BASE64 ,{text}\n",
        lambda text: "data:;base64," + text.rstrip("="),
        lambda text: "data:;base64," + text.replace("+", "-").replace("/", "_"),
        lambda text: "data:;base64," + quote(text, safe=""),
        lambda text: "data:;base64," + "\r\n ".join(text[start : start + 76] for start in range(0, len(text), 76)),
        lambda text: "data:;base64," + "%0A".join(text[start : start + 76] for start in range(0, len(text), 76)),
        lambda text: "'data:image/jpeg;base64," + text + "'",
        lambda text: "data:image/jpeg," + quote(base64.b64decode(text)),
        lambda text: "data:," + "".join(f"%{byte:02x}" for byte in base64.b64decode(text)),
    ],
)
def test_data_addresses(write, jpeg):
    address = write(base64.b64encode(jpeg).decode())
    assert decode_data(address) == jpeg
    assert to_rgb(address).size == SIZE


@pytest.mark.parametrize(
    "address", ["data:", "data:x", "data:image/png;base64,A", "data:;base64,\u00e4\u00e4", "data:,x"]
)
def test_bad_data_address_is_named(address):
    with pytest.raises(ValueError, match=f"{address} cannot be read as an image"):
        to_rgb(address)


@pytest.mark.parametrize(
    "path", ["photo.jpg", "/home/me/data:x.jpg", "C:\\photo.jpg", "http.jpg", "data/a.jpg", "file.jpg"]
)
def test_paths_are_no_addresses(path):
    assert not is_address(path)


def test_rest_of_an_address_stays():
    address = "https://a.example/a%20b+c;d,e/?q=http://b.example\\c&x=%2F&#"
    assert clean_address(address).startswith(address.removesuffix("#"))
