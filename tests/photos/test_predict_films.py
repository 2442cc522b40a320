"""predict.py on films: rows of frames and of people, resuming, broken films, and the annotated film."""

import shutil
from pathlib import Path

import pytest
from PIL import Image, ImageFilter

import predict
from hub.loading import load_pipeline
from photos.film_table import FILM_COLUMNS, PEOPLE_COLUMNS
from photos.films import read_frames
from photos.table_parts import FACE_COLUMNS
from tests.support.films import write_film
from tests.support.picture_sources import write_folder
from tests.support.predictions import list_unreadable, make_command, read_rows, run_killed
from tests.support.processes import run_here
from tests.support.training import ROOT


pytestmark = pytest.mark.usefixtures("datasets_cache", "fresh_accelerate_state")


@pytest.fixture(scope="module")
def film(tmp_path_factory, photo) -> Path:
    """Seven frames in 1.4 seconds: a face that moves to the right and is covered in one frame."""
    small, frames = photo.crop((80, 0, 368, 256)), []
    for number in range(7):
        frame = Image.new("RGB", (352, 256), "gray")
        frame.paste(small, (8 * number, 0))
        if number == 3:
            frame.paste("gray", (0, 0, 352, 200))
        frames.append(frame)
    return write_film(tmp_path_factory.mktemp("film") / "film.mp4", frames)


# Where the portraits are in the first and in the last frame: left, top and height in pixels. Later ones cover earlier ones.
PATHS = {
    "mae-jemison": ((60, 390, 160), (60, 390, 320)),  # comes nearer
    "frederick-gregory": ((900, 440, 269), (980, 440, 269)),  # at times blurred
    "kjell-lindgren": ((980, 20, 321), (40, 20, 321)),
    "jeanette-epps": ((20, 0, 380), (880, 0, 380)),  # crosses the one before
}


def cut_head(photo: Image.Image, box: dict) -> Image.Image:
    """Returns the part of a photo that is at most twice as wide and high as the box of a face, about its middle."""
    width, height = box["xmax"] - box["xmin"], box["ymax"] - box["ymin"]
    left, top = max(0, box["xmin"] - width // 2), max(0, box["ymin"] - height // 2)
    return photo.crop(
        (left, top, min(photo.width, box["xmax"] + width // 2), min(photo.height, box["ymax"] + height // 2))
    )


def film_portraits(file: Path, heads: dict[str, Image.Image], count: int = 25) -> Path:
    """Writes a film in which portraits move as in `PATHS`."""
    frames = [Image.new("RGB", (1280, 720), "gray") for _ in range(count)]
    for number, frame in enumerate(frames):
        for name, (start, end) in PATHS.items():
            left, top, height = (round(a + (b - a) * number / (count - 1)) for a, b in zip(start, end))
            head = heads[name].resize((heads[name].width * height // heads[name].height, height), reducing_gap=2.0)
            is_blurred = name == "frederick-gregory" and number % 4 == 0
            frame.paste(head.filter(ImageFilter.GaussianBlur(2)) if is_blurred else head, (left, top))
    return write_film(file, frames)


@pytest.fixture
def run(model_folder, tmp_path):
    """Calls main() as the command line does; returns the rows of faces and of people."""

    def run(data_dir: Path | str, *words: str, kind: str = "parquet") -> tuple[list[dict], list[dict]]:
        file = tmp_path / f"faces.{kind}"
        run_here("predict", make_command(model_folder, str(data_dir), file, *words)[1:])
        return [read_rows(path) for path in (file, tmp_path / f"faces.people.{kind}")]

    return run


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_film_gives_rows_of_frames_and_of_people(run, film, estimator, capsys, kind):
    rows, people = run(film, kind=kind)
    assert list(rows[0]) == [*FACE_COLUMNS, *FILM_COLUMNS] and list(people[0]) == list(PEOPLE_COLUMNS)
    assert [row["time"] for row in rows] == [0, 0.2, 0.4, 0.8, 1.0, 1.2]
    assert {(row["file"].split("/")[-1], row["face"], row["track"]) for row in rows} == {("film.mp4", 1, 1)}
    frame = next(read_frames(film, 5)).picture
    [face] = estimator(frame)
    assert rows[0]["age"] == pytest.approx(face["age"], abs=0.11) and rows[0]["smoothed_age"] == rows[0]["age"]
    mean = sum(row["age"] for row in rows) / len(rows)
    assert rows[-1]["smoothed_age"] == pytest.approx(mean, abs=0.2)  # the first frames have equal weights
    [person] = people
    assert (person["track"], person["frames"], person["time_from"], person["time_to"]) == (1, 6, 0, 1.2)
    assert min(row["age"] for row in rows) - 1 <= person["age"] <= max(row["age"] for row in rows) + 1
    printed = capsys.readouterr().out
    assert "7 images: 6 faces, 1 without one, 0 unreadable." in printed and "1 film: 1 person (see " in printed


def test_films_and_photos_of_a_folder_share_a_table(run, film, pictures, tmp_path, capsys):
    folder = Path(write_folder(tmp_path / "mixed", {"b.jpg": pictures["sub/1.jpg"]}))
    shutil.copy(film, folder / "a.mp4")
    shutil.copy(film, folder / "c.mp4")
    (folder / "broken.mov").write_bytes(film.read_bytes()[:3000])
    rows, people = run(folder, "--frames_per_second", "2.5", "--age_thresholds", "18", "60", "18")
    assert [(row["file"], row["time"], row["track"]) for row in rows] == [
        *(("a.mp4", time, 1) for time in (0, 0.4, 0.8, 1.2)),
        ("b.jpg", None, None),
        *(("c.mp4", time, 1) for time in (0, 0.4, 0.8, 1.2)),
    ]
    assert all(0 <= row["age_at_least_18"] <= 1 for row in rows)
    assert list(people[0]) == [*PEOPLE_COLUMNS, "age_at_least_18", "age_at_least_60"]
    for person in people:
        found = [row for row in rows if row["file"] == person["file"]]
        for column in ("age_at_least_18", "age_at_least_60"):
            shares = [row[column] for row in found]
            assert min(shares) - 0.05 <= person[column] <= max(shares) + 0.05
    assert [(person["file"], person["frames"]) for person in people] == [("a.mp4", 4), ("c.mp4", 4)]
    assert "no frame of it was found" in list_unreadable(tmp_path)["broken.mov"]
    assert "3 films: 2 people" in capsys.readouterr().out


def test_what_was_read_of_a_film_that_is_cut_off_is_kept(run, film, tmp_path):
    content = write_film(tmp_path / "whole.mkv", [frame.picture for frame in read_frames(film, 5)]).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(content[: 7 * len(content) // 10])
    rows, [person] = run(tmp_path / "cut.mkv")
    assert 2 <= len(rows) == person["frames"] < 6
    [reason] = list_unreadable(tmp_path).values()
    assert "it is cut off or damaged" in reason


def test_interrupted_film_resumes_with_its_tracks(run, film, tmp_path, monkeypatch):
    """A part of two frames is written at once; the person keeps its number and its averages."""
    expected = run(film, "--per_device_eval_batch_size", "1")
    frames = list(read_frames(film, 5))
    wanted = []

    def stop(path, rate, is_wanted):
        for frame in frames[:5]:
            if is_wanted(frame.slot):
                yield frame
        raise KeyboardInterrupt

    words = ("--pictures_per_part", "2", "--per_device_eval_batch_size", "1", "--overwrite")
    for file in tmp_path.glob("faces*"):
        file.unlink()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(predict, "read_frames", stop)
        run(film, *words)
    assert len(list((tmp_path / "faces.parquet.parts").glob("part-*"))) in (1, 2)
    with pytest.raises(ValueError, match="another run .frames_per_second 5.0, now 2.5"):
        run(film, *words, "--frames_per_second", "2.5")

    def record(path, rate, is_wanted):
        wanted.extend(frame.slot for frame in frames if is_wanted(frame.slot))
        return read_frames(path, rate, is_wanted)

    monkeypatch.setattr(predict, "read_frames", record)
    for rows, others in zip(run(film, *words), expected, strict=True):
        for row, other in zip(rows, others, strict=True):
            assert row == pytest.approx(other, abs=0.11)
    assert 0 not in wanted and wanted[-1] == 6


@pytest.mark.slow
def test_film_of_portraits_has_a_row_a_person_with_the_ages_of_the_photos(tmp_path):
    """With the shipped weights. If blurred frames counted as much as the others, one of the men would be three years younger."""
    pipe = load_pipeline(str(ROOT))
    photos = {name: Image.open(ROOT / "assets" / "portraits" / f"{name}.jpg").convert("RGB") for name in PATHS}
    faces = {name: pipe(photo)[0] for name, photo in photos.items()}
    heads = {name: cut_head(photo, faces[name]["box"]) for name, photo in photos.items()}
    film = film_portraits(tmp_path / "film.avi", heads)  # motion JPEG, which keeps most of the photos
    run_here("predict", make_command(ROOT, str(film), tmp_path / "faces.csv")[1:])
    # People are numbered as the faces of the first frame: row by row, each row from left to right.
    names = ["jeanette-epps", "kjell-lindgren", "mae-jemison", "frederick-gregory"]
    for name, person in zip(names, read_rows(tmp_path / "faces.people.csv"), strict=True):
        assert person["age"] == pytest.approx(faces[name]["age"], abs=2), name
        assert person["gender"] == faces[name]["gender"] and person["time_to"] == 4.8


@pytest.mark.processes
def test_kills_leave_no_film_behind(model_folder, film, tmp_path):
    """While the annotated film is drawn, before the people and the film are renamed, and before the parts are deleted."""
    folder, whole = tmp_path / "films", tmp_path / "whole"
    folder.mkdir()
    shutil.copy(film, folder / "film.mp4")
    commands = [
        make_command(model_folder, str(folder), place / "faces.parquet", "--annotated_video", str(place / "all.webm"))
        for place in (folder, whole)
    ]
    run_here("predict", commands[1][1:])
    moments = [("photos.films", "draw_faces", 3), ("os", "fsync", 1), ("os", "fsync", 2), ("shutil", "rmtree", 1)]
    parts = run_killed(moments, folder / "faces.parquet", commands[0])
    assert all(found == parts[0] for found in parts)  # none is written again
    names = {"faces.parquet", "faces.people.parquet", "all.webm"}
    assert {path.name for path in folder.iterdir()} == {"film.mp4", "faces.parquet.parts", *names}
    for name in names - {"all.webm"}:
        rows = [[row | {"file": ""} for row in read_rows(place / name)] for place in (folder, whole)]
        assert rows[0] == rows[1]
    assert [len(list(read_frames(place / "all.webm", 5))) for place in (folder, whole)] == [7, 7]


def test_people_that_exist_are_replaced_only_when_asked(run, film, tmp_path):
    people = tmp_path / "faces.people.csv"
    people.write_text("mine")
    with pytest.raises(
        ValueError, match="people.csv already exists: choose another --output, or replace it with --overw"
    ):
        run(film, kind="csv")
    assert people.read_text() == "mine" and not (tmp_path / "faces.csv.parts").exists()
    _, [person] = run(film, "--overwrite", kind="csv")
    assert person["frames"] == 6


def test_annotated_film_is_written(run, film, tmp_path, capsys):
    output = tmp_path / "annotated.webm"
    run(film, "--annotated_video", str(output))
    frames = list(read_frames(output, 5))
    assert [round(frame.time, 1) for frame in frames] == [0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2]
    assert not list(tmp_path.glob("*.partial*"))
    assert " 7/7 " in capsys.readouterr().err.partition("Annotating: 100%")[2]
    with pytest.raises(SystemExit):
        run(film, "--annotated_video", str(output))


def test_annotated_film_needs_one_film(run, film, folder, tmp_path):
    with pytest.raises(ValueError, match="needs one film, but --data_dir holds 0"):
        run(folder, "--annotated_video", str(tmp_path / "annotated.mp4"))
    with pytest.raises(SystemExit):
        run(film, "--annotated_video", str(tmp_path / "annotated.gif"))
