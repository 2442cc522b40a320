"""The tab for a film: its people are followed, and the film comes back with boxes and numbers."""

import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import gradio as gr

from files.pictures import PhotoError
from metrics.charts import draw_curves
from metrics.results import name_count
from photos.films import AnnotatedFilm, count_slots, read_frames
from photos.people import OPTIONS, People, compute_weight
from photos.wording import describe_gender, describe_interval
from pipeline_agegender import AgeGenderPipeline
from space.face_cards import describe_at_least, find_thresholds
from space.files_tab import CANCELLED, SECONDS_BETWEEN_UPDATES, build_run, make_thumbnail
from space.inference import FILM_QUEUE, find_faces, find_upload, name_ages
from space.uploads import find_own_folder, make_file


MAX_SECONDS = 120
FRAMES_PER_SECOND = 5
WRITTEN_RATE, WRITTEN_SIDE = 10, 960  # frames a second, and pixels of the longer side, of the annotated film
MAX_CURVES = 5  # people in the chart, those of most frames
LEAST_FRAMES = 3  # of a person in the table: fewer are mostly no faces
NOT_SENT = {"weight", "crop", "age_distribution"}  # of a face
HELP = "A film of up to two minutes and 100 MB: MP4, MOV, WebM, MKV or AVI. Its sound is not read."
NO_FILM = "Choose a film first."
NOBODY = "Nobody was found in this film."
TOO_LONG = f"Only the first {MAX_SECONDS} seconds were read."
CANCELLED = CANCELLED.replace(" and its CSV hold", " holds")


class FilmReader:
    """
    Follows the people of an uploaded film.

    Args:
        source: Path of the film.
        age_thresholds: As for the pipeline.

    Attributes:
        total: Number of frames to read, as the film says itself.
        people: Dicts of `People`, without those of fewer than `LEAST_FRAMES` frames.
        frames: For each frame read a dict with `time` (seconds) and `faces`, the dicts of the pipeline with `track` and averaged
            numbers.
        note: A sentence if not all of the film was read, "" otherwise.
        film: Path of the annotated film, which is deleted as uploads are.

    Raises:
        PhotoError: if it cannot be read.
    """

    def __init__(self, pipe: AgeGenderPipeline, source: Path, age_thresholds: Sequence[int] = ()):
        self.pipe, self.source, self.age_thresholds = pipe, source, age_thresholds
        self.total = min(count_slots(source, FRAMES_PER_SECOND), MAX_SECONDS * FRAMES_PER_SECOND)
        self.frames, self.note, self._people = [], "", People(pipe.model.config, age_thresholds)
        find_own_folder().mkdir(exist_ok=True)  # programs that tidy up may have deleted it
        self.film = Path(tempfile.mkdtemp(dir=find_own_folder()), "annotated.webm")

    @property
    def people(self) -> list[dict]:
        return [person for person in self._people.describe() if person["frames"] >= LEAST_FRAMES]

    def read(self) -> Iterator[dict]:
        """Reads the film; yields each of `frames` once it is there."""
        with AnnotatedFilm(self.source, self.film, WRITTEN_RATE, WRITTEN_SIDE) as annotated:
            try:
                for frame in read_frames(self.source, FRAMES_PER_SECOND):
                    if frame.time > MAX_SECONDS:
                        self.note = TOO_LONG
                        return
                    faces = find_faces(self.pipe, frame.picture, age_thresholds=self.age_thresholds, **OPTIONS)
                    faces = [face | {"weight": compute_weight(face)} for face in faces]
                    faces = self._people.update(faces, frame.time)
                    faces = [{name: value for name, value in face.items() if name not in NOT_SENT} for face in faces]
                    annotated.add(frame.time, faces)
                    self.frames.append({"time": round(frame.time, 3), "faces": faces})
                    yield self.frames[-1]
            except PhotoError as error:
                if not self.frames:
                    raise
                self.note = str(error)
            annotated.finish()


def open_reader(pipe: AgeGenderPipeline, upload: object, age_thresholds: Sequence[int]) -> FilmReader:
    """Opens an uploaded film; raises gr.Error with a sentence for the visitor if it cannot be read."""
    path = find_upload(upload)
    try:
        if path is None:
            raise PhotoError(NO_FILM)
        return FilmReader(pipe, path, age_thresholds)
    except PhotoError as error:
        raise gr.Error(str(error), print_exception=False) from error


def answer_film(
    pipe: AgeGenderPipeline, upload: object, age_thresholds: Sequence[int] = ()
) -> tuple[str, list[dict], list[dict]]:
    """Reads a whole film; returns the path of the annotated film, the people without `crop`, and the frames, for JSON."""
    reader = open_reader(pipe, upload, age_thresholds)
    try:
        for _ in reader.read():
            pass
    except PhotoError as error:
        raise gr.Error(str(error), print_exception=False) from error
    people = [{name: value for name, value in person.items() if name != "crop"} for person in reader.people]
    frames = [frame | {"faces": name_ages(frame["faces"])} for frame in reader.frames]
    return str(reader.film), name_ages(people), frames


def fill_tab(pipe: AgeGenderPipeline, upload: object) -> Iterator[tuple[str, dict]]:
    """Yields a sentence and the people so far, at the end with the annotated film and a chart."""
    reader, shown_at = open_reader(pipe, upload, find_thresholds(pipe.model.config)), -math.inf
    try:
        for done, _ in enumerate(reader.read(), start=1):
            if time.monotonic() - shown_at >= SECONDS_BETWEEN_UPDATES:
                total = max(done, reader.total)  # films that a browser recorded do not tell their length
                progress = f"<progress value='{done}' max='{total}'></progress>"
                yield f"{done:,} of {name_count(total, 'frame')} {progress}", make_answer(reader.people)
                shown_at = time.monotonic()
    except PhotoError as error:
        raise gr.Error(str(error), print_exception=False) from error
    people = reader.people
    sentence = f"{describe_people(len(people))} {reader.note}".strip()
    yield (
        sentence,
        make_answer(people) | {"film": make_file(str(reader.film)), "chart": draw_ages(people, reader.frames)},
    )


def describe_people(count: int) -> str:
    """Returns the number of people as a sentence."""
    return {0: NOBODY, 1: "1 person was found."}.get(count, f"{count:,} people were found.")


def make_answer(people: list[dict]) -> dict:
    """Returns the value for film.html."""
    lines = [
        {
            "number": person["track"],
            "image": make_thumbnail(person["crop"]),
            "age": f"{person['age']:.0f}",
            "range": describe_interval(*person["age_interval"]),
            "at_least": describe_at_least(person),
            "gender": describe_gender(person),
            "time": f"{format_time(person['time_from'])}–{format_time(person['time_to'])}",
        }
        for person in people
    ]
    return {"people": lines}


def format_time(seconds: float) -> str:
    """Returns minutes and seconds: `1:05`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def draw_ages(people: list[dict], frames: list[dict]) -> str:
    """Draws the averaged ages of the people of most frames over the time, as SVG; "" if there are none."""
    shown = sorted(people, key=lambda person: -person["frames"])[:MAX_CURVES]
    curves = {f"person {person['track']}": [] for person in sorted(shown, key=lambda person: person["track"])}
    for frame in frames:
        ages = {f"person {face['track']}": face["age"] for face in frame["faces"]}
        for name, points in curves.items():
            points.append((frame["time"], ages.get(name, math.nan)))  # NaN interrupts the line
    return draw_curves("Age over time", "seconds", "years", curves) if curves else ""


def build_film_tab(pipe: AgeGenderPipeline):
    """Builds the tab."""
    file = gr.File(label="Film", file_types=["video"], height=180)
    words, names = (HELP, CANCELLED), {"suffix": "-film", "label": "People", "elem_id": "film"}
    build_run(partial(fill_tab, pipe), file, "film", FILM_QUEUE, words, **names)
