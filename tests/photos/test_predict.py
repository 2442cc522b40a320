"""Labelling many pictures: the pipeline's answers from every source, and sentences for bad input."""

import io
import re
import weakref
from pathlib import Path

import datasets
import pytest
from PIL import Image

import predict
from data import sources as image_sources
from photos.face_table import make_face_rows
from photos.table_parts import FACE_COLUMNS
from tests.support.picture_sources import make_table, write_folder, write_table, write_tar, write_zip
from tests.support.predictions import BROKEN, assert_same_rows, list_unreadable


pytestmark = pytest.mark.usefixtures("datasets_cache", "fresh_accelerate_state")


@pytest.mark.parametrize("write", [write_folder, write_zip, write_tar, write_table])
def test_every_source_gives_the_answers_of_the_pipeline(run_predict, tmp_path, pictures, expected, write, capsys):
    in_order = dict(sorted(pictures.items(), key=lambda item: Path(item[0]).parts))
    assert_same_rows(run_predict(write(tmp_path / "source", in_order)), expected)
    assert "cut off" in list_unreadable(tmp_path)[BROKEN]
    printed = capsys.readouterr().out
    assert "6 pictures: 5 faces, 1 without one, 1 unreadable (see " in printed
    assert re.search(r"^\d+\.\d pictures and \d+\.\d faces a second, from file to answer\.$", printed, re.MULTILINE)


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


def test_pictures_that_are_faces(run_predict, folder, pictures, estimator, tmp_path, caplog):
    rows = run_predict(folder, "--no_detection", output="faces.csv")
    assert [row["file"] for row in rows][1:] == ["Größe 🎂.png", "nobody.webp", "sub/1.jpg", "sub/a/1.jpg"]
    alone = make_face_rows("", estimator(Image.open(io.BytesIO(pictures["nobody.webp"])), detect_faces=False))[0]
    assert rows[2]["age"] == pytest.approx(alone["age"], abs=0.11) and rows[2]["detection_score"] is None
    assert list(list_unreadable(tmp_path, "faces.csv")) == [BROKEN]
    assert f"{min(pictures)} is not cropped as UTKFace's faces are" in caplog.text


@pytest.mark.parametrize("output", ["faces.parquet", "faces.csv"])
def test_age_thresholds_are_columns(run_predict, tmp_path, pictures, estimator, output):
    content = pictures["sub/1.jpg"]
    folder = write_folder(tmp_path / "photos", {"1.jpg": content, "nobody.webp": pictures["nobody.webp"]})
    (row,) = run_predict(folder, "--age_thresholds", "25", "18", "25", output=output)
    assert list(row) == [*FACE_COLUMNS, "age_at_least_25", "age_at_least_18"]
    (face,) = estimator(Image.open(io.BytesIO(content)), age_thresholds=[18, 25])
    for age, probability in face["age_at_least"].items():
        assert row[f"age_at_least_{age}"] == pytest.approx(probability, abs=1e-3)


def test_age_threshold_that_is_no_age_of_the_model_is_refused_at_once(run_predict, folder, tmp_path):
    with pytest.raises(ValueError, match=r"whole numbers from 0 to 100, got \[18, 101\]"):
        run_predict(folder, "--age_thresholds", "18", "101")
    assert not list(tmp_path.glob("faces*"))


def test_only_few_pictures_are_in_memory(run_predict, tmp_path, monkeypatch):
    """Only pictures whose faces wait for a full batch."""
    small = io.BytesIO()
    Image.new("RGB", (9, 9)).save(small, "PNG")
    folder = write_folder(tmp_path / "photos", {f"{index}.png": small.getvalue() for index in range(60)})
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
        (("--age_thresholds", "18.5"), "--age_thresholds: invalid int value: '18.5'"),
        (("--pictures_per_part", "0"), "--pictures_per_part must be at least 1, got 0"),
    ],
)
def test_bad_arguments_get_a_sentence(run_predict, folder, words, message, capsys):
    with pytest.raises(SystemExit):
        run_predict(folder, *words)
    assert message in capsys.readouterr().err
