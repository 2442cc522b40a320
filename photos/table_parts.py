"""Writes the parts of a large table of faces, and merges them."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from files.writing import flush_to_disk
from photos.face_table import COLUMNS, to_csv


FACE_COLUMNS = tuple(name for name in COLUMNS if name != "error")
TYPES = dict.fromkeys(("file", "gender", "smoothed_gender"), pa.string())
# All others are float64.
TYPES |= dict.fromkeys(("face", "xmin", "ymin", "xmax", "ymax", "track", "frames"), pa.int32())
ROWS_PER_GROUP = 10_000


@contextmanager
def replacing(file: Path, folder: Path) -> Iterator[Path]:
    """Yields a path in a folder to write to and renames it to `file` at the end, so a kill leaves no half file."""
    # Hidden, as what a kill leaves is no film to label; OpenCV needs the ending of one.
    partial = folder / f".{os.getpid()}.partial.{file.name}"
    try:
        yield partial
        flush_to_disk(partial)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def open_parquet(file: Path, columns: tuple[str, ...]) -> Iterator[Callable[[list[dict]], None]]:
    """Yields a function that appends rows of faces to a new Parquet file."""
    schema = pa.schema([(name, TYPES.get(name, pa.float64())) for name in columns])
    with pq.ParquetWriter(file, schema) as writer:
        yield lambda rows: writer.write_table(pa.Table.from_pylist(rows, schema))


@contextmanager
def open_csv(file: Path, columns: tuple[str, ...]) -> Iterator[Callable[[list[dict]], None]]:
    """Yields a function that appends rows to a new CSV file."""
    with file.open("w", encoding="utf-8", newline="") as text:
        text.write(to_csv([], columns))
        yield lambda rows: text.write(to_csv(rows, columns, header=False))


WRITERS = {".parquet": open_parquet, ".csv": open_csv}


class Parts:
    """
    The rows of pictures in a fixed order, a fixed number of pictures in each file.

    Each part is written whole or not at all. Which pictures a part holds does not depend on the number of processes or
    their speed, so a run resumes from any parts.

    Args:
        output: The table to make, .parquet or .csv. The parts lie beside it in a folder until it is made.
        num_pictures: Pictures in all parts.
        pictures_per_part: Pictures in each part but the last, which may hold fewer.
        run: Settings that the rows depend on, by name, in types of JSON.
        columns: Columns of the table.
    """

    def __init__(
        self,
        output: Path,
        num_pictures: int,
        pictures_per_part: int,
        run: dict,
        columns: tuple[str, ...] = FACE_COLUMNS,
    ):
        self.columns = columns
        self.output, self.num_pictures, self.pictures_per_part = output, num_pictures, pictures_per_part
        self.run = run | {"pictures": num_pictures, "pictures_per_part": pictures_per_part}
        self.unreadable = output.with_name(f"{output.name}.unreadable.csv")
        self.folder = output.with_name(f"{output.name}.parts")

    def open(self, is_main_process: bool) -> list[int]:
        """
        Returns the numbers of the parts that are still to be written.

        Args:
            is_main_process: True makes the folder; the other processes must call this later.

        Raises:
            ValueError: if the folder is missing or holds the parts of another run.
        """
        if is_main_process:
            self.folder.mkdir(parents=True, exist_ok=True)
        elif not self.folder.exists():
            raise ValueError(f"This process does not see {self.folder}: all processes must write to the same disk.")
        done = self.find_done()
        if done:
            self.read(min(done))
        return sorted(set(range(-(-self.num_pictures // self.pictures_per_part))) - done)

    def path(self, number: int) -> Path:
        return self.folder / f"part-{number:06d}.json"

    def find_done(self) -> set[int]:
        """Returns the numbers of the parts that are written."""
        return {int(file.stem.partition("-")[2]) for file in self.folder.glob("part-*.json")}

    def count_done(self) -> int:
        """Returns the number of pictures in the parts that are written."""
        starts = [number * self.pictures_per_part for number in self.find_done()]
        return sum(min(self.pictures_per_part, self.num_pictures - start) for start in starts)

    def write(self, number: int, rows: list[dict]):
        """
        Writes a part.

        Args:
            rows: Rows of `face_table`, including those of pictures without faces and of unreadable ones. The first of a
                picture may have `more_pages`, True if only the first of several pages was read.
        """
        with replacing(self.path(number), self.folder) as file:
            file.write_text(json.dumps({"run": self.run, "rows": rows}), encoding="utf-8")

    def read(self, number: int) -> list[dict]:
        """Reads the rows of a part. Raises ValueError if another run wrote it."""
        part = json.loads(self.path(number).read_text(encoding="utf-8"))
        other = part["run"]
        changes = [
            f"{name} {other.get(name)}, now {value}" for name, value in self.run.items() if other.get(name) != value
        ]
        if changes:
            raise ValueError(
                f"{self.folder} holds the parts of another run ({', '.join(changes)}): repeat its command, delete the folder "
                "or choose another --output."
            )
        return part["rows"]

    def merge(self, films: AbstractContextManager = nullcontext()) -> Counter[str]:
        """
        Writes the table of all faces and, if there are any, the list of unreadable pictures; then deletes the parts.

        Args:
            films: Yields the `FilmTable` that completes the rows of films, and at the end writes what lies beside this table.

        Returns:
            The numbers of `pictures` and `faces`, of the pictures `without_face`, `unreadable` and with `more_pages` than
            the first, and of the `people` of films.
        """
        counts = Counter()
        # The table is renamed last: once it exists, the parts are not needed. What a kill leaves goes with their folder.
        with (
            replacing(self.output, self.folder) as table,
            replacing(self.unreadable, self.folder) as unreadable,
            WRITERS[self.output.suffix.lower()](table, self.columns) as write_faces,
            open_csv(unreadable, ("file", "error")) as write_unreadable,
            films as film_table,
        ):
            waiting = []
            for number in sorted(self.find_done()):
                rows = self.read(number)
                if film_table is not None:
                    film_table.complete(rows)
                faces = [row for row in rows if row["face"] is not None]
                errors = [row for row in rows if row["error"] is not None]
                write_unreadable(errors)
                waiting += faces
                if len(waiting) >= ROWS_PER_GROUP:
                    write_faces(waiting)
                    waiting = []
                no_face = len(rows) - len(faces) - len(errors)
                more_pages = sum(row.get("more_pages", False) for row in rows)
                pictures = sum(row["face"] in (None, 1) for row in rows)
                counts.update(pictures=pictures, faces=len(faces), without_face=no_face)
                counts.update(unreadable=len(errors), more_pages=more_pages)
            write_faces(waiting)
        counts["people"] = 0 if film_table is None else len(film_table.people)
        if not counts["unreadable"]:
            self.unreadable.unlink()
        shutil.rmtree(self.folder)
        return counts
