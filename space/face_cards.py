"""The answer to a photo: the photo with boxes, and for each face a card with crop, age, gender and distribution of the age."""

import base64
import json

from PIL import Image

from configuration_agegender import AgeGenderConfig
from image_reading import find_reduction
from metrics.results import AGE_THRESHOLDS
from photos.drawing import draw_faces
from photos.face_table import COLUMNS, make_face_rows, name_threshold, to_csv
from photos.wording import describe_gender, describe_interval, describe_probability, name_face
from space.uploads import save_picture


THRESHOLD = 18  # years, where the slider stands at first, and of which the tables tell the probability
AT_LEAST_NAME = f"{THRESHOLD} or older"
CSV_COLUMNS = (*COLUMNS, *map(name_threshold, AGE_THRESHOLDS))
CARD_CROP_SIDE = 112  # pixels
CROWD = 12  # faces beyond which a table comes before the cards
PLOT_WIDTH, PLOT_HEIGHT, PLOT_FOOT = 202, 44, 14
# Age, text and anchor of each tick; the last bar stands for all higher ages as well.
TICKS = [(0, "0", "start"), *((age, str(age), "middle") for age in (20, 40, 60, 80)), (100, "100+", "end")]


def make_answer(picture: Image.Image, faces: list[dict]) -> dict:
    """
    Draws the boxes, and makes the cards and the links that save the numbers.

    Args:
        picture: RGB picture.
        faces: Dicts of the pipeline with `crop`, `age_distribution` and the `age_at_least` of all ages, and with boxes in
            pixels of the file, of which `picture` may be a reduction.

    Returns:
        The value for face_cards.html. Crops are files, so that they are deleted with the uploads; the links hold the tables.
    """
    numbers = [{name: value for name, value in face.items() if name != "crop"} for face in faces]
    links = make_link("faces.csv", "text/csv", "Save as CSV", to_csv(make_face_rows("photo", faces), CSV_COLUMNS))
    links += make_link("faces.json", "application/json", "Save as JSON", json.dumps(numbers, indent=2))
    size = [find_reduction(picture) * side for side in picture.size]
    drawn = draw_faces(picture, faces)
    return {
        "picture": save_picture(drawn),
        "width": drawn.width,  # so that the browser keeps its place free
        "height": drawn.height,
        "cards": [make_card(number, face, *size) for number, face in enumerate(faces, start=1)],
        "is_crowd": len(faces) > CROWD,
        "last_age": max(faces[0]["age_at_least"]) if faces else None,
        "links": links if faces else "",
    }


def find_thresholds(config: AgeGenderConfig) -> list[int]:
    """Returns the ages of `CSV_COLUMNS` that a model has."""
    return [age for age in AGE_THRESHOLDS if age < config.num_age_classes]


def describe_at_least(face: dict) -> str:
    """Returns the probability that a face or person is at least `THRESHOLD` years old; "" if the model has no such age."""
    probability = face.get("age_at_least", {}).get(THRESHOLD)
    return "" if probability is None else describe_probability(probability)


def make_card(number: int, face: dict, width: int, height: int) -> dict:
    """Returns the values of a face in face_cards.html; `width` and `height` are those of the file, in pixels."""
    xmin, ymin, xmax, ymax = face["box"].values()
    sides = {"left": xmin / width, "top": ymin / height, "right": 1 - xmax / width, "bottom": 1 - ymax / height}
    return {
        "number": number,
        "name": name_face(number, face),
        "place": "; ".join(f"{side}: {share:.2%}" for side, share in sides.items()),
        "crop": save_picture(face["crop"].resize((CARD_CROP_SIDE, CARD_CROP_SIDE))),
        "age": round(face["age"]),
        "range": describe_interval(*face["age_interval"]),
        "gender": describe_gender(face),
        "at_least": ",".join(map(describe_probability, face["age_at_least"].values())),
        "plot": draw_distribution(face["age_distribution"], *face["age_interval"]),
    }


def draw_distribution(probabilities: list[float], low: float, high: float) -> str:
    """Draws the distribution of the age as an SVG with a bar for each year, coloured from `low` to `high`."""
    width, top = PLOT_WIDTH / len(probabilities), max(probabilities)
    bars = []
    for age, probability in enumerate(probabilities):
        height = PLOT_HEIGHT * probability / top
        kind = "likely" if round(low) <= age <= round(high) else "all"
        place = f"x='{age * width:.1f}' y='{PLOT_HEIGHT - height:.1f}' width='{width:.2f}' height='{height:.1f}'"
        bars.append(f"<rect class='{kind}' {place}/>")
    ticks = "".join(
        f"<text x='{(age + 0.5) * width:.0f}' y='{PLOT_HEIGHT + PLOT_FOOT - 3}' text-anchor='{anchor}'>{tick}</text>"
        for age, tick, anchor in TICKS
        if age < len(probabilities)
    )
    label = f"Probability of each age; 90 % range {low:.0f} to {high:.0f} years"
    box = f"0 0 {PLOT_WIDTH} {PLOT_HEIGHT + PLOT_FOOT}"
    return f"<svg viewBox='{box}' role='img' aria-label='{label}'>{''.join(bars)}{ticks}</svg>"


def make_link(name: str, kind: str, text: str, content: str) -> str:
    """Makes a link that holds a text and saves it as a file."""
    data = base64.b64encode(content.encode()).decode()
    return f"<a download='{name}' href='data:{kind};base64,{data}'>{text}</a>"
