"""The page as a visitor uses it, in a real browser, with the shipped weights."""

import base64
import csv
import io
import json
import re
import zipfile
from pathlib import Path

import pytest
from PIL import Image

import app
from browser import CAMERA, open_browser, write_camera


ASTRONAUT = app.FOLDER / "assets" / "astronaut.jpg"
TIMEOUT = 60_000  # milliseconds
# What stands in a tab and in no other.
TAB_MARKS = {"Photo": "Address of a photo", "Many photos": "Up to 1,000 photos at once."}
PHONE = {"width": 390, "height": 844}
COPY = """async (address) => {
  const picture = await (await fetch(address)).blob();
  await navigator.clipboard.write([new ClipboardItem({'image/png': picture})]);
}"""


@pytest.fixture(scope="module")
def url():
    pipe = app.load_pipeline(str(app.FOLDER))
    demo = app.build_demo(pipe)
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, **app.launch_options(pipe))
    yield address
    demo.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium with a camera before which a photo trembles."""
    film = write_camera(tmp_path_factory.mktemp("camera") / "camera.mjpeg", Image.open(ASTRONAUT))
    with open_browser(*CAMERA, film) as chromium:
        yield chromium


@pytest.fixture
def page(browser, url):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(TIMEOUT)
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    page.get_by_role("tab", name="Photo", exact=True).wait_for()
    yield page
    page.close()
    assert errors == []


def open_tab(page, name: str):
    """Opens a tab and waits until it is the one that is shown, since each has an input for files."""
    page.get_by_role("tab", name=name, exact=True).click()
    page.locator("[role=tabpanel]:visible").filter(has_text=TAB_MARKS[name]).wait_for()


def upload(page, *paths: Path):
    """Into the input of the tab that is shown."""
    page.locator("[role=tabpanel]:visible input[type=file]").first.set_input_files([str(path) for path in paths])


def wait_for_file(page, stem: str):
    """Until an uploaded archive is listed; gradio writes stem and suffix of its name apart."""
    page.locator(".file-preview tr").filter(has_text=re.compile(rf"{stem}\s*\.zip")).wait_for()


def as_png_address(path: Path) -> str:
    """A picture as a data: address of a PNG, the kind that a clipboard takes."""
    buffer = io.BytesIO()
    Image.open(path).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


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
    assert 20 <= age <= 60 and "female" in text and "nine times of ten" in text
    assert page.get_by_text("1 face was found.").is_visible()
    rows = list(csv.DictReader(save_link(page, "Save as CSV", tmp_path).open()))
    faces = json.loads(save_link(page, "Save as JSON", tmp_path).read_text())
    assert round(float(rows[0]["age"])) == age == round(faces[0]["age"])
    assert len(faces[0]["age_distribution"]) == 101
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").first.click()
    download.value.save_as(tmp_path / "boxes.jpg")
    assert Image.open(tmp_path / "boxes.jpg").size == Image.open(ASTRONAUT).size


def test_example_starts_with_one_click(page):
    page.get_by_text("Both portraits side by side (a collage)").click()
    page.locator(".card").nth(1).wait_for()
    ages = [int(age.split()[0]) for age in page.locator(".card .age").all_inner_texts()]
    assert len(ages) == 2 and ages[0] > 65 > 45 > ages[1]


def test_pasted_picture_gets_a_card(browser, url):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.set_default_timeout(TIMEOUT)
    page.goto(url)
    page.get_by_role("button", name="Paste from clipboard").wait_for()
    page.evaluate(COPY, as_png_address(ASTRONAUT))
    page.get_by_role("button", name="Paste from clipboard").click()
    page.locator(".card").wait_for()
    assert page.get_by_text("1 face was found.").is_visible()
    context.close()


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
    page.get_by_text("40 faces were found, numbered from left to right.").wait_for()
    assert page.locator(".crowd tbody tr").count() == 40
    assert page.locator(".card").first.is_hidden()
    page.get_by_text("A card for each face").click()
    assert page.locator(".card").first.is_visible() and page.locator(".card").count() == 40


def test_photo_without_a_face_can_be_taken_whole(page, tmp_path):
    Image.new("RGB", (200, 200), "grey").save(tmp_path / "grey.png")
    upload(page, tmp_path / "grey.png")
    button = page.get_by_role("button", name="Treat the whole picture as one face")
    button.wait_for()
    assert page.get_by_text("No face was found in this photo.").is_visible()
    button.click()
    page.locator(".card").wait_for()
    assert page.locator(".card").count() == 1


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
        for index in range(20):
            archive.write(ASTRONAUT, f"{index}.jpg")
    open_tab(page, "Many photos")
    upload(page, tmp_path / "notes.jpg", tmp_path / "more.zip")
    wait_for_file(page, "more")
    page.get_by_role("button", name="Start").click()
    page.get_by_text("21 files, 20 faces, 1 could not be read.").wait_for()
    rows = list(csv.DictReader(save_link(page, "Save as CSV", tmp_path).open()))
    assert len(rows) == 21 and sum(row["gender"] == "female" for row in rows) == 20


def test_many_photos_can_be_cancelled(page, tmp_path):
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for index in range(900):
            archive.write(ASTRONAUT, f"{index}.jpg")
    open_tab(page, "Many photos")
    upload(page, tmp_path / "many.zip")
    wait_for_file(page, "many")
    page.get_by_role("button", name="Start").click()
    page.get_by_text(re.compile(r"^\d+ of 900 files$")).wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("Cancelled.").wait_for()
    # The queue is free again.
    open_tab(page, "Photo")
    upload(page, ASTRONAUT)
    page.locator(".card").wait_for()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_phone_needs_no_sideways_scrolling(browser, url, theme):
    page = browser.new_page(viewport=PHONE)
    page.set_default_timeout(TIMEOUT)
    page.goto(f"{url}?__theme={theme}")
    page.get_by_role("tab", name="Photo", exact=True).wait_for()
    upload(page, ASTRONAUT)
    page.locator(".card").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    colour, background = page.locator(".card").evaluate(
        "card => [getComputedStyle(card).color, getComputedStyle(card).backgroundColor]"
    )
    brightness = [sum(int(value) for value in re.findall(r"\d+", text)[:3]) for text in (colour, background)]
    assert abs(brightness[0] - brightness[1]) > 300 and (brightness[0] > brightness[1]) == (theme == "dark")
    page.close()


def test_page_names_itself(page, url):
    assert page.title() == app.TITLE
    assert page.locator("meta[property='og:description']").first.get_attribute("content") == app.DESCRIPTION
    assert page.request.get(f"{url}favicon.ico").body() == (app.FOLDER / "assets" / "favicon.png").read_bytes()
