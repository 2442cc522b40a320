"""
UTKFace (Zhang, Song, Qi 2017, https://huggingface.co/papers/1702.08423) as a `datasets` data set, split without leaks.

The data are what people have: a folder of `*.jpg.chip.jpg`, folders of such folders, `UTKFace.tar.gz` or a zip, a folder of
Parquet files, or the id of a data set on the Hub.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import datasets
import numpy as np
from PIL import Image

from data.labels import GENDERS, RACES, Face, check_labels, is_utkface, parse_file_name
from data.near_duplicates import group_near_duplicates, thumbnail
from data.sources import Source
from data.splits import DEFAULT_SHARE, SPLIT_LISTS, draw_groups, drop_groups, find_listed, make_stratum, read_list
from data.tables import SPLIT_NAMES


logger = datasets.logging.get_logger(__name__)


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
