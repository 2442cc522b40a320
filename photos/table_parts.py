"""The parts that `predict.py` writes while it works, and the table that they become."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from photos.face_table import COLUMNS, to_csv


TYPES = dict.fromkeys(COLUMNS, pa.float64())
TYPES |= dict.fromkeys(("file", "gender", "error"), pa.string())
TYPES |= dict.fromkeys(("face", "xmin", "ymin", "xmax", "ymax"), pa.int32())
PART_SCHEMA = pa.schema(list(TYPES.items()))
FACE_COLUMNS = tuple(name for name in COLUMNS if name != "error")
FACE_SCHEMA = pa.schema([(name, TYPES[name]) for name in FACE_COLUMNS])
ROWS_PER_GROUP = 10_000


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path to write to, which becomes `file` when all is written: a kill in between leaves no half file."""
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        yield partial
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    with partial.open("rb") as written:
        os.fsync(written.fileno())
    partial.replace(file)


@contextmanager
def open_parquet(file: Path) -> Iterator[Callable[[list[dict]], None]]:
    """A function that appends rows of faces to a new Parquet file."""
    with pq.ParquetWriter(file, FACE_SCHEMA) as writer:
        yield lambda rows: writer.write_table(pa.Table.from_pylist(rows, FACE_SCHEMA))


@contextmanager
def open_csv(file: Path, columns: tuple[str, ...] = FACE_COLUMNS) -> Iterator[Callable[[list[dict]], None]]:
    """A function that appends rows to a new CSV file."""
    with file.open("w", encoding="utf-8", newline="") as text:
        text.write(to_csv([], columns))
        yield lambda rows: text.write(to_csv(rows, columns, header=False))


WRITERS = {".parquet": open_parquet, ".csv": open_csv}


class Parts:
    """
    The answers for pictures in a fixed order, so many of them a file: each part is there whole or not at all.

    Which pictures a part holds depends neither on the number of processes nor on their speed, so a run goes on with
    whatever parts are there.

    Args:
        output: The table to make, .parquet or .csv; the parts lie beside it in a folder until it is made.
        num_pictures: All of them.
        pictures_per_part: The last part may hold fewer.
        run: What the answers depend on, by name; strings, numbers and booleans.
    """

    def __init__(self, output: Path, num_pictures: int, pictures_per_part: int, run: dict):
        self.output, self.num_pictures, self.pictures_per_part = output, num_pictures, pictures_per_part
        self.run = run | {"pictures": num_pictures, "pictures_per_part": pictures_per_part}
        self.unreadable = output.with_name(f"{output.name}.unreadable.csv")
        self.folder = output.with_name(f"{output.name}.parts")
        self.numbers = range(-(-num_pictures // pictures_per_part))

    def start(self):
        """
        Makes the folder of the parts; on the main process alone.

        Raises:
            ValueError: if there is a finished table already.
        """
        shutil.rmtree(self._discarded, ignore_errors=True)
        if self.output.exists() and not self.folder.exists():
            raise ValueError(f"{self.output} is there already: delete it or choose another --output.")
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._run_file.exists():
            with replacing(self._run_file) as file:
                file.write_text(json.dumps(self.run, indent=2))

    def check(self):
        """Raises ValueError if the parts that are there are those of another run."""
        if not self._run_file.exists():
            raise ValueError(f"This process does not see {self.folder}: all processes must write to the same disk.")
        other = json.loads(self._run_file.read_text())
        differing = [name for name in self.run if self.run[name] != other.get(name)]
        if differing:
            changes = ", ".join(f"{name} {other.get(name)}, now {self.run[name]}" for name in differing)
            raise ValueError(
                f"{self.folder} holds the parts of another run ({changes}): repeat its command, delete the folder or choose "
                "another --output."
            )

    def path(self, number: int) -> Path:
        return self.folder / f"part-{number:06d}.parquet"

    def find_done(self) -> set[int]:
        """The numbers of the parts that are there."""
        return {int(file.stem.partition("-")[2]) for file in self.folder.glob("part-*.parquet")}

    def count_pictures(self, number: int) -> int:
        """Pictures of a part."""
        return min(self.pictures_per_part, self.num_pictures - number * self.pictures_per_part)

    def write(self, number: int, rows: list[dict]):
        """Writes a part: rows as of `face_table`, those of pictures without faces and of unreadable ones included."""
        with replacing(self.path(number)) as file:
            pq.write_table(pa.Table.from_pylist(rows, PART_SCHEMA), file)

    def merge(self) -> dict[str, int]:
        """
        Makes the table of all faces, and the list of unreadable pictures where there are any, and deletes the parts.

        Returns:
            The numbers of `faces`, and of the pictures `without_face` and `unreadable`.
        """
        counts = dict.fromkeys(("faces", "without_face", "unreadable"), 0)
        with (
            replacing(self.output) as table,
            replacing(self.unreadable) as unreadable,
            WRITERS[self.output.suffix](table) as write_faces,
            open_csv(unreadable, ("file", "error")) as write_unreadable,
        ):
            waiting = []
            for number in self.numbers:
                rows = pq.read_table(self.path(number)).to_pylist()
                faces = [row for row in rows if row["face"] is not None]
                errors = [row for row in rows if row["error"] is not None]
                write_unreadable(errors)
                waiting += faces
                if len(waiting) >= ROWS_PER_GROUP:
                    write_faces(waiting)
                    waiting = []
                for name, count in zip(counts, (len(faces), len(rows) - len(faces) - len(errors), len(errors))):
                    counts[name] += count
            write_faces(waiting)
        if not counts["unreadable"]:
            self.unreadable.unlink()
        # Renamed first: a kill while the parts are deleted does not leave some that look like a run to go on with.
        self.folder.rename(self._discarded)
        shutil.rmtree(self._discarded)
        return counts

    @property
    def _run_file(self) -> Path:
        return self.folder / "run.json"

    @property
    def _discarded(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.merged")
