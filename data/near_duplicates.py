"""Finds near-duplicate images by comparing small grey thumbnails."""

import datasets
import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from image_reading import to_rgb


DUPLICATE_COSINE = 0.985
THUMBNAIL_SIDE = 20
BLOCK_COSINES = 2**25  # computed at a time, which bounds memory


def make_thumbnail(data: bytes) -> np.ndarray:
    """Returns an encoded image as 20×20 grey pixels, with mean 0 and length 1, (400,) float32."""
    small = to_rgb(data).convert("L").resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)
    vector = np.asarray(small, dtype=np.float32).ravel()
    vector = vector - vector.mean()
    length = np.linalg.norm(vector)
    return vector / length if length > 0 else vector


def find_similar_pairs(thumbnails: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices of images and of others, (pairs,) each, whose thumbnails have a cosine above 0.985."""
    pairs = [np.empty((2, 0), dtype=int)]
    block_size = max(1, BLOCK_COSINES // max(1, len(others)))
    for start in range(0, len(thumbnails), block_size):
        rows, columns = (thumbnails[start : start + block_size] @ others.T > DUPLICATE_COSINE).nonzero()
        pairs.append(np.stack([rows + start, columns]))
    rows, columns = np.concatenate(pairs, axis=1)
    return rows, columns


def group_near_duplicates(thumbnails: np.ndarray) -> np.ndarray:
    """Returns group numbers, (images,) int; images that are linked by near-duplicates share a number."""
    pairs = find_similar_pairs(thumbnails, thumbnails)
    graph = coo_array((np.ones(len(pairs[0]), dtype=np.int8), pairs), shape=(len(thumbnails),) * 2)
    return connected_components(graph, directed=False)[1]


def find_near_duplicates(thumbnails: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns which images have a near-duplicate among the others, (images,) bool."""
    return np.isin(np.arange(len(thumbnails)), find_similar_pairs(thumbnails, others)[0])


def read_thumbnails(dataset: datasets.Dataset) -> np.ndarray:
    """Returns the thumbnails of a data set, (images, 400) float32. `datasets` caches them."""
    encoded = dataset.select_columns(["image"]).cast_column("image", datasets.Image(decode=False))
    vectors = encoded.map(
        lambda row: {"thumbnail": make_thumbnail(row["image"]["bytes"])},
        remove_columns=["image"],
        desc="Comparing faces",
    )
    return np.asarray(vectors.with_format("numpy")["thumbnail"], dtype=np.float32)
