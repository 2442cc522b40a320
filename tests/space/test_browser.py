"""The page as a visitor uses it, in a real browser, with the shipped weights."""

import csv
import json
import re
import zipfile
from pathlib import Path

import pytest
from PIL import Image

import app
from photos.reading import DAMAGED
from photos.wording import describe_probability
from space.inference import ONE_AT_A_TIME
from space.theme import PAGE_DESCRIPTION
from tests.support.browser import (
    ASTRONAUT,
    TAB_MARKS,
    TIMEOUT,
    encode_photo,
    open_page,
    open_tab,
    upload,
)


pytestmark = pytest.mark.browser

COPY = """async (address) => {
  const picture = await (await fetch(address)).blob();
  await navigator.clipboard.write([new ClipboardItem({'image/png': picture})]);
}"""

DROP = """([element, address]) => fetch(address).then((answer) => answer.blob()).then((content) => {
  const data = new DataTransfer();
  data.items.add(new File([content], 'photo.png', {type: 'image/png'}));
  element.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}));
})"""
# Whatever can be pressed or filled in, is in sight and says no name to a screen reader.
NAMELESS = """() => [...document.querySelectorAll('button, a[href]:not(:has(button)), input, textarea, summary')]
  .filter((it) => it.offsetParent !== null)
  .filter((it) => ![it.ariaLabel, it.labels?.[0]?.innerText, it.innerText, it.title, it.querySelector('img')?.alt]
    .some((name) => name?.trim()))
  .map((it) => it.outerHTML.slice(0, 200))"""
DISABLED_CANCEL = "#cancel:disabled"
# The names of the boxes and cards that are lit.
LIT = """() => [...document.querySelectorAll('#answer [data-face]')]
  .filter((it) => getComputedStyle(it).outlineStyle === 'solid')
  .map((it) => it.ariaLabel ?? it.querySelector('.number').innerText)"""


@pytest.fixture
def page(browser, url):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    errors = []
    context.on("weberror", lambda error: errors.append(str(error.error)))
    yield open_page(context, url)
    context.close()
    assert errors == []


def save_link(page, text: str, folder: Path) -> Path:
    with page.expect_download() as download:
        page.get_by_role("link", name=text).click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_uploaded_photo_gets_a_card_and_downloads(page, tmp_path):
    upload(page, ASTRONAUT)
    card = page.locator(".card")
    card.wait_for()
    assert card.count() == 1
    text = card.inner_text()
    age = int(re.search(r"(\d+) years", text).group(1))
    assert 20 <= age <= 60 and "female" in text and "90 % range" in text
    assert page.get_by_text("1 face was found.").is_visible()
    # Beside the photo, below the picture with the boxes and in sight without scrolling.
    place = card.bounding_box()
    assert place["x"] > 640 and place["y"] + place["height"] < 900 and page.evaluate("scrollY") == 0
    rows = list(csv.DictReader(save_link(page, "Save as CSV", tmp_path).open()))
    faces = json.loads(save_link(page, "Save as JSON", tmp_path).read_text())
    assert age == round(faces[0]["age"]) and float(rows[0]["age"]) == round(faces[0]["age"], 1)
    assert len(faces[0]["age_distribution"]) == 101
    with page.expect_download() as download:
        page.get_by_role("link", name="Save as JPEG").click()
    download.value.save_as(tmp_path / "boxes.jpg")
    assert Image.open(tmp_path / "boxes.jpg").size == Image.open(ASTRONAUT).size


def test_slider_chooses_the_age_of_which_the_cards_tell_the_probability(page, tmp_path, monkeypatch):
    upload(page, ASTRONAUT)
    found = page.locator(".card [data-at-least]")
    page.locator(".card").wait_for()
    at_least = json.loads(save_link(page, "Save as JSON", tmp_path).read_text())[0]["age_at_least"]
    assert list(map(int, at_least)) == list(range(101))
    assert found.inner_text() == f"18 or older: {describe_probability(at_least['18'])}"
    monkeypatch.setattr("space.photo_tab.find_faces", lambda *_: pytest.fail("the network runs again"))
    page.get_by_label("Probability of being at least 18 years old").focus()
    for _ in range(7):
        page.keyboard.press("ArrowRight")
    assert found.inner_text() == f"25 or older: {describe_probability(at_least['25'])}"
    monkeypatch.undo()
    # The next photo is read at the same age.
    page.get_by_role("button", name="All four in one picture").click()
    page.locator(".card").nth(3).wait_for()
    assert [text.partition(":")[0] for text in found.all_inner_texts()] == ["25 or older"] * 4
    assert page.get_by_label("Probability of being at least 25 years old").input_value() == "25"


def test_example_starts_with_one_click(page):
    page.get_by_role("button", name="All four in one picture").click()
    page.locator(".card").nth(3).wait_for()
    ages = [int(age.split()[0]) for age in page.locator(".card .age").all_inner_texts()]
    assert len(ages) == 4 and max(ages) == ages[1] > 45 and min(ages) == ages[2] < 36


def test_face_is_lit_in_the_photo_and_in_its_card(page):
    page.get_by_role("button", name="All four in one picture").click()
    page.locator(".card").nth(3).wait_for()
    page.locator(".card").nth(1).hover()
    assert page.evaluate(LIT) == ["Face 2 in the photo", "Face 2"]
    page.mouse.move(0, 0)
    assert page.evaluate(LIT) == []
    page.get_by_role("button", name="Face 3 in the photo").focus()
    assert page.evaluate(LIT) == ["Face 3 in the photo", "Face 3"]
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.className") == "card" and page.evaluate(LIT)[1] == "Face 3"


def test_answer_is_dimmed_while_the_next_photo_is_read_and_goes_with_its_photo(page):
    answer = page.locator("#answer")
    assert answer.is_hidden() and page.locator("#photo").bounding_box()["width"] > 1000
    upload(page, ASTRONAUT)
    page.locator(".card").wait_for()
    with ONE_AT_A_TIME:
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Upload file").click()
        chooser.value.set_files(app.FOLDER / "assets" / "portraits" / "group.jpg")
        for selector in ("#answer .announced", "#answer .html-container"):
            page.wait_for_function("(it) => getComputedStyle(document.querySelector(it)).opacity < 0.5", arg=selector)
    page.locator(".card").nth(3).wait_for()
    page.get_by_role("button", name="Remove Image").click()
    answer.wait_for(state="hidden")


def test_pasted_picture_gets_a_card(browser, url):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.set_default_timeout(TIMEOUT)
    page.goto(url)
    page.get_by_role("button", name="Paste from clipboard").wait_for()
    page.evaluate(COPY, encode_photo(ASTRONAUT, "PNG"))
    page.get_by_role("button", name="Paste from clipboard").click()
    page.locator(".card").wait_for()
    assert page.get_by_text("1 face was found.").is_visible()
    context.close()


def test_dropped_picture_gets_a_card(page):
    target = page.get_by_role("button", name="Drop an image file here to upload").element_handle()
    page.evaluate(DROP, [target, encode_photo(ASTRONAUT, "PNG")])
    page.locator(".card").wait_for()
    assert page.get_by_text("1 face was found.").is_visible()


def test_photo_at_an_address_gets_a_card(page, monkeypatch):
    monkeypatch.setattr("space.inference.fetch", {"https://a.example/b.jpg": ASTRONAUT.read_bytes()}.__getitem__)
    upload(page, app.FOLDER / "assets" / "portraits" / "group.jpg")
    page.locator(".card").nth(3).wait_for()
    page.get_by_label("Address of a photo").fill("https://a.example/b.jpg")
    page.get_by_role("button", name="Open").click()
    page.get_by_text("1 face was found.").wait_for()
    # The photo of the answer before does not stay beside this one.
    page.locator("#photo img").wait_for(state="detached")
    page.wait_for_timeout(1000)
    assert page.locator(".card").count() == 1


def test_photo_in_a_data_address_gets_a_card(page):
    page.get_by_label("Address of a photo").fill(encode_photo(ASTRONAUT, "PNG"))
    page.keyboard.press("Enter")
    page.locator(".card").wait_for()
    assert page.get_by_text("1 face was found.").is_visible()


def test_photo_that_no_browser_shows_leaves_its_sentence_alone(page, tmp_path):
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    upload(page, tmp_path / "phone.heic")
    sentence = page.locator(".prose.announced", has_text=DAMAGED.format("HEIC"))
    sentence.wait_for()
    page.locator("#photo img").wait_for(state="detached")
    page.wait_for_timeout(1000)
    assert sentence.is_visible()
    Image.new("RGB", (64, 64)).save(tmp_path / "scan.tif")
    upload(page, tmp_path / "scan.tif")
    page.get_by_text("No face was found in this photo.").wait_for()
    page.get_by_alt_text("This browser cannot show this file.").wait_for()


def test_keyboard_is_enough(page):
    """From the tab to an example, and from its answer to the file of numbers."""
    page.get_by_role("tab", name="Photo", exact=True).focus()
    press_tab_until(page, "Jeanette Epps")
    page.keyboard.press("Enter")
    page.locator(".card").wait_for()
    found = page.locator(".prose.announced", has_text="1 face was found.")
    assert found.get_attribute("aria-live") == "polite"
    press_tab_until(page, "Save as JSON")
    with page.expect_download():
        page.keyboard.press("Enter")


def press_tab_until(page, text: str):
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText").startswith(text):
            return
    pytest.fail(f"the keyboard does not come to {text}")


def test_everything_has_a_name_and_no_other_site_is_asked(page, url):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    for name in TAB_MARKS:
        open_tab(page, name)
        assert page.evaluate(NAMELESS) == []
    assert [address for address in asked if not address.startswith((url, "data:", "blob:"))] == []
    assert any(address.startswith(url) for address in asked)


def test_the_model_is_shown_in_charts_and_pictures(page):
    open_tab(page, "The model")
    charts = page.locator("[role=tabpanel]:visible .vega-embed svg.marks, [role=tabpanel]:visible .vega-embed canvas")
    charts.nth(1).wait_for()
    assert charts.count() == 2  # the curves
    errors = page.locator("[role=tabpanel]:visible .charts figure > svg")
    assert errors.count() == 4 and all(error.is_visible() for error in errors.all())
    pictures = page.locator("[role=tabpanel]:visible img")
    assert pictures.count() == 3
    for picture in pictures.all():
        picture.scroll_into_view_if_needed()
        page.wait_for_function("picture => picture.naturalWidth > 0", arg=picture.element_handle())
        assert picture.get_attribute("alt")


def test_photo_of_the_camera_gets_a_card(browser, url):
    context = browser.new_context(permissions=["camera"])
    page = context.new_page()
    page.set_default_timeout(TIMEOUT)
    page.goto(url)
    page.get_by_role("button", name="Capture from camera").click()
    page.get_by_text("Click to Access Webcam").click()
    page.get_by_role("button", name="capture photo").click()
    page.locator(".card").wait_for()
    assert page.get_by_text("1 face was found.").is_visible()
    context.close()


def test_forty_faces_are_a_table(page, tmp_path):
    face = Image.open(ASTRONAUT).crop((120, 0, 320, 220))
    crowd = Image.new("RGB", (1600, 1100))
    for index in range(40):
        crowd.paste(face, (index % 8 * 200, index // 8 * 220))
    crowd.save(tmp_path / "crowd.jpg")
    upload(page, tmp_path / "crowd.jpg")
    page.get_by_text("40 faces were found, numbered row by row.").wait_for()
    assert page.locator(".crowd tr").first.evaluate("row => getComputedStyle(row).borderLeftWidth") == "0px"
    assert page.locator(".crowd tbody tr").count() == 40
    assert page.locator(".card").first.is_hidden()
    page.get_by_text("A card for each face").click()
    assert page.locator(".card").first.is_visible() and page.locator(".card").count() == 40


def test_photo_without_a_face_can_be_taken_whole(page, tmp_path):
    Image.new("RGB", (200, 200), "grey").save(tmp_path / "grey.png")
    upload(page, tmp_path / "grey.png")
    button = page.get_by_role("button", name="Treat the whole picture as one face")
    button.wait_for()
    assert page.get_by_text("No face was found in this photo. It helps if").is_visible()
    button.click()
    page.locator(".card").wait_for()
    assert page.locator(".card .number").all_inner_texts() == ["Whole picture"]
    assert page.get_by_text("No face was found, so this is").is_visible()


def test_broken_file_gets_a_sentence(page, tmp_path):
    (tmp_path / "photo.jpg").write_text("<html>dear diary</html>")
    upload(page, tmp_path / "photo.jpg")
    page.get_by_text("This file cannot be read as a picture").first.wait_for()
    assert page.get_by_text("Traceback").count() == 0


def test_refused_address_gets_a_sentence(page):
    page.get_by_label("Address of a photo").fill("http://127.0.0.1:9/a.jpg")
    page.keyboard.press("Enter")
    page.get_by_text("public").first.wait_for()


def test_many_photos_fill_a_table(page, tmp_path):
    (tmp_path / "notes.jpg").write_text("dear diary")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        for index in range(8):
            archive.write(ASTRONAUT, f"{index}.jpg")
    open_tab(page, "Many photos")
    upload(page, tmp_path / "notes.jpg", tmp_path / "more.zip")
    page.locator("#start:enabled").click()
    page.get_by_text("9 pictures: 8 faces, 1 unreadable.").wait_for()
    page.locator(DISABLED_CANCEL).wait_for()
    lines = page.locator(".rows tbody tr")
    assert lines.count() == 9 and "notes.jpg" in lines.first.inner_text() and lines.last.locator("img").is_visible()
    rows = list(csv.DictReader(save_link(page, "Save as CSV", tmp_path).open()))
    share = describe_probability(float(rows[1]["age_at_least_18"]))
    assert page.locator(".rows th").filter(has_text="18 or older").is_visible() and share in lines.last.inner_text()
    assert len(rows) == 9 and sum(row["gender"] == "female" for row in rows) == 8


def test_many_photos_can_be_cancelled(page, tmp_path):
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for index in range(300):
            archive.write(ASTRONAUT, f"{index}.jpg")
    open_tab(page, "Many photos")
    page.locator(DISABLED_CANCEL).wait_for()
    page.locator("#start:disabled").wait_for()  # without files there is nothing to start
    upload(page, tmp_path / "many.zip")
    page.locator("#start:enabled").press("Enter")
    page.get_by_text(re.compile(r"^\d+ of 300 files")).wait_for()
    assert page.locator("progress").is_visible() and page.locator(".progress-text, .progress-level").count() == 0
    page.get_by_role("button", name="Cancel").press("Enter")
    page.get_by_text("Cancelled. The table and its CSV hold what was done.").wait_for()
    page.locator(DISABLED_CANCEL).wait_for()
    # The keyboard goes on from the button beside it, not from the top of the page.
    assert page.evaluate("document.activeElement.innerText").strip() == "Start"
    rows = list(csv.DictReader(save_link(page, "Save as CSV", tmp_path).open()))
    assert 1 <= len(rows) < 300 and all(row["gender"] == "female" for row in rows)
    # The queue is free again.
    open_tab(page, "Photo")
    upload(page, ASTRONAUT)
    page.locator(".card").wait_for()


def test_page_names_itself(page):
    assert page.title() == app.TITLE
    assert page.locator("meta[name=description]").get_attribute("content") == PAGE_DESCRIPTION


def test_api_page_opens_with_python(page):
    page.get_by_role("button", name="Use via API").click()
    page.get_by_text("pip install gradio_client").wait_for()
    assert page.get_by_text('api_name="/predict_url"').first.is_visible()
