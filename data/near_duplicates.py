"""Finds near-duplicate pictures and draws them together, so that no split knows a picture of another."""

import io

import datasets
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


def read_thumbnails(dataset: datasets.Dataset) -> np.ndarray:
    """The vectors that show near-duplicates, (images, 400) float32; from the cache of `datasets` when seen before."""
    encoded = dataset.select_columns(["image"]).cast_column("image", datasets.Image(decode=False))
    vectors = encoded.map(
        lambda row: {"thumbnail": thumbnail(row["image"]["bytes"])}, remove_columns=["image"], desc="Comparing faces"
    )
    return np.asarray(vectors.with_format("numpy")["thumbnail"], dtype=np.float32)
