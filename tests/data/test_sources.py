"""Sources: every form of image data, damaged ones, and when a source counts as changed."""

import os
import zipfile
from pathlib import Path

import datasets
import pytest

from data.sources import READING_ERRORS, Source
from data.utkface import load_utkface
from tests.support.faces import FORMS, make_jpeg, make_name, make_table, write_splits
from tests.support.picture_sources import write_folder, write_tar, write_zip


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


def test_archive_that_is_cut_off_is_refused_in_a_sentence(tmp_path, images):
    archive = write_tar(tmp_path / "whole", images)
    (tmp_path / "cut.tar.gz").write_bytes(Path(archive).read_bytes()[:20_000])
    with pytest.raises(ValueError, match=r"cut\.tar\.gz is damaged"):
        load_utkface(tmp_path / "cut.tar.gz")
    archive = Path(write_zip(tmp_path / "whole", images)).read_bytes()
    (tmp_path / "cut.zip").write_bytes(archive[:20_000])
    with pytest.raises(ValueError, match=r"cut\.zip is damaged"):
        load_utkface(tmp_path / "cut.zip")


def list_contents(source: Source) -> dict[str, bytes | str]:
    """The content of each image, or the reason why it has none, by its path."""
    contents = {}
    for entry in source.entries():
        try:
            contents[entry.path] = entry.read()
        except READING_ERRORS as error:
            contents[entry.path] = str(error)
    return contents


def test_bad_files_stop_no_others(tmp_path):
    """Broken links, files that vanish, and pipes, beside pictures of any suffix or none."""
    picture = make_jpeg(1)
    names = ("a.jpg", "b.jpe", "c.MPO", "IMG_1", "d.txt", "vanishing.jpg", "notes.md", "._a.jpg", "Thumbs.db")
    folder = Path(write_folder(tmp_path / "[2019] photos", {f"sub/{name}": picture for name in names}))
    (folder / "sub" / "notes.md").write_text("text")
    (folder / "gone.jpg").symlink_to("nothing")
    os.mkfifo(folder / "pipe.jpg")
    source = Source(folder, labelled=False)
    (folder / "sub" / "vanishing.jpg").unlink()
    assert len(source.fingerprint()) == 16
    contents = list_contents(source)
    taken = ("IMG_1", "a.jpg", "b.jpe", "c.MPO", "d.txt", "vanishing.jpg")
    assert list(contents) == ["gone.jpg", *(f"sub/{name}" for name in taken)]
    errors = {path: content for path, content in contents.items() if content != picture}
    assert set(errors) == {"gone.jpg", "sub/vanishing.jpg"} and "No such file" in errors["gone.jpg"]
    assert str(source.passed_over) == "3 other files were passed over, such as notes.txt."


def test_a_given_folder_that_may_not_be_read_is_an_error(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(ValueError, match=f"{tmp_path}: This file or folder cannot be opened \\(Permission denied\\)"):
        Source(tmp_path)


@pytest.mark.parametrize("name", ["photo", ".hidden.jpg", "photo.JPE", "photo.bak"])
def test_a_picture_alone_is_read_whatever_its_name(tmp_path, name):
    (tmp_path / name).write_bytes(make_jpeg(1))
    assert list_contents(Source(tmp_path / name)) == {str(tmp_path / name): make_jpeg(1)}


def test_pattern_of_archives_reads_each(tmp_path, images):
    """One that is damaged stops no others; an archive in a folder is passed over."""
    some = dict(list(images.items())[:2])
    (tmp_path / "photos").mkdir()
    for name in ("one", "two"):
        write_zip(tmp_path / "photos" / name, some)
    (tmp_path / "photos" / "cut.zip").write_bytes(b"PK\x03\x04 and no more")
    contents = list_contents(Source(tmp_path / "photos" / "*.zip", labelled=False))
    assert "archive is damaged" in contents.pop(f"{tmp_path}/photos/cut.zip")
    assert contents == {f"{tmp_path}/photos/{name}.zip/{file}": some[file] for name in ("one", "two") for file in some}
    source = Source(tmp_path / "photos")
    assert list_contents(source) == {} and len(source.passed_over) == 3


@pytest.mark.parametrize("pattern", ["{folder}/*.jpg", "{folder}/*_0_*"])
def test_pattern_of_labelled_images(folder, images, pattern):
    names = {Path(entry.path).name for entry in Source(pattern.format(folder=folder)).entries()}
    assert names == {name for name in images if "*.jpg" in pattern or "_0_" in name}


def test_tables_with_characters_of_patterns_in_their_names(tmp_path):
    folder = write_splits(tmp_path / "[2019] t?bles*", train=make_table(range(3)))
    (folder / "train.parquet").rename(folder / "train[1].parquet")
    for path in (folder, folder / "train[1].parquet", folder / "*.parquet"):
        assert len(list(Source(path).entries())) == 3


def test_images_beside_tables_are_counted(tmp_path):
    folder = write_splits(tmp_path / "tables", train=make_table(range(3)))
    (folder / "a.jpg").write_bytes(make_jpeg(1))
    (folder / "._train.parquet").write_bytes(b"x")
    source = Source(folder)
    assert len(list(source.entries())) == 3
    assert str(source.passed_over).startswith("1 other file was passed over")


def test_row_without_an_image_gets_a_sentence(tmp_path):
    rows = {"image": [{"bytes": make_jpeg(1), "path": None}, {"bytes": None, "path": None}], "age": [30, 31]}
    table = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
    contents = list_contents(Source(write_splits(tmp_path / "table", train=table)))
    assert contents == {"train-0": make_jpeg(1), "train-1": "This row holds no image."}


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
