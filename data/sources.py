"""Reads images, labelled or not, from folders, archives, tables and data sets of the Hub."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from copy import copy
from functools import partial
from pathlib import Path, PurePath
from typing import NamedTuple

import datasets

from data.label_files import NamedImages, Row, is_label_file
from data.labels import read_labels
from data.tables import SPLIT_NAMES, check_genders, check_label_columns, find_split, is_parquet, load_table, read_name
from files.archives import ARCHIVE_ERRORS, ARCHIVE_NAME, find_pictures, is_archive, read_archive
from files.folders import Found, expand_home, find_files
from files.pictures import START_BYTES, PassedOver, is_film, is_picture, is_system_file, read_start, refuse, to_text


READING_ERRORS = (OSError, RuntimeError, ValueError, MemoryError)


class Entry(NamedTuple):
    """An image that is not read yet. `labels` is None if the file name holds them, `split` if nothing names it."""

    path: str  # in the folder or archive, with slashes
    name: str  # the last part of the path, or the name of a table's row
    read: Callable[[], bytes]  # must be called before the next entry is taken; raises READING_ERRORS
    labels: dict | None = None
    split: str | None = None
    film: str | None = None  # the path on the disk if it is a film, which is too long to be read at once


def make_entry(path: str, read: Callable[[], bytes], place: str, row: Row | None = None) -> Entry:
    """
    Makes the entry of a file, with its row in a table of labels if there is one.

    Args:
        place: Path relative to the data. A folder in it, or the table, may have the name of a split.
    """
    path = to_text(PurePath(path).as_posix())
    named = [PurePath(row.table)] if row else []
    if not place.startswith("../"):  # the folders of images elsewhere may have any names
        named.append(PurePath(place).parent)
    split = next(filter(None, map(find_split, named)), None)
    return Entry(path, path.rpartition("/")[2], read, row and row.labels, split)


def refuse_rows(named: NamedImages) -> Iterator[Entry]:
    """Yields an entry for each row without an image of its own, whose `read` raises the reason."""
    for image, reason in named.unusable:
        yield make_entry(image, partial(refuse, reason), "")


def read_table(table: datasets.DatasetDict, has_splits: bool) -> Iterator[Entry]:
    """Yields the rows of a table, with the names of its splits if `has_splits`."""
    for split_name, split in table.items():
        features = split.features
        # A concatenated data set has a format with column names, which flattening does not rename.
        split = split.cast_column("image", datasets.Image(decode=False)).flatten().with_format(None)
        images = split.select_columns(["image.bytes", "image.path"])
        for index, row in enumerate(split.remove_columns("image.bytes")):
            name, read = read_name(row, f"{split_name}-{index}"), partial(read_cell, images, index)
            yield Entry(name, name, read, read_labels(row, features), split_name if has_splits else None)


def read_cell(images: datasets.Dataset, index: int) -> bytes:
    """Reads the image of a row. Raises PhotoError if the row has none."""
    data, path = images[index].values()
    if data is None and not path:
        refuse("This row holds no image.")
    return Path(path).read_bytes() if data is None else data


class Source:
    """
    The images at a path, stored in any of the supported forms.

    What cannot be read, such as a folder or a file without permission, is an entry too, whose `read` raises the reason.

    Args:
        data_dir: A folder, an image, a tar or zip archive, a Parquet file, a table of labels (see `label_files`), a
            pattern of paths of these as `photos/*.jpg`, or a Hub id.
        labelled: If False, accepts also Parquet files without ages, and passes over tables of labels.
        table: The splits of the data set at `data_dir`, if they are loaded already.
        left_out: Prefixes of paths to leave out, for instance of results that are written beside the images.
        films: Whether films are entries too, with `film`. Those in archives are not.

    Attributes:
        passed_over: Names of the files that are no images; complete once `entries` has been iterated.
        named: The images that tables of labels name, by the path of their archive, "" for those in none; complete likewise.

    Raises:
        ValueError: if the path is none of these, or if images and tables are mixed and `labelled` is False.
    """

    def __init__(
        self,
        data_dir: str | Path,
        labelled: bool = True,
        table: datasets.DatasetDict | None = None,
        left_out: Iterable[Path] = (),
        films: bool = False,
    ):
        path = expand_home(str(data_dir))
        # Resolved, so that the cache finds a path however it is written.
        self.data_dir = str(Path(path).resolve()) if os.path.exists(path) else path
        self.table, self.has_splits = table, bool(table)
        self.root, found = ("", []) if table else find_files(self.data_dir)
        starts = tuple(os.path.join(os.path.realpath(path.parent), path.name) for path in left_out)
        found = [file for file in found if not os.path.abspath(file.path).startswith(starts)]
        self.in_folder, self._archives, self._others = os.path.isdir(self.data_dir), set(), PassedOver()
        self.base = (self.root if os.path.isdir(self.root) else os.path.dirname(self.root)) or "."
        self.labelled, self.films, self.named, self._label_files = labelled, films, {"": NamedImages({}, ())}, []
        self.files = [file for file in found if self._is_taken(file)]
        tables = [file for file in self.files if is_parquet(file.path)]
        images = [file for file in self.files if not (file.error or is_parquet(file.path))]
        if tables and images and not labelled:
            raise ValueError(
                f"{data_dir} holds both images and Parquet files, such as {images[0].path} and {tables[0].path}: give one "
                "of them alone, as a path or as a pattern in quotes ('photos/**/*.jpg')."
            )
        if tables:
            self.files = tables
            self._others += [to_text(file.path) for file in [*images, *self._label_files]]
        elif self._label_files:
            self._read_label_files()
        if tables or not (found or table or os.path.exists(self.data_dir)):
            self._load_table(labelled)
        self.passed_over = copy(self._others)

    def _is_taken(self, file: Found) -> bool:
        """Returns whether a file is an image, table or archive to read, or an error to report; counts the others."""
        path, is_given = file.path, file.path == self.data_dir
        if file.error and is_given:
            raise ValueError(f"{path}: {file.error}")
        name = self._locate(file)
        if is_given:  # even if it is hidden
            name = name.lstrip(".")
        if file.error or (file.is_regular and is_parquet(name) and not is_system_file(name)):
            return True
        if file.is_regular and (self.films and is_film(name) or is_picture(name, partial(read_start, path))):
            return True
        # An archive in a folder was not asked for, and may hold the images of the folder once more.
        if file.is_regular and (is_archive(path) if is_given else ARCHIVE_NAME.search(name) and not self.in_folder):
            self._archives.add(path)
            return True
        if self.labelled and file.is_regular and is_label_file(name) and not is_system_file(name):
            self._label_files.append(file)
            return False
        if is_given:
            table = "table (.csv, .tsv, .jsonl or .parquet)" if self.labelled else "Parquet file"
            raise ValueError(f"{path} is neither an image, a tar or zip archive nor a {table}.")
        self._others.append(to_text(name))
        return False

    def _load_table(self, labelled: bool):
        """Loads the Parquet files, or the data set of the Hub."""
        self.table = load_table(self.data_dir, [file.path for file in self.files])
        self.has_splits = len(self.table) > 1
        if labelled:
            check_label_columns(self.data_dir, next(iter(self.table.values())).features)
            check_genders(self.data_dir, self.table)
            if self.has_splits and not set(self.table) <= set(SPLIT_NAMES):
                known = ", ".join(SPLIT_NAMES)
                raise ValueError(f"{self.data_dir!r} has the splits {sorted(self.table)}; known are {known}.")

    def _locate(self, file: Found) -> str:
        """Returns the path of a file relative to the folder with the data."""
        return PurePath(os.path.relpath(file.path, self.base)).as_posix()

    def _read_label_files(self):
        """Reads the tables of labels, and keeps of the images those that they name, wherever these are."""
        images = {
            self._locate(file): file for file in self.files if not file.error and file.path not in self._archives
        }
        contents = {self._locate(file): Path(file.path).read_bytes() for file in self._label_files}
        named = self.named[""] = NamedImages(contents, images, self.base)
        if named.refused and self._label_files[0].path == self.data_dir:
            raise ValueError(named.refused[0])
        if named.tables:
            others = [file for file in self.files if self._locate(file) not in images]
            self.files = others + [images.get(name) or Found(os.path.join(self.base, name)) for name in named.rows]

    def _read_label_files_in(self, path: str) -> NamedImages:
        """Reads the tables of labels in an archive."""
        if path not in self.named:
            contents, images = {}, []
            with suppress(*ARCHIVE_ERRORS):  # which are reported when the images are read
                for member in read_archive(path) if self.labelled else ():
                    if is_label_file(member.name) and not is_system_file(member.name):
                        contents[member.name] = member.read()
                    elif is_picture(member.name, partial(member.read, START_BYTES)):
                        images.append(member.name)
            self.named[path] = NamedImages(contents, images)
        return self.named[path]

    def entries(self) -> Iterator[Entry]:
        """
        Yields all images, always in the same order.

        Raises:
            ValueError: if the archive at `data_dir` is damaged. One of several is an entry that raises it.
        """
        self.passed_over = copy(self._others)
        if self.table:
            yield from read_table(self.table, self.has_splits)
            return
        is_relative = self.in_folder or self.data_dir in (file.path for file in self._label_files)
        for file in self.files:
            place = self._locate(file)
            name = place if is_relative else file.path
            if file.error:
                yield make_entry(name, partial(refuse, file.error), place)
            elif file.path in self._archives:
                yield from self._read_archive(file.path, place)
            elif self.films and is_film(file.path):
                yield make_entry(name, partial(refuse, "A film is read frame by frame."), place)._replace(
                    film=file.path
                )
            else:
                yield make_entry(name, Path(file.path).read_bytes, place, self.named[""].rows.get(place))
        yield from refuse_rows(self.named[""])

    def _read_archive(self, path: str, place: str) -> Iterator[Entry]:
        """Yields the images of an archive; their paths begin with its own if it is one of several."""
        is_given = path == self.data_dir
        start = "" if is_given else f"{path}/"
        named = self._read_label_files_in(path)
        try:
            members = (member for member in read_archive(path) if member.name not in named.tables)
            for member in find_pictures(members, self.passed_over):
                row = named.rows.get(member.name)
                if row or not named.tables:
                    # An archive is named for a split as a folder is.
                    yield make_entry(start + member.name, member.read, f"{place}/{member.name}", row)
            yield from refuse_rows(named)
        except ARCHIVE_ERRORS as error:
            if is_given:
                raise ValueError(f"{path} is damaged ({error}): fetch it again.") from error
            yield make_entry(path, partial(refuse, f"This archive is damaged ({error}): fetch it again."), place)

    def fingerprint(self) -> str:
        """Returns a hash that changes with the name, size or date of any file."""
        digest = hashlib.sha256(os.fsencode(self.data_dir))
        for file in [*self.files, *self._label_files]:
            state = [*file]
            with suppress(OSError):  # deleted meanwhile
                status = os.stat(file.path)
                state += [status.st_size, status.st_mtime_ns, status.st_mode]  # the mode may forbid to read it
            digest.update(f"{state}\n".encode())
        for split in (self.table or {}).values():
            # `datasets` keeps a table in a folder named for its files and, of the Hub, their commit.
            digest.update("".join(file["filename"] for file in split.cache_files).encode())
        return digest.hexdigest()[:16]
