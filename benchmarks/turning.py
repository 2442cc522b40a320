"""
Compares predictions for photos that lie on their side or stand on their head with those for the upright photos.

Validation images of UTKFace are pasted into photos of 480×360 pixels, which are then turned in steps of 15°. No EXIF tag tells
of the turn.

    python -m benchmarks.turning --data_dir PATH --output benchmarks/turning.json

Times are CPU seconds of one thread per photo, network included.
"""

import argparse
import json
import time

import numpy as np
import torch
from PIL import Image

from benchmarks.framing import find_nearest_face, load_chips, paste_chip
from benchmarks.reporting import make_parser, report
from hub.errors import run
from hub.loading import load_pipeline
from image_processing_agegender import is_gender_sure
from metrics.results import compute_weights_sha256, describe_machine, name_data


PHOTO_SIZE = (480, 360)
SIDES = (60, 220)  # of the crop, in pixels


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--data_dir", required=True, help="UTKFace: folder, archive, Parquet folder or data set id.")
    parser.add_argument("--num_faces", type=int, default=60, help="Photos, of one face each.")
    parser.add_argument("--step", type=int, default=15, help="Degrees from one angle to the next.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the faces, sizes and positions.")
    return parser.parse_args()


def make_photos(chips: list[dict], seed: int) -> list[tuple[Image.Image, tuple[float, float], int]]:
    """Returns upright photos, each with the centre (x, y) and the side of its face crop in pixels."""
    rng, photos = np.random.default_rng(seed), []
    for chip in chips:
        side = int(rng.integers(SIDES[0], SIDES[1] + 1))
        photos.append((*paste_chip(chip["image"], side, 0, PHOTO_SIZE, rng), side))
    return photos


def turn_photo(
    photo: Image.Image, centre: tuple[float, float], angle: float
) -> tuple[Image.Image, tuple[float, float]]:
    """Turns a photo anticlockwise by an angle in degrees; returns it with the new place of a point."""
    turned = photo.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    offset = complex(*centre) - complex(*photo.size) / 2
    place = offset * np.exp(-1j * np.radians(angle)) + complex(*turned.size) / 2
    return turned, (place.real, place.imag)


def estimate(pipeline, photo: Image.Image, centre: tuple[float, float], side: int) -> tuple[dict | None, int, float]:
    """Returns the answer for the face at a point, None if not found, the number of other faces and the CPU seconds."""
    start = time.process_time()
    faces = pipeline(photo)
    seconds = time.process_time() - start
    boxes = [face["box"] for face in faces]
    centres = [((box["xmin"] + box["xmax"]) / 2, (box["ymin"] + box["ymax"]) / 2) for box in boxes]
    nearest = find_nearest_face(centres, centre, side)
    return (None if nearest is None else faces[nearest]), len(faces) - (nearest is not None), seconds


def measure_angle(pipeline, photos: list, upright: list[dict], angle: int) -> dict:
    """Compares the answers at an angle with those of the upright photos."""
    answers = [estimate(pipeline, *turn_photo(photo, centre, angle), side) for photo, centre, side in photos]
    pairs = [(answer, first) for (answer, _, _), first in zip(answers, upright, strict=True) if answer is not None]
    differences = [abs(answer["age"] - first["age"]) for answer, first in pairs]
    return {
        "angle": angle,
        "photos": len(photos),
        "found": len(pairs),
        "other_gender": sum(answer["gender"] != first["gender"] for answer, first in pairs),
        "other_gender_where_sure": sum(
            answer["gender"] != first["gender"] and bool(is_gender_sure(first["age"], first["gender_score"]))
            for answer, first in pairs
        ),
        "age_difference": float(np.mean(differences)) if differences else None,
        "age_off_by_more_than_5": sum(difference > 5 for difference in differences),
        "false_faces": sum(others for _, others, _ in answers),
        "seconds": float(np.mean([seconds for _, _, seconds in answers])),
    }


def measure(pipeline, chips: list[dict], seed: int, step: int) -> dict:
    """Returns a row for each angle, for the photos whose face is found upright."""
    photos = make_photos(chips, seed)
    upright = [estimate(pipeline, *photo)[0] for photo in photos]
    photos = [photo for photo, answer in zip(photos, upright, strict=True) if answer is not None]
    upright = [answer for answer in upright if answer is not None]
    rows = []
    for angle in range(0, 360, step):
        rows.append(measure_angle(pipeline, photos, upright, angle))
        print(json.dumps(rows[-1]), flush=True)
    return {"found_upright": len(photos) / len(chips), "by_angle": rows}


def main():
    arguments = parse_arguments()
    torch.set_num_threads(1)
    chips = load_chips(arguments.data_dir, arguments.num_faces, arguments.seed)
    results = {
        "data_dir": name_data(arguments.data_dir),
        "seed": arguments.seed,
        "num_faces": len(chips),
        **measure(load_pipeline(arguments.model), chips, arguments.seed, arguments.step),
        "weights_sha256": compute_weights_sha256(arguments.model),
        **describe_machine(),
    }
    report(results, arguments.output)


if __name__ == "__main__":
    run(main)
