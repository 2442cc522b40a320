"""The tab for a camera in a real browser, whose camera shows the face of a photo."""

import pytest

from space.uploads import find_own_folder
from tests.support.browser import COUNT_FRAMES, open_camera


pytestmark = pytest.mark.browser


def list_files() -> set:
    return {file for file in find_own_folder().rglob("*") if file.is_file()}


def test_follows_a_face(demo, browser, url):
    files = list_files()
    page = open_camera(browser, url)
    page.evaluate(COUNT_FRAMES)
    page.wait_for_function("frames_seen >= 8")  # benchmarks/live.py counts
    # The number of the face stays, and its label is drawn into the picture.
    assert page.locator("#live .faces").inner_text().startswith("1: ")
    assert has_blue(page)
    picture, numbers = (page.locator(f"#live {name}").bounding_box() for name in ("canvas", ".faces"))
    assert numbers["x"] >= picture["x"] + picture["width"] and numbers["y"] < picture["y"] + 50  # beside the picture
    assert list_files() == files  # no frame is written to disk

    # The button that switched the camera on still has the focus.
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Switch on the camera").wait_for()
    page.wait_for_timeout(500)
    page.evaluate(COUNT_FRAMES)
    page.wait_for_timeout(1000)
    assert page.evaluate("frames_seen") == 0
    # Nor is one left in what the server remembers of its visitors.
    sessions = demo.app.state_holder.session_data.values()
    assert sessions and "data:image" not in str([session.config_values for session in sessions])
    assert page.locator("#live canvas").is_hidden()
    assert page.evaluate("document.querySelector('#live video').srcObject.active") is False
    page.close()


def test_leaving_the_tab_switches_the_camera_off(browser, url):
    page = open_camera(browser, url)
    camera = page.evaluate_handle("document.querySelector('#live video').srcObject")
    page.get_by_role("tab", name="The model").click()
    page.wait_for_timeout(1500)
    assert camera.evaluate("camera => camera.active") is False
    page.close()


def test_goes_on_without_a_face(browser, url, monkeypatch):
    monkeypatch.setattr("space.camera_tab.find_faces", lambda *_: [])
    page = open_camera(browser, url)
    page.evaluate(COUNT_FRAMES)
    page.wait_for_function("frames_seen >= 4")
    assert page.locator("#live .faces").inner_text() == "No face is seen."
    assert not has_blue(page)
    page.close()


def test_camera_of_a_page_without_https_gets_a_sentence(browser, url):
    page = browser.new_page()
    page.goto(url.replace("127.0.0.1", "page.test"))
    page.get_by_role("tab", name="Live").click()
    page.get_by_role("button", name="Switch on the camera").click()
    sentence = "The camera cannot be used: browsers allow it only over https or on localhost."
    assert page.locator("#live [role=status]").inner_text() == sentence
    page.close()


def has_blue(page) -> bool:
    """Whether the colour of the boxes is in the picture."""
    return page.evaluate("""() => {
      const picture = document.querySelector('#live canvas');
      const {data} = picture.getContext('2d').getImageData(0, 0, picture.width, picture.height);
      let count = 0;
      for (let i = 0; i < data.length; i += 4) {
        count += data[i] === 29 && data[i + 1] === 78 && data[i + 2] === 216;
      }
      return count > 200;
    }""")
