"""Reads the frames of films, and writes films with boxes and numbers. Sound is left out."""

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm.auto import tqdm


# Read when OpenCV opens its first film: notes on damaged frames would tear the progress bar.
os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "8")

import cv2

from files.pictures import START_BYTES, PhotoError
from photos.drawing import draw_faces
from photos.tracking import SIDES


# What OpenCV can write and browsers play, with the most frames a second and pixels of the longer side that are written. VP9 takes
# six times as long as VP8, since OpenCV 4.14 does not let its encoder hurry.
CODECS = {".mp4": ("vp09", 10, 960), ".webm": ("VP80", 30, 1920)}
# Where and with which bytes films begin. FFmpeg would also open playlists, which name other files.
FILM_STARTS = {4: (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"), 0: (b"\x1a\x45\xdf\xa3",), 8: (b"AVI ",)}
MAX_FRAME_PIXELS = 8192 * 4320
# A film has ended early if less than this share of its frames and of its seconds was read. Of an uneven film, containers only
# guess the number of frames.
LEAST_SHARE = 0.9
MAX_BOXES = 100  # parts of an MP4 among which its header is looked for
MAX_PAUSE = 60  # seconds for which a written film repeats a frame; longer pauses are wrong times

NOT_A_FILM = "This file cannot be read as a film: choose an MP4, MOV, WebM, MKV or AVI file."
NO_FRAME = "This film is damaged, cut off or of a kind that cannot be read: no frame of it was found."
TOO_LARGE = f"The frames of this film are too large: choose one with at most {MAX_FRAME_PIXELS // 10**6} million pixels a frame."
ENDED_EARLY = "The pictures of this film end after {:.1f} of {:.1f} seconds: it is cut off or damaged, or only its sound is longer."
CANNOT_WRITE = "OpenCV cannot write {} here."


class Frame(NamedTuple):
    """A frame of a film."""

    slot: int  # number of the part of a second in which it is shown, of those that `frames_per_second` makes
    time: float  # seconds from the beginning
    picture: Image.Image  # upright RGB


def open_film(path: str | Path) -> cv2.VideoCapture:
    """
    Opens a film.

    Raises:
        PhotoError: if it is none, or one of too large frames.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(START_BYTES)
    except OSError as error:
        raise PhotoError(f"This file cannot be opened: {error.strerror}.") from error
    if not any(start.startswith(known, place) for place, known in FILM_STARTS.items()):
        raise PhotoError(NOT_A_FILM)
    film = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG)
    if not film.isOpened():
        raise PhotoError(NO_FRAME)
    if film.get(cv2.CAP_PROP_FRAME_WIDTH) * film.get(cv2.CAP_PROP_FRAME_HEIGHT) > MAX_FRAME_PIXELS:
        raise PhotoError(TOO_LARGE)
    return film


def find_length(film: cv2.VideoCapture, path: str | Path) -> float:
    """Returns the seconds that a film lasts as it says itself, 0 if it does not."""
    frames, rate = film.get(cv2.CAP_PROP_FRAME_COUNT), film.get(cv2.CAP_PROP_FPS)
    length = frames / rate if frames > 0 and rate > 0 else 0.0
    return min(length, read_shown_length(path) or length)


def read_shown_length(path: str | Path) -> float:
    """
    Returns the seconds that an MP4 or MOV lasts by its header, 0 if it has none.

    A film that was trimmed on a phone still holds all frames, and its header tells which to show. OpenCV counts them all.
    """
    with open(path, "rb") as file:
        place, end = 0, os.path.getsize(path)
        for _ in range(MAX_BOXES):
            if place + 16 > end:
                break
            file.seek(place)
            size, kind, large_size = struct.unpack(">I4sQ", file.read(16))
            if kind == b"moov":  # begins with `mvhd`: its version, two dates, units a second, units
                header = file.read(32).ljust(32, b"\0")
                rate, units = struct.unpack_from(*((">IQ", header, 20) if header[0] else (">II", header, 12)))
                return units / rate if rate else 0.0
            place += large_size if size == 1 else size
    return 0.0


def count_slots(path: str | Path, frames_per_second: float, read_through: bool = False) -> int:
    """
    Returns how many frames are read at this rate as the film says itself, at least 1.

    Args:
        read_through: Reads a film that does not say how long it is, as browsers record them. Its number is 1 otherwise.

    Raises:
        PhotoError: as `open_film`.
    """
    film = open_film(path)
    length = find_length(film, path)
    if not length and read_through:
        while film.grab():
            length = max(length, film.get(cv2.CAP_PROP_POS_MSEC) / 1000)
    return max(1, round(length * frames_per_second))


def read_frames(
    path: str | Path, frames_per_second: float, is_wanted: Callable[[int], bool] = lambda slot: True
) -> Iterator[Frame]:
    """
    Yields the first frame of each slot, the part of a second that `frames_per_second` makes. A slot may have none.

    Args:
        is_wanted: Whether to yield the frame of a slot; others are passed over in less time.

    Raises:
        PhotoError: as `open_film`, and at the end if the film ends early.
    """
    film, count, time, last_slot = open_film(path), 0, 0.0, -1
    while film.grab():
        count += 1
        time = max(time, film.get(cv2.CAP_PROP_POS_MSEC) / 1000)
        slot = int(time * frames_per_second + 1e-3)  # times are rounded
        if slot == last_slot:
            continue
        last_slot = slot
        if is_wanted(slot):
            is_whole, pixels = film.retrieve()
            if is_whole:
                yield Frame(slot, time, Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)))
    if not count:
        raise PhotoError(NO_FRAME)
    length = find_length(film, path)
    if count < LEAST_SHARE * film.get(cv2.CAP_PROP_FRAME_COUNT) and time < LEAST_SHARE * length:
        raise PhotoError(ENDED_EARLY.format(time, length))


class AnnotatedFilm:
    """
    Writes a copy of a film with a box and a label for each face. Use it as a context manager.

    Args:
        source: The film.
        output: The film to write, .mp4 (VP9) or .webm (VP8).
        max_rate: Frames a second, if the film does not have fewer. Default: as in `CODECS`.
        max_side: Pixels of the longer side, if the film does not have fewer. Default: likewise.
        show_progress: Shows a bar with the time left.

    Raises:
        PhotoError: as `open_film`.
        ValueError: if OpenCV cannot write such a film.
    """

    def __init__(
        self,
        source: str | Path,
        output: Path,
        max_rate: float | None = None,
        max_side: int | None = None,
        show_progress: bool = False,
    ):
        self.codec, most, largest = CODECS[output.suffix.lower()]
        rate, max_rate = open_film(source).get(cv2.CAP_PROP_FPS), max_rate or most
        self.rate = min(rate if rate > 0 else max_rate, max_rate)
        self.output, self.max_side, self._writer = output, max_side or largest, None
        bar = {"desc": "Annotating", "unit": " frames", "total": count_slots(source, self.rate)}
        self._frames = iter(tqdm(read_frames(source, self.rate), **bar, disable=not show_progress))
        self._waiting, self._last = next(self._frames, None), None
        self._time, self._faces = 0.0, []

    def __enter__(self) -> "AnnotatedFilm":
        return self

    def __exit__(self, *error):
        """Ends the film where the last call of `add` has led."""
        if self._last is not None:
            self._write(1)
        if self._writer is not None:
            self._writer.release()

    def add(self, time: float, faces: list[dict]):
        """
        Writes the frames before a time, in which boxes move from where they were to where they are.

        Args:
            time: Seconds from the beginning, after that of the last call.
            faces: The dicts of the pipeline, with `track`.
        """
        before = {face["track"]: face["box"] for face in self._faces}
        while self._waiting is not None and self._waiting.time < time:
            share = (self._waiting.time - self._time) / (time - self._time)
            now = [
                face | {"box": mix(before[face["track"]], face["box"], share)}
                for face in faces
                if face["track"] in before
            ]
            known = {face["track"] for face in now}
            self._draw(now + [face for face in self._faces if face["track"] not in known])
        self._time, self._faces = time, faces

    def finish(self):
        """Writes the frames after the last call of `add`."""
        while self._waiting is not None:
            self._draw(self._faces)

    def _draw(self, faces: list[dict]):
        """Takes the next frame; writes the one before as often as it fills the time between both."""
        frame = self._waiting
        if self._last is not None:
            self._write(min(frame.slot - self._last_slot, round(MAX_PAUSE * self.rate)))
        picture, factor = frame.picture, min(1, self.max_side / max(frame.picture.size))
        if factor < 1:
            picture = picture.resize([max(1, round(side * factor)) for side in picture.size], reducing_gap=2.0)
            faces = [face | {"box": {side: value * factor for side, value in face["box"].items()}} for face in faces]
        self._last = cv2.cvtColor(np.asarray(draw_faces(picture, faces)), cv2.COLOR_RGB2BGR)
        self._last_slot = frame.slot
        try:
            self._waiting = next(self._frames, None)
        except PhotoError:  # a film that ends early, as whoever reads it learns too
            self._waiting = None

    def _write(self, count: int):
        """Writes the last frame."""
        height, width = self._last.shape[:2]
        if self._writer is None:
            self._size = (width, height)
            codec = cv2.VideoWriter_fourcc(*self.codec)
            self._writer = cv2.VideoWriter(str(self.output), cv2.CAP_FFMPEG, codec, self.rate, self._size)
            if not self._writer.isOpened():
                raise ValueError(CANNOT_WRITE.format(self.output))
        pixels = self._last if (width, height) == self._size else cv2.resize(self._last, self._size)
        for _ in range(count):
            self._writer.write(pixels)


def mix(first: dict, second: dict, share: float) -> dict:
    """Returns the box between two boxes, a share of the way from the first to the second."""
    return {side: first[side] + share * (second[side] - first[side]) for side in SIDES}
