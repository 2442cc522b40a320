"""Addresses are no training data and no photos of predict.py, which say so."""

import pytest

from data.sources import Source


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize(
    "address", ["https://a.example/b.zip", " HTTP://a.example/b.jpg", "file:///photos", "data:,a"]
)
def test_address_is_named(address, labelled):
    with pytest.raises(ValueError, match="is an address.*: download it first"):
        Source(address, labelled=labelled)
