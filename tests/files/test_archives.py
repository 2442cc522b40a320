"""The one reader of archives: zip and tar in all compressions, odd members beside good ones."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from files.archives import (
    ARCHIVE_NAME,
    ENCRYPTED,
    LINK,
    NESTED,
    UNKNOWN_PACKING,
    find_pictures,
    is_archive,
    read_archive,
)
from files.pictures import PassedOver, PhotoError


CONTENT = b"\xff\xd8\xff\xe0 a picture " * 999
OTHER = os.urandom(20_000)


def write_zip(path: Path, members: dict[str, bytes], **options) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def make_member(name: str, content: bytes = CONTENT, **attributes) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in attributes.items():
        setattr(member, key, value)
    return member, content


def write_tar(path: Path, members: list, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return path


def read_all(path: Path) -> tuple[dict[str, bytes | str], str]:
    """The content or the reason of each picture, and what is said about other files."""
    answers, passed_over = {}, PassedOver()
    for member in find_pictures(read_archive(str(path)), passed_over):
        try:
            answers[member.name] = member.read()
        except PhotoError as error:
            answers[member.name] = str(error)
    return answers, str(passed_over)


ZIPPED = {"a.jpg": CONTENT, "b/IMG_0001": CONTENT, "c.PNG": OTHER, "notes.txt": b"text", "__MACOSX/._a.jpg": b"x"}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("name", ["photos.zip", "PHOTOS.ZIP", "photos"])
def test_zip_of_all_methods_and_names(tmp_path, method, name):
    path = write_zip(tmp_path / name, ZIPPED, compression=method)
    said = "1 other file was passed over, such as notes.txt."
    assert read_all(path) == ({"a.jpg": CONTENT, "b/IMG_0001": CONTENT, "c.PNG": OTHER}, said)
    assert is_archive(str(path))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("name", ["photos.tar", "PHOTOS.TGZ", "photos"])
def test_tar_of_all_compressions_and_names(tmp_path, mode, name):
    path = write_tar(tmp_path / name, [make_member(*pair) for pair in ZIPPED.items()], mode)
    said = "1 other file was passed over, such as notes.txt."
    assert read_all(path) == ({"a.jpg": CONTENT, "b/IMG_0001": CONTENT, "c.PNG": OTHER}, said)
    assert is_archive(str(path))


def test_names_as_windows_writes_them_lead_nowhere(tmp_path):
    """https://github.com/python/cpython/issues/91036"""
    names = ["folder\\a.jpg", "..\\..\\b.jpg", "../c.jpg", "/d.jpg", "//e.jpg"]
    path = write_zip(tmp_path / "a.zip", dict.fromkeys(names, CONTENT) | {"folder\\": b""})
    assert list(read_all(path)[0]) == ["folder/a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"]
    path = write_tar(tmp_path / "a.tar", [make_member(name) for name in ("./a.jpg", "../b.jpg", "/c.jpg")])
    assert list(read_all(path)[0]) == ["a.jpg", "b.jpg", "c.jpg"]


def damage(content: bytearray, record: int, what: str):
    """Changes the first member of a zip: `record` is where its entry in the directory begins."""
    if what == "encrypted":
        content[record + 8] |= 1
    elif what == "method":
        content[8] = content[record + 10] = 9  # Deflate64, as Windows packs large files
    elif what == "smaller":
        content[record + 24 : record + 28] = (100).to_bytes(4, "little")
    elif what == "content":
        content[100] ^= 255
    elif what == "offset":
        content[record + 42 : record + 46] = (2**31).to_bytes(4, "little")
    elif what == "name":
        content[30] ^= 1


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("encrypted", ENCRYPTED),
        ("method", UNKNOWN_PACKING),
        ("smaller", "Bad CRC-32"),
        ("content", "Bad CRC-32"),
        ("offset", "damaged"),
        ("name", "damaged"),
    ],
)
def test_a_bad_member_stops_no_other(tmp_path, what, reason):
    content = bytearray(write_zip(tmp_path / "a.zip", {"a.jpg": CONTENT, "b.jpg": OTHER}).read_bytes())
    damage(content, content.index(b"PK\x01\x02"), what)
    (tmp_path / "a.zip").write_bytes(content)
    answers, _ = read_all(tmp_path / "a.zip")
    assert reason in answers["a.jpg"] and answers["b.jpg"] == OTHER


def test_archives_inside_archives_are_refused_in_a_sentence(tmp_path):
    inner = write_zip(tmp_path / "inner.zip", {"a.jpg": CONTENT}).read_bytes()
    names = ("in.zip", "in.tar.gz", "in.TGZ", "in.7z", "in.rar")
    assert [name for name in (*names, "in.docx", "data.csv.gz") if ARCHIVE_NAME.search(name)] == list(names)
    for path in (
        write_zip(tmp_path / "a.zip", dict.fromkeys(names, inner) | {"b.jpg": OTHER}),
        write_tar(tmp_path / "a.tar", [*(make_member(name, inner) for name in names), make_member("b.jpg", OTHER)]),
    ):
        assert read_all(path) == (dict.fromkeys(names, NESTED) | {"b.jpg": OTHER}, "")


def test_links_devices_and_long_names_in_tars(tmp_path):
    members = [
        make_member("sub/a.jpg"),
        make_member("hard.jpg", b"", type=tarfile.LNKTYPE, linkname="sub/a.jpg"),
        make_member("out.jpg", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        make_member("device.jpg", b"", type=tarfile.CHRTYPE),
        make_member("pipe.jpg", b"", type=tarfile.FIFOTYPE),
        make_member("é" * 300 + ".jpg", OTHER),
        make_member("caf\udce9.jpg"),
    ]
    for mode in ("w", "w:gz"):
        contents = {"sub/a.jpg": CONTENT, "é" * 300 + ".jpg": OTHER, "caf\\udce9.jpg": CONTENT}
        links = {"hard.jpg": LINK, "out.jpg": LINK}
        assert read_all(write_tar(tmp_path / "a.tar", members, mode)) == (contents | links, "")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("what", ["cut in a file", "cut in a header", "header"])
def test_damaged_tars_are_noticed(tmp_path, what, mode):
    """tarfile itself takes a damaged header for the end."""
    path = write_tar(tmp_path / "a.tar", [make_member(f"{name}.jpg", OTHER) for name in "abc"])
    content, second = bytearray(path.read_bytes()), 512 + -(-len(OTHER) // 512) * 512
    if what == "header":
        content[second + 3] ^= 255
    else:
        del content[second + (5000 if what == "cut in a file" else 100) :]
    path.write_bytes(content)
    if mode != "w":
        path = tmp_path / "packed"
        path.write_bytes({"w:gz": gzip, "w:bz2": bz2, "w:xz": lzma}[mode].compress(content))
    with pytest.raises((tarfile.ReadError, EOFError)):
        read_all(path)


def test_only_archives_are_taken_for_archives(tmp_path):
    (tmp_path / "a").write_bytes(b"text" * 999)
    (tmp_path / "b").write_bytes(b"")
    (tmp_path / "c").write_bytes(CONTENT)
    assert not any(is_archive(str(tmp_path / name)) for name in "abc")


def test_start_of_a_member_is_read_alone(tmp_path):
    for path in (
        write_zip(tmp_path / "a.zip", {"a.jpg": CONTENT}, compression=zipfile.ZIP_DEFLATED),
        write_tar(tmp_path / "a.tar.gz", [make_member("a.jpg")], "w:gz"),
    ):
        [start] = [member.read(7) for member in read_archive(str(path))]
        assert start == CONTENT[:7]
