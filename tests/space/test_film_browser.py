"""The tab for a film in a real browser, and its endpoint, with the shipped weights."""

import re
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from photos.films import NOT_A_FILM, read_frames
from tests.support.browser import ASTRONAUT, open_page, open_tab, upload
from tests.support.films import write_film


READY = "document.querySelector('#film video')?.readyState >= 2"


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    """A film of the astronaut, who trembles: one second."""
    photo, frames = Image.open(ASTRONAUT).convert("RGB"), []
    for number in range(5):
        frames.append(Image.new("RGB", (480, 400), "gray"))
        frames[-1].paste(photo.resize((400, 400)), (40 + 4 * number, 0))
    return write_film(tmp_path_factory.mktemp("astronaut") / "film.mp4", frames)


@pytest.mark.slow
def test_endpoint_returns_film_people_and_frames(client: Client, film, tmp_path):
    annotated, [person], frames = client.predict(handle_file(film), api_name="/predict_video")
    assert "age_at_least" not in person
    assert 20 <= person["age"] <= 60 and person["gender"] == "female" and person["frames"] == 5
    assert [len(frame["faces"]) for frame in frames] == [1] * 5
    assert len(list(read_frames(annotated, 5))) == 5
    _, [asked], frames = client.predict(handle_file(film), [18, 60], api_name="/predict_video")
    at_least = asked.pop("age_at_least")
    assert asked == person and list(at_least) == ["18", "60"] and at_least["18"] > 0.5 > at_least["60"]
    assert frames[0]["faces"][0]["age_at_least"]["18"] == pytest.approx(at_least["18"], abs=0.2)
    (tmp_path / "notes.mp4").write_text("dear diary")
    with pytest.raises(AppError, match=re.escape(NOT_A_FILM)):
        client.predict(handle_file(tmp_path / "notes.mp4"), api_name="/predict_video")


@pytest.mark.browser
def test_film_gives_people_and_a_film_that_plays(browser, url, film):
    page = open_page(browser, url, viewport={"width": 1280, "height": 1400})
    open_tab(page, "Film")
    upload(page, film)
    page.locator("#start-film:enabled").click()
    page.get_by_text("1 person was found.").wait_for()
    page.locator("#cancel-film:disabled").wait_for()
    assert re.match(
        r"1\s+\d\d\s+\d\d–\d\d\s+(over )?\d\d %\s+female, ", page.locator("#film tbody tr").inner_text().strip()
    )
    page.wait_for_function(READY)
    assert page.evaluate("document.querySelector('#film video').videoWidth") == 480
    assert page.locator("#film figure svg").is_visible()
    page.close()


@pytest.mark.browser
def test_film_can_be_cancelled(browser, url, film, tmp_path):
    frames = [frame.picture for frame in read_frames(film, 5)]
    page = open_page(browser, url)
    open_tab(page, "Film")
    upload(page, write_film(tmp_path / "long.mp4", frames * 60))
    page.locator("#start-film:enabled").press("Enter")
    page.get_by_text(re.compile(r"^\d+ of 300 frames")).wait_for()
    page.locator("#cancel-film").press("Enter")
    page.get_by_text("Cancelled. The table holds what was done.").wait_for()
    page.close()
