"""Draws boxes and labels of faces into a picture."""

import math

from PIL import Image, ImageDraw, ImageFont

from image_reading import find_reduction
from photos.wording import make_label


# Pixels of the drawn picture. The area is limited, not the height, so that faces in a panorama stay visible. JPEG
# allows sides up to 65,535.
MAX_SHOWN_PIXELS = 2048 * 2048
MAX_SHOWN_SIDE = 32768
# Text sizes relative to the square root of the picture's area, and to the width of the box.
SMALLEST_TEXT, LARGEST_TEXT, TEXT_PER_BOX = 1 / 48, 1 / 24, 1 / 6
# Label width relative to the box. Wider labels of a crowd would cover its faces.
WIDEST_LABEL = 2.5
MOST_LABELS = 12  # With more faces each gets only its number.
BOX_COLOUR, TEXT_COLOUR = (29, 78, 216), (255, 255, 255)


def draw_faces(picture: Image.Image, faces: list[dict]) -> Image.Image:
    """
    Draws a box and a label for each face. Where there is no room, the label is only the number.

    Args:
        picture: RGB picture.
        faces: Dicts of the pipeline, with boxes in pixels of the file, of which `picture` may be a reduction. A `track` is
            shown instead of the number of the face.

    Returns:
        A copy, scaled down if the picture is large.
    """
    factor = min(1, math.sqrt(MAX_SHOWN_PIXELS / (picture.width * picture.height)), MAX_SHOWN_SIDE / max(picture.size))
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    shown = picture.resize(size, reducing_gap=2.0)
    draw = ImageDraw.Draw(shown)
    scale = math.sqrt(shown.width * shown.height)
    factor /= find_reduction(picture)
    boxes = [tuple(face["box"][side] * factor for side in ("xmin", "ymin", "xmax", "ymax")) for face in faces]
    for box in boxes:
        draw.rectangle(box, outline=BOX_COLOUR, width=max(2, round(scale / 320)))
    # Labels come after all boxes, so no box crosses a label.
    for place, (face, box) in enumerate(zip(faces, boxes), start=1):
        number = face.get("track", place)
        width = box[2] - box[0]
        text_size = max(min(max(width * TEXT_PER_BOX, scale * SMALLEST_TEXT), scale * LARGEST_TEXT), 11)
        text = make_label(number, face)
        is_too_wide = draw.textlength(text, ImageFont.load_default(text_size)) > WIDEST_LABEL * width
        if len(faces) > MOST_LABELS or (len(faces) > 1 and is_too_wide):
            text = str(number)
        draw_label(draw, shown.size, box, text, text_size)
    return shown


def draw_label(draw: ImageDraw.ImageDraw, picture_size: tuple[int, int], box: tuple, text: str, text_size: float):
    """Writes a label above a box, or below it where there is no room above; always inside the picture."""
    width, height = picture_size
    font = ImageFont.load_default(text_size)
    pad = text_size / 4
    text_width, text_height = draw.textlength(text, font) + 2 * pad, text_size + 2 * pad
    left = max(0, min(box[0], width - text_width))
    top = box[1] - text_height if box[1] >= text_height else max(0, min(box[3], height - text_height))
    draw.rectangle((left, top, left + text_width, top + text_height), fill=BOX_COLOUR)
    draw.text((left + pad, top + text_height / 2), text, fill=TEXT_COLOUR, font=font, anchor="lm")
