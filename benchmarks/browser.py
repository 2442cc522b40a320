"""
Measures photos in a browser: the page without a server, and the npm packages @vladmandic/human and @vladmandic/face-api.

    npm install --prefix peers @vladmandic/human@3.3.6 @vladmandic/face-api@1.7.15 @tensorflow/tfjs-backend-wasm@4.22.0
    python -m benchmarks.browser --page web/dist --peers peers --output benchmarks/browser.json

Needs Debian's Chromium and `pip install playwright`. Photos are made of the page's example portraits. All are measured in turn in one
browser without a GPU, where each runs in WebAssembly, and the median of the rounds counts. The seconds are those of the clock, from
the file to the answer, and the CPU seconds those of all processes of the browser.

A further part compares the page's answers with those of the pipeline, on faces of UTKFace's validation images in larger pictures:

    make web
    python -m benchmarks.browser --answers 300 --data_dir UTKFace.tar.gz --output benchmarks/browser_answers.json
"""

import base64
import io
import shutil
import statistics
import threading
from collections.abc import Iterable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from PIL import Image

from benchmarks.framing import load_chips, make_pictures
from benchmarks.photos import PORTRAITS, make_photo, read_portraits
from benchmarks.reporting import ROOT, make_parser, report
from hub.errors import run
from hub.loading import load_pipeline
from metrics.results import compute_weights_sha256, describe_machine, name_count, name_data
from pipeline_agegender import AgeGenderPipeline


PHOTOS = ((12, 1), (12, 3), (3, 2), (1.2, 1), (1.2, 4), (0.3, 1))  # megapixels, people
# A page for each: `answer` takes a Blob and returns a list of the faces whose ages it knows. What needs no age is switched off.
OPEN = "<!doctype html><title>peer</title><script type=module>"
PEERS = {
    "human": """
import Human from "./peers/@vladmandic/human/dist/human.esm.js";
const human = new Human({
  backend: "wasm", wasmPath: "./peers/@tensorflow/tfjs-backend-wasm/dist/", modelBasePath: "./peers/@vladmandic/human/models/",
  cacheSensitivity: 0, debug: false, body: {enabled: false}, hand: {enabled: false}, object: {enabled: false},
  gesture: {enabled: false}, face: {detector: {maxDetected: 10}, iris: {enabled: false}, emotion: {enabled: false}},
});
window.answer = async (blob) => {
  const {face} = await human.detect(await createImageBitmap(blob));
  return face.map(({age}) => age).filter(Boolean);
};
window.loaded = human.load();
""",
    "face-api": """
import * as faceapi from "./peers/@vladmandic/face-api/dist/face-api.esm.js";
window.answer = async (blob) => {
  const image = await createImageBitmap(blob), canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.width, image.height];
  canvas.getContext("2d").drawImage(image, 0, 0);
  const options = new faceapi.SsdMobilenetv1Options({maxResults: 10});
  const faces = await faceapi.detectAllFaces(canvas, options).withFaceLandmarks().withAgeAndGender();
  return faces.map(({age}) => age);
};
window.loaded = (async () => {
  faceapi.tf.setWasmPaths("./peers/@tensorflow/tfjs-backend-wasm/dist/");
  await faceapi.tf.setBackend("wasm");
  await faceapi.tf.ready();
  for (const net of ["ssdMobilenetv1", "faceLandmark68Net", "ageGenderNet"])
    await faceapi.nets[net].loadFromUri("./peers/@vladmandic/face-api/model/");
})();
""",
}
OURS = """() => {
  window.loaded = ageGender.ready;
  window.answer = (blob) => ageGender.estimate(blob);
}"""
MEASURE = """async (content) => {
  const blob = new Blob([Uint8Array.from(atob(content), (character) => character.charCodeAt(0))], {type: "image/jpeg"});
  const start = performance.now();
  const faces = await answer(blob);
  return [(performance.now() - start) / 1000, faces];
}"""


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def encode(picture: Image.Image) -> str:
    """Returns a picture as JPEG in base64."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=90)
    return base64.b64encode(stream.getvalue()).decode()


def make_photos(data_dir: str) -> dict[str, str]:
    """Makes a photo for each of `PHOTOS`: base64 of JPEG files, by a name that tells size and people."""
    portraits, photos = read_portraits(data_dir), {}
    for megapixels, people in PHOTOS:
        photos[f"{megapixels} MP, {name_count(people, 'face')}"] = encode(make_photo(portraits[:people], megapixels))
    return photos


def count_cpu_seconds() -> float:
    """Returns the CPU seconds of all processes that this one has started and that run."""
    return sum(sum(process.cpu_times()[:2]) for process in psutil.Process().children(recursive=True))


def measure(tab, content: str) -> dict:
    start = count_cpu_seconds()
    seconds, faces = tab.evaluate(MEASURE, content)
    return {"faces": len(faces), "seconds": seconds, "cpu_seconds": count_cpu_seconds() - start}


def open_tabs(browser, address: str, names: list[str]) -> dict:
    """Opens the page and the peers, each in a tab, and waits until their networks are loaded."""
    tabs = {}
    for name in names:
        tabs[name] = browser.new_page()
        tabs[name].goto(f"{address}/{'page/index' if name == 'page' else name}.html")
        if name == "page":
            tabs[name].evaluate(OURS)
        tabs[name].wait_for_function("window.loaded")
        tabs[name].evaluate("loaded")
    return tabs


def measure_rounds(tabs: dict, photos: dict[str, str], rounds: int) -> dict:
    """Returns the medians for each photo and tab."""
    results = {}
    for photo, content in photos.items():
        answers = [{name: measure(tab, content) for name, tab in tabs.items()} for _ in range(rounds + 1)]
        results[photo] = {
            name: {
                key: round(statistics.median(answer[name][key] for answer in answers[1:]), 2)
                for key in answers[0][name]
            }
            for name in tabs
        }
    return results


def is_same_face(face: dict, other: dict) -> bool:
    """Returns whether the sides of two boxes differ by at most a fiftieth of the width, or by 2 pixels."""
    limit = max(2, (other["box"]["xmax"] - other["box"]["xmin"]) / 50)
    return all(abs(face["box"][side] - other["box"][side]) <= limit for side in other["box"])


def compare_answers(tab, pipe: AgeGenderPipeline, pictures: Iterable[Image.Image]) -> dict:
    """Returns how many of the page's answers are those of the pipeline."""
    results = dict.fromkeys(("photos", "photos_with_the_same_faces", "faces", "same_age", "same_gender"), 0)
    years = [0.0]
    for picture in pictures:
        content = encode(picture)
        (_, found), expected = tab.evaluate(MEASURE, content), pipe(base64.b64decode(content))
        results["photos"] += 1
        if len(found) != len(expected) or not all(map(is_same_face, found, expected)):
            continue
        results["photos_with_the_same_faces"] += 1
        for face, wanted in zip(found, expected, strict=True):
            years.append(abs(face["age"] - wanted["age"]))
            results["faces"] += 1
            results["same_age"] += years[-1] == 0
            results["same_gender"] += face["gender"] == wanted["gender"]
    return results | {"largest_difference_years": max(years)}


def main():
    parser = make_parser(__doc__, with_model=False)
    parser.add_argument("--page", type=Path, default=ROOT / "web" / "dist", help="The built page. Default: web/dist.")
    parser.add_argument("--peers", type=Path, help="Folder in which npm has installed the peers.")
    parser.add_argument("--data_dir", default=PORTRAITS, help="Portraits, as for predict.py.")
    parser.add_argument("--answers", type=int, help="Compare the answers on so many photos. --data_dir is UTKFace.")
    parser.add_argument("--rounds", type=int, default=5, help="Measurements, of which the median counts. Default: 5.")
    arguments = parser.parse_args()
    from playwright.sync_api import sync_playwright  # only here: it is among the requirements of the tests

    names = ["page", *(PEERS if arguments.peers else ())]
    with TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "page").symlink_to(arguments.page.resolve())
        for name in names[1:]:
            (root / f"{name}.html").write_text(OPEN + PEERS[name] + "</script>", encoding="utf-8")
        if arguments.peers:
            (root / "peers").symlink_to(arguments.peers.resolve() / "node_modules")
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=folder))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            tabs = open_tabs(browser, f"http://127.0.0.1:{server.server_port}", names)
            if arguments.answers:
                chips = load_chips(arguments.data_dir, arguments.answers, seed=0)
                pictures = (picture for picture, *_ in make_pictures(chips, seed=0))
                measured = {
                    "data_dir": name_data(arguments.data_dir),
                    **compare_answers(tabs["page"], load_pipeline(str(ROOT)), pictures),
                    "weights_sha256": compute_weights_sha256(str(ROOT)),
                }
            else:
                measured = {"measured": measure_rounds(tabs, make_photos(arguments.data_dir), arguments.rounds)}
            version, runs_on = browser.version, tabs["page"].evaluate("ageGender.ready")
    results = {**measured, "chromium": version, "page_runs_on": runs_on, **describe_machine()}
    report(results, arguments.output)


if __name__ == "__main__":
    run(main)
