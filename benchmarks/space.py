"""
Measures the page under load: start, 64 visitors at once, memory after 1,000 requests, 500 photos in one zip.

    python -m benchmarks.space --output benchmarks/space.json

Each part starts `app.py` in a process of its own and calls it over HTTP.
"""

import io
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import httpx2
from gradio_client import Client, handle_file
from PIL import Image
from tqdm.auto import tqdm

from benchmarks.reporting import ROOT, make_parser, report
from metrics.results import describe_machine


PHOTO = ROOT / "assets" / "astronaut.jpg"
FACE_CENTRE = (225, 115)  # pixels in the photo
# Apps to compare with: the same libraries, and an answer that costs nothing. `import transformers` is lazy and loads almost
# nothing; an app with a model loads what `pipeline` does.
BARE_APP = """
import torch, transformers, gradio
gradio.Interface(lambda text: text, "text", "text", api_name="predict").launch()
"""
APPS = {
    "bare": [sys.executable, "-c", BARE_APP],
    "bare_with_pipeline": [sys.executable, "-c", f"from transformers import AutoModel, pipeline\n{BARE_APP}"],
    "app": [sys.executable, "app.py"],
}


def find_port() -> int:
    """Returns a free port."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@contextmanager
def serve(command: list[str]):
    """Starts a Gradio app; yields its process and its address, which may not answer yet."""
    port = find_port()
    environment = os.environ | {
        "GRADIO_SERVER_PORT": str(port),
        "HF_HUB_OFFLINE": "1",
        "GRADIO_ANALYTICS_ENABLED": "False",
    }
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def wait_for_page(process: subprocess.Popen, url: str):
    """Waits until the page answers; raises RuntimeError if its process ends or after two minutes."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx2.get(f"{url}/config", timeout=5).is_success:
                return
        except httpx2.TransportError:
            time.sleep(0.02)
    raise RuntimeError(f"{url} does not answer.")


def ask(url: str, data: list) -> str:
    """Calls /predict; returns the text of its event stream."""
    call = httpx2.post(f"{url}/gradio_api/call/predict", json={"data": data}, timeout=60).raise_for_status()
    answer = httpx2.get(f"{url}/gradio_api/call/predict/{call.json()['event_id']}", timeout=60).text
    if "event: complete" not in answer:
        raise RuntimeError(f"The answer is no result: {answer[:500]}")
    return answer


def upload(url: str, photo: bytes) -> dict:
    """Uploads a photo; returns it as a call names it."""
    answer = httpx2.post(f"{url}/gradio_api/upload", files={"files": ("photo.jpg", photo)}, timeout=60)
    return {"path": answer.raise_for_status().json()[0], "meta": {"_type": "gradio.FileData"}}


def measure_start(repeats: int) -> dict:
    """Measures the median seconds from the start of each app to its first useful answer; the apps take turns."""
    seconds = {name: [] for name in APPS}
    for _ in range(repeats):
        for name, command in APPS.items():
            start = time.perf_counter()
            with serve(command) as (process, url):
                wait_for_page(process, url)
                answer = ask(url, [upload(url, PHOTO.read_bytes())] if name == "app" else ["text"])
                seconds[name].append(time.perf_counter() - start)
                if name == "app" and "age_interval" not in answer:
                    raise RuntimeError("The app found no face.")
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "seconds": medians,
        "ratio_to_bare": medians["app"] / medians["bare"],
        "ratio_to_bare_with_pipeline": medians["app"] / medians["bare_with_pipeline"],
        "repeats": repeats,
    }


def place_face(offset: tuple[int, int]) -> bytes:
    """Makes a photo of 900×700 pixels with the face of the example at an offset (pixels)."""
    canvas = Image.new("RGB", (900, 700), "grey")
    canvas.paste(Image.open(PHOTO).crop((80, 0, 380, 300)), offset)
    buffer = io.BytesIO()
    canvas.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def measure_visitors(visitors: int) -> dict:
    """Sends a different photo for each visitor at once; counts right answers and visitors who saw their place in line."""

    def visit(index: int) -> tuple[bool, bool, float]:
        offset = (75 * (index % 9), 50 * (index // 9 % 9))
        with TemporaryDirectory() as folder:
            path = Path(folder) / "photo.jpg"
            path.write_bytes(place_face(offset))
            client = Client(url, verbose=False, download_files=False)
            start, saw_place = time.perf_counter(), False
            job = client.submit(handle_file(path), api_name="/predict")
            while not job.done():
                saw_place |= job.status().rank is not None
                time.sleep(0.05)
            _, faces = job.result()
        box = faces[0]["box"]
        centre = ((box["xmin"] + box["xmax"]) / 2, (box["ymin"] + box["ymax"]) / 2)
        expected = (FACE_CENTRE[0] - 80 + offset[0], FACE_CENTRE[1] + offset[1])
        right = len(faces) == 1 and all(abs(value - want) < 20 for value, want in zip(centre, expected))
        return right, saw_place, time.perf_counter() - start

    with serve([sys.executable, "app.py"]) as (process, url):
        wait_for_page(process, url)
        start = time.perf_counter()
        with ThreadPoolExecutor(visitors) as pool:
            answers = list(pool.map(visit, range(visitors)))
        seconds = time.perf_counter() - start
    right, saw_place, waits = zip(*answers)
    return {
        "visitors": visitors,
        "right_answers": sum(right),
        "saw_their_place_in_line": sum(saw_place),
        "seconds_until_all_answered": seconds,
        "longest_wait_seconds": max(waits),
    }


def read_memory(process: subprocess.Popen) -> float:
    """Returns the resident memory of a process, MiB."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def measure_memory(requests: int) -> dict:
    """Measures memory after 50 requests and after all, MiB: medians of ten readings, since each photo in work adds some."""
    with serve([sys.executable, "app.py"]) as (process, url):
        wait_for_page(process, url)
        photo, readings = PHOTO.read_bytes(), []
        for _ in tqdm(range(requests), desc="Requests"):
            ask(url, [upload(url, photo)])
            readings.append(read_memory(process))
    early, late = statistics.median(readings[40:50]), statistics.median(readings[-10:])
    return {"requests": requests, "mib_after_50": early, "mib_after_all": late, "ratio": late / early}


def measure_files(photos: int) -> dict:
    """Sends a zip of photos to /predict_files; measures seconds, and memory before and at most, MiB."""
    with TemporaryDirectory() as folder, serve([sys.executable, "app.py"]) as (process, url):
        path = Path(folder) / "photos.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for index in range(photos):
                archive.writestr(f"{index}.jpg", place_face((index % 600, index % 400)))
        wait_for_page(process, url)
        client = Client(url, verbose=False, download_files=False)
        client.predict([handle_file(PHOTO)], api_name="/predict_files")
        before, peak, done = read_memory(process), 0.0, False

        def watch():
            nonlocal peak
            while not done:
                peak = max(peak, read_memory(process))
                time.sleep(0.1)

        watcher = Thread(target=watch)
        watcher.start()
        start = time.perf_counter()
        answers = client.predict([handle_file(path)], api_name="/predict_files")
        seconds = time.perf_counter() - start
        done = True
        watcher.join()
    found = sum(len(answer["faces"]) == 1 for answer in answers)
    return {"photos": photos, "with_one_face": found, "seconds": seconds, "mib_before": before, "mib_at_most": peak}


def main():
    parser = make_parser(__doc__, with_model=False)
    parser.add_argument("--repeats", type=int, default=5, help="Starts of each app.")
    parser.add_argument("--visitors", type=int, default=64, help="Visitors at once.")
    parser.add_argument("--requests", type=int, default=1000, help="Requests one after the other.")
    parser.add_argument("--photos", type=int, default=500, help="Photos in one zip.")
    parser.add_argument("--parts", nargs="+", help="Measure only these; with --overwrite, --output keeps its others.")
    arguments = parser.parse_args()
    figures = (
        json.loads(arguments.output.read_text(encoding="utf-8"))
        if arguments.parts and arguments.output and arguments.output.exists()
        else {}
    )
    for name, measure, number in (
        ("start", measure_start, arguments.repeats),
        ("visitors", measure_visitors, arguments.visitors),
        ("memory", measure_memory, arguments.requests),
        ("files", measure_files, arguments.photos),
    ):
        if arguments.parts and name not in arguments.parts:
            continue
        figures[name] = measure(number)
        print(name, figures[name], flush=True)
    report(figures | describe_machine(), arguments.output)


if __name__ == "__main__":
    main()
