"""Labelling many pictures: the pipeline's answers from every source, and no row lost or doubled by interruptions."""

import csv
import io
import json
import os
import subprocess
import sys
import weakref
from itertools import pairwise
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest
from PIL import Image

import predict
from data import sources as image_sources
from photos.face_table import make_face_rows
from photos.table_parts import FACE_COLUMNS, Parts
from tests.support.picture_sources import make_table, write_folder, write_table, write_tar, write_zip
from tests.support.processes import run_here
from tests.support.training import ROOT


pytestmark = pytest.mark.usefixtures("datasets_cache", "fresh_accelerate_state")
NUMBERS = {"age", "age_low", "age_high", "gender_score", "detection_score"}
BROKEN = "sub/broken.jpg"


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory, estimator) -> Path:
    folder = tmp_path_factory.mktemp("predict_model")
    estimator.model.save_pretrained(folder)
    estimator.image_processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pictures(photo, noise) -> dict[str, bytes]:
    """Content by path, in order: pictures of 1, 2, 0, 1, 1 faces and a broken one between them, names odd and plain."""
    small = photo.crop((80, 0, 368, 256))
    two = Image.new("RGB", (576, 256))
    two.paste(small, (0, 0))
    two.paste(small.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (288, 0))
    images = {'=1+1, "a".jpg': small, "Größe 🎂.png": two, "nobody.webp": noise, "sub/1.jpg": small.rotate(9)}
    contents = {}
    for name, image in images.items():
        stream = io.BytesIO()
        image.save(stream, {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[name.rpartition(".")[2]])
        contents[name] = stream.getvalue()
    contents["sub/a/1.jpg"] = contents["sub/1.jpg"]
    return contents | {BROKEN: contents["sub/1.jpg"][:900]}


@pytest.fixture(scope="module")
def expected(pictures, estimator) -> list[dict]:
    """The answers of the pipeline for each picture alone."""
    rows = []
    for name in sorted(pictures, key=lambda name: Path(name).parts):
        if name != BROKEN:
            rows += make_face_rows(name, estimator(Image.open(io.BytesIO(pictures[name]))))
    rows = [{column: row[column] for column in FACE_COLUMNS} for row in rows if row["face"]]
    assert [row["face"] for row in rows] == [1, 1, 2, 1, 1]
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory, pictures) -> str:
    return write_folder(tmp_path_factory.mktemp("predict") / "photos", pictures)


def make_command(model_folder: Path, data_dir: str, output: Path, *words: str) -> list[str]:
    return ["predict.py", "--model", str(model_folder), "--data_dir", data_dir, "--output", str(output), *words]


@pytest.fixture
def run_predict(model_folder, tmp_path):
    """Calls main() as the command line does; returns the rows of the table."""

    def run(data_dir: str, *words: str, output: str = "faces.parquet") -> list[dict]:
        file = tmp_path / output
        run_here("predict", make_command(model_folder, data_dir, file, *words)[1:])
        assert {path.name for path in file.parent.glob(f"{file.name}*")} <= {file.name, f"{file.name}.unreadable.csv"}
        return read_rows(file)

    return run


def read_rows(file: Path) -> list[dict]:
    if file.suffix == ".parquet":
        return pq.read_table(file).to_pylist()
    with file.open(encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    text = {"file", "gender", "error"}
    return [{key: value if key in text else json.loads(value or "null") for key, value in row.items()} for row in rows]


def assert_same_rows(rows: list[dict], expected: list[dict]):
    """Compares rows; numbers may differ by rounding, as batches differ."""
    assert [tuple(row) for row in rows] == [FACE_COLUMNS] * len(expected)
    for row, other in zip(rows, expected):
        for name in FACE_COLUMNS:
            wanted = other[name]
            assert row[name] == (pytest.approx(wanted, abs=0.11) if name in NUMBERS and wanted else wanted), row


def list_unreadable(tmp_path: Path, output: str = "faces.parquet") -> dict[str, str]:
    file = tmp_path / f"{output}.unreadable.csv"
    return {row["file"]: row["error"] for row in read_rows(file)} if file.exists() else {}


@pytest.mark.parametrize("write", [write_folder, write_zip, write_tar, write_table])
def test_every_source_gives_the_answers_of_the_pipeline(run_predict, tmp_path, pictures, expected, write, capsys):
    in_order = dict(sorted(pictures.items(), key=lambda item: Path(item[0]).parts))
    assert_same_rows(run_predict(write(tmp_path / "source", in_order)), expected)
    assert "cut off" in list_unreadable(tmp_path)[BROKEN]
    assert "6 pictures: 5 faces, 1 without one, 1 unreadable (see " in capsys.readouterr().out


def test_pattern_takes_what_matches_by_its_path(run_predict, folder, expected, tmp_path):
    pattern = f"{folder}/**/*.jpg"
    wanted = [row | {"file": f"{folder}/{row['file']}"} for row in expected if row["file"].endswith(".jpg")]
    assert_same_rows(run_predict(pattern), wanted)
    assert list(list_unreadable(tmp_path)) == [f"{folder}/{BROKEN}"]
    assert_same_rows(run_predict(f"{folder}/sub/1.jpg", output="one.csv"), [wanted[1]])


def test_pattern_of_tables(run_predict, tmp_path, pictures, expected):
    write_table(tmp_path / "shard-0", {"sub/1.jpg": pictures["sub/1.jpg"]})
    write_table(tmp_path / "shard-1", {"sub/a/1.jpg": pictures["sub/a/1.jpg"]})
    assert_same_rows(run_predict(str(tmp_path / "shard-?.parquet")), expected[-2:])


def test_a_data_set_of_the_hub_whatever_its_splits(run_predict, pictures, expected, monkeypatch):
    first, second = (make_table({name: pictures[name]}).remove_columns("file_name") for name in ("sub/1.jpg", BROKEN))
    table = datasets.DatasetDict({"unlabelled": datasets.concatenate_datasets([second, first]), "more": first})
    monkeypatch.setattr(image_sources.datasets, "load_dataset", lambda name: {"some/photos": table}[name])
    rows = [expected[-1] | {"file": name} for name in ("unlabelled-1", "more-0")]
    assert_same_rows(run_predict("some/photos"), rows)


def test_csv_holds_what_parquet_does(run_predict, folder, expected):
    rows = run_predict(folder, output="faces.csv")
    # As on the page: no spreadsheet runs the name as a formula.
    assert_same_rows(rows, [expected[0] | {"file": "'" + expected[0]["file"]}, *expected[1:]])


@pytest.mark.parametrize(("batch_size", "part"), [(1, 1), (2, 4), (3, 100)])
def test_sizes_of_batches_and_parts_do_not_matter(run_predict, folder, expected, tmp_path, batch_size, part):
    words = ("--per_device_eval_batch_size", str(batch_size), "--pictures_per_part", str(part))
    assert_same_rows(run_predict(folder, *words), expected)
    assert list(list_unreadable(tmp_path)) == [BROKEN]


def test_pictures_that_are_faces(run_predict, folder, pictures, estimator, tmp_path):
    rows = run_predict(folder, "--no_detection", output="faces.csv")
    assert [row["file"] for row in rows][1:] == ["Größe 🎂.png", "nobody.webp", "sub/1.jpg", "sub/a/1.jpg"]
    alone = make_face_rows("", estimator(Image.open(io.BytesIO(pictures["nobody.webp"])), detect_faces=False))[0]
    assert rows[2]["age"] == pytest.approx(alone["age"], abs=0.11) and rows[2]["detection_score"] is None
    assert list(list_unreadable(tmp_path, "faces.csv")) == [BROKEN]


def test_what_cannot_be_read_stops_nothing(run_predict, tmp_path, pictures, expected):
    """Files that are empty, no picture or damaged in an archive."""
    bad = {"a.jpg": b"", "b.png": b"text", "c.heic": b"\0\0\0\x18ftypheic", "d.gif": b"GIF89a"}
    archive = Path(
        write_zip(tmp_path / "photos", bad | {"sub/1.jpg": pictures["sub/1.jpg"], "damaged.jpg": b"x" * 99})
    )
    archive.write_bytes(archive.read_bytes().replace(b"x" * 99, b"y" * 99))
    assert_same_rows(run_predict(str(archive)), [expected[-1] | {"file": "sub/1.jpg"}])
    errors = list_unreadable(tmp_path)
    assert list(errors) == [*bad, "damaged.jpg"]
    assert (
        errors["a.jpg"] == "This file is empty." and "cut off" in errors["c.heic"] and "CRC" in errors["damaged.jpg"]
    )


def test_names_that_are_no_text(run_predict, tmp_path, pictures, expected):
    folder = os.fsencode(tmp_path / "photos")
    os.mkdir(folder)
    with open(folder + b"/caf\xe9\n.jpg", "wb") as file:
        file.write(pictures["sub/1.jpg"])
    wanted = [expected[-1] | {"file": "caf\\udce9\n.jpg"}]
    for output in ("faces.parquet", "faces.csv"):
        assert_same_rows(run_predict(str(tmp_path / "photos"), output=output), wanted)


def test_only_few_pictures_are_in_memory(run_predict, tmp_path, pictures, monkeypatch):
    """Only pictures whose faces wait for a full batch."""
    folder = write_folder(tmp_path / "photos", {f"{index}.webp": pictures["nobody.webp"] for index in range(60)})
    alive, most = weakref.WeakValueDictionary(), 0

    def read(data: bytes) -> Image.Image:
        nonlocal most
        picture = read_picture(data)
        alive[id(picture)] = picture
        most = max(most, len(alive))
        return picture

    read_picture = predict.read_picture
    monkeypatch.setattr(predict, "read_picture", read)
    assert run_predict(folder, "--per_device_eval_batch_size", "8") == []
    assert 1 <= most <= 10


def start_python(*words: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500
    )


@pytest.mark.processes
def test_two_processes_give_the_rows_of_one(model_folder, folder, expected, tmp_path):
    command = make_command(model_folder, folder, tmp_path / "faces.parquet", "--pictures_per_part", "1")
    ended = start_python("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *command)
    assert ended.returncode == 0, ended.stderr
    assert_same_rows(read_rows(tmp_path / "faces.parquet"), expected)
    assert list(list_unreadable(tmp_path)) == [BROKEN]
    assert ended.stdout.count("6 pictures: 5 faces") == 1 and "6/6" in ended.stderr


# Runs the command once for each moment, in a process that kills itself at that call of a function.
KILLED = """
import json, os, shutil, signal, sys
from pathlib import Path
import predict

def kill_at(module, name, call):
    replaced, calls = getattr(module, name), []
    def count(*arguments, **options):
        calls.append(name)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return replaced(*arguments, **options)
    setattr(module, name, count)

folder, moments, sys.argv = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
for module, name, call in moments:
    child = os.fork()
    if child == 0:
        kill_at(sys.modules[module], name, call)
        predict.main()
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps([code, {file.name: file.stat().st_mtime_ns for file in folder.glob("part-*.json")}]))
"""


@pytest.mark.processes
def test_kills_lose_and_double_no_row(model_folder, folder, expected, run_predict, tmp_path):
    """Within a part, before a part and the table are renamed, and before the parts are deleted."""
    output = tmp_path / "faces.parquet"
    words = ("--pictures_per_part", "2", "--per_device_eval_batch_size", "1")
    moments = [("predict", "read_entry", 4), ("os", "fsync", 1), ("os", "fsync", 4), ("shutil", "rmtree", 1)]
    command = make_command(model_folder, folder, output, *words)
    ended = start_python("-c", KILLED, f"{output}.parts", json.dumps(moments), *command)
    assert ended.returncode == 0, ended.stderr
    codes, parts = zip(*map(json.loads, ended.stdout.splitlines()))
    assert codes == (-9, -9, -9, -9)
    assert [len(found) for found in parts] == [1, 1, 3, 3]
    # No part is written again.
    assert all(earlier.items() <= later.items() for earlier, later in pairwise(parts))
    assert_same_rows(read_rows(output), expected)
    assert list(list_unreadable(tmp_path)) == [BROKEN] and not list(tmp_path.glob("*.partial"))
    with pytest.raises(ValueError, match="faces.parquet already exists"):
        run_predict(folder, "--pictures_per_part", "2")


def interrupt_at_sixth(seen: list[str]):
    """Makes a `predict.read_entry` that records paths in `seen` and raises KeyboardInterrupt at the sixth picture."""
    read_entry = predict.read_entry

    def interrupt(entry):
        if len(seen) == 5:
            raise KeyboardInterrupt
        seen.append(entry.path)
        return read_entry(entry)

    return interrupt


def test_whole_parts_are_kept_and_the_rest_is_done(run_predict, folder, expected, tmp_path, monkeypatch):
    """A resumed run does not read the pictures of whole parts again, also with another batch size."""
    read_entry, seen = predict.read_entry, []
    monkeypatch.setattr(predict, "read_entry", interrupt_at_sixth(seen))
    words = ("--pictures_per_part", "2", "--per_device_eval_batch_size")
    with pytest.raises(KeyboardInterrupt):
        run_predict(folder, *words, "1")
    monkeypatch.setattr(predict, "read_entry", lambda entry: seen.append(entry.path) or read_entry(entry))
    assert_same_rows(run_predict(folder, *words, "2"), expected)
    assert seen[5:] == ["sub/a/1.jpg", BROKEN]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_own_table_and_parts_may_lie_among_the_pictures(run_predict, pictures, expected, tmp_path, monkeypatch, kind):
    """They are not labelled, and other files written there do not make it another run."""
    folder = write_folder(tmp_path / "photos", pictures)
    output, words = f"photos/faces.{kind}", ("--pictures_per_part", "2", "--per_device_eval_batch_size", "1")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(predict, "read_entry", interrupt_at_sixth([]))
        run_predict(folder, *words, output=output)
    assert list(Path(folder, f"faces.{kind}.parts").glob("part-*.json"))
    Path(folder, "more notes.txt").write_text("Written meanwhile.")
    rows = run_predict(folder, *words, output=output)
    assert_same_rows([row | {"file": row["file"].removeprefix("'")} for row in rows], expected)
    with pytest.raises(ValueError, match="already exists"):
        run_predict(folder, *words, output=output)


def test_folder_of_pictures_and_tables_is_refused(run_predict, folder, pictures, tmp_path):
    """One kind would be left out in silence; a pattern chooses."""
    write_folder(tmp_path / "photos", {"a.jpg": pictures["sub/1.jpg"]})
    write_table(tmp_path / "photos" / "rows", {"b.jpg": pictures["sub/1.jpg"]})
    with pytest.raises(
        ValueError, match=r"photos holds both images and Parquet files, such as .*a\.jpg and .*rows\.parq"
    ):
        run_predict(str(tmp_path / "photos"))
    assert len(run_predict(str(tmp_path / "photos" / "*.jpg"))) == 1


def test_linked_folders_are_followed_once(run_predict, pictures, tmp_path):
    write_folder(tmp_path / "elsewhere", {"a.jpg": pictures["sub/1.jpg"]})
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "photos")
    assert [row["file"] for row in run_predict(str(tmp_path / "photos"))] == ["link/a.jpg"]


def test_damaged_table_is_named(run_predict, pictures, tmp_path):
    (tmp_path / "tables").mkdir()
    write_table(tmp_path / "tables" / "good", {"a.jpg": pictures["sub/1.jpg"]})
    (tmp_path / "tables" / "later.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"later\.parquet is no Parquet file, or a damaged one"):
        run_predict(str(tmp_path / "tables"))


def test_parts_of_another_run_are_refused(run_predict, folder, tmp_path, monkeypatch):
    words = ("--pictures_per_part", "2")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(predict, "read_entry", interrupt_at_sixth([]))
        run_predict(folder, *words, "--per_device_eval_batch_size", "1")
    for changes, difference in (
        (("--no_detection",), "no_detection False, now True"),
        (("--pictures_per_part", "3"), "pictures_per_part 2, now 3"),
        (("--model", str(ROOT)), "model "),
    ):
        with pytest.raises(ValueError, match=rf"parts holds the parts of another run \({difference}"):
            run_predict(folder, *words, *changes)
    with pytest.raises(ValueError, match="another run .data_dir photos, now sub, .*pictures 6, now 3"):
        run_predict(f"{folder}/sub", *words)


def test_part_that_another_run_wrote_meanwhile_is_refused(run_predict, folder, monkeypatch):
    """Two runs with one output that start together both see no parts."""
    write = Parts.write

    def write_two(parts, number, rows):
        write(parts, number, rows)
        monkeypatch.setitem(parts.run, "model", "another")

    monkeypatch.setattr(Parts, "write", write_two)
    with pytest.raises(ValueError, match=r"another run \(model "):
        run_predict(folder, "--pictures_per_part", "2")


@pytest.mark.parametrize(
    ("data_dir", "message"),
    [
        ("{folder}/*.gif", "No file has a path like .*gif"),
        ("{folder}/none", "no file or folder"),
        ("{empty}", "holds no picture"),
        ("{cut}", "is damaged .*: fetch it again"),
        ("{columns}", r"has the columns \['file_name'\], but lacks \['image'\]"),
    ],
)
def test_bad_input_gets_a_sentence(run_predict, folder, tmp_path, pictures, data_dir, message):
    (tmp_path / "empty").mkdir()
    cut = Path(write_tar(tmp_path / "cut", pictures))
    cut.write_bytes(cut.read_bytes()[:9000])
    make_table(pictures).remove_columns("image").to_parquet(tmp_path / "columns.parquet")
    paths = {"folder": folder, "empty": tmp_path / "empty", "cut": cut, "columns": tmp_path / "columns.parquet"}
    with pytest.raises(ValueError, match=message):
        run_predict(data_dir.format(**paths))
    assert not list(tmp_path.glob("faces*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--output", "faces.xlsx"), "--output must end in .parquet or .csv, got faces.xlsx"),
        (("--data_dir", "a.jpg", "b.jpg"), "a pattern needs quotes"),
        (("--pictures_per_part", "0"), "--pictures_per_part must be at least 1, got 0"),
    ],
)
def test_bad_arguments_get_a_sentence(run_predict, folder, words, message, capsys):
    with pytest.raises(SystemExit):
        run_predict(folder, *words)
    assert message in capsys.readouterr().err
