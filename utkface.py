"""
UTKFace (Zhang, Song, Qi 2017, https://huggingface.co/papers/1702.08423) as a `datasets` data set, split without leaks.

    python utkface.py figures PATH --output_dir assets

PATH is what people have: a folder of `*.jpg.chip.jpg`, folders of such folders, `UTKFace.tar.gz` or a zip, a folder of
Parquet files, or the id of a data set on the Hub.
"""

import argparse
import hashlib
import io
import math
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np
import torch
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


logger = datasets.logging.get_logger(__name__)

GENDERS = ["male", "female"]
RACES = ["White", "Black", "Asian", "Indian", "Others"]
MAXIMUM_AGE = 120
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
SPLITS_DIR = Path(__file__).parent / "splits"
FILE_NAME = re.compile(r"(\d+)_(\d+)_(\d+)_(\w+)")
# UTKFace's own names end in the date and time of their making, to the millisecond.
UTKFACE_NAME = re.compile(r"\d+_\d_(\d_)?\d{17}\.jpg(\.chip\.jpg)?$")
DUPLICATE_COSINE = 0.985
THUMBNAIL_SIDE = 20

FEATURES = datasets.Features(
    {
        "image": datasets.Image(),
        "age": datasets.Value("float32"),
        "gender": datasets.ClassLabel(names=GENDERS),
        "race": datasets.ClassLabel(names=RACES),
        "file_name": datasets.Value("string"),
        "group": datasets.Value("int32"),
    }
)


class Record(NamedTuple):
    """One image as a reader found it; `labels` and `split` where the source carries them beside the name."""

    name: str
    data: bytes
    labels: dict | None = None
    split: str | None = None


class Face(NamedTuple):
    """One usable image of the source, before it is read again for the cache. Labels are None where not known."""

    name: str
    age: float | None
    gender: int | None
    race: int | None
    split: str | None


def read_folder(path: Path) -> Iterator[Record]:
    """The images of a folder and of all folders below it, in the order of their paths."""
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file():
            yield Record(file.name, file.read_bytes())


def read_tar(path: Path) -> Iterator[Record]:
    """The images of a tar archive, compressed or not, without unpacking it."""
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and Path(member.name).suffix.lower() in IMAGE_SUFFIXES:
                yield Record(Path(member.name).name, archive.extractfile(member).read())


def read_zip(path: Path) -> Iterator[Record]:
    """The images of a zip archive, without unpacking it."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.is_dir() and Path(member.filename).suffix.lower() in IMAGE_SUFFIXES:
                yield Record(Path(member.filename).name, archive.read(member))


def read_table(dataset_dict: datasets.DatasetDict) -> Iterator[Record]:
    """The rows of a Parquet folder or Hub data set; its splits are kept where it has more than one."""
    for split_name, split in dataset_dict.items():
        split = split.cast_column("image", datasets.Image(decode=False))
        for index, row in enumerate(split):
            image = row["image"]
            data = image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()
            labels = {key: row.get(key) for key in ("age", "gender", "race")}
            name = row.get("file_name") or f"{split_name}-{index}"
            yield Record(name, data, labels, split_name if len(dataset_dict) > 1 else None)


def load_table(source: str) -> datasets.DatasetDict:
    """A Parquet file or folder, or a Hub data set, by its path or id. Raises ValueError if it lacks a column."""
    path = Path(source)
    if path.exists():
        files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
        by_split = {}
        for file in files:
            split = re.match(r"(train|validation|test)\b", file.name)
            by_split.setdefault(split.group(1) if split else "train", []).append(str(file))
        table = datasets.load_dataset("parquet", data_files=by_split)
    else:
        try:
            table = datasets.load_dataset(source)
        except Exception as error:
            raise ValueError(
                f"{source!r} is no file or folder here, and it could not be loaded from the Hub either ({error}). Give "
                "a folder of UTKFace images, its .tar.gz or .zip, a folder of Parquet files, or a data set id."
            ) from error
    columns = next(iter(table.values())).column_names
    missing = {"image", "age"} - set(columns)
    if missing:
        raise ValueError(f"{source!r} has the columns {columns}, but lacks {sorted(missing)}.")
    return table


class Source:
    """Where images come from: chooses the reader for a path and tells when its content has changed."""

    def __init__(self, data_dir: str | Path):
        self.data_dir = str(data_dir)
        path = Path(data_dir)
        if path.is_dir() and not any(path.rglob("*.parquet")):
            self.files, self._read = [file for file in sorted(path.rglob("*")) if file.is_file()], read_folder
        elif path.is_file() and tarfile.is_tarfile(path):
            self.files, self._read = [path], read_tar
        elif path.is_file() and zipfile.is_zipfile(path):
            self.files, self._read = [path], read_zip
        elif path.is_file() and path.suffix != ".parquet":
            raise ValueError(f"{data_dir} is neither a tar or zip archive nor a Parquet file.")
        else:
            self.files, self._read = [], None
            self.table = load_table(self.data_dir)

    def records(self) -> Iterator[Record]:
        """All images of the source, always in the same order."""
        return self._read(Path(self.data_dir)) if self._read else read_table(self.table)

    def fingerprint(self) -> str:
        """Changes with the name, size or date of any file, or with the content of a table."""
        digest = hashlib.sha256(self.data_dir.encode())
        for file in self.files:
            status = file.stat()
            digest.update(f"{file}|{status.st_size}|{status.st_mtime_ns}\n".encode())
        if not self._read:
            digest.update("".join(split._fingerprint for split in self.table.values()).encode())
        return digest.hexdigest()[:16]


def parse_file_name(name: str) -> dict:
    """
    The labels in a UTKFace file name, `[age]_[gender]_[race]_[date&time].jpg.chip.jpg`.

    Raises:
        ValueError: if a field is missing. Three files of the data set lack one, for instance
            `39_1_20170116174525125.jpg.chip.jpg`.
    """
    match = FILE_NAME.match(name)
    if match is None:
        raise ValueError("the name is not of the form [age]_[gender]_[race]_[date&time]")
    return dict(zip(("age", "gender", "race"), (int(value) for value in match.groups()[:3])))


def check_labels(labels: dict) -> dict:
    """
    The labels as numbers, None where a label is missing.

    Raises:
        ValueError: if an age is not in 0–120 years, or gender or race is not the index or the name of a class.
    """
    age = labels.get("age")
    if age is not None and not 0 <= age <= MAXIMUM_AGE:
        raise ValueError(f"the age {age} is not in 0–{MAXIMUM_AGE}")
    checked = {"age": age}
    for key, names in (("gender", GENDERS), ("race", RACES)):
        value = labels.get(key)
        value = names.index(value) if value in names else value
        if value == -1:
            value = None
        if value is not None and value not in range(len(names)):
            raise ValueError(f"the {key} {value!r} is not in 0–{len(names) - 1}")
        checked[key] = value
    return checked


def thumbnail(data: bytes) -> np.ndarray:
    """The grey 20×20 picture of an encoded image as a vector of length one with its mean removed, (400,) float32."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        small = image.convert("L").resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)
    vector = np.asarray(small, dtype=np.float32).ravel()
    vector = vector - vector.mean()
    length = np.linalg.norm(vector)
    return vector / length if length > 0 else vector


def group_near_duplicates(thumbnails: np.ndarray, block_size: int = 2048) -> np.ndarray:
    """
    Numbers images so that near-duplicates share a number.

    Two images are near-duplicates when the cosine of their thumbnails is above 0.985; groups are the connected parts.

    Args:
        thumbnails: Vectors of length one from `thumbnail`, (images, 400) float32.
        block_size: Images compared with all others at a time, which bounds memory.

    Returns:
        Group numbers, (images,) int.
    """
    pairs = [np.empty((2, 0), dtype=int)]
    for start in range(0, len(thumbnails), block_size):
        similar = thumbnails[start : start + block_size] @ thumbnails.T > DUPLICATE_COSINE
        rows, columns = similar.nonzero()
        pairs.append(np.stack([rows + start, columns]))
    rows, columns = np.concatenate(pairs, axis=1)
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(len(thumbnails),) * 2)
    return connected_components(graph, directed=False)[1]


def draw_groups(faces: list[Face], groups: np.ndarray, candidates: list[int], share: float, seed: int) -> set[int]:
    """
    Draws whole groups of near-duplicates with the age and gender mix of the candidates.

    Args:
        faces: All faces of the source.
        groups: Their group numbers, (faces,).
        candidates: Indices of the faces to draw from.
        share: Share of the candidates to draw, 0–1.
        seed: Of the draw.

    Returns:
        Indices of the drawn faces.
    """
    members, strata = {}, {}
    for index in candidates:
        members.setdefault(groups[index], []).append(index)
    for group, indices in members.items():
        face = faces[indices[0]]
        age_band = None if face.age is None else int(face.age) // 5
        strata.setdefault((age_band, face.gender), []).append(group)
    generator = np.random.default_rng(seed)
    drawn, owed = set(), 0.0
    for key in sorted(strata, key=str):
        owed += share * sum(len(members[group]) for group in strata[key])
        for group in generator.permutation(strata[key]):
            if owed < len(members[group]) / 2:
                break
            drawn.update(members[group])
            owed -= len(members[group])
    return drawn


def read_names(file: Path) -> set[str]:
    """The names of a list with one file name a line."""
    return set(file.read_text().split())


@dataclass
class UTKFaceConfig(datasets.BuilderConfig):
    """How the splits are drawn. `fingerprint` stands for the content of the source, so that a change is noticed."""

    source: Source = field(default=None, repr=False)
    fingerprint: str = ""
    strict: bool = False
    seed: int = 0
    validation_share: float = 0.1
    test_share: float = 0.1

    def create_config_id(self, config_kwargs, custom_features=None) -> str:
        """The cache folder's name: all that changes the result, but not the source object itself."""
        return f"{self.fingerprint}-{self.seed}-{self.validation_share}-{self.test_share}-{int(self.strict)}"


class UTKFace(datasets.GeneratorBasedBuilder):
    """Builds the splits train, validation and test; see `load_utkface`."""

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIG_CLASS = UTKFaceConfig

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description="Faces with apparent age and gender, without leaks of near-duplicates between the splits.",
            features=FEATURES,
            license="Non-commercial research use only; the images belong to their owners.",
        )

    def _split_generators(self, dl_manager) -> list[datasets.SplitGenerator]:
        faces, groups = self._scan()
        splits = self._assign_splits(faces, groups)
        rows = {face.name: (face, int(group), split) for face, group, split in zip(faces, groups, splits)}
        return [
            datasets.SplitGenerator(name, gen_kwargs={"rows": rows, "split": str(name)})
            for name in (datasets.Split.TRAIN, datasets.Split.VALIDATION, datasets.Split.TEST)
            if str(name) in splits
        ]

    def _generate_examples(self, rows: dict, split: str):
        for record in self.config.source.records():
            # Each name once: in `_scan` a second file of that name was refused.
            face, group, face_split = rows.get(record.name, (None, None, None))
            if face_split != split or rows.pop(record.name) is None:
                continue
            yield (
                face.name,
                {
                    "image": {"path": face.name, "bytes": record.data},
                    "age": face.age,
                    "gender": face.gender,
                    "race": face.race,
                    "file_name": face.name,
                    "group": group,
                },
            )

    def _scan(self) -> tuple[list[Face], np.ndarray]:
        """All usable faces of the source and their groups; what is not usable is named in a warning."""
        faces, thumbnails, refused, seen = [], [], {}, set()
        for record in datasets.utils.tqdm(self.config.source.records(), desc="Reading faces", unit=" images"):
            try:
                if record.name in seen:
                    raise ValueError("another image has the same name")
                labels = check_labels(parse_file_name(record.name) if record.labels is None else record.labels)
                thumbnails.append(thumbnail(record.data))
            except (ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
                if self.config.strict:
                    raise ValueError(f"{record.name}: {error}") from error
                refused[record.name] = str(error)
                continue
            seen.add(record.name)
            faces.append(Face(record.name, split=record.split, **labels))
        if refused:
            listed = "\n".join(f"  {name}: {reason}" for name, reason in refused.items())
            logger.warning(f"{len(refused)} of {len(refused) + len(faces)} images are left out:\n{listed}")
        if not faces:
            raise ValueError(
                f"{self.config.source.data_dir} holds no usable image: expected names like "
                "26_1_2_20170116181301976.jpg.chip.jpg, or a table with the columns image and age."
            )
        return faces, group_near_duplicates(np.stack(thumbnails))

    def _assign_splits(self, faces: list[Face], groups: np.ndarray) -> list[str | None]:
        """One split name a face, None for the excluded."""
        if all(face.split for face in faces):
            return [face.split for face in faces]
        config = self.config
        everyone = list(range(len(faces)))
        splits = ["train"] * len(faces)
        if any(UTKFACE_NAME.match(face.name) for face in faces):
            test_names = read_names(SPLITS_DIR / "utkface_test.txt")
            test = {index for index in everyone if faces[index].name in test_names}
            excluded_names = read_names(SPLITS_DIR / "utkface_excluded.txt")
            test_groups = {groups[index] for index in test}
            excluded = {
                index
                for index in everyone
                if index not in test and (faces[index].name in excluded_names or groups[index] in test_groups)
            }
        else:
            test = draw_groups(faces, groups, everyone, config.test_share, config.seed + 1)
            excluded = set()
        candidates = [index for index in everyone if index not in test and index not in excluded]
        validation = draw_groups(faces, groups, candidates, config.validation_share, config.seed)
        for index in validation:
            splits[index] = "validation"
        for index in test:
            splits[index] = "test"
        for index in excluded:
            splits[index] = None
        if excluded:
            logger.warning(f"{len(excluded)} near-duplicates of test images belong to no split.")
        return splits


def load_utkface(
    data_dir: str | Path,
    strict: bool = False,
    seed: int = 0,
    validation_share: float = 0.1,
    test_share: float = 0.1,
    cache_dir: str | Path | None = None,
) -> datasets.DatasetDict:
    """
    Faces with the columns image, age (years), gender, race, file_name and group (of near-duplicates).

    The first call builds the data set into the cache of `datasets`; later ones take it from there, unless the files have
    changed. UTKFace gets the test images listed in `splits/`; other data gets a seeded test split. Validation is drawn by
    group of near-duplicates, with the age and gender mix of the whole.

    Args:
        data_dir: A folder of images (nested or not), a tar or zip archive, a folder of Parquet files, or a Hub id.
        strict: Raise for the first unusable image instead of leaving it out with a warning.
        seed: Of the splits that are drawn.
        validation_share: Share of the images outside the test split, 0–1.
        test_share: Share of all images, 0–1, where no published list names the test images.
        cache_dir: Where to build; the cache of `datasets` by default.

    Returns:
        The splits train, validation and test; without test where the source holds none of the listed images.

    Raises:
        ValueError: if the path is none of the above or holds no usable image, or, when strict, at the first unusable one.
    """
    source = Source(data_dir)
    builder = UTKFace(
        cache_dir=None if cache_dir is None else str(cache_dir),
        dataset_name="utkface",
        source=source,
        fingerprint=source.fingerprint(),
        strict=strict,
        seed=seed,
        validation_share=validation_share,
        test_share=test_share,
    )
    builder.download_and_prepare()
    return builder.as_dataset()


def to_model_inputs(processor, do_normalize: bool) -> Callable[[dict], dict]:
    """
    A transform for `Dataset.with_transform` that makes what [`AgeGenderModel`] takes.

    Args:
        processor: The image processor, which decides size and normalisation.
        do_normalize: False for training, where the augmentation comes between 0–1 pixels and normalisation.

    Returns:
        A function from rows to `pixel_values` (rows, 3, height, width), `age_labels` (rows,), NaN where not known, and
        `gender_labels` (rows,), -100 where not known.
    """

    def transform(rows: dict) -> dict:
        ages = [math.nan if age is None else age for age in rows["age"]]
        genders = [-100 if gender is None else gender for gender in rows["gender"]]
        return {
            "pixel_values": processor(rows["image"], do_normalize=do_normalize, return_tensors="pt").pixel_values,
            "age_labels": torch.tensor(ages, dtype=torch.float32),
            "gender_labels": torch.tensor(genders, dtype=torch.long),
        }

    return transform


def draw_figures(dataset: datasets.DatasetDict, output_dir: Path) -> list[Path]:
    """Writes `age_gender.png` (distributions of gender and age) and `race_age.png`; returns their paths."""
    from matplotlib.figure import Figure  # only here: drawing is not needed to train

    table = datasets.concatenate_datasets(list(dataset.values())).select_columns(["age", "gender", "race"]).to_pandas()
    output_dir.mkdir(parents=True, exist_ok=True)
    bins = np.arange(0, MAXIMUM_AGE + 5, 5)
    total = f"{len(table):,} images"

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    gender_axes, age_axes = figure.subplots(1, 2, width_ratios=(1, 3))
    counts = [int((table.gender == index).sum()) for index in range(len(GENDERS))]
    gender_axes.bar_label(gender_axes.bar(GENDERS, counts, color=["tab:blue", "tab:orange"]))
    gender_axes.set(title=f"Gender, {total}", ylabel="images")
    age_axes.hist(
        [table.age[table.gender == index] for index in range(len(GENDERS))], bins, stacked=True, label=GENDERS
    )
    age_axes.set(title="Age by gender", xlabel="age in years", ylabel="images")
    age_axes.legend()
    age_gender = output_dir / "age_gender.png"
    figure.savefig(age_gender, dpi=110)

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.hist([table.age[table.race == index] for index in range(len(RACES))], bins, stacked=True, label=RACES)
    axes.set(title=f"Age by race, {total}", xlabel="age in years", ylabel="images")
    axes.legend(title="label of the data set")
    race_age = output_dir / "race_age.png"
    figure.savefig(race_age, dpi=110)
    return [age_gender, race_age]


def main():
    parser = argparse.ArgumentParser(description="Pictures of a face data set.")
    parser.add_argument("command", choices=["figures"])
    parser.add_argument("data_dir", help="Folder, tar or zip archive, Parquet folder, or data set id.")
    parser.add_argument("--output_dir", type=Path, default=Path("assets"), help="Folder for the pictures.")
    arguments = parser.parse_args()
    dataset = load_utkface(arguments.data_dir)
    print(", ".join(f"{name}: {len(split):,} images" for name, split in dataset.items()))
    for file in draw_figures(dataset, arguments.output_dir):
        print(f"Wrote {file}")


if __name__ == "__main__":
    main()
