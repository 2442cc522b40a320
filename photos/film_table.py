"""Completes the rows of films in a table of faces: tracks, smoothed numbers, and a table of the people."""

import glob
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path

from configuration_agegender import AgeGenderConfig
from photos.face_table import make_face_rows, name_threshold, round_at_least
from photos.films import AnnotatedFilm
from photos.people import People, compute_weight
from photos.table_parts import WRITERS, replacing
from photos.tracking import SIDES


# Columns that the table of faces has beside those of pictures.
FILM_COLUMNS = (
    "time",
    "track",
    "smoothed_age",
    "smoothed_age_low",
    "smoothed_age_high",
    "smoothed_gender",
    "smoothed_gender_score",
)
PEOPLE_COLUMNS = (
    "file",
    "track",
    "time_from",
    "time_to",
    "frames",
    "age",
    "age_low",
    "age_high",
    "gender",
    "gender_score",
)


def make_frame_rows(file: str, time: float, faces: list[dict]) -> list[dict]:
    """
    Makes one row for each face of a frame.

    Args:
        file: Name of the film in the table.
        time: Seconds from its beginning.
        faces: Dicts of the pipeline with `crop` and `age_distribution`.

    Returns:
        The rows of `make_face_rows` with `time`, and with `age_distribution` and `weight`, which `FilmTable` needs and takes
        out.
    """
    rows = make_face_rows(file, faces)
    for row, face in zip(rows, faces):
        row["age_distribution"] = [round(share, 5) for share in face["age_distribution"]]
        row["weight"] = round(compute_weight(face), 3)
    return [row | {"time": round(time, 3)} for row in rows]


def read_face(row: dict) -> dict:
    """Returns the dict of the pipeline that a row was made from, rounded as the row is."""
    names = ("age", "gender", "gender_score", "detection_score")
    face = {name: row[name] for name in names} | {name: row.pop(name) for name in ("age_distribution", "weight")}
    return face | {"age_interval": [row["age_low"], row["age_high"]], "box": {side: row[side] for side in SIDES}}


def round_numbers(face: dict, start: str = "") -> dict:
    """Returns the numbers of a face or person as cells; the names of the columns begin with `start`."""
    low, high = face["age_interval"]
    numbers = {"age": round(face["age"], 1), "age_low": round(low, 1), "age_high": round(high, 1)}
    numbers |= {"gender": face["gender"], "gender_score": round(face["gender_score"], 4)}
    return {start + name: value for name, value in (numbers | round_at_least(face)).items()}


class FilmTable:
    """
    Follows the people of films through the rows of their frames.

    Args:
        config: Configuration of the model.
        annotated: The annotated film to write, if there is only one film.
        age_thresholds: As for the pipeline; each gives people a column.

    Attributes:
        people: The rows of `PEOPLE_COLUMNS` of the films that have ended.
    """

    def __init__(
        self, config: AgeGenderConfig, annotated: AnnotatedFilm | None = None, age_thresholds: Sequence[int] = ()
    ):
        self.config, self.annotated, self.age_thresholds = config, annotated, age_thresholds
        self.people, self._file, self._following = [], None, None

    def complete(self, rows: list[dict]):
        """Adds `FILM_COLUMNS` to the next rows of the table, in their order, those of pictures included."""
        for (file, time), found in groupby(rows, key=lambda row: (row["file"], row.get("time"))):
            if time is None:
                continue
            if file != self._file:
                self.end_film()
                self._file, self._following = file, People(self.config, self.age_thresholds)
            frame = [row for row in found if row["face"] is not None]
            faces = self._following.update([read_face(row) for row in frame], time)
            for row, face in zip(frame, faces):
                row |= {"track": face["track"]} | round_numbers(face, "smoothed_")
            if self.annotated is not None:
                self.annotated.add(time, faces)

    def end_film(self):
        """Describes the people of a film after its last row."""
        if self._following is None:
            return
        for person in self._following.describe():
            times = {name: person[name] for name in ("track", "time_from", "time_to", "frames")}
            self.people.append({"file": self._file} | times | round_numbers(person))
        if self.annotated is not None:
            self.annotated.finish()
        self._following = None


@contextmanager
def open_film_table(
    config: AgeGenderConfig,
    output: Path,
    folder: Path,
    film: str,
    annotated_video: Path | None,
    age_thresholds: Sequence[int] = (),
) -> Iterator[FilmTable]:
    """
    Yields a `FilmTable`, and writes its people and the annotated film at the end.

    Args:
        output: The table of people, .parquet or .csv.
        folder: Holds that table until it is whole.
        film: Path of the film to annotate.
        annotated_video: The annotated film, None for none.
        age_thresholds: As for the pipeline; each gives people a column.
    """
    with ExitStack() as stack:
        annotated = None
        if annotated_video is not None:
            annotated_video.parent.mkdir(parents=True, exist_ok=True)
            for left in annotated_video.parent.glob(f".*.partial.{glob.escape(annotated_video.name)}"):
                left.unlink()  # a run that was killed left it
            file = stack.enter_context(replacing(annotated_video, annotated_video.parent))
            annotated = stack.enter_context(AnnotatedFilm(film, file, show_progress=True))
        table = FilmTable(config, annotated, age_thresholds)
        yield table
        table.end_film()
        columns = (*PEOPLE_COLUMNS, *map(name_threshold, age_thresholds))
        with replacing(output, folder) as file, WRITERS[output.suffix.lower()](file, columns) as write:
            write(table.people)
