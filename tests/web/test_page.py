"""The page without a server as a visitor uses it."""

import csv
import json
import re
import shutil
import struct
import time
import zipfile
import zlib
from pathlib import Path

import pytest
from PIL import Image

from files.pictures import PhotoError
from photos.face_table import make_face_rows, to_csv
from photos.reading import DAMAGED, NOT_A_PICTURE, read_picture
from photos.wording import describe_probability
from space.face_cards import CSV_COLUMNS
from tests.support.browser import ASTRONAUT, COUNT_FRAMES, open_camera
from tests.support.web_page import KEEP, PLACE, encode, estimate, open_ready, serve


pytestmark = pytest.mark.browser

PHONE = {"width": 390, "height": 844}
RECORD_PROGRESS = """addEventListener('DOMContentLoaded', () => {
  window.progress = [];
  const loading = document.getElementById('loading');
  new MutationObserver(() => progress.push(loading.innerText)).observe(loading, {subtree: true, childList: true});
});"""
SEND = "(url) => fetch(url, {method: 'POST', mode: 'no-cors', body: 'photo'}).then(() => 'sent', () => 'refused')"
DROP = """async ([names, content]) => {
  const transfer = new DataTransfer();
  for (const name of names) transfer.items.add(new File([Uint8Array.from(content)], name, {type: 'image/jpeg'}));
  const event = new DragEvent('drop', {dataTransfer: transfer, bubbles: true, cancelable: true});
  return document.querySelector('h1').dispatchEvent(event); // false: the browser does not open the file itself
}"""
# The worker meets an error that it does not catch, as when its memory is full.
BREAK_WORKER = "() => { onmessage = () => { throw new Error('out of memory'); }; }"
CATCH = """async (content) => {
  const bytes = Uint8Array.from(content, (character) => character.charCodeAt(0));
  return ageGender.estimate(new Blob([bytes])).catch((error) => error.message);
}"""
FACE_COUNT = "1 face was found."


@pytest.fixture
def page(browser, site):
    """A page of its own in a new window."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    errors = []
    context.on("weberror", lambda error: errors.append(str(error.error)))
    yield open_ready(context, site.url)
    context.close()
    assert errors == []


def is_outside(address: str, site) -> bool:
    return not address.startswith((site.url, "blob:", "data:"))


def wait_until(page, expression: str):
    """As `wait_for_function`, which the page's security policy refuses."""
    end = time.monotonic() + 60
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(100)


def choose(page, path: Path | str):
    page.locator("#photo-file").set_input_files(str(path))


def save_link(page, text: str, folder: Path) -> Path:
    with page.expect_download() as download:
        page.locator("[role=tabpanel]:visible").get_by_role("link", name=text).click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_not_one_request_leaves_while_it_works(browser, site):
    context, asked = browser.new_context(), []
    context.on("request", lambda request: asked.append(request.url))
    page = open_ready(context, site.url)
    assert len(asked) > 20 and [address for address in asked if is_outside(address, site)] == []
    asked.clear()
    site.asked.clear()
    assert len(estimate(page, ASTRONAUT.read_bytes())) == 1
    choose(page, ASTRONAUT)
    page.locator(".card").wait_for()
    assert [address for address in asked if not address.startswith(("blob:", "data:"))] == []
    # Once after a page is loaded, Chromium itself looks for a new version of its service worker.
    assert [path for path in site.asked if path != f"/{PLACE}service_worker.js"] == []
    context.close()


def test_browser_refuses_to_send_anything_to_another_site(page, browser, site, root):
    (worker,), without_policy = page.workers, browser.new_page()
    without_policy.goto(f"{site.url}page.css")
    with serve(root) as other:
        assert without_policy.evaluate(SEND, other.url) == "sent"
        other.asked.clear()
        assert [place.evaluate(SEND, other.url) for place in (page, worker)] == ["refused", "refused"]
        assert other.asked == []
    without_policy.close()


def test_works_offline_once_loaded(browser, root):
    context = browser.new_context()
    with serve(root) as server:
        page = open_ready(context, server.url)
        page.evaluate(KEEP)
        faces = estimate(page, ASTRONAUT.read_bytes())
    for address in (server.url, f"{server.url}index.html"):
        page.goto(address)
        page.evaluate("ageGender.ready")
        assert estimate(page, ASTRONAUT.read_bytes()) == faces
        page.get_by_role("button", name="All four in one picture").click()
        page.get_by_text("4 faces were found").wait_for()
    context.close()


def test_new_version_works_offline_once_it_is_shown(browser, root, tmp_path):
    """Also if its model is another one, which the browser has not loaded for a page yet."""
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    context = browser.new_context()
    with serve(tmp_path) as server:
        page = open_ready(context, server.url)
        page.evaluate(KEEP)
        for name in ("settings.js", "service_worker.js"):
            file = tmp_path / PLACE / name
            text = re.sub(r"model\.onnx\?\w+", "model.onnx?new", file.read_text(encoding="utf-8"))
            file.write_text(re.sub(r'(?<=VERSION = ")\w+', "new", text), encoding="utf-8")
        page.evaluate("navigator.serviceWorker.ready.then((registration) => registration.update()).then(() => {})")
        wait_until(page, "navigator.serviceWorker.ready.then(({waiting}) => Boolean(waiting))")
        page.close()
    page = open_ready(context, server.url)
    wait_until(page, "import('./settings.js').then(({large}) => large['model.onnx'].address === 'model.onnx?new')")
    assert len(estimate(page, ASTRONAUT.read_bytes())) == 1
    context.close()


def test_photo_after_one_at_which_the_worker_died_is_answered(browser, site):
    page = open_ready(browser, site.url)
    page.workers[0].evaluate(BREAK_WORKER)
    choose(page, ASTRONAUT)
    page.locator("#summary", has_text="The work on this photo broke off").wait_for()
    choose(page, ASTRONAUT)
    page.get_by_text(FACE_COUNT).wait_for()
    page.close()


def test_progress_is_shown_while_the_networks_load(browser, site):
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script(RECORD_PROGRESS)
    page.goto(site.url)
    page.evaluate("ageGender.ready")
    texts = [re.search(r"(\d+) of (\d+) MB", text) for text in page.evaluate("progress")]
    done = [int(text[1]) for text in texts if text]
    assert len(set(done)) > 5 and done == sorted(done) and done[-1] == int(texts[-1][2]) > 10
    page.locator("#loading").wait_for(state="hidden")
    context.close()


def test_model_that_is_missing_gets_a_sentence(browser, root, tmp_path):
    (tmp_path / PLACE).mkdir(parents=True)
    for path in (root / PLACE).rglob("*"):
        target = tmp_path / path.relative_to(root)
        if path.is_dir():
            target.mkdir()
        elif path.name != "model.onnx":
            target.symlink_to(path)
    with serve(tmp_path) as server:
        page = browser.new_context(permissions=["camera"]).new_page()
        page.goto(server.url)
        page.get_by_text("The model cannot be loaded: open this page again when you are online.").wait_for()
        choose(page, ASTRONAUT)
        page.locator("#summary", has_text="The model cannot be loaded").wait_for()
        page.get_by_role("tab", name="Live").click()
        page.get_by_role("button", name="Switch on the camera").click()
        page.locator("#live [role=status]", has_text="The model cannot be loaded").wait_for()
        page.context.close()


def test_example_that_is_missing_gets_a_sentence(browser, site):
    context = browser.new_context(service_workers="block")
    page = open_ready(context, site.url)
    page.route("**/examples/*", lambda route: route.abort())
    page.get_by_role("button", name="Eileen Collins").click()
    page.locator("#summary", has_text="This example cannot be loaded").wait_for()
    context.close()


def test_photo_gets_a_card_and_downloads(page, tmp_path):
    choose(page, ASTRONAUT)
    page.get_by_text(FACE_COUNT).wait_for()
    (text,) = page.locator(".card").all_inner_texts()
    faces = json.loads(save_link(page, "Save as JSON", tmp_path).read_text())
    assert f"{faces[0]['age']:.0f} years" in text and "90 % range" in text and faces[0]["gender"] in text
    assert len(faces[0]["age_distribution"]) == 101 and page.locator(".card svg rect").count() == 101
    found = page.locator(".card [data-at-least]")
    assert found.inner_text() == f"18 or older: {describe_probability(faces[0]['age_at_least']['18'])}"
    page.get_by_label("Probability of being at least 18 years old").press("ArrowRight")
    assert found.inner_text() == f"19 or older: {describe_probability(faces[0]['age_at_least']['19'])}"
    table = save_link(page, "Save as CSV", tmp_path).read_text()
    faces[0]["age_interval"] = [float(age) for age in faces[0]["age_interval"]]  # JSON has one kind of number
    assert table == to_csv(make_face_rows("photo", faces), CSV_COLUMNS)
    picture = Image.open(save_link(page, "Save as JPEG", tmp_path))
    assert picture.size == Image.open(ASTRONAUT).size
    box = faces[0]["box"]
    red, _, blue = picture.getpixel((box["xmin"], (box["ymin"] + box["ymax"]) // 2))
    assert blue > red + 40  # without the line, red is more
    # The box and the card of a face are lit together, and the box leads to the card.
    page.get_by_role("button", name="Face 1 in the photo").click()
    assert page.evaluate("document.activeElement.className") == "card"
    page.get_by_role("button", name="Remove the photo").click()
    page.locator("#answer").wait_for(state="hidden")


def test_photo_without_a_face_can_be_taken_whole(page, tmp_path):
    Image.new("RGB", (200, 200), "grey").save(tmp_path / "grey.png")
    choose(page, tmp_path / "grey.png")
    page.get_by_text("No face was found in this photo. It helps if").wait_for()
    page.get_by_role("button", name="Treat the whole picture as one face").click()
    page.get_by_text("No face was found, so this is").wait_for()
    assert page.locator(".card .number").all_inner_texts() == ["Whole picture"]
    choose(page, ASTRONAUT)
    page.get_by_text(FACE_COUNT).wait_for()
    assert page.get_by_role("button", name="Treat the whole").is_hidden()


def test_file_that_is_no_picture_gets_a_sentence(page, tmp_path):
    choose(page, ASTRONAUT)
    page.locator(".card").wait_for()
    (tmp_path / "photo.jpg").write_text("<html>dear diary</html>")
    choose(page, tmp_path / "photo.jpg")
    page.locator("#summary", has_text=NOT_A_PICTURE).wait_for()
    assert page.locator(".card").count() == 0 and page.locator("#preview").is_hidden()


def make_wide_png(side: int = 20_000) -> bytes:
    """A PNG of 400 million pixels in 50 kB."""
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes((side // 8 + 1) * side))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


FILES = {
    "empty": lambda: b"",
    "text": lambda: b"dear diary",
    "PDF": lambda: b"%PDF-1.7 dear diary",
    "SVG": lambda: b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
    "video": lambda: b"\0\0\0\x18ftypmp42" + bytes(100),
    "archive": lambda: b"PK\x03\x04" + bytes(100),
    "too large": make_wide_png,
}


@pytest.mark.parametrize("kind", FILES)
def test_sentences_are_those_of_the_other_page(ready_page, kind):
    content = FILES[kind]()
    with pytest.raises(PhotoError) as error:
        read_picture(content)
    assert ready_page.evaluate(CATCH, content.decode("latin-1")) == str(error.value)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_cut_off_picture_gets_a_sentence(ready_page, photo, format, share):
    content = encode(photo, format)
    sentence = ready_page.evaluate(CATCH, content[: int(share * len(content))].decode("latin-1"))
    assert sentence == DAMAGED.format(format.replace("WEBP", "WebP"))


def test_many_photos_fill_a_table(page, tmp_path):
    (tmp_path / "=notes.jpg").write_text("dear diary")
    Image.new("RGB", (200, 100), "grey").save(tmp_path / "grey.png")
    with zipfile.ZipFile(tmp_path / "more.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("read me.txt", "hello")
        archive.writestr("__MACOSX/._a.jpg", "")
        for name in ("a.jpg", "folder/b.jpg", "no_suffix"):
            archive.write(ASTRONAUT, name)
    page.get_by_role("tab", name="Many photos").click()
    page.locator("#files").set_input_files([tmp_path / name for name in ("=notes.jpg", "more.zip", "grey.png")])
    page.get_by_role("button", name="Start").click()
    page.get_by_text("5 pictures: 3 faces, 1 without one, 1 unreadable.").wait_for()
    lines = page.locator(".rows tbody tr").all_inner_texts()
    assert len(lines) == 6 and NOT_A_PICTURE in lines[0] and "No face was found." in lines[2]
    assert "1 other file was passed over, such as read me.txt." in lines[1]
    rows = list(csv.DictReader(save_link(page, "Save as CSV", tmp_path).open(encoding="utf-8")))
    assert [row["file"] for row in rows] == [
        "'=notes.jpg",
        "a.jpg",
        "folder/b.jpg",
        "no_suffix",
        "more.zip",
        "grey.png",
    ]
    share = describe_probability(float(rows[1]["age_at_least_18"]))
    assert page.locator(".rows th").filter(has_text="18 or older").is_visible() and share in lines[3]
    assert rows[1]["age"] == rows[3]["age"] != "" and rows[0]["error"] == NOT_A_PICTURE


def test_files_that_are_dropped_or_pasted_go_to_the_tab_that_is_open(page):
    content = list(ASTRONAUT.read_bytes())
    assert page.evaluate(DROP, [["a.jpg"], content]) is False
    page.get_by_text(FACE_COUNT).wait_for()
    page.get_by_role("tab", name="Many photos").click()
    assert page.evaluate(DROP, [["b.jpg", "c.jpg"], content]) is False
    page.get_by_role("button", name="Start").click()
    page.get_by_text("2 pictures: 2 faces.").wait_for()
    page.get_by_role("tab", name="Live").click()
    assert page.evaluate(DROP, [["d.jpg"], content]) is False
    page.evaluate(
        DROP.replace("DragEvent('drop', {dataTransfer", "ClipboardEvent('paste', {clipboardData"), [["e.jpg"], content]
    )
    assert page.evaluate("document.getElementById('files').files.length") == 2


def test_file_that_cannot_be_opened_any_more_gets_a_line(page, tmp_path):
    for name in ("a.jpg", "b.jpg"):
        shutil.copyfile(ASTRONAUT, tmp_path / name)
    page.get_by_role("tab", name="Many photos").click()
    page.locator("#files").set_input_files([tmp_path / "a.jpg", tmp_path / "b.jpg"])
    (tmp_path / "a.jpg").write_bytes(b"another content")
    page.get_by_role("button", name="Start").click()
    page.get_by_text("2 pictures: 1 face, 1 unreadable.").wait_for()
    assert "cannot be opened any more" in page.locator(".rows tbody tr").first.inner_text()


def test_zip64_archive_gets_a_sentence(page, tmp_path):
    page.get_by_role("tab", name="Many photos").click()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(ASTRONAUT, "a.jpg")
        archive.start_dir = 1 << 32
    page.locator("#files").set_input_files(tmp_path / "a.zip")
    page.get_by_role("button", name="Start").click()
    page.get_by_text("This archive is of the kind zip64").wait_for()


def test_many_photos_can_be_cancelled(page, tmp_path):
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for index in range(200):
            archive.write(ASTRONAUT, f"{index}.jpg")
    page.get_by_role("tab", name="Many photos").click()
    assert page.get_by_role("button", name="Start").is_disabled()
    page.locator("#files").set_input_files(tmp_path / "many.zip")
    page.get_by_role("button", name="Start").press("Enter")
    page.get_by_text(re.compile(r"^\d+ of 200 files")).wait_for()
    page.get_by_role("button", name="Cancel").press("Enter")
    page.get_by_text("Cancelled. The table and its CSV hold what was done.").wait_for()
    assert page.evaluate("document.activeElement.innerText") == "Start"
    rows = list(csv.DictReader(save_link(page, "Save as CSV", tmp_path).open(encoding="utf-8")))
    assert 1 <= len(rows) < 200
    page.get_by_role("tab", name="Photo", exact=True).click()
    choose(page, ASTRONAUT)
    page.get_by_text(FACE_COUNT).wait_for()


def test_camera_follows_a_face(browser, site):
    page = open_camera(browser, site.url)
    page.evaluate(COUNT_FRAMES)
    wait_until(page, "frames_seen >= 8")
    assert page.locator("#live .faces").inner_text().startswith("1: about ")
    assert page.locator("#live .faces").inner_text().count("\n") == 0
    page.get_by_role("tab", name="Photo", exact=True).click()
    wait_until(page, "document.querySelector('#live video').srcObject?.active === false")
    page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_phone_needs_no_sideways_scrolling(browser, site, theme, tmp_path):
    context = browser.new_context(viewport=PHONE, color_scheme=theme, is_mobile=True, has_touch=True)
    page = open_ready(context, site.url)
    choose(page, ASTRONAUT)
    page.locator(".card").wait_for()
    wait_until(page, "document.querySelector('.picture').getBoundingClientRect().top < innerHeight")
    (tmp_path / f"{'Überlingen ' * 8}(2).jpg").write_text("dear diary")
    for name in ("Many photos", "Live", "Photo"):
        page.get_by_role("tab", name=name, exact=True).click()
        if name == "Many photos":
            page.locator("#files").set_input_files(next(tmp_path.iterdir()))
            page.get_by_role("button", name="Start").click()
            page.get_by_text(NOT_A_PICTURE).wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    colours = page.locator(".card").evaluate(
        "it => [getComputedStyle(it).color, getComputedStyle(it).backgroundColor]"
    )
    text, card = (sum(int(value) for value in re.findall(r"\d+", colour)[:3]) for colour in colours)
    assert abs(text - card) > 300 and (text > card) == (theme == "dark")
    context.close()
