"""The tab for a camera in a real browser, whose camera shows the face of a photo."""

import json

import gradio as gr
import pytest

from space.camera_tab import FRAME_PREFIX, build_live_page
from space.gradio_patches import guard_visits
from tests.support.browser import CAMERA, COUNT_FRAMES, open_browser, open_camera, write_camera


@pytest.fixture
def demo(estimator, tmp_path, monkeypatch):
    """The page, served; what gradio writes, it writes below tmp_path / "gradio"."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    with gr.Blocks(analytics_enabled=False) as demo:
        with gr.Tab("Other"):
            gr.Markdown("Nothing here.")
        with gr.Tab("Live"):
            build_live_page(estimator)
    guard_visits(demo)
    demo.launch(prevent_thread_lock=True, quiet=True, run_history=False)
    yield demo
    demo.close()


def test_follows_a_face(demo, photo, tmp_path):
    with open_browser(*CAMERA, write_camera(tmp_path / "camera.mjpeg", photo)) as browser:
        page = open_camera(browser, demo.local_url)
        page.evaluate(COUNT_FRAMES)
        page.wait_for_timeout(5000)
        assert page.evaluate("frames_seen") >= 8  # on a busy machine; benchmarks/live.py counts
        # The number of the face stays, and its label is drawn into the picture.
        assert page.locator("#live .faces").inner_text().startswith("1: ")
        assert has_blue(page)
        # What gradio does after an event does not grow with the number of events.
        assert demo._queue.cached_event_analytics_summary == {"functions": {}}
        # No frame is written to disk.
        assert not [file for file in (tmp_path / "gradio").rglob("*") if file.is_file()]

        # The button that switched the camera on still has the focus.
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Switch on the camera").wait_for()
        page.wait_for_timeout(500)
        page.evaluate(COUNT_FRAMES)
        page.wait_for_timeout(1000)
        assert page.evaluate("frames_seen") == 0
        # Nor is one left in what the server remembers of the visitor.
        (session,) = demo.app.state_holder.session_data.values()
        assert FRAME_PREFIX not in json.dumps(session.config_values, default=str)
        assert page.locator("#live canvas").is_hidden()
        assert page.evaluate("document.querySelector('#live video').srcObject.active") is False


def test_leaving_the_tab_switches_the_camera_off(demo, photo, tmp_path):
    with open_browser(*CAMERA, write_camera(tmp_path / "camera.mjpeg", photo)) as browser:
        page = open_camera(browser, demo.local_url)
        camera = page.evaluate_handle("document.querySelector('#live video').srcObject")
        page.get_by_role("tab", name="Other").click()
        page.wait_for_timeout(1500)
        assert camera.evaluate("camera => camera.active") is False


def test_goes_on_without_a_face(demo, tmp_path):
    with open_browser(*CAMERA, write_camera(tmp_path / "camera.mjpeg", None)) as browser:
        page = open_camera(browser, demo.local_url)
        page.evaluate(COUNT_FRAMES)
        page.wait_for_function("frames_seen >= 4")
        assert page.locator("#live .faces").inner_text() == "No face is seen."
        assert not has_blue(page)


def test_camera_of_a_page_without_https_gets_a_sentence(demo):
    with open_browser("--host-resolver-rules=MAP page.test 127.0.0.1") as browser:
        page = browser.new_page()
        page.goto(demo.local_url.replace("127.0.0.1", "page.test"))
        page.get_by_role("tab", name="Live").click()
        page.get_by_role("button", name="Switch on the camera").click()
        sentence = "The camera cannot be used: browsers allow it only over https or on localhost."
        assert page.locator("#live [role=status]").inner_text() == sentence


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
