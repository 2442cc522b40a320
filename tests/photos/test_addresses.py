"""Addresses that visitors paste are read as in the pipeline, within the limits of the page."""

import io
import socket
import tracemalloc

import pytest
from PIL import Image

from photos import fetching
from photos.fetching import BROKEN_OFF, NOT_AN_ADDRESS, fetch, fetch_files, unpack
from photos.reading import EMPTY, NOT_A_PICTURE, read_picture
from tests.support.web_site import HOSTS, NO_HOSTS, PACKERS, SPELLINGS, renew, run_site


PUBLIC = "127.0.0.2"  # in the tests; Linux answers on all of 127/8
SIZE = (60, 40)


@pytest.fixture(scope="module")
def running():
    buffer = io.BytesIO()
    Image.new("RGB", SIZE, (200, 0, 0)).save(buffer, "JPEG")
    with run_site(buffer.getvalue()) as site:
        yield site


@pytest.fixture
def site(running, monkeypatch):
    monkeypatch.setattr(fetching, "is_public", lambda address: address == PUBLIC)
    return renew(running, PUBLIC)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_spellings(site, spelling):
    assert read_picture(fetch(spelling.format(site.host))).size == SIZE


@pytest.mark.parametrize(("host", "name"), HOSTS.items())
def test_names_of_sites_in_any_script(site, monkeypatch, host, name):
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *rest, **options: real({name: PUBLIC}.get(host, host), *rest, **options)
    )
    assert read_picture(fetch(f"http://{host}:{site.server_port}/photo.jpg")).size == SIZE
    assert site.requests[0][1]["Host"] == f"{name}:{site.server_port}"


@pytest.mark.parametrize("packing", [packing for packing in PACKERS if packing != "deflate, gzip"])
def test_packed_answers(site, packing):
    site.packing = packing
    assert read_picture(fetch(f"http://{site.host}/photo.jpg")).size == SIZE


def test_chunked_answer(site):
    assert read_picture(fetch(f"http://{site.host}/chunks")).size == SIZE


@pytest.mark.parametrize(
    ("path", "sentence"),
    [("/empty", EMPTY), ("/elsewhere", NOT_AN_ADDRESS), ("/cut-off", BROKEN_OFF), ("/none", "an error \\(404\\)")],
)
def test_answers_without_a_photo_get_a_sentence(site, path, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_picture(fetch(f"http://{site.host}{path}"))


@pytest.mark.parametrize(
    "address",
    [f"http://{host}/photo.jpg" for host in NO_HOSTS]
    + [
        "//a.example/b.jpg",
        "FILE:///etc/hostname",
        "file://localhost/etc/hostname",
        "c:\\photo.jpg",
        "http://me:p@a.example/",
    ],
)
def test_what_is_no_address_gets_a_sentence(address):
    with pytest.raises(ValueError, match=NOT_AN_ADDRESS):
        fetch(address)


@pytest.mark.parametrize(
    "host", ["%31%32%37.0.0.1", "\uff11\uff12\uff17.0.0.1", "\u2460\u2461\u2466.0.0.1", "127.1", "0x7f.1"]
)
def test_other_spellings_of_a_private_address_are_refused(host):
    with pytest.raises(ValueError, match="refused: only public sites"):
        fetch(f"HTTP:/{host}:9/a.jpg")


@pytest.mark.parametrize(
    "packing", [packing for packing in PACKERS if packing not in ("identity", "utf-8", "deflate, gzip")]
)
def test_unpacked_answer_is_bounded(packing):
    """10 KB that unpack to ten MB never take more than the limit."""
    packed = PACKERS[packing](bytes(10_000_000))
    tracemalloc.start()
    content = unpack(packed, packing.lower(), 2_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 2_000_000 < len(content) <= 4_200_000 and peak < 9_000_000


def test_unpacked_answer_that_is_too_large_gets_a_sentence(site, monkeypatch):
    monkeypatch.setattr(site, "photo", bytes(3_000_000))
    site.packing = "gzip"
    with pytest.raises(ValueError, match="too large: at most 1 MB"):
        fetch(f"http://{site.host}/photo.jpg", max_bytes=2**20)


@pytest.mark.parametrize("packing", ["gzip", "deflate"])
def test_answer_that_is_not_packed_as_it_says_gets_a_sentence(packing):
    with pytest.raises(ValueError, match=NOT_A_PICTURE):
        unpack(b"no such thing", packing, 100)


def test_data_address_is_read_wherever_an_address_is(site):
    assert fetch(" DATA:,a%20b\n") == b"a b"
    with pytest.raises(ValueError, match="too large: at most 0 MB"):
        fetch("data:," + "a" * 11, max_bytes=10)


def test_names_are_shown_as_people_write_them(site):
    sources = [f"<http://{site.host}/f%C3%B6t%C3%B6%201.jpg>", "DATA:,a"]
    assert [name for name, _ in fetch_files(sources)] == ["f\u00f6t\u00f6 1.jpg", "file 2"]
