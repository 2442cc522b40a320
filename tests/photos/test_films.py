"""Reading and writing films: containers, turned and uneven ones, damaged ones, and what is no film."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from files.pictures import PhotoError
from photos import films
from photos.films import AnnotatedFilm, count_slots, read_frames
from tests.support.films import replace_box, trim, turn, vary_rate, write_film
from tests.support.models import make_face


def make_pictures(count: int) -> list[Image.Image]:
    """Grey pictures, the brighter the later, with a white corner."""
    pictures = [Image.new("RGB", (160, 96), (8 * number,) * 3) for number in range(count)]
    for picture in pictures:
        picture.paste("white", (0, 0, 40, 24))
    return pictures


def read_times(file: Path, rate: float = 5) -> list[float]:
    return [round(frame.time, 2) for frame in read_frames(file, rate)]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".3gp", ".webm", ".mkv", ".avi"])
def test_frames_are_read_at_a_rate(tmp_path, suffix):
    file = write_film(tmp_path / f"film{suffix}", make_pictures(20), rate=10)
    frames = list(read_frames(file, 5))
    assert [round(frame.time, 2) for frame in frames] == [slot / 5 for slot in range(10)] and count_slots(
        file, 5
    ) == 10
    assert [frame.slot for frame in frames] == list(range(10))
    for number, frame in enumerate(frames):
        assert np.abs(np.array(frame.picture.getpixel((120, 70))) - 16 * number).max() < 8
    assert [frame.slot for frame in read_frames(file, 5, lambda slot: slot in (3, 8))] == [3, 8]
    assert len(read_times(file, 100)) == 20


def test_film_of_a_phone_is_turned_upright(tmp_path):
    file = write_film(tmp_path / "film.mp4", make_pictures(3))
    turn(file)
    picture = next(read_frames(file, 5)).picture
    assert picture.size == (96, 160) and picture.getpixel((90, 5))[0] > 200  # the white corner is at the right


def test_times_of_an_uneven_film_are_its_own(tmp_path):
    file = write_film(tmp_path / "film.mp4", make_pictures(20), rate=10)
    vary_rate(file, [(10, 1), (5, 4), (5, 2)])  # tenths of a second
    assert read_times(file) == [0, 0.2, 0.4, 0.6, 0.8, 1, 1.4, 1.8, 2.2, 2.6, 3, 3.2, 3.4, 3.6, 3.8]


def test_trimmed_film_is_whole(tmp_path):
    file = write_film(tmp_path / "film.mp4", make_pictures(20), rate=10)
    trim(file, 0.5)
    frames = list(read_frames(file, 10))
    assert len(frames) == count_slots(file, 10) == 15
    assert abs(frames[0].picture.getpixel((120, 70))[0] - 8 * 5) < 8


@pytest.mark.parametrize("suffix", [".webm", ".mkv"])
def test_uneven_film_whose_frames_are_guessed_is_whole(tmp_path, suffix):
    """It says that each frame lasts a twentieth of a second, as if it held 40."""
    file = write_film(tmp_path / f"film{suffix}", make_pictures(20), rate=10)
    content, known = file.read_bytes(), b"\x23\xe3\x83\x84"
    assert known + struct.pack(">I", 10**8) in content
    file.write_bytes(content.replace(known + struct.pack(">I", 10**8), known + struct.pack(">I", 5 * 10**7)))
    assert cv2.VideoCapture(str(file)).get(cv2.CAP_PROP_FRAME_COUNT) == pytest.approx(40, abs=2)
    assert len(read_times(file, 10)) == 20


def test_film_that_does_not_tell_its_length_is_read_through(tmp_path):
    file = write_film(tmp_path / "film.webm", make_pictures(20), rate=10)
    content = file.read_bytes()
    start = content.index(b"\x44\x89\x88")  # its length, of eight bytes
    file.write_bytes(content[:start] + b"\xec\x89" + content[start + 2 :])  # a void of nine
    assert (count_slots(file, 10), count_slots(file, 10, read_through=True)) == (1, 19)
    assert len(read_times(file, 10)) == 20


def move_header_forward(content: bytes) -> bytes:
    """Returns an MP4 whose header comes before its frames, so that it can be read without its end."""
    start = content.index(b"moov") - 4
    [beginning] = struct.unpack_from(">I", content)
    header = content[start:]
    place = header.index(b"stco")
    [count] = struct.unpack_from(">I", header, place + 8)
    offsets = [offset + len(header) for offset in struct.unpack_from(f">{count}I", header, place + 12)]
    header = replace_box(header, b"stco", b"stco" + struct.pack(f">II{count}I", 0, count, *offsets))
    return content[:beginning] + header + content[beginning:start]


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv", ".avi"])
def test_frames_before_a_cut_are_read(tmp_path, suffix):
    content = write_film(tmp_path / f"film{suffix}", make_pictures(20), rate=10).read_bytes()
    content = move_header_forward(content) if suffix == ".mp4" else content
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(content[: 7 * len(content) // 10])
    frames = read_frames(cut, 5)
    assert [round(next(frames).time, 1) for _ in range(2)] == [0, 0.2]
    with pytest.raises(PhotoError, match=r"end after [01]\.\d of 2\.0 seconds: it is cut off"):
        list(frames)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", films.NOT_A_FILM),
        (b"dear diary", films.NOT_A_FILM),
        (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", films.NOT_A_FILM),  # a playlist, which FFmpeg would follow
        (b"\0\0\0\x18ftypisom" + bytes(1000), films.NO_FRAME),
    ],
)
def test_file_that_is_no_film_gets_a_sentence(tmp_path, content, sentence):
    file = tmp_path / "film.mp4"
    file.write_bytes(content)
    for read in (lambda: count_slots(file, 5), lambda: next(read_frames(file, 5))):
        with pytest.raises(PhotoError) as caught:
            read()
        assert str(caught.value) == sentence


def test_film_of_too_large_frames_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(films, "MAX_FRAME_PIXELS", 160 * 96 - 1)
    with pytest.raises(PhotoError, match="too large"):
        count_slots(write_film(tmp_path / "film.mp4", make_pictures(3)), 5)


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_annotated_film_has_boxes_that_move_with_the_faces(tmp_path, suffix):
    """Between frames that are read too."""
    source = write_film(tmp_path / "film.mp4", [Image.new("RGB", (320, 192), "gray")] * 20, rate=10)
    with AnnotatedFilm(source, tmp_path / f"annotated{suffix}") as annotated:
        for time, x in ((0, 20), (1, 220)):
            annotated.add(time, [make_face(x, 60, x + 60, 120) | {"track": 7}])
        annotated.finish()
    frames = list(read_frames(tmp_path / f"annotated{suffix}", 10))
    assert [round(frame.time, 1) for frame in frames] == [slot / 10 for slot in range(20)]
    for frame, x in ((0, 20), (5, 120), (10, 220), (19, 220)):
        row = np.asarray(frames[frame].picture).astype(int)[90]
        blue = np.flatnonzero(row[:, 2] - row[:, 0] > 60)
        assert abs(blue.min() - x) <= 4 and abs(blue.max() - x - 60) <= 4


@pytest.mark.parametrize(("suffix", "rate", "width"), [(".mp4", 10, 960), (".webm", 30, 1920)])
def test_annotated_film_is_limited(tmp_path, suffix, rate, width):
    source = write_film(tmp_path / "film.mp4", [Image.new("RGB", (2000, 64), "gray")] * 12, rate=60)
    with AnnotatedFilm(source, tmp_path / f"annotated{suffix}") as annotated:
        annotated.finish()
    film = films.open_film(tmp_path / f"annotated{suffix}")
    assert round(film.get(cv2.CAP_PROP_FPS)) == rate and film.get(cv2.CAP_PROP_FRAME_WIDTH) == width


def test_annotated_film_keeps_the_times_of_an_uneven_one_and_is_scaled_down(tmp_path):
    source = write_film(tmp_path / "film.mp4", make_pictures(20), rate=10)
    vary_rate(source, [(10, 1), (5, 4), (5, 2)])
    with AnnotatedFilm(source, tmp_path / "annotated.webm", max_rate=10, max_side=80) as annotated:
        annotated.finish()
    frames = list(read_frames(tmp_path / "annotated.webm", 1))
    assert frames[0].picture.size == (80, 48) and [round(frame.time) for frame in frames] == [0, 1, 2, 3]
    assert abs(frames[2].picture.getpixel((60, 36))[0] - 8 * 12) < 10  # at 1.8 seconds begins the 13th
