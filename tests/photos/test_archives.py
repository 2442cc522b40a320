"""Any file or archive gives pictures or plain sentences, within bounds of size, number and time."""

import io
import tarfile
import zipfile

import pytest
from PIL import Image

from files.archives import ENCRYPTED, NESTED, TOO_MANY_MEMBERS, UNKNOWN_PACKING
from photos import archives
from photos.archives import NO_MEMBERS, NOT_A_ZIP, OTHER_ARCHIVE, count_pictures, read_pictures
from photos.reading import EMPTY, NOT_A_PICTURE


def encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


RED = Image.new("RGB", (60, 40), (200, 0, 0))


def write_zip(path, members: dict[str, bytes], **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_files_and_archives_give_a_picture_or_a_sentence_each(tmp_path):
    (tmp_path / "photo.png").write_bytes(encode(RED))
    (tmp_path / "notes.jpg").write_text("dear diary")
    inner = write_zip(tmp_path / "inner.zip", {"a.png": encode(RED)}).read_bytes()
    members = {
        "../../climbs.png": encode(RED),
        "/absolute.png": encode(RED),
        "folder/inner.zip": inner,
        "..\\windows.png": encode(RED),
        "folder\\.hidden": b"x",
        "..": b"x",
        "__MACOSX/._a.png": b"x",
        ".hidden": b"x",
        "empty.png": b"",
    }
    before = set(tmp_path.parent.rglob("*")) | {tmp_path / "more.zip"}
    paths = [tmp_path / "photo.png", tmp_path / "notes.jpg", write_zip(tmp_path / "more.zip", members)]
    answers = list(read_pictures(paths))
    assert [(name, getattr(answer, "size", None) or str(answer)) for name, answer in answers] == [
        ("photo.png", (60, 40)),
        ("notes.jpg", NOT_A_PICTURE),
        ("climbs.png", (60, 40)),
        ("absolute.png", (60, 40)),
        ("folder/inner.zip", NESTED),
        ("windows.png", (60, 40)),
        ("empty.png", EMPTY),
    ]
    assert count_pictures(paths) == len(answers)
    assert set(tmp_path.parent.rglob("*")) == before


def test_contents_with_names_are_read_as_files_are(tmp_path):
    archive = write_zip(tmp_path / "a.zip", {"one.png": encode(RED)}).read_bytes()
    files = [("site.png", encode(RED)), ("site.zip", archive), ("refused.jpg", ValueError("No."))]
    answers = [(name, getattr(answer, "size", None) or str(answer)) for name, answer in read_pictures(files)]
    assert answers == [("site.png", (60, 40)), ("one.png", (60, 40)), ("refused.jpg", "No.")]


def test_archive_that_unpacks_without_end_is_bounded(tmp_path):
    path = write_zip(tmp_path / "bomb.zip", {"a.png": bytes(200 * 10**6)}, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10**6
    [(name, answer)] = read_pictures([path])
    assert name == "a.png" and "at most 50 MB" in str(answer)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packing_that_cannot_be_bounded_is_not_unpacked(tmp_path, compression):
    path = write_zip(tmp_path / "a.zip", {"a.png": encode(RED)}, compression=compression)
    assert [str(answer) for _, answer in read_pictures([path])] == [UNKNOWN_PACKING]


def test_locked_members_leave_room_for_others(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 10**6)
    content = write_zip(tmp_path / "a.zip", {"a.png": encode(RED), "b.png": encode(RED)}).read_bytes()
    locked = bytearray(content)
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(locked)
    first, second = (answer for _, answer in read_pictures([tmp_path / "a.zip"]))
    assert str(first) == ENCRYPTED and second.size == (60, 40)


def test_name_that_is_no_text_gets_a_sentence(tmp_path):
    content = write_zip(tmp_path / "a.zip", {"\u00fc.png": encode(RED)}).read_bytes()
    (tmp_path / "a.zip").write_bytes(content.replace(b"\xc3\xbc", b"\xff\xbc", 1))
    [(_, answer)] = read_pictures([tmp_path / "a.zip"])
    assert str(answer).startswith("This file is damaged in its archive")


def test_all_archives_together_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 1000)
    members = {f"{number}.png": bytes(600) for number in range(5)}
    answers = [str(answer) for _, answer in read_pictures([write_zip(tmp_path / "a.zip", members)])]
    assert len(answers) == 3 and "one upload may hold at most" in answers[2]


def test_broken_and_locked_archives_get_a_sentence(tmp_path):
    good = bytearray(write_zip(tmp_path / "good.zip", {"a.png": encode(RED)}).read_bytes())
    locked, broken = bytearray(good), bytearray(good)
    locked[6] |= 1
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    broken[60] ^= 0xFF
    (tmp_path / "locked.zip").write_bytes(locked)
    (tmp_path / "broken.zip").write_bytes(broken)
    (tmp_path / "cut.zip").write_bytes(good[: len(good) // 2])
    answers = [
        str(answer) for _, answer in read_pictures(tmp_path / f"{name}.zip" for name in ("locked", "broken", "cut"))
    ]
    assert answers == [ENCRYPTED, "This file is damaged in its archive (Bad CRC-32 for file 'a.png').", NOT_A_ZIP]


@pytest.mark.parametrize("members", [{}, {"folder/": b"", "__MACOSX/._a.png": b"x", ".hidden": b"x"}])
def test_archive_without_files_gets_a_sentence(tmp_path, members):
    path = write_zip(tmp_path / "a.zip", members)
    assert [(name, str(answer)) for name, answer in read_pictures([path])] == [("a.zip", NO_MEMBERS)]
    assert count_pictures([path]) == 1


def test_files_that_are_no_pictures_are_counted_in_one_sentence(tmp_path):
    members = {"notes.txt": b"text", "IMG_0001": encode(RED), "clip.mp4": b"x", "__MACOSX/._a.png": b"x", "a.png": b""}
    paths = [write_zip(tmp_path / "a.zip", members), write_zip(tmp_path / "b.zip", {"only.txt": b"text"})]
    answers = [(name, getattr(answer, "size", None) or str(answer)) for name, answer in read_pictures(paths)]
    assert answers == [
        ("IMG_0001", (60, 40)),
        ("a.png", EMPTY),
        ("a.zip", "2 other files were passed over, such as notes.txt."),
        ("b.zip", "1 other file was passed over, such as only.txt."),
    ]
    assert count_pictures(paths) == 4


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_other_archives_get_a_sentence(tmp_path, mode):
    with tarfile.open(tmp_path / "photos", mode) as archive:
        archive.addfile(tarfile.TarInfo("a.png"))
    assert [str(answer) for _, answer in read_pictures([tmp_path / "photos"])] == [OTHER_ARCHIVE]


def test_picture_with_an_archive_behind_it_is_a_picture(tmp_path):
    archive = write_zip(tmp_path / "a.zip", {"b.png": encode(RED)}).read_bytes()
    (tmp_path / "photo.png").write_bytes(encode(RED) + archive)
    assert [answer.size for _, answer in read_pictures([tmp_path / "photo.png"])] == [(60, 40)]


def test_number_of_files_is_bounded(tmp_path):
    path = write_zip(tmp_path / "a.zip", {f"{number}.png": encode(RED) for number in range(9)})
    answers = list(read_pictures([path], max_files=4))
    assert len(answers) == 5 == count_pictures([path], max_files=4)
    assert str(answers[4][1]) == "Only the first 4 files are read."


def test_time_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_SECONDS", 60.0)
    path = write_zip(tmp_path / "a.zip", {f"{number}.png": encode(RED) for number in range(9)})
    pictures = read_pictures([path])
    assert next(pictures)[1].size == (60, 40)
    now = archives.time.monotonic()
    monkeypatch.setattr(archives.time, "monotonic", lambda: now + 61)
    assert [str(answer) for _, answer in pictures] == [
        "The files from here on are not read: one upload may take at most 1 minutes."
    ]


def test_pictures_are_read_one_at_a_time(tmp_path):
    pictures = read_pictures([tmp_path / "a.png", tmp_path / "b.png"])
    (tmp_path / "a.png").write_bytes(encode(RED))
    assert next(pictures)[1].size == (60, 40)
    (tmp_path / "b.png").write_bytes(encode(RED))
    (tmp_path / "a.png").unlink()
    assert next(pictures)[1].size == (60, 40)


def test_directory_of_an_archive_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_DIRECTORY_BYTES", 10_000)
    members = {f"{number:050}.png": b"" for number in range(200)}
    path = write_zip(tmp_path / "a.zip", members)
    assert [str(answer) for _, answer in read_pictures([path])] == [TOO_MANY_MEMBERS]
    assert count_pictures([path]) == 1


def test_archive_of_several_disks_gets_a_sentence(tmp_path):
    content = write_zip(tmp_path / "a.zip", {"a.png": encode(RED)}).read_bytes()
    end = content.rindex(b"PK\x05\x06")
    locator = b"PK\x06\x07" + (1).to_bytes(4, "little") + bytes(8) + (2).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(content[:end] + locator + content[end:])
    assert [str(answer) for _, answer in read_pictures([tmp_path / "a.zip"])] == [NOT_A_ZIP]


@pytest.mark.parametrize("total", [500, 1000, 1800, 10**6])
def test_count_is_that_of_the_answers_where_the_bound_on_all_ends_it(tmp_path, monkeypatch, total):
    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", total)
    paths = [write_zip(tmp_path / f"{letter}.zip", {f"{i}.png": bytes(600) for i in range(3)}) for letter in "ab"]
    assert count_pictures(paths) == len(list(read_pictures(paths)))
