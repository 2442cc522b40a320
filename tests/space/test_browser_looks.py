"""How the page looks, in a real browser: on a phone, in the light and in the dark."""

import re

import pytest

from photos.reading import NOT_A_PICTURE
from space.inference import ONE_AT_A_TIME
from tests.support.browser import ASTRONAUT, TAB_MARKS, open_page, open_tab, upload


pytestmark = pytest.mark.browser

PHONE = {"width": 390, "height": 844}
MIN_CONTRAST = 4.5  # of small text, by WCAG 2.2, 1.4.3
# The contrast of each text of a card with the card, by WCAG's definition.
CONTRASTS = """() => {
  const luminance = (colour) => colour.match(/\\d+/g).slice(0, 3).map((value) => value / 255)
    .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const texts = [...document.querySelectorAll('.card *')].filter((it) => !it.children.length && it.textContent);
  return Object.fromEntries(texts.map((it) => {
    const style = getComputedStyle(it), colour = it.tagName === 'text' ? style.fill : style.color;
    const pair = [colour, getComputedStyle(it.closest('.card')).backgroundColor].map(luminance);
    return [it.textContent, (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05)];
  }));
}"""
IS_IN_SIGHT = """element => {
  const {top, bottom} = element.getBoundingClientRect();
  return top >= 0 && bottom <= window.innerHeight;
}"""


def fonts_of(page, selector: str) -> list[str]:
    """The fonts whose letters the first element of that kind is drawn in."""
    session = page.context.new_cdp_session(page)
    session.send("DOM.enable")
    session.send("CSS.enable")
    root = session.send("DOM.getDocument")["root"]["nodeId"]
    node = session.send("DOM.querySelector", {"nodeId": root, "selector": selector})["nodeId"]
    return [font["postScriptName"] for font in session.send("CSS.getPlatformFontsForNode", {"nodeId": node})["fonts"]]


def test_bold_text_is_in_one_font(browser, url):
    page = open_page(browser, url)
    upload(page, ASTRONAUT)
    page.locator(".card").wait_for()
    page.evaluate("document.fonts.ready")
    for selector in ("h1", ".prose strong", ".card .age"):
        assert fonts_of(page, selector) == ["SourceSans3-Bold"]
    page.close()


def test_visitor_sees_the_queue(browser, url):
    pages = [open_page(browser, url, viewport=PHONE) for _ in range(3)]
    with ONE_AT_A_TIME:
        for page, sentence in zip(pages, ("processing", "queue: 1/1", "queue: 2/2"), strict=True):
            upload(page, ASTRONAUT)
            shown = page.locator("#answer").get_by_text(sentence)
            shown.wait_for()
            assert shown.is_visible()
            page.wait_for_function(IS_IN_SIGHT, arg=shown.element_handle())
    for page in pages:
        page.locator(".card").wait_for()
        page.close()


@pytest.mark.parametrize(("theme", "filters"), [("light", ["none"] * 3), ("dark", ["invert(0.9)"] * 2 + ["none"])])
def test_charts_of_the_data_are_dark_in_the_dark(browser, url, theme, filters):
    page = open_page(browser, f"{url}?__theme={theme}")
    open_tab(page, "The model")
    pictures = page.locator("[role=tabpanel]:visible img")
    pictures.nth(2).wait_for(state="attached")  # loaded once it is in sight
    found = pictures.evaluate_all("pictures => pictures.map(picture => getComputedStyle(picture).filter)")
    assert [text.split()[0] for text in found] == filters
    page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_phone_needs_no_sideways_scrolling(browser, url, theme):
    page = open_page(browser, f"{url}?__theme={theme}", viewport=PHONE)
    upload(page, ASTRONAUT)
    page.locator(".card").wait_for()
    # The cards stand below the picture, and no tab is wider than the screen.
    assert page.locator(".card").bounding_box()["y"] > page.get_by_alt_text("The photo with a box").bounding_box()["y"]
    for name in reversed(TAB_MARKS):
        open_tab(page, name)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    colour, background = page.locator(".card").evaluate(
        "card => [getComputedStyle(card).color, getComputedStyle(card).backgroundColor]"
    )
    brightness = [sum(int(value) for value in re.findall(r"\d+", text)[:3]) for text in (colour, background)]
    assert abs(brightness[0] - brightness[1]) > 300 and (brightness[0] > brightness[1]) == (theme == "dark")
    contrasts = page.evaluate(CONTRASTS)
    assert {"Face 1", "40", "100+"} <= set(contrasts) and min(contrasts.values()) >= MIN_CONTRAST
    page.close()


def test_phone_shows_the_answer_and_why_a_file_failed(browser, url, tmp_path):
    page = open_page(browser, url, viewport=PHONE)
    upload(page, ASTRONAUT)
    page.locator(".card").wait_for()
    for selector in (".picture", ".card"):
        page.wait_for_function(IS_IN_SIGHT, arg=page.locator(selector).element_handle())
    notes = tmp_path / f"{'Überlingen ' * 8}(2).jpg"
    notes.write_text("dear diary")
    open_tab(page, "Many photos")
    upload(page, notes, ASTRONAUT)
    page.locator("#start:enabled").click()
    for text in (NOT_A_PICTURE, "female, "):
        cell = page.locator("[role=tabpanel]:visible").get_by_text(text).locator("visible=true").last
        cell.wait_for()
        place = cell.bounding_box()
        assert 0 <= place["x"] and place["x"] + place["width"] <= PHONE["width"]
    # A long name stays on its line and keeps its end.
    name, end = page.locator(".rows .name").first, page.locator(".rows .name span").nth(1)
    assert name.bounding_box()["height"] < 30 and end.inner_text().endswith("(2).jpg")
    assert end.bounding_box()["x"] + end.bounding_box()["width"] <= PHONE["width"]
    page.close()
