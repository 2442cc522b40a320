"""The same files give the same counts in predict.py and on the page."""

import io
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from photos.table_parts import FACE_COLUMNS
from space.inference import answer_files
from tests.support.picture_sources import write_folder, write_tar, write_zip
from tests.support.pictures import encode
from tests.support.predictions import list_unreadable


OTHERS = {"empty": b"", "call.m4a": b"\0\0\0\x18ftypisom", "notes.txt": b"text"}
SYSTEM = {"__MACOSX/._a.jpg": b"\0\5\x16\7", ".DS_Store": b"x", "sub/.DS_Store": b"x", "Thumbs.db": b"x"}


@pytest.fixture(scope="module")
def contents(pictures, photo, noise) -> dict[str, bytes]:
    """What people pack: 6 pictures with 7 faces, 2 without, 5 that cannot be read, 3 other files and those of systems."""
    small = photo.crop((80, 0, 368, 256))
    pack = io.BytesIO()
    with zipfile.ZipFile(pack, "w") as archive:
        archive.writestr("a.jpg", pictures["sub/1.jpg"])
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
    readable = {
        "a.jpg": pictures["sub/1.jpg"],
        "Größe 🎂.png": pictures["Größe 🎂.png"],
        "sub/a/fast.gif": encode("GIF", small, save_all=True, append_images=[noise.resize(small.size)] * 2),
        "sub/a/a.jpg": pictures["sub/1.jpg"],
        "IMG_0001": pictures["sub/1.jpg"],
        "really a photo.txt": pictures["sub/1.jpg"],
        "nobody.webp": pictures["nobody.webp"],
        "sub/nobody.JPG": encode("JPEG", noise),
    }
    unreadable = {
        "text.jpg": b"dear diary", "empty.png": b"", "cut.jpg": pictures["sub/1.jpg"][:900],
        "phone.heic": heic, "sub/more.zip": pack.getvalue(),
    }  # fmt: skip
    return SYSTEM | readable | unreadable | OTHERS


def count_on_page(estimator, sources: list[Path]) -> Counter:
    """Counts faces, and pictures with and without, by name; errors by name and sentence; sentences on other files."""
    counts = Counter()
    for answer in answer_files(estimator, sources):
        name = Path(answer["file"]).name
        counts.update((name, *face["box"].values()) for face in answer.get("faces", []))
        counts["faces"] += len(answer.get("faces", []))
        counts["without"] += answer.get("faces") == []
        counts["pictures"] += "note" not in answer
        counts.update(text for text in (answer.get("error") and (name, answer["error"]), answer.get("note")) if text)
    return counts


def count_of_program(run_predict, tmp_path: Path, capsys, source: str) -> Counter:
    """Counts the same in the tables and the output of predict.py."""
    output = f"{Path(source).name}.csv"
    rows = run_predict(source, output=output)
    assert all(tuple(row) == FACE_COLUMNS for row in rows)
    counts = Counter((Path(row["file"]).name, row["xmin"], row["ymin"], row["xmax"], row["ymax"]) for row in rows)
    unreadable = list_unreadable(tmp_path, output)
    counts.update((Path(name).name, error) for name, error in unreadable.items())
    summary, *lines = capsys.readouterr().out.splitlines()
    pictures, faces, without, failed = (int(word) for word in summary.replace(":", "").split() if word.isdecimal())
    assert failed == len(unreadable) and faces == len(rows)
    counts.update(line for line in lines if "passed over" in line)
    return counts + Counter(pictures=pictures, faces=faces, without=without)


@pytest.mark.slow
def test_archives_give_the_same_counts(run_predict, estimator, contents, tmp_path, capsys):
    packed, rolled = write_zip(tmp_path / "photos", contents), write_tar(tmp_path / "photos", contents)
    with zipfile.ZipFile(packed, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("a.jpg", contents["nobody.webp"])  # a second file of the name
    on_page = count_on_page(estimator, [Path(packed)])
    assert (on_page["pictures"], on_page["faces"], on_page["without"]) == (14, 7, 3)
    assert on_page["3 other files were passed over, such as empty."] == 1
    assert count_of_program(run_predict, tmp_path, capsys, packed) == on_page
    once = on_page - Counter(pictures=1, without=1)
    assert count_of_program(run_predict, tmp_path, capsys, rolled) == once


def test_loose_files_give_the_same_counts(run_predict, estimator, contents, tmp_path, capsys):
    """A folder may hold more: what no one chose as a photo, and archives, is passed over."""
    folder = write_folder(tmp_path / "photos", contents)
    not_chosen = {*OTHERS, *SYSTEM, "sub/more.zip"}
    on_page = count_on_page(estimator, [Path(folder, name) for name in contents if name not in not_chosen])
    assert (on_page["pictures"], on_page["faces"], on_page["without"]) == (12, 7, 2)
    on_page["4 other files were passed over, such as call.m4a."] = 1
    assert count_of_program(run_predict, tmp_path, capsys, folder) == on_page
