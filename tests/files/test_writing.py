"""Files reach the disk, by the rules of Windows too."""

import ast
import mmap
import os
from pathlib import Path

import pytest

from files.writing import OutputParser, flush_to_disk
from photos.table_parts import Parts
from tests.support.windows import follow_windows_rules
from tests.test_imports import MODULES


@pytest.fixture
def windows(monkeypatch, tmp_path):
    follow_windows_rules(monkeypatch, tmp_path)


def test_rules_refuse_what_windows_refuses(windows, tmp_path):
    file, other = tmp_path / "a", tmp_path / "b"
    other.write_bytes(b"x")
    with file.open("wb"), pytest.raises(PermissionError):
        os.replace(other, file)
    with file.open("rb") as opened, pytest.raises(OSError, match="Bad file descriptor"):
        os.fsync(opened.fileno())
    with file.open("rb"), pytest.raises(PermissionError):
        file.unlink()
    with other.open("rb") as opened:
        mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    with pytest.raises(PermissionError):
        other.unlink()
    mapped.close()
    with pytest.raises(PermissionError):
        os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(FileExistsError):
        file.rename(other)


def test_files_and_folders_are_flushed(tmp_path, monkeypatch):
    flushed, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    (tmp_path / "a").write_bytes(b"x")
    for path in (tmp_path / "a", tmp_path):
        flush_to_disk(path)
    assert flushed == [str(tmp_path / "a"), str(tmp_path)] and fsync is not os.fsync


def test_files_and_folders_are_flushed_on_windows(windows, tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    for path in (tmp_path / "a", tmp_path):
        flush_to_disk(path)


def test_an_output_that_exists_is_replaced_only_when_asked(tmp_path, capsys):
    parser = OutputParser()
    parser.add_output()
    parser.add_output("--output_dir")
    assert parser.parse_args([]).output is None
    (tmp_path / "folder").mkdir()
    words = ["--output", str(tmp_path / "file"), "--output_dir", str(tmp_path / "folder")]
    assert parser.parse_args(words).output == tmp_path / "file"  # an empty folder may exist
    for name, path in (("--output_dir", tmp_path / "folder" / "file"), ("--output", tmp_path / "file")):
        path.touch()
        with pytest.raises(SystemExit):
            parser.parse_args(words)
        assert f"already exists: choose another {name}, or replace it with --overwrite." in capsys.readouterr().err
        assert parser.parse_args([*words, "--overwrite"]).overwrite


def test_no_program_has_an_output_of_another_kind():
    """train.py's --output_dir has a rule of its own: see `training.checkpoints`. scripts.reproduce resumes in its folder."""
    for name, tree in MODULES.items():
        if name == "scripts.reproduce":
            continue
        calls = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert not [call for call in calls if ".add_argument('--output" in call], name


@pytest.mark.parametrize("name", ["faces.csv", "faces.PARQUET"])
def test_tables_are_written_on_windows(windows, tmp_path, name):
    """Parts, their merging and the list of unreadable pictures; nothing that is open is renamed or deleted."""
    parts = Parts(tmp_path / name, 2, 1, {"model": "a"})
    assert parts.open(is_main_process=True) == [0, 1]
    row = dict.fromkeys(("face", "age", "error"))
    parts.write(0, [row | {"file": "Größe 🎂.jpg", "face": 1, "age": 30.0}])
    parts.write(1, [row | {"file": "b.jpg", "error": "Broken."}])
    assert parts.merge()["faces"] == 1
    assert sorted(path.name for path in Path(tmp_path).iterdir()) == [name, f"{name}.unreadable.csv"]
