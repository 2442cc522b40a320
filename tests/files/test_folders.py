"""Folders and patterns: each file once, whatever the names, and nothing that cannot be listed stops the rest."""

import os
import shutil
import socket
from pathlib import Path

import pytest

from files import folders
from files.folders import find_files


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Makes files below the working directory, from their paths."""
    monkeypatch.chdir(tmp_path)

    def make(*paths: str):
        for path in paths:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_bytes(b"x")

    return make


def list_paths(path: str) -> list[str]:
    return [file.path for file in find_files(path)[1] if not file.error]


def list_errors(path: str) -> dict[str, str]:
    return {file.path: file.error for file in find_files(path)[1] if file.error}


def test_folder_is_listed_by_sorted_paths(tree):
    tree("photos/b.jpg", "photos/a/2.jpg", "photos/a/1.jpg", "photos/c")
    assert list_paths("photos") == ["photos/a/1.jpg", "photos/a/2.jpg", "photos/b.jpg", "photos/c"]


@pytest.mark.parametrize(
    "name", ["[2019] summer", "what?", "a*b", "x[!y]", "~", "100% #1", "new\nline", "back\\slash"]
)
def test_path_that_exists_is_no_pattern(tree, name):
    """https://github.com/elisemercury/Duplicate-Image-Finder/issues/94"""
    tree(f"{name}/a.jpg", f"{name}/b.png", f"{name}/sub/c.jpg", "2 summer/other.jpg", "whats/other.jpg")
    assert list_paths(name) == list_paths(f"{name}/") == [f"{name}/{file}" for file in ("a.jpg", "b.png", "sub/c.jpg")]
    assert list_paths(f"{name}/*.jpg") == [f"{name}/a.jpg"]
    assert list_paths(f"{name}/**/*.jpg") == [f"{name}/a.jpg", f"{name}/sub/c.jpg"]
    assert list_paths(f"{name}/a.jpg") == [f"{name}/a.jpg"]
    tree(f"{name}.jpg")
    assert list_paths(f"{name}.jpg") == [f"{name}.jpg"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["1.jpg"]),
        ("p*/*.jpg", ["photos/1.jpg", "photos/2.jpg"]),
        ("photos/[12].jpg", ["photos/1.jpg", "photos/2.jpg"]),
        ("photos/[!1].jpg", ["photos/2.jpg"]),
        ("photos/?.png", ["photos/3.png"]),
        ("photos/*/4.jpg", ["photos/a/4.jpg"]),
        ("photos/**/4.jpg", ["photos/a/4.jpg", "photos/a/b/4.jpg"]),
        ("**/b/*", ["photos/a/b/4.jpg"]),
        ("photos/a/**", ["photos/a/4.jpg", "photos/a/b/4.jpg"]),
        ("photos/a*", ["photos/a/4.jpg", "photos/a/b/4.jpg"]),  # a folder with all in it
        ("../{here}/p*/1.*", ["../{here}/photos/1.jpg"]),
        ("{there}/phot*/1.jpg", ["{there}/photos/1.jpg"]),
    ],
)
def test_patterns(tree, tmp_path, pattern, expected):
    tree("1.jpg", "photos/1.jpg", "photos/2.jpg", "photos/3.png", "photos/a/4.jpg", "photos/a/b/4.jpg")
    names = {"here": tmp_path.name, "there": tmp_path}
    assert list_paths(pattern.format(**names)) == [path.format(**names) for path in expected]


def test_pattern_lists_no_folder_that_it_cannot_match(tree, monkeypatch):
    """As `*.jpg` in a home folder."""
    tree("a.jpg", "large/b.jpg", "one/two/three/c.jpg")
    listed, listdir = [], os.listdir
    monkeypatch.setattr(folders.os, "listdir", lambda path: listed.append(path) or listdir(path))
    assert list_paths("*.jpg") == ["a.jpg"] and listed == ["."]
    tree("one/two/d.jpg")
    assert list_paths("o*/*/*.jpg") == ["one/two/d.jpg"]
    assert "large" not in listed and "one/two" in listed


def test_no_match_and_ids_of_the_hub(tree):
    tree("a.jpg")
    assert find_files("some/faces")[1] == []
    with pytest.raises(ValueError, match=r"No file has a path like \*\.gif\."):
        find_files("*.gif")


def test_home_folder_is_found_without_a_shell(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    tree("photos/a.jpg")
    assert folders.expand_home("~/photos") == str(tmp_path / "photos")
    tree("~/a.jpg")
    assert folders.expand_home("~") == "~"


def test_links(tree):
    """Broken links and links to themselves are reported, and circles end, also for patterns."""
    tree("photos/a.jpg", "elsewhere/b.jpg")
    for link, target in {
        "here": ".", "up": "..", "loop.jpg": "loop.jpg", "gone.jpg": "none", "there": "../elsewhere"
    }.items():  # fmt: skip
        os.symlink(target, Path("photos", link))
    os.symlink("../photos", "elsewhere/back")
    for path in ("photos", "photos/**"):
        assert "photos/a.jpg" in list_paths(path) and "photos/there/b.jpg" in list_paths(path)
        assert {"photos/gone.jpg", "photos/loop.jpg"} <= set(list_errors(path))
        assert len(list_paths(path)) < 9
    assert "No such file" in list_errors("photos")["photos/gone.jpg"]


def test_pipes_sockets_and_devices_are_not_opened(tree):
    tree("photos/a.jpg")
    os.mkfifo("photos/pipe.jpg")
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("photos/socket.jpg")
    regular = {file.path: file.is_regular for file in find_files("photos")[1]}
    assert regular == {"photos/a.jpg": True, "photos/pipe.jpg": False, "photos/socket.jpg": False}


@pytest.fixture
def refused_folder(monkeypatch):
    """Makes folders named `locked` unreadable, also for the user root."""
    listdir = os.listdir

    def refuse(path):
        if os.path.basename(path) == "locked":
            raise PermissionError(13, "Permission denied", path)
        return listdir(path)

    monkeypatch.setattr(folders.os, "listdir", refuse)


@pytest.mark.parametrize("path", ["photos", "photos/**/*.jpg", "photos/*/*.jpg", "pho*"])
def test_folder_that_may_not_be_read_is_listed_beside_the_rest(tree, refused_folder, path):
    """https://github.com/immich-app/immich/issues/15515"""
    tree("photos/a/1.jpg", "photos/locked/2.jpg", "photos/z/3.jpg")
    assert list_paths(path) == ["photos/a/1.jpg", "photos/z/3.jpg"]
    assert list_errors(path) == {"photos/locked": "This file or folder cannot be opened (Permission denied)."}


def test_what_vanishes_while_it_is_listed_is_reported(tree, monkeypatch):
    tree("photos/a.jpg", "photos/b.jpg", "photos/c/d.jpg")
    stat = os.stat

    def vanish(path):
        if path in ("photos/a.jpg", "photos/c"):
            raise FileNotFoundError(2, "No such file or directory", path)
        return stat(path)

    monkeypatch.setattr(folders.os, "stat", vanish)
    assert list_paths("photos") == ["photos/b.jpg"] and set(list_errors("photos")) == {"photos/a.jpg", "photos/c"}


def test_folders_may_be_nested_deeper_than_a_path_reaches(tree):
    tree("photos/a.jpg")
    place = os.getcwd()
    os.chdir("photos")
    for _ in range(22):
        os.mkdir("deep" * 50)
        os.chdir("deep" * 50)
    os.chdir(place)
    paths, errors = list_paths("photos"), list_errors("photos")
    shutil.rmtree("photos")  # others list the folder of all tests
    assert paths == ["photos/a.jpg"] and ["too long" in error for error in errors.values()] == [True]


def test_names_that_are_no_text(tree):
    tree("photos/a.jpg")
    with open(b"photos/caf\xe9.jpg", "wb"):
        pass
    assert list_paths("photos") == list_paths("photos/*.jpg") == ["photos/a.jpg", "photos/caf\udce9.jpg"]
