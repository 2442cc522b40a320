"""Splits that keep near-duplicates together: drawn ones, and the published ones of UTKFace."""

import hashlib
import json
from collections.abc import Hashable, Sequence
from pathlib import Path

import datasets
import numpy as np
from datasets import DatasetDict

from data.labels import LabelledFace


DEFAULT_SHARE = 0.1
SPLITS_DIR = Path(__file__).parents[1] / "splits"
SPLIT_LISTS = ("test", "excluded", "validation", "calibration")


def draw_groups(
    strata: Sequence[Hashable], groups: np.ndarray, candidates: Sequence[int], share: float, seed: int
) -> set[int]:
    """
    Draws whole groups of near-duplicates, the same share of each stratum.

    Args:
        strata: The stratum of each image, for instance its gender and band of age.
        groups: Group numbers, (images,). A group belongs to the stratum of its first image.
        candidates: Indices of the images to draw from.
        share: Share of the candidates to draw, 0–1.
        seed: Seed of the draw.

    Returns:
        Indices of the drawn images.
    """
    members, groups_by_stratum = {}, {}
    for index in candidates:
        members.setdefault(groups[index], []).append(index)
    for group, indices in members.items():
        groups_by_stratum.setdefault(strata[indices[0]], []).append(group)
    generator = np.random.default_rng(seed)
    drawn, owed = set(), 0.0
    for stratum in sorted(groups_by_stratum, key=str):
        owed += share * sum(len(members[group]) for group in groups_by_stratum[stratum])
        for group in generator.permutation(groups_by_stratum[stratum]):
            if owed < len(members[group]) / 2:
                break
            drawn.update(members[group])
            owed -= len(members[group])
    return drawn


def drop_groups(indices: list[int], groups: np.ndarray, others: set[int]) -> list[int]:
    """Removes the indices of images that have a near-duplicate among the others."""
    dropped = {groups[index] for index in others}
    return [index for index in indices if groups[index] not in dropped]


def make_stratum(age_low: float | None, age_high: float | None, gender: int | None) -> tuple:
    """Returns the stratum of an image: the five years in which the middle of its ages lies, and its gender."""
    return None if age_low is None else int((age_low + age_high) / 2) // 5, gender


def read_list(split: str) -> set[str]:
    """Reads the file names that `splits/` lists for a split of UTKFace."""
    return set((SPLITS_DIR / f"utkface_{split}.txt").read_text(encoding="utf-8").split())


def find_listed(faces: list[LabelledFace], split: str) -> set[int]:
    """Returns the indices of the images that `splits/` lists for a split."""
    names = read_list(split)
    return {index for index, face in enumerate(faces) if face.name in names}


def draw_calibration_half(validation: datasets.Dataset, seed: int | None = None) -> np.ndarray:
    """
    Chooses the half of the validation images that calibrates a model; the other half selects its weights.

    Args:
        validation: Validation images from `load_utkface`.
        seed: Seed of the draw. If None, the half listed in `splits/` is used, provided that all images are listed.

    Returns:
        True for the images that calibrate, (images,). Groups of near-duplicates are not divided.
    """
    names = validation["file_name"]
    if seed is None and set(names) <= read_list("validation"):
        listed = read_list("calibration")
        return np.array([name in listed for name in names])
    columns = validation.select_columns(["age_low", "age_high", "gender", "group"]).to_dict()
    strata = list(map(make_stratum, columns["age_low"], columns["age_high"], columns["gender"]))
    in_order = sorted(range(len(names)), key=lambda index: names[index])
    drawn = draw_groups(strata, np.asarray(columns["group"]), in_order, 0.5, seed or 0)
    if len(drawn) == len(strata):  # a single group, which would leave no image to select weights by
        drawn = set()
    return np.isin(np.arange(len(strata)), sorted(drawn))


def describe_split(dataset: DatasetDict) -> dict:
    """Returns SHA-256 hashes of the file names, which identify a split."""
    names = {split: sorted(images["file_name"]) for split, images in dataset.items()}
    images = sorted(names["train"] + names["validation"])
    return {
        key: hashlib.sha256("\n".join(values).encode()).hexdigest()
        for key, values in (("images_sha256", images), ("validation_sha256", names["validation"]))
    }


def check_split(model: str, dataset: DatasetDict):
    """
    Compares a split with the one in the `train_results.json` of a model folder.

    Raises:
        ValueError: if the model was trained on the same images in another split, and so on validation images.
    """
    file = Path(model) / "train_results.json"
    if not file.is_file():
        print(f"There is no {file}, so it is unknown whether {model} was trained on these validation images.")
        return
    trained = json.loads(file.read_text(encoding="utf-8")).get("split", {})
    split = describe_split(dataset) if "train" in dataset else {}
    same_images = trained.get("images_sha256") == split.get("images_sha256")
    if same_images and trained.get("validation_sha256") != split.get("validation_sha256"):
        raise ValueError(
            f"{model} was trained on some of these validation images: give the --split_seed and the --validation_share "
            "that its train_results.json names."
        )
