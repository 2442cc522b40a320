"""The cards of the page."""

import base64
import json
import re
from xml.etree import ElementTree

import pytest
from PIL import Image

from space.face_cards import CARD_CROP_SIDE, describe_at_least, draw_distribution, find_thresholds, make_answer
from tests.support.models import AT_LEAST, make_config, make_face


pytestmark = pytest.mark.usefixtures("own_folder")

PICTURE = Image.new("RGB", (60, 40))
DISTRIBUTION = [0.0] * 30 + [0.5, 0.25, 0.25] + [0.0] * 68


def make_shown_face(**changes) -> dict:
    face = make_face(0, 0, 9, 9) | {"crop": Image.new("RGB", (200, 200), "red"), "age_distribution": DISTRIBUTION}
    return face | {"age_at_least": AT_LEAST} | changes


def parse(html: str) -> ElementTree.Element:
    """Fails where a tag is not closed."""
    return ElementTree.fromstring(f"<div>{html}</div>")


def test_card_says_age_interval_and_gender():
    [card] = make_answer(PICTURE, [make_shown_face()])["cards"]
    assert [card[key] for key in ("number", "age", "range", "gender")] == [1, 31, "24–43", "female, 98 %"]


def test_card_holds_the_probabilities_of_all_ages_for_the_slider():
    answer = make_answer(PICTURE, [make_shown_face(age_at_least={0: 1.0, 1: 0.996, 2: 0.5, 3: 0.004})])
    assert answer["last_age"] == 3 and answer["cards"][0]["at_least"] == "over 99 %,over 99 %,50 %,under 1 %"


def test_model_without_an_age_tells_no_probability_of_it():
    assert find_thresholds(make_config(num_age_classes=20)) == [13, 16, 18]
    assert describe_at_least(make_shown_face(age_at_least={13: 0.9, 16: 0.8})) == ""
    assert describe_at_least(make_face(0, 0, 9, 9)) == ""


def test_card_is_unsure_near_one_half():
    [card] = make_answer(PICTURE, [make_shown_face(gender_score=0.55)])["cards"]
    assert card["gender"] == "unsure (female, 55 %)"


def test_forty_faces_have_forty_cards_with_their_crops():
    faces = [make_shown_face(crop=Image.new("RGB", (50, 50), (6 * number, 0, 0))) for number in range(40)]
    cards = make_answer(PICTURE, faces)["cards"]
    assert [card["number"] for card in cards] == list(range(1, 41))
    crop = Image.open(cards[39]["crop"]["path"])
    assert crop.size == (CARD_CROP_SIDE, CARD_CROP_SIDE) and abs(crop.getpixel((60, 60))[0] - 234) < 3


@pytest.mark.parametrize("count", [12, 13])
def test_crowd_has_a_table(count):
    assert make_answer(PICTURE, [make_shown_face()] * count)["is_crowd"] is (count > 12)


def test_plot_has_a_bar_a_year_and_colours_the_interval():
    plot = parse(draw_distribution(DISTRIBUTION, 24.0, 42.6)).find("svg")
    bars = plot.findall("rect")
    heights = [float(bar.get("height")) for bar in bars]
    assert len(bars) == 101 and heights[30] == pytest.approx(2 * heights[31]) and max(heights) == heights[30]
    assert [age for age, bar in enumerate(bars) if bar.get("class") == "likely"] == list(range(24, 44))
    assert "24 to 43 years" in plot.get("aria-label")
    assert [tick.text for tick in plot.findall("text")] == ["0", "20", "40", "60", "80", "100+"]


def test_links_save_the_numbers_without_the_crops():
    links = make_answer(PICTURE, [make_shown_face(), make_shown_face(age=50.0)])["links"]
    saved = {
        name: base64.b64decode(content).decode()
        for name, content in re.findall(r"download='([^']+)' href='data:[^;]+;base64,([^']+)'", links)
    }
    assert saved["faces.csv"].count("\n") == 3
    header, row, _ = (line.split(",") for line in saved["faces.csv"].splitlines())
    assert header[-5:] == [f"age_at_least_{age}" for age in (13, 16, 18, 21, 25)]
    assert row[-5:] == [str(round(AT_LEAST[age], 4)) for age in (13, 16, 18, 21, 25)]
    numbers = json.loads(saved["faces.json"])
    assert [face["age"] for face in numbers] == [31.4, 50.0] and "crop" not in numbers[0]
    assert numbers[0]["age_distribution"] == DISTRIBUTION


def test_box_lies_where_the_face_is_in_the_file():
    picture = PICTURE.copy()
    picture.info["reduction"] = 2  # of a file of 120 x 80 pixels
    [card] = make_answer(picture, [make_shown_face(box={"xmin": 12, "ymin": 20, "xmax": 60, "ymax": 72})])["cards"]
    assert card["place"] == "left: 10.00%; top: 25.00%; right: 50.00%; bottom: 10.00%"


def test_no_face_has_a_picture_and_nothing_to_save():
    answer = make_answer(PICTURE, [])
    assert Image.open(answer["picture"]["path"]).size == PICTURE.size
    assert answer["cards"] == [] and answer["links"] == ""
