"""Near-duplicates: found under JPEG and resizing, and nothing else is."""

import io

import numpy as np
import pytest
from PIL import Image

from data import near_duplicates
from data.near_duplicates import find_near_duplicates, group_near_duplicates, make_thumbnail
from tests.support.faces import make_jpeg


@pytest.mark.parametrize("block_cosines", [2**25, 180])
def test_near_duplicates_are_found_and_nothing_else(monkeypatch, block_cosines):
    monkeypatch.setattr(near_duplicates, "BLOCK_COSINES", block_cosines)
    originals = np.stack([make_thumbnail(make_jpeg(seed)) for seed in range(20)])
    copies = np.stack([make_thumbnail(make_jpeg(seed, quality=40, side=40)) for seed in range(5)])
    groups = group_near_duplicates(np.concatenate([originals, copies]))
    assert groups[:5].tolist() == groups[20:].tolist()
    assert len(set(groups.tolist())) == 20
    assert find_near_duplicates(originals, copies).tolist() == [True] * 5 + [False] * 15


def test_a_blank_image_is_no_duplicate():
    stream = io.BytesIO()
    Image.new("RGB", (48, 48), "grey").save(stream, "PNG")
    blank = make_thumbnail(stream.getvalue())
    assert np.isfinite(blank).all()
    assert len(set(group_near_duplicates(np.stack([blank, blank, make_thumbnail(make_jpeg(1))])))) == 3
