"""The tab for a film: its people while it works and at the end, and sentences for what cannot be read."""

import base64

import gradio as gr
import pytest
from PIL import Image

from photos.films import NOT_A_FILM, read_frames
from space import film_tab
from space.film_tab import answer_film, draw_ages, fill_tab, format_time
from tests.support.films import write_film
from tests.support.models import FixedFaces, make_face


PIPE = FixedFaces(make_face(10, 20, 50, 60), make_face(90, 20, 130, 60))


@pytest.fixture
def upload(own_folder) -> dict:
    """An upload of ten frames in two seconds."""
    return {"path": str(write_film(own_folder / "film.mp4", [Image.new("RGB", (160, 96), "gray")] * 10))}


def test_people_come_with_a_crop_a_film_and_a_chart(upload, own_folder):
    sentence, answer = list(fill_tab(PIPE, upload))[-1]
    assert sentence == "2 people were found."
    first, second = answer["people"]
    assert (first["number"], second["number"]) == (1, 2)
    assert [first[name] for name in ("gender", "time")] == ["female, 98 %", "0:00–0:01"] and first["age"].isdigit()
    assert first["at_least"] == "82 %"  # a hundred ages are alike
    assert base64.b64decode(first["image"].removeprefix("data:image/webp;base64,"))
    assert answer["chart"].startswith("<svg") and "person 2" in answer["chart"]
    file = answer["film"]["path"]
    assert file.startswith(str(own_folder))  # where it is deleted as uploads are
    assert [round(frame.time, 1) for frame in read_frames(file, 5)] == [slot / 5 for slot in range(10)]


def test_people_are_shown_while_it_works(upload, monkeypatch):
    monkeypatch.setattr(film_tab, "SECONDS_BETWEEN_UPDATES", 0.0)
    updates = list(fill_tab(PIPE, upload))
    assert updates[0][0].startswith("1 of 10 frames <progress value='1' max='10'>")
    assert [len(answer["people"]) for _, answer in updates] == [0, 0, *[2] * 9]  # of three frames and more
    assert "film" not in updates[-2][1] and "film" in updates[-1][1]


def test_film_that_does_not_tell_its_length_shows_no_wrong_one(upload, monkeypatch):
    monkeypatch.setattr(film_tab, "SECONDS_BETWEEN_UPDATES", 0.0)
    monkeypatch.setattr(film_tab, "count_slots", lambda *_: 1)
    assert list(fill_tab(PIPE, upload))[6][0].startswith("7 of 7 frames")


def test_faces_of_few_frames_are_no_people(own_folder):
    film = write_film(own_folder / "film.mp4", [Image.new("RGB", (160, 96), "gray")] * 2)
    sentence, answer = list(fill_tab(PIPE, {"path": str(film)}))[-1]
    assert sentence == film_tab.NOBODY and answer["people"] == [] and answer["chart"] == ""


def test_long_film_is_read_to_its_limit(upload, monkeypatch):
    monkeypatch.setattr(film_tab, "MAX_SECONDS", 1)
    sentence, answer = list(fill_tab(PIPE, upload))[-1]
    assert sentence == f"2 people were found. {film_tab.TOO_LONG}"
    assert len(list(read_frames(answer["film"]["path"], 5))) in (5, 6)


def test_film_that_is_cut_off_is_read_to_its_end(own_folder):
    whole = write_film(own_folder / "whole.mkv", [Image.new("RGB", (160, 96), "gray")] * 20)
    (own_folder / "film.mkv").write_bytes(whole.read_bytes()[: 8 * whole.stat().st_size // 10])
    sentence, answer = list(fill_tab(PIPE, {"path": str(own_folder / "film.mkv")}))[-1]
    assert sentence.startswith("2 people were found. The pictures of this film end after ")
    assert answer["film"] and len(answer["people"]) == 2


def test_what_is_no_film_gets_a_sentence(own_folder):
    (own_folder / "notes.mp4").write_text("dear diary")
    for upload, sentence in (
        ({"path": str(own_folder / "notes.mp4")}, NOT_A_FILM),
        ({"path": "/etc/passwd"}, film_tab.NO_FILM),
        (None, film_tab.NO_FILM),
    ):
        with pytest.raises(gr.Error) as caught:
            next(fill_tab(PIPE, upload))
        assert caught.value.message == sentence


def test_programs_get_people_and_frames(upload):
    file, people, frames = answer_film(PIPE, upload)
    assert file.endswith(".webm") and [frame["time"] for frame in frames] == [slot / 5 for slot in range(10)]
    assert set(frames[0]["faces"][0]) == {*make_face(0, 0, 9, 9), "track", "age_at_least"}
    names = {"track", "time_from", "time_to", "frames", "age", "age_interval", "gender", "gender_score"}
    assert [(set(person), person["frames"]) for person in people] == [(names, 10)] * 2


def test_programs_get_the_probabilities_that_they_ask_for(upload):
    _, people, frames = answer_film(PIPE, upload, [18, 25])
    assert [list(person["age_at_least"]) for person in people] == [["18", "25"]] * 2
    assert all(isinstance(age, str) for age in frames[0]["faces"][0]["age_at_least"])
    assert PIPE.options["age_thresholds"] == [18, 25]


def test_chart_leaves_a_gap_where_a_person_is_away():
    people = [{"track": 1, "frames": 4}]
    frames = [{"time": time, "faces": [{"track": 1, "age": 30}] * (time != 2)} for time in range(5)]
    assert "Age over time" in draw_ages(people, frames) and draw_ages([], frames) == ""
    assert format_time(65.7) == "1:05"
