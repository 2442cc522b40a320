"""
Builds UTKFace (Zhang, Song, Qi 2017, https://huggingface.co/papers/1702.08423), or other faces, as a `datasets` data set.

Near-duplicates never lie in two splits.
"""

import hashlib
import io
import re
from pathlib import Path

import datasets
import numpy as np
from accelerate import PartialState
from tqdm.auto import tqdm

from data.label_files import describe_label_files
from data.labels import (
    GENDERS,
    RACES,
    SHORTEST_FORM,
    UTKFACE_NAME,
    LabelledFace,
    check_labels,
    is_utkface,
    parse_file_name,
)
from data.near_duplicates import group_near_duplicates, make_thumbnail
from data.sources import READING_ERRORS, Source
from data.splits import DEFAULT_SHARE, SPLIT_LISTS, draw_groups, drop_groups, find_listed, make_stratum, read_list
from data.tables import SPLIT_NAMES, raise_cause
from image_reading import to_rgb


logger = datasets.logging.get_logger(__name__)


EXAMPLES = 3  # of names for each reason why images are left out
EXPECTED = (
    f"Name images like {SHORTEST_FORM} (or 31_1_anna.jpg: 0 is male, 1 is female), or lay a file labels.csv beside them whose "
    "first line is file_name,age,gender."
)
FEATURES = datasets.Features(
    {
        "image": datasets.Image(),
        "age": datasets.Value("float32"),
        "age_low": datasets.Value("float32"),
        "age_high": datasets.Value("float32"),
        "gender": datasets.ClassLabel(names=GENDERS),
        "race": datasets.ClassLabel(names=RACES),
        "file_name": datasets.Value("string"),
        "group": datasets.Value("int32"),
    }
)


def make_plain(data: bytes) -> bytes:
    """Returns an encoded image; as PNG if `datasets.Image` cannot read it, for instance since its metadata is damaged."""
    try:
        datasets.Image().decode_example({"bytes": data, "path": None})
        return data
    except Exception:  # as decoders do
        png = io.BytesIO()
        to_rgb(data).save(png, "PNG")
        return png.getvalue()


class UTKFace(datasets.GeneratorBasedBuilder):
    """Builds the splits train, validation and test; see `load_utkface`."""

    VERSION = datasets.Version("1.6.0")  # part of the cache's name: raise it when the same source gives other rows

    def __init__(
        self, source: Source, strict: bool, seed: int | None, validation_share: float | None, test_share: float
    ):
        self.source, self.strict, self.seed = source, strict, seed
        self.validation_share, self.test_share = validation_share, test_share
        lists = "".join(name for split in SPLIT_LISTS for name in sorted(read_list(split))).encode()
        content = f"{source.fingerprint()}-{hashlib.sha256(lists).hexdigest()[:8]}"
        # The name of the folder in the cache.
        config_id = f"{content}-{seed}-{validation_share}-{test_share}-{int(strict)}"
        super().__init__(dataset_name="utkface", config_id=config_id)

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=FEATURES)

    @property
    def left_out_file(self) -> Path:
        """The file that tells which images are in no split: a summary, an empty line, a line for each unusable image."""
        return Path(self.cache_dir).with_name("left_out.txt")

    def _split_generators(self, dl_manager) -> list[datasets.SplitGenerator]:
        faces, groups, refused = self._scan()
        splits = self._assign_splits(faces, groups)
        tables, notes = describe_label_files(self.source.named.values())
        counts = ", ".join(f"{splits.count(name):,} {name}" for name in SPLIT_NAMES if name in splits)
        origin = tables or ("its columns" if self.source.table else "the file names")
        count = "1 image" if len(faces) == 1 else f"{len(faces):,} images"
        summary = [f"{Path(self.source.data_dir).name}: {count} ({counts}), labels from {origin}.", *notes]
        summary += summarize_refused(refused, len(refused) + len(faces))
        if None in splits:
            summary.append(
                f"{splits.count(None):,} images nearly the same as a validation or test image are not used."
            )
        if self.source.passed_over:
            summary.append(str(self.source.passed_over))
        names = "".join(f"{name}: {reason}".replace("\n", " ") + "\n" for name, reason in refused)
        self.left_out_file.write_text("\n".join(summary) + f"\n\n{names}", encoding="utf-8")
        rows = {face.position: (face, int(group), split) for face, group, split in zip(faces, groups, splits)}
        return [
            datasets.SplitGenerator(name, gen_kwargs={"rows": rows, "split": str(name)})
            for name in (datasets.Split.TRAIN, datasets.Split.VALIDATION, datasets.Split.TEST)
            if str(name) in splits
        ]

    def _generate_examples(self, rows: dict, split: str):
        for position, entry in enumerate(self.source.entries()):
            face, group, face_split = rows.get(position, (None, None, None))
            if face is not None and face.name not in (entry.name, entry.path):
                raise ValueError(f"{self.source.data_dir} has changed while it was read: start again.")
            if face_split == split:
                try:
                    image = {"path": face.name, "bytes": make_plain(entry.read())}
                except READING_ERRORS as error:  # deleted since it was scanned
                    logger.warning(f"{entry.path} is left out: {error}")
                    continue
                yield face.name, {"image": image, **face.labels, "file_name": face.name, "group": group}

    def _scan(self) -> tuple[list[LabelledFace], np.ndarray, list[tuple[str, str]]]:
        """Returns the usable faces, their groups, and the name of each unusable image with its reason."""
        faces, thumbnails, refused, seen = [], [], [], {}
        entries = tqdm(self.source.entries(), desc="Reading faces", unit=" images")
        for position, entry in enumerate(entries):
            try:
                data = entry.read()
                digest, name = hashlib.sha256(data).digest(), entry.name
                if name in seen:
                    if seen[name] == digest:
                        raise ValueError("a copy of another image")
                    # The lists of UTKFace's splits hold names. Others may name images alike in several folders.
                    name = entry.name if UTKFACE_NAME.match(entry.name) else entry.path
                    if name in seen:
                        raise ValueError("another image has the same name")
                labels = check_labels(parse_file_name(entry.name) if entry.labels is None else entry.labels)
                thumbnails.append(make_thumbnail(data))
            except READING_ERRORS as error:
                if self.strict:
                    raise ValueError(f"{entry.name}: {error}") from error
                refused.append((entry.path, str(error)))
                continue
            seen[name] = digest
            faces.append(LabelledFace(position, name, labels, entry.split))
        if not faces:
            tables, notes = describe_label_files(self.source.named.values())
            lines = [*notes, *summarize_refused(refused, len(refused)), str(self.source.passed_over)]
            lines.append("" if self.source.table or tables else EXPECTED)
            reasons = "\n".join(filter(None, lines))
            raise ValueError(f"{self.source.data_dir} holds no usable image: {reasons}")
        # By name, so that the same images are drawn from an archive and from a folder.
        order = sorted(range(len(faces)), key=lambda index: faces[index].name)
        return [faces[index] for index in order], group_near_duplicates(np.stack(thumbnails)[order]), refused

    def _assign_splits(self, faces: list[LabelledFace], groups: np.ndarray) -> list[str | None]:
        """Returns the split of each face, None for near-duplicates of validation or test images."""
        everyone = range(len(faces))
        strata = [make_stratum(*(face.labels[name] for name in ("age_low", "age_high", "gender"))) for face in faces]
        published = {split: {i for i in everyone if faces[i].split == split} for split in SPLIT_NAMES}
        seed = self.seed or 0
        excluded = set()
        if is_utkface(face.name for face in faces):
            excluded = find_listed(faces, "excluded")
            test = find_listed(faces, "test") | published["test"]
        elif any(published.values()):
            test = published["test"]
        else:
            test = draw_groups(strata, groups, everyone, self.test_share, seed + 1)
        candidates = drop_groups([index for index in everyone if index not in test | excluded], groups, test)
        validation = published["validation"] & set(candidates)
        if not validation and self.seed is None and self.validation_share is None:
            validation = find_listed(faces, "validation") & set(candidates)
        if not validation:
            share = DEFAULT_SHARE if self.validation_share is None else self.validation_share
            validation = draw_groups(strata, groups, candidates, share, seed)
        train = drop_groups([index for index in candidates if index not in validation], groups, validation)
        names = dict.fromkeys(train, "train")
        names |= dict.fromkeys(validation, "validation") | dict.fromkeys(test, "test")
        return [names.get(index) for index in everyone]


def summarize_refused(refused: list[tuple[str, str]], num_images: int) -> list[str]:
    """
    Returns lines that tell how many images are left out, and for which reasons, the most frequent first.

    Args:
        refused: Name and reason of each image that is left out. Reasons that differ only in numbers or quoted values get one
            line, with the first of them.
        num_images: Number of all images.
    """
    groups = {}
    for name, reason in refused:
        groups.setdefault(re.sub(r"'[^']*'|[\d.]+", "…", reason), []).append((name, reason))
    verb = "is" if len(refused) == 1 else "are"
    lines = [f"{len(refused):,} of {num_images:,} images {verb} left out:"] if refused else []
    for images in sorted(groups.values(), key=len, reverse=True):
        names = ", ".join(name for name, _ in images[:EXAMPLES])
        count = f"{len(images):,}, such as " if len(images) > EXAMPLES else ""
        lines.append(f"  {count}{names}: {images[0][1]}".replace("\n", " "))
    return lines


def load_utkface(
    data_dir: str | Path | Source,
    strict: bool = False,
    seed: int | None = None,
    validation_share: float | None = None,
    test_share: float = 0.1,
) -> datasets.DatasetDict:
    """
    Loads faces with the columns image, age (years; None if only a band is known), age_low and age_high (first and last age
    of the band; equal to a known age), gender, race, file_name and group (of near-duplicates).

    The first call builds the data set in the cache of `datasets`. Later calls load it from there, unless the files have
    changed. UTKFace has the test and validation images that are listed in `splits/`. For other data, or if a seed or a share
    is given, they are drawn: whole groups of near-duplicates, with the same mix of ages and genders in each split.

    Args:
        data_dir: A folder of images (nested or not), a tar or zip archive, a table of labels (CSV, TSV, JSONL), a folder of
            Parquet files, a Hub id, or an open source.
        strict: If True, raises at the first unusable image. Otherwise a warning names the images that are left out.
        seed: Seed of the draws; 0 if there is no list.
        validation_share: Share of validation images in the images outside the test split, 0–1; 0.1 if there is no list.
        test_share: Share of test images, 0–1, used where no published list names them.

    Returns:
        The splits train, validation and test; no test if the source holds none of the listed test images.

    Raises:
        ValueError: if the path is none of these or holds no usable image, or if strict and an image is unusable.
    """
    source = data_dir if isinstance(data_dir, Source) else Source(data_dir)
    builder = UTKFace(source, strict, seed, validation_share, test_share)
    with raise_cause():
        builder.download_and_prepare()
    # Read from the file, so that a data set from the cache gives the same warning.
    summary, _, names = builder.left_out_file.read_text(encoding="utf-8").partition("\n\n")
    if names:
        summary += f"\n{builder.left_out_file} lists all images that are left out."
    if summary.strip() and PartialState().is_main_process:
        logger.warning(summary.strip())
    return builder.as_dataset()
