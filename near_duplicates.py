"""Finds near-duplicate pictures and draws them together, so that no split knows a picture of another."""

import io
from collections.abc import Hashable, Sequence

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


DUPLICATE_COSINE = 0.985
THUMBNAIL_SIDE = 20
BLOCK_COSINES = 2**25  # computed at a time, which bounds memory


def thumbnail(data: bytes) -> np.ndarray:
    """The grey 20×20 picture of an encoded image as a vector of length one with its mean removed, (400,) float32."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        small = image.convert("L").resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)
    vector = np.asarray(small, dtype=np.float32).ravel()
    vector = vector - vector.mean()
    length = np.linalg.norm(vector)
    return vector / length if length > 0 else vector


def group_near_duplicates(thumbnails: np.ndarray) -> np.ndarray:
    """
    Numbers images so that near-duplicates share a number.

    Two images are near-duplicates when the cosine of their thumbnails is above 0.985; groups are the connected parts.

    Args:
        thumbnails: Vectors of length one from `thumbnail`, (images, 400) float32.

    Returns:
        Group numbers, (images,) int.
    """
    pairs = [np.empty((2, 0), dtype=int)]
    block_size = max(1, BLOCK_COSINES // max(1, len(thumbnails)))
    for start in range(0, len(thumbnails), block_size):
        similar = thumbnails[start : start + block_size] @ thumbnails.T > DUPLICATE_COSINE
        rows, columns = similar.nonzero()
        pairs.append(np.stack([rows + start, columns]))
    rows, columns = np.concatenate(pairs, axis=1)
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(len(thumbnails),) * 2)
    return connected_components(graph, directed=False)[1]


def find_near_duplicates(thumbnails: np.ndarray, others: np.ndarray) -> np.ndarray:
    """
    Tells which images have a near-duplicate among others.

    Args:
        thumbnails: Vectors of length one from `thumbnail`, (images, 400) float32.
        others: The same of the other images.

    Returns:
        (images,) bool.
    """
    found = np.zeros(len(thumbnails), dtype=bool)
    block_size = max(1, BLOCK_COSINES // max(1, len(others)))
    for start in range(0, len(thumbnails), block_size):
        block = slice(start, start + block_size)
        found[block] = (thumbnails[block] @ others.T > DUPLICATE_COSINE).any(axis=1)
    return found


def draw_groups(
    strata: Sequence[Hashable], groups: np.ndarray, candidates: Sequence[int], share: float, seed: int
) -> set[int]:
    """
    Draws whole groups of near-duplicates with the mix of the candidates.

    Args:
        strata: What the mix is of, one value an image, for instance its gender and band of age.
        groups: Group numbers, (images,). A group counts to the stratum of its first image.
        candidates: Indices of the images to draw from.
        share: Share of the candidates to draw, 0–1.
        seed: Of the draw.

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
