"""
Builds the page without a server: files that any server of files can show, and a static Space too.

    python -m scripts.build_web --model . --onnx onnx/model.onnx --output web/dist

Needs npm, which brings onnxruntime-web. `scripts.export_onnx` writes the ONNX file.
"""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import numpy as np

import face_detection
import image_formats
import image_processing_agegender
import pipeline_agegender
from configuration_agegender import AgeGenderConfig
from files import archives as files_archives
from files import pictures
from files.writing import OutputParser
from hub.errors import run
from hub.loading import load_model
from image_processing_agegender import AgeGenderImageProcessor
from photos import archives, drawing, face_table, reading, tracking, wording
from pipeline_agegender import OnnxNetwork
from space import camera_tab, face_cards, files_tab, inference, photo_tab, theme


ROOT = Path(__file__).resolve().parents[1]
WEB = ROOT / "web"
SUFFIXES = {".html", ".css", ".js", ".md"}
RUNTIME = WEB / "node_modules" / "onnxruntime-web" / "dist"
# What runs the networks: a script, and the large file that it needs.
RUNTIMES = {
    "webgpu": {"module": "ort.webgpu.bundle.min.mjs", "binary": "ort-wasm-simd-threaded.asyncify.wasm"},
    "wasm": {"module": "ort.wasm.bundle.min.mjs", "binary": "ort-wasm-simd-threaded.wasm"},
}
# Files that are loaded with their progress shown, and kept for offline use as far as a browser needs them.
LARGE = ("yunet.onnx", "model.onnx", *(runtime["binary"] for runtime in RUNTIMES.values()))
# Modules whose constants the page shares, by their last names.
SHARED = (face_detection, image_formats, image_processing_agegender, pipeline_agegender)
SHARED += (files_archives, pictures, archives, drawing, face_table, reading, tracking, wording)
SHARED += (camera_tab, face_cards, files_tab, inference, photo_tab)
# Fields of the configuration that estimate.js needs beside the network.
MODEL_FIELDS = ("id2label", "num_age_classes", "age_at_least_scale", "age_at_least_shift")
COMPONENTS = {"camera": None, "examples": "", "face_cards": photo_tab.LISTEN_TO_ANSWER, "files": None}
RESAMPLINGS = {2, 3, 5}  # BILINEAR, BICUBIC and HAMMING, those of resize.js
# Inputs and outputs by which a browser sees whether its GPU computes as it should.
CHECKS = {"yunet.onnx": ("input", 96, "kps_32"), "model.onnx": ("pixel_values", None, "age_logits")}
TEMPLATE_RULES = (
    (r"\{\{#each ([\w.]+)\}\}", lambda name: f"${{({name} ?? []).map((item) => `"),
    (r"\{\{/each\}\}", lambda _: '`).join("")}'),
    (r"\{\{#if ([\w.]+)\}\}", lambda name: f"${{isFull({name}) ? `"),
    (r"\{\{/if\}\}", lambda _: '` : ""}'),
    (r"\{\{\{([\w.]+)\}\}\}", lambda name: f"${{{name} ?? ''}}"),
    (r"\{\{([\w.]+)\}\}", lambda name: f"${{escape({name})}}"),
)


def install_runtime():
    """
    Installs onnxruntime-web in the version that package-lock.json names, unless it is there.

    Raises:
        ValueError: if npm is missing or fails.
    """
    lock, kept = json.loads((WEB / "package-lock.json").read_text(encoding="utf-8")), RUNTIME.parent / "package.json"
    version = lock["packages"]["node_modules/onnxruntime-web"]["version"]
    if kept.exists() and json.loads(kept.read_text(encoding="utf-8"))["version"] == version:
        return
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError("npm is missing, which brings onnxruntime-web: install Node.js (https://nodejs.org).")
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    ended = subprocess.run(command, cwd=WEB, capture_output=True, text=True)
    if ended.returncode:
        raise ValueError(f"npm ci in {WEB} failed: {ended.stderr.strip()}")


def read_constants(module: ModuleType) -> dict:
    """Returns the constants of a module that can be written as JSON."""
    constants = {}
    for name, value in vars(module).items():
        if re.fullmatch(r"[A-Z][A-Z0-9_]+", name):
            try:
                constants[name] = json.loads(json.dumps(value, default=simplify))
            except TypeError:
                continue
    return constants


def simplify(value):
    """Converts a value for JSON; bytes become characters 0–255."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, re.Pattern):
        return value.pattern
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, range | set | frozenset):
        return sorted(value)
    raise TypeError(value)


def describe_processor(processor: AgeGenderImageProcessor) -> dict:
    """Returns what estimate.js needs of the image processor; raises ValueError if it prepares images in another way."""
    if not (processor.do_resize and processor.do_rescale and processor.do_normalize):
        raise ValueError("The image processor must resize, rescale and normalize.")
    if processor.resample not in RESAMPLINGS:
        raise ValueError(f"The image processor resizes by {processor.resample!r}, which resize.js lacks.")
    names = ("size", "resample", "rescale_factor", "image_mean", "image_std")
    return {name: processor.to_dict()[name] for name in names}


def make_settings(config: AgeGenderConfig, processor: dict, output: Path) -> dict:
    """Returns what settings.js exports; the networks lie in `output`."""
    detector = {name: value for name, value in vars(face_detection.FaceDetector()).items() if name[0] != "_"}
    constants = {}
    for module in SHARED:
        constants.setdefault(module.__name__.rpartition(".")[2], {}).update(read_constants(module))
    return {
        **constants,
        "suffixes": sorted(image_formats.find_picture_suffixes()),
        "model": {name: getattr(config, name) for name in MODEL_FIELDS},
        "processor": processor,
        "detector": detector,
        "runtimes": RUNTIMES,
        "large": {name: describe_large(output / name) for name in LARGE},
        "checks": {name: make_check(output / name, *check, processor["size"]) for name, check in CHECKS.items()},
    }


def describe_large(file: Path) -> dict:
    """Returns the size of a file, and its address, which changes with its content."""
    content = file.read_bytes()
    return {"size": len(content), "address": f"{file.name}?{hashlib.sha256(content).hexdigest()[:16]}"}


def make_check(file: Path, name: str, side: int | None, output: str, size: dict) -> dict:
    """Returns what a network answers to waves, as network.js makes them."""
    shape = (1, 3, side or size["height"], side or size["width"])
    waves = (64 * np.sin(np.arange(np.prod(shape), dtype=np.float64))).astype(np.float32).reshape(shape)
    (values,) = face_detection.open_session(str(file)).run([output], {name: waves})
    return {"input": name, "shape": shape, "output": output, "values": values.ravel().round(4).tolist()}


def translate(template: str) -> str:
    """Translates a template of `gr.HTML` to a JavaScript template literal of `props`."""

    def replace(found: re.Match, write) -> str:
        name = found[1] if found.re.groups else ""
        first, _, rest = name.partition(".")
        return write(f"item.{rest}" if first == "this" else "props." + name.replace(".", "?."))

    template = re.sub(r"[\\`]|\$(?=\{)", r"\\\g<0>", template)
    for pattern, write in TEMPLATE_RULES:
        template = re.sub(pattern, lambda found, write=write: replace(found, write), template)
    return f"`{template}`"


def make_component(name: str, script: str | None) -> str:
    """Returns the module of a component of `space/`; its own script, or another one."""
    parts = theme.read_component(name)
    script = parts.get("js_on_load", "") if script is None else script
    return (
        'import {escape, isFull} from "../component.js";\n'
        f"export const html = (props) => {translate(parts['html_template'])};\n"
        f"export const css = (props) => {translate(parts['css_template'])};\n"
        f"export function start(element, props, trigger, watch) {{\n{script}\n}}\n"
    )


def make_introduction() -> str:
    """Returns the introduction of the page as HTML."""
    heading, *paragraphs = re.split(r"\n\n", theme.INTRODUCTION.strip())
    paragraphs = [re.sub(r"\*(.+?)\*", r"<em>\1</em>", paragraph) for paragraph in paragraphs]
    return "\n".join((f"<h1>{heading.removeprefix('# ')}</h1>", *(f"<p>{text}</p>" for text in paragraphs)))


def build(folder: str, onnx_file: Path, output: Path):
    """
    Writes the page.

    Args:
        folder: A model folder or a Hub id.
        onnx_file: What `scripts.export_onnx` wrote of this model.
        output: The folder to write. Files of the page that are there are replaced.

    Raises:
        ValueError: if npm is missing, if the ONNX file is not of this model, or if the image processor works in a way that the page
            does not know.
    """
    model, processor = load_model(folder)
    OnnxNetwork(model, str(onnx_file))  # refuses a file of other weights
    install_runtime()
    with TemporaryDirectory() as parent:  # the page keeps and loads nothing but its own files
        page = Path(parent) / "page"
        write_files(model.config, describe_processor(processor), onnx_file, page)
        shutil.copytree(page, output, dirs_exist_ok=True)


def write_files(config: AgeGenderConfig, processor: dict, onnx_file: Path, output: Path):
    """Writes the page into a new folder."""
    (output / "components").mkdir(parents=True)
    (output / "examples").mkdir()
    for path in WEB.iterdir():
        if path.suffix in SUFFIXES:
            shutil.copyfile(path, output / path.name)
    for name in (name for runtime in RUNTIMES.values() for name in runtime.values()):
        shutil.copyfile(RUNTIME / name, output / name)
    shutil.copyfile(onnx_file, output / "model.onnx")
    (output / "yunet.onnx").write_bytes(face_detection.read_yunet(face_detection.find_weights()))
    shutil.copyfile(photo_tab.ASSETS / "favicon.png", output / "favicon.png")
    for index, name in enumerate(photo_tab.EXAMPLES):
        shutil.copyfile(photo_tab.ASSETS / name, output / "examples" / f"{index}.jpg")
    for name, script in COMPONENTS.items():
        (output / "components" / f"{name}.js").write_text(make_component(name, script), encoding="utf-8")
    settings = make_settings(config, processor, output)
    lines = (f"export const {name} = {json.dumps(value)};\n" for name, value in settings.items())
    (output / "settings.js").write_text("".join(lines), encoding="utf-8")
    texts = {
        "title": theme.TITLE,
        "description": f"{theme.SUMMARY} Photos stay in the browser.",
        "introduction": make_introduction(),
        "minutes": str(camera_tab.TIME_LIMIT // 60),
    }
    page = (WEB / "index.html").read_text(encoding="utf-8")
    page = re.sub(r"\{\{(\w+)\}\}", lambda found: texts[found[1]], page)
    (output / "index.html").write_text(page, encoding="utf-8")
    write_service_worker(output)


def write_service_worker(output: Path):
    """Writes the names of the files that it keeps into the service worker, and what identifies this build."""
    paths = sorted(path for path in output.rglob("*") if path.is_file() and path.name != "service_worker.js")
    version = hashlib.sha256()
    for path in paths:
        version.update(path.read_bytes())
    files = ["./", *(path.relative_to(output).as_posix() for path in paths if path.name not in {"README.md", *LARGE})]
    large = [describe_large(output / name)["address"] for name in LARGE]
    script = (WEB / "service_worker.js").read_text(encoding="utf-8")
    constants = {"VERSION": version.hexdigest()[:16], "FILES": files, "LARGE": large}
    head = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in constants.items())
    (output / "service_worker.js").write_text(head + script, encoding="utf-8")


def main():
    parser = OutputParser(description="Builds the page without a server.")
    parser.add_argument("--model", default=".", help="Folder or Hub id of an AgeGenderModel. Default: this folder.")
    parser.add_argument("--onnx", type=Path, default=Path("onnx/model.onnx"), help="Default: onnx/model.onnx.")
    parser.add_output(required=True, help="Folder to write, such as web/dist.")
    arguments = parser.parse_args()
    if not arguments.onnx.is_file():
        raise ValueError(f"{arguments.onnx} does not exist: `python -m scripts.export_onnx` writes it.")
    build(arguments.model, arguments.onnx, arguments.output)
    size = sum(path.stat().st_size for path in arguments.output.rglob("*") if path.is_file())
    print(f"Wrote {arguments.output}: {size / 1e6:.0f} MB.")


if __name__ == "__main__":
    run(main)
