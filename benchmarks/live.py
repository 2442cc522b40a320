"""
Counts the frames per second of the camera tab with one face, in a real browser on the same machine.

    python -m benchmarks.live --output benchmarks/live.json

Needs Playwright and Debian's Chromium, which share the machine with the page.
"""

import os
import shutil
import tempfile
from pathlib import Path

import gradio as gr
from PIL import Image
from playwright.sync_api import sync_playwright

from benchmarks.reporting import ROOT, make_parser, report
from hub.loading import load_model
from metrics.results import compute_weights_sha256, describe_machine
from pipeline_agegender import AgeGenderPipeline
from space.camera_tab import build_camera_tab
from tests.support.browser import CAMERA, COUNT_FRAMES, open_camera, write_camera


def main():
    parser = make_parser(__doc__, with_model=False)
    parser.add_argument("--seconds", type=float, default=20, help="Seconds for which frames are counted.")
    parser.add_output("--screenshot", help="PNG file for a picture of the page.")
    arguments = parser.parse_args()

    model, image_processor = load_model(str(ROOT), None)
    with gr.Blocks(analytics_enabled=False) as demo, gr.Tab("Live"):
        build_camera_tab(AgeGenderPipeline(model=model, image_processor=image_processor))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GRADIO_TEMP_DIR"] = str(Path(folder) / "gradio")
        _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, run_history=False)
        film = write_camera(Path(folder) / "camera.mjpeg", Image.open(ROOT / "assets" / "astronaut.jpg"))
        with sync_playwright() as playwright:
            options = ["--no-sandbox", *CAMERA, film]
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=options)
            page = open_camera(browser, address)
            print(f"Counting for {arguments.seconds} seconds.", flush=True)
            page.wait_for_timeout(3000)
            page.evaluate(COUNT_FRAMES)
            page.wait_for_timeout(arguments.seconds * 1000)
            frames = page.evaluate("frames_seen")
            if arguments.screenshot:
                page.screenshot(path=arguments.screenshot)
            text = page.locator("#live .faces").inner_text()
            browser.close()
        files = [file for file in (Path(folder) / "gradio").rglob("*") if file.is_file()]
        demo.close()
    result = {
        "frames_per_second": round(frames / arguments.seconds, 1),
        "seconds": arguments.seconds,
        "frame_size": [640, 480],
        "faces": 1,
        "last_answer": text,
        "files_left": len(files),
        "weights_sha256": compute_weights_sha256(ROOT),
    } | describe_machine()
    report(result, arguments.output)


if __name__ == "__main__":
    main()
