"""Fixtures of small face data sets."""

from pathlib import Path

import datasets
import pytest

from tests.support.faces import make_jpeg, make_name
from tests.support.picture_sources import write_folder


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """The cache of `datasets` in a folder of the test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def warnings(caplog):
    """The log, with the warnings of `datasets`."""
    datasets.logging.enable_propagation()
    yield caplog
    datasets.logging.disable_propagation()


@pytest.fixture(scope="session")
def images() -> dict[str, bytes]:
    """60 images by name."""
    return {make_name(index): make_jpeg(index) for index in range(60)}


@pytest.fixture
def folder(tmp_path, images) -> Path:
    """A folder of the 60 images."""
    return Path(write_folder(tmp_path / "faces", images))
