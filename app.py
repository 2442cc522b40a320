"""Web page and API: a photo in; the photo with a box and a label for each face, and a table, out.

    python app.py
    AGEGENDER_MODEL=name/repo@revision python app.py

`AGEGENDER_MODEL` is a Hub id, `id@revision` or a folder that holds weights and configuration, by default the folder of
this file. Code comes from the folder of this file alone.
"""

import math
import os
from functools import partial
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder
from PIL import Image, ImageDraw, ImageFont

from model_loading import load_model
from pipeline_agegender import AgeGenderPipeline, to_rgb


FOLDER = Path(__file__).resolve().parent
EXAMPLE = FOLDER / "assets" / "astronaut.jpg"

# The bound is on the area, so that a panorama keeps enough height for its faces to be seen. JPEG ends at 65,535.
MAX_SHOWN_PIXELS = 2048 * 2048
MAX_SHOWN_SIDE = 32768
# Sizes of text in pixels for a picture that is one pixel wide and high; for a box, for one that is a pixel wide.
SMALLEST_TEXT, LARGEST_TEXT, TEXT_PER_BOX = 1 / 48, 1 / 24, 1 / 6
BOX_COLOUR, TEXT_COLOUR = (29, 78, 216), (255, 255, 255)

MAX_UPLOAD = "100mb"
# Files older than ten minutes are deleted every ten minutes.
DELETE_CACHE = (600, 600)
TABLE_HEADERS = ["Face", "Age", "Range", "Gender", "Score"]

INTRODUCTION = """
# Apparent age and gender

How old a face looks, and which of the two labels of its training data, *female* and *male*, a small neural network
gives it. The range is meant to hold the age nine times of ten. Looks are neither age nor identity, and the network errs
more on some groups of people than on others: do not use it for decisions about people. Photos are used for nothing else
and deleted within twenty minutes.
"""
ENDPOINT_DESCRIPTION = (
    "Finds the faces of a photo and estimates the apparent age and gender of each. Returns the photo, upright, with a "
    "box and a label for each face, scaled down if it is large; and a list with a dict for each face from left to "
    "right: age (years), age_interval (two ages meant to hold the age nine times of ten), gender, gender_score "
    "(probability of that gender), box (xmin, ymin, xmax, ymax in pixels of the upright photo in its own size) and "
    "detection_score. The list is empty where no face is found."
)
NO_PHOTO = "Choose a photo first."
NOT_A_PICTURE = "This file cannot be read as a picture: choose a photo such as a JPEG, PNG, WebP or GIF."
TOO_LARGE = f"This picture is too large: choose one with at most {2 * Image.MAX_IMAGE_PIXELS // 10**6} million pixels."
NO_FACE = "No face was found in this photo."


def split_revision(source: str) -> tuple[str, str | None]:
    """Splits `id@revision`; a folder stays whole whatever its name holds."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return str(folder), None
    repo, _, revision = source.partition("@")
    return repo, revision or None


def load_pipeline(source: str) -> AgeGenderPipeline:
    """
    Builds the pipeline from the classes of this folder with the weights of a model repo, on a GPU where there is one.

    Args:
        source: A Hub id, `id@revision` or a folder.

    Raises:
        ValueError: if there is no AgeGender model to be had there, or if faces cannot be found with what is installed.
    """
    repo, revision = split_revision(source)
    if source.startswith(("/", ".", "~")) and revision is None and not Path(repo).is_dir():
        raise ValueError(f"AGEGENDER_MODEL={source}: there is no such folder.")
    try:
        model, image_processor = load_model(repo, revision)
    except ValueError as error:
        raise ValueError(f"AGEGENDER_MODEL={source}: {error}") from error
    pipe = AgeGenderPipeline(model=model, image_processor=image_processor)
    try:
        pipe(Image.new("RGB", (64, 64)))
    except ImportError as error:
        raise ValueError(str(error)) from error
    return pipe


def find_upload(image: dict) -> str | None:
    """The path or data: address of an upload; None for whatever else on the server or the net a stranger may name."""
    path, url = image.get("path"), image.get("url") or ""
    if path:
        # Gradio itself lets a path pass that does not say it is a file.
        return path if Path(path).resolve().is_relative_to(Path(get_upload_folder()).resolve()) else None
    return url if url.startswith("data:") else None


def predict(pipe: AgeGenderPipeline, image: dict | None) -> tuple[Image.Image, list[dict]]:
    """
    The photo with its faces drawn in, and what the pipeline says about them.

    Args:
        image: The uploaded file as `gr.Image` sends it, with its `path`, or with a data: address as its `url`.

    Raises:
        gr.Error: with a sentence for the visitor, if there is no picture in it.
    """
    source = find_upload(image or {})
    if source is None:
        raise gr.Error(NO_PHOTO, print_exception=False)
    try:
        picture = to_rgb(source)
    except ValueError as error:
        too_large = isinstance(error.__cause__, Image.DecompressionBombError)
        raise gr.Error(TOO_LARGE if too_large else NOT_A_PICTURE, print_exception=False) from error
    faces = pipe(picture)
    return draw_faces(picture, faces), faces


def draw_faces(picture: Image.Image, faces: list[dict]) -> Image.Image:
    """
    Draws a box and a label, `1: female, 31`, for each face.

    Args:
        picture: RGB picture.
        faces: Faces of the pipeline, with boxes in pixels of `picture`.

    Returns:
        A copy, scaled down if the picture is large.
    """
    factor = min(1, math.sqrt(MAX_SHOWN_PIXELS / (picture.width * picture.height)), MAX_SHOWN_SIDE / max(picture.size))
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    shown = picture.copy() if size == picture.size else picture.resize(size, reducing_gap=2.0)
    draw = ImageDraw.Draw(shown)
    scale = math.sqrt(shown.width * shown.height)
    boxes = [tuple(face["box"][side] * factor for side in ("xmin", "ymin", "xmax", "ymax")) for face in faces]
    for box in boxes:
        draw.rectangle(box, outline=BOX_COLOUR, width=max(2, round(scale / 320)))
    # After all boxes, so that no box crosses a label.
    for number, (face, box) in enumerate(zip(faces, boxes), start=1):
        text_size = min(max((box[2] - box[0]) * TEXT_PER_BOX, scale * SMALLEST_TEXT), scale * LARGEST_TEXT)
        draw_label(draw, shown.size, box, f"{number}: {face['gender']}, {face['age']:.0f}", max(text_size, 11))
    return shown


def draw_label(draw: ImageDraw.ImageDraw, picture_size: tuple[int, int], box: tuple, text: str, text_size: float):
    """Writes above a box, below it where there is no room above, and always inside the picture."""
    width, height = picture_size
    font = ImageFont.load_default(text_size)
    pad = text_size / 4
    text_width, text_height = draw.textlength(text, font) + 2 * pad, text_size + 2 * pad
    left = max(0, min(box[0], width - text_width))
    top = box[1] - text_height if box[1] >= text_height else max(0, min(box[3], height - text_height))
    draw.rectangle((left, top, left + text_width, top + text_height), fill=BOX_COLOUR)
    draw.text((left + pad, top + text_height / 2), text, fill=TEXT_COLOUR, font=font, anchor="lm")


def show(pipe: AgeGenderPipeline, image: dict | None) -> tuple[Image.Image | None, list[dict] | None, str, list]:
    """What the page shows for a photo: the answer of `predict`, a sentence and the rows of the table."""
    if not image:
        return None, None, "", []
    try:
        annotated, faces = predict(pipe, image)
    except gr.Error as error:
        # The answer to the photo before must not stay, which it would if this were raised.
        gr.Warning(error.message)
        return None, None, error.message, []
    rows = [
        [number, round(face["age"]), format_interval(face), face["gender"], f"{face['gender_score']:.0%}"]
        for number, face in enumerate(faces, start=1)
    ]
    return annotated, faces, count_faces(len(faces)), rows


def format_interval(face: dict) -> str:
    """The age interval of a face in whole years, `26–45`."""
    low, high = (round(age) for age in face["age_interval"])
    return f"{low}–{high}"


def count_faces(count: int) -> str:
    """How many faces there are, as a sentence."""
    if count == 0:
        return NO_FACE
    return "1 face was found." if count == 1 else f"{count} faces were found, numbered from left to right."


def build_demo(pipe: AgeGenderPipeline) -> gr.Blocks:
    """The page, and the endpoint `/predict` for programs."""
    with gr.Blocks(title="Apparent age and gender", analytics_enabled=False, delete_cache=DELETE_CACHE) as demo:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column():
                image = gr.Image(type="filepath", image_mode=None, label="Photo", height=420)
                gr.Examples([[str(EXAMPLE)]], image, label="Example", api_visibility="private")
            with gr.Column():
                annotated = gr.Image(
                    format="jpeg", label="Faces", interactive=False, height=420, buttons=["download", "fullscreen"]
                )
                summary = gr.Markdown()
                table = gr.Dataframe(headers=TABLE_HEADERS, interactive=False, show_label=False, buttons=["copy"])
                with gr.Accordion("As JSON", open=False):
                    faces = gr.JSON(show_label=False)
        # The file comes as it was uploaded (preprocess=False): gr.Image would open it first, and where it cannot, the
        # visitor would get no sentence.
        image.change(
            partial(show, pipe),
            image,
            [annotated, faces, summary, table],
            preprocess=False,
            show_progress_on=annotated,
            api_visibility="private",
            concurrency_id="pipeline",
        )
        # No trigger on the page: the contract with programs stays when the page changes.
        gr.on(
            [],
            partial(predict, pipe),
            image,
            [annotated, faces],
            preprocess=False,
            api_name="predict",
            api_description=ENDPOINT_DESCRIPTION,
            concurrency_id="pipeline",
        )
    return demo


def main():
    try:
        pipe = load_pipeline(os.environ.get("AGEGENDER_MODEL") or str(FOLDER))
    except ValueError as error:
        raise SystemExit(str(error)) from error
    # Gradio's run history would keep photos in the browser.
    build_demo(pipe).launch(max_file_size=MAX_UPLOAD, run_history=False, footer_links=["api", "gradio"])


if __name__ == "__main__":
    main()
