"""
UTKFace (Zhang, Song, Qi 2017, https://huggingface.co/papers/1702.08423) as a `datasets` data set, split without leaks.

    python utkface.py figures PATH --output_dir assets

PATH is what people have: a folder of `*.jpg.chip.jpg`, folders of such folders, `UTKFace.tar.gz` or a zip, a folder of
Parquet files, or the id of a data set on the Hub.
"""

import argparse
import hashlib
import math
import numbers
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np
import torch
from PIL import Image

from image_sources import SPLIT_NAMES, UTKFACE_NAME, Source
from near_duplicates import draw_groups, group_near_duplicates, thumbnail


logger = datasets.logging.get_logger(__name__)

GENDERS = ["male", "female"]
RACES = ["White", "Black", "Asian", "Indian", "Others"]
MAXIMUM_AGE = 120
DEFAULT_SHARE = 0.1
SPLITS_DIR = Path(__file__).parent / "splits"
SPLIT_LISTS = ("test", "excluded", "validation", "calibration")
FILE_NAME = re.compile(r"(\d+)_(\d+)_(\d+)_(\w+)")

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


class Face(NamedTuple):
    """One usable image, before it is read again for the cache. Labels are None where not known."""

    position: int  # in the order of the source
    name: str
    age: float | None
    gender: int | None
    race: int | None
    split: str | None


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
    labels = {key: None if value != value else value for key, value in labels.items()}  # NaN
    age = labels.get("age")
    if age is not None and not (isinstance(age, numbers.Real) and 0 <= age <= MAXIMUM_AGE):
        raise ValueError(f"the age {age!r} is not in 0–{MAXIMUM_AGE}")
    checked = {"age": age}
    for key, names in (("gender", GENDERS), ("race", RACES)):
        value = labels.get(key)
        if isinstance(value, str):
            value = {name.lower(): index for index, name in enumerate(names)}.get(value.lower(), value)
        if value == -1:
            value = None
        if value is not None and value not in range(len(names)):
            raise ValueError(f"the {key} {value!r} is not in 0–{len(names) - 1}")
        checked[key] = value
    return checked


def is_utkface(names: Iterable[str]) -> bool:
    """True if an image has a name as UTKFace gives them, so that the published lists name the test images."""
    return any(UTKFACE_NAME.match(name) for name in names)


def drop_groups(indices: list[int], groups: np.ndarray, others: set[int]) -> list[int]:
    """The indices without those that share a group of near-duplicates with one of the others."""
    dropped = {groups[index] for index in others}
    return [index for index in indices if groups[index] not in dropped]


def make_stratum(age: float | None, gender: int | None) -> tuple:
    """What each split should hold as much of as the whole: five years of age, and a gender."""
    return None if age is None else int(age) // 5, gender


def read_list(split: str) -> set[str]:
    """The names of UTKFace's images that `splits/` lists for a split."""
    return set((SPLITS_DIR / f"utkface_{split}.txt").read_text().split())


def find_listed(faces: list[Face], split: str) -> set[int]:
    """The indices of the images that `splits/` lists for a split."""
    names = read_list(split)
    return {index for index, face in enumerate(faces) if face.name in names}


@dataclass
class UTKFaceConfig(datasets.BuilderConfig):
    """How the splits are made. `fingerprint` stands for the content of the source, so that a change is noticed."""

    source: Source = field(default=None, repr=False)
    fingerprint: str = ""
    strict: bool = False
    seed: int | None = None
    validation_share: float | None = None
    test_share: float = 0.1

    def create_config_id(self, config_kwargs, custom_features=None) -> str:
        """The cache folder's name: all that changes the result, but not the source object itself."""
        lists = "".join(name for split in SPLIT_LISTS for name in sorted(read_list(split))).encode()
        fingerprint = f"{self.fingerprint}-{hashlib.sha256(lists).hexdigest()[:8]}"
        return f"{fingerprint}-{self.seed}-{self.validation_share}-{self.test_share}-{int(self.strict)}"


class UTKFace(datasets.GeneratorBasedBuilder):
    """Builds the splits train, validation and test; see `load_utkface`."""

    VERSION = datasets.Version("1.2.0")  # part of the cache's name: to be raised when the same source gives other rows
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
        rows = {face.position: (face, int(group), split) for face, group, split in zip(faces, groups, splits)}
        return [
            datasets.SplitGenerator(name, gen_kwargs={"rows": rows, "split": str(name)})
            for name in (datasets.Split.TRAIN, datasets.Split.VALIDATION, datasets.Split.TEST)
            if str(name) in splits
        ]

    def _generate_examples(self, rows: dict, split: str):
        for position, record in enumerate(self.config.source.records()):
            face, group, face_split = rows.get(position, (None, None, None))
            if face_split != split:
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
        faces, thumbnails, refused, seen = [], [], [], set()
        records = datasets.utils.tqdm(self.config.source.records(), desc="Reading faces", unit=" images")
        for position, record in enumerate(records):
            try:
                if record.name in seen:
                    raise ValueError("another image has the same name")
                labels = check_labels(parse_file_name(record.name) if record.labels is None else record.labels)
                thumbnails.append(thumbnail(record.data))
            except (ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
                if self.config.strict:
                    raise ValueError(f"{record.name}: {error}") from error
                refused.append(f"  {record.name}: {error}")
                continue
            seen.add(record.name)
            faces.append(Face(position, record.name, split=record.split, **labels))
        if refused:
            listed = "\n".join(refused)
            self._remark(f"{len(refused)} of {len(refused) + len(faces)} images are left out:\n{listed}")
        if not faces:
            raise ValueError(
                f"{self.config.source.data_dir} holds no usable image: expected names like "
                "26_1_2_20170116181301976.jpg.chip.jpg, or a table with the columns image and age."
            )
        # By name, so that the same images are drawn from an archive and from a folder.
        order = sorted(range(len(faces)), key=lambda index: faces[index].name)
        return [faces[index] for index in order], group_near_duplicates(np.stack(thumbnails)[order])

    def _assign_splits(self, faces: list[Face], groups: np.ndarray) -> list[str | None]:
        """One split name a face, None for those that resemble an image that measures."""
        config, everyone = self.config, range(len(faces))
        strata = [make_stratum(face.age, face.gender) for face in faces]
        published = {split: {i for i in everyone if faces[i].split == split} for split in SPLIT_NAMES}
        seed = config.seed or 0
        excluded = set()
        if is_utkface(face.name for face in faces):
            excluded = find_listed(faces, "excluded")
            test = find_listed(faces, "test") | published["test"]
        elif any(published.values()):
            test = published["test"]
        else:
            test = draw_groups(strata, groups, everyone, config.test_share, seed + 1)
        candidates = drop_groups([index for index in everyone if index not in test | excluded], groups, test)
        validation = published["validation"] & set(candidates)
        if not validation and config.seed is None and config.validation_share is None:
            validation = find_listed(faces, "validation") & set(candidates)
        if not validation:
            share = DEFAULT_SHARE if config.validation_share is None else config.validation_share
            validation = draw_groups(strata, groups, candidates, share, seed)
        train = drop_groups([index for index in candidates if index not in validation], groups, validation)
        names = dict.fromkeys(train, "train")
        names |= dict.fromkeys(validation, "validation") | dict.fromkeys(test, "test")
        if len(names) < len(faces):
            self._remark(f"{len(faces) - len(names)} near-duplicates of validation or test images belong to no split.")
        return [names.get(index) for index in everyone]

    def _remark(self, sentence: str):
        """Notes what is left out, so that whoever takes the data set from the cache is told too."""
        self.info.description += f"\n{sentence}"


def load_utkface(
    data_dir: str | Path | Source,
    strict: bool = False,
    seed: int | None = None,
    validation_share: float | None = None,
    test_share: float = 0.1,
    cache_dir: str | Path | None = None,
) -> datasets.DatasetDict:
    """
    Faces with the columns image, age (years), gender, race, file_name and group (of near-duplicates).

    The first call builds the data set into the cache of `datasets`; later ones take it from there, unless the files have
    changed. UTKFace gets the test and validation images listed in `splits/`; from other data, or with a seed or a share, they
    are drawn. A draw is of whole groups of near-duplicates, with the age and gender mix of the whole; the lists were drawn
    so too.

    Args:
        data_dir: A folder of images (nested or not), a tar or zip archive, a folder of Parquet files, or a Hub id; or a source
            that is open already.
        strict: Raise for the first unusable image instead of leaving it out with a warning.
        seed: Of the splits that are drawn; 0 where there is no list.
        validation_share: Share of the images outside the test split, 0–1; 0.1 where there is no list.
        test_share: Share of all images, 0–1, where no published list names the test images.
        cache_dir: Where to build; the cache of `datasets` by default.

    Returns:
        The splits train, validation and test; without test where the source holds none of the listed images.

    Raises:
        ValueError: if the path is none of the above or holds no usable image, or, when strict, at the first unusable one.
    """
    source = data_dir if isinstance(data_dir, Source) else Source(data_dir)
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
    remarks = builder.info.description.partition("\n")[2]
    if remarks:
        logger.warning(remarks)
    return builder.as_dataset()


def draw_calibration_half(validation: datasets.Dataset, seed: int | None = None) -> np.ndarray:
    """
    The half of the validation images that calibrates a model; the other half chooses its weights.

    Args:
        validation: From `load_utkface`.
        seed: Of the draw; None for that of `splits/` where it lists all images.

    Returns:
        True for the images that calibrate, (images,). No group of near-duplicates is divided.
    """
    names = validation["file_name"]
    if seed is None and set(names) <= read_list("validation"):
        listed = read_list("calibration")
        return np.array([name in listed for name in names])
    columns = validation.select_columns(["age", "gender", "group"]).to_dict()
    strata = [make_stratum(age, gender) for age, gender in zip(columns["age"], columns["gender"])]
    in_order = sorted(range(len(names)), key=lambda index: names[index])
    drawn = draw_groups(strata, np.asarray(columns["group"]), in_order, 0.5, seed or 0)
    if len(drawn) == len(strata):  # of one group, nothing would be left to choose by
        drawn = set()
    return np.isin(np.arange(len(strata)), sorted(drawn))


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
    gender_axes.set(title=f"Gender, {total}", ylabel="images", ylim=(0, 1.1 * max(counts)))
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
    parser = argparse.ArgumentParser(description="Pictures of a face data set.", allow_abbrev=False)
    parser.add_argument("command", choices=["figures"])
    parser.add_argument("data_dir", help="Folder, tar or zip archive, Parquet folder, or data set id.")
    parser.add_argument("--output_dir", type=Path, default=Path("assets"), help="Folder for the pictures.")
    arguments = parser.parse_args()
    dataset = load_utkface(arguments.data_dir)
    print(", ".join(f"{name}: {len(split):,} images" for name, split in dataset.items()))
    for file in draw_figures(dataset, arguments.output_dir):
        print(f"Wrote {file}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        raise SystemExit(f"utkface.py: error: {error}")
