"""Sources: every form of image data, damaged ones, and when a source counts as changed."""

import os
import zipfile
from pathlib import Path

import datasets
import pytest

from data.sources import Source
from data.utkface import load_utkface
from tests.support.faces import FORMS, make_jpeg, make_name, make_table, write_splits
from tests.support.picture_sources import write_tar, write_zip


pytestmark = pytest.mark.usefixtures("empty_cache")


@pytest.mark.parametrize("write", FORMS)
def test_every_form_has_the_same_images(tmp_path, images, write):
    source = Source(write(tmp_path / "other", images))
    assert {entry.name: entry.read() for entry in source.entries()} == images


def test_what_is_no_data_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no usable image"):
        load_utkface(tmp_path / "empty")
    (tmp_path / "notes.txt").write_text("no archive")
    with pytest.raises(ValueError, match=r"notes\.txt is neither"):
        Source(tmp_path / "notes.txt")
    for missing in (tmp_path / "missing", "missing.tar.gz", "some/faces"):
        with pytest.raises(ValueError, match="is no file or folder here"):
            Source(missing)
    with pytest.raises(ValueError, match="has the columns .*'picture'.*, but lacks .*image"):
        Source(write_splits(tmp_path / "table", faces=datasets.Dataset.from_dict({"picture": [1], "age": [2]})))


def test_damaged_archives_are_refused_in_a_sentence(tmp_path, images):
    """Also where the list of files is whole."""
    archive = write_tar(tmp_path / "whole", images)
    (tmp_path / "cut.tar.gz").write_bytes(Path(archive).read_bytes()[:20_000])
    with pytest.raises(ValueError, match=r"cut\.tar\.gz is damaged"):
        load_utkface(tmp_path / "cut.tar.gz")
    archive = bytearray(Path(write_zip(tmp_path / "whole", images)).read_bytes())
    archive[len(archive) // 3] ^= 255
    (tmp_path / "flipped.zip").write_bytes(archive)
    with pytest.raises(ValueError, match=r"flipped\.zip is damaged \(Bad CRC-32"):
        load_utkface(tmp_path / "flipped.zip")


def test_the_damaged_one_of_several_tables_is_named(tmp_path):
    path = write_splits(tmp_path / "tables", first=make_table(range(2)))
    (path / "second.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"second\.parquet is no Parquet file, or a damaged one"):
        Source(path)


def test_fingerprint_follows_names_sizes_and_dates(folder):
    before = Source(folder).fingerprint()
    (folder / "notes.txt").write_text("not an image")
    assert Source(folder).fingerprint() == before
    file = folder / make_name(0)
    os.utime(file, ns=(0, 0))
    dated = Source(folder).fingerprint()
    file.rename(file.with_name("99_0_0_20170116174525125.jpg"))
    assert len({before, dated, Source(folder).fingerprint()}) == 3


def test_fingerprint_of_loaded_tables_follows_their_files(tmp_path):
    """As for the evaluation images of a stream, of which the source has no paths."""
    fingerprints = []
    for seeds in (range(2), range(2), range(2, 4)):
        if not fingerprints or seeds.start:
            make_table(seeds).to_parquet(tmp_path / "validation.parquet")
        table = datasets.load_dataset("parquet", data_files={"validation": str(tmp_path / "validation.parquet")})
        fingerprints.append(Source("some/faces", table=table).fingerprint())
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_damaged_image_does_not_keep_others_from_being_read(tmp_path, compression):
    path = tmp_path / "faces.zip"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for seed, name in enumerate(("a.jpg", "b.jpg")):
            archive.writestr(name, make_jpeg(seed))
    data = bytearray(path.read_bytes())
    data[300:310] = bytes(10)  # in the first
    path.write_bytes(data)
    for entry in Source(path, labelled=False).entries():
        if entry.name == "a.jpg":
            with pytest.raises(ValueError, match="is damaged"):
                entry.read()
        else:
            assert entry.read() == make_jpeg(1)
