"""Does a face found in a photo reach the model in the framing that it was trained on?

Validation images of UTKFace are turned, scaled and pasted into larger pictures; the pipeline has to find them, and its
ages and genders there are compared with those of the images themselves.

    python -m benchmarks.framing --data_dir PATH --output framing.json

Two parts need no model: the share of faces found by their size, and where the detector sees the landmarks on UTKFace's
own images, from which `face_detection.UTKFACE_TEMPLATE` is taken.

    python -m benchmarks.framing --data_dir PATH --by_size --output found_by_size.json
    python -m benchmarks.framing --data_dir PATH --template
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
from PIL import Image

from data.utkface import load_utkface
from face_detection import UTKFACE_TEMPLATE, FaceDetector, align_face
from hub.loading import load_model
from metrics.results import describe_machine, name_data, weights_sha256, write_json
from pipeline_agegender import AgeGenderPipeline


# Scripts of this folder run from anywhere: the project's modules lie one folder up.


FACE_SIDES = (24, 32, 40, 64, 100, 180, 300, 600)
MAXIMUM_ANGLE = 30
CHUNK = 50
# The least share found; the most that years of error and gender accuracy may lose.
TARGETS = {"found": 0.98, "mae_lost": 0.3, "gender_accuracy_lost": 0.005}


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--model", default=str(root), help="folder of the model, by default the project's own")
    parser.add_argument("--data_dir", required=True, help="UTKFace, anything that utkface.py reads")
    parser.add_argument("--num_faces", type=int, default=1000, help="faces to paste (with --by_size: of each size)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of faces, their places and angles")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--by_size", action="store_true", help="share of faces found by size; needs no model")
    part.add_argument("--template", action="store_true", help="mean landmarks on UTKFace's images; needs no model")
    return parser.parse_args(arguments)


def load_chips(data_dir: str, count: int, seed: int) -> list[dict]:
    """Random validation images of UTKFace: dicts with image (PIL), age (years) and gender (0 male, 1 female)."""
    validation = load_utkface(data_dir)["validation"].shuffle(seed=seed)
    return list(validation.select(range(min(count, len(validation)))))


def textured_background(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """An RGB picture (width, height) of soft coloured blotches under sensor noise, with nothing like a face in it."""
    blotches = rng.integers(40, 216, (6, 8, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(blotches).resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
    picture = picture + rng.normal(0, 6, picture.shape)
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def paste_chip(
    chip: Image.Image, side: int, angle: float, size: tuple[int, int], rng: np.random.Generator
) -> tuple[Image.Image, tuple[float, float]]:
    """Sets a chip into a picture.

    Args:
        chip: Square image of a face.
        side: Side of the chip in the picture, in pixels.
        angle: Degrees, anticlockwise.
        size: Width and height of the picture in pixels.
        rng: Chooses the background and the place.

    Returns:
        The picture and the x, y of the chip's centre in it, in pixels.
    """
    picture = textured_background(size, rng)
    turned = chip.convert("RGB").resize((side, side), Image.Resampling.LANCZOS).convert("RGBA")
    # The alpha channel keeps the corners of the turned square out of the picture.
    turned = turned.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    left = int(rng.integers(0, size[0] - turned.width + 1))
    top = int(rng.integers(0, size[1] - turned.height + 1))
    picture.paste(turned, (left, top), turned)
    return picture, (left + turned.width / 2, top + turned.height / 2)


def nearest_face(centres: list[tuple[float, float]], target: tuple[float, float], side: int) -> int | None:
    """Index of the box centre nearest to a pasted chip's centre, None if none is within a third of the chip's side."""
    distances = [math.dist(centre, target) for centre in centres]
    if not distances or min(distances) > side / 3:
        return None
    return distances.index(min(distances))


def found_by_size(chips: list[dict], seed: int) -> list[dict]:
    """Share of faces that the detector finds in pictures of 1280 x 960 pixels, by side of the chip in pixels."""
    detector, rng, rows = FaceDetector(), np.random.default_rng(seed), []
    for side in FACE_SIDES:
        row = {"side": side, "faces": len(chips)}
        for name, maximum in (("upright", 0), ("turned", MAXIMUM_ANGLE)):
            found = 0
            for chip in chips:
                angle = rng.uniform(-maximum, maximum)
                picture, target = paste_chip(chip["image"], side, angle, (1280, 960), rng)
                boxes = [face.box for face in detector.detect(picture)]
                centres = [((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for box in boxes]
                found += nearest_face(centres, target, side) is not None
            row[name] = found / len(chips)
        print(f"{side:4d} px: {row['upright']:.1%} upright, {row['turned']:.1%} turned", flush=True)
        rows.append(row)
    return rows


def measure_template(chips: list[dict]) -> dict:
    """Mean and standard deviation of the landmarks on whole chips, as fractions of the side.

    `aligned_mean` is the mean once more after `align_face`, which should give the template.
    """
    detector, landmarks, aligned = FaceDetector(), [], []

    def surest(image: Image.Image) -> np.ndarray | None:
        face = max(detector.detect(image), key=lambda face: face.score, default=None)
        return None if face is None else face.landmarks

    for chip in chips:
        before = surest(chip["image"])
        if before is None:
            continue
        landmarks.append(before / chip["image"].width)
        crop = align_face(chip["image"], before)
        after = surest(crop)
        if after is not None:
            aligned.append(after / crop.width)
    return {
        "found": len(landmarks) / len(chips),
        "mean": np.mean(landmarks, axis=0).round(4).tolist(),
        "standard_deviation": np.std(landmarks, axis=0).round(4).tolist(),
        "aligned_mean": np.mean(aligned, axis=0).round(4).tolist(),
        "template": UTKFACE_TEMPLATE.tolist(),
    }


def load_pipeline(folder: str):
    """The project's pipeline around the model of a folder."""
    model, image_processor = load_model(folder)
    return AgeGenderPipeline(model=model, image_processor=image_processor)


def estimate_in_pictures(pipeline, chips: list[dict], seed: int) -> list[dict | None]:
    """The pipeline's answer for each chip pasted into a picture of 640 x 480 to 1280 x 960 px, None if not found."""
    rng, answers = np.random.default_rng(seed), []
    for start in range(0, len(chips), CHUNK):
        pictures, targets = [], []
        for chip in chips[start : start + CHUNK]:
            side, zoom = int(rng.integers(100, 301)), rng.uniform(1, 2)
            size = (round(640 * zoom), round(480 * zoom))
            angle = rng.uniform(-MAXIMUM_ANGLE, MAXIMUM_ANGLE)
            picture, target = paste_chip(chip["image"], side, angle, size, rng)
            pictures.append(picture)
            targets.append((target, side))
        for faces, (target, side) in zip(pipeline(pictures), targets, strict=True):
            boxes = [face["box"] for face in faces]
            centres = [((box["xmin"] + box["xmax"]) / 2, (box["ymin"] + box["ymax"]) / 2) for box in boxes]
            nearest = nearest_face(centres, target, side)
            answers.append(None if nearest is None else faces[nearest])
        print(f"{len(answers)} of {len(chips)} pictures", flush=True)
    return answers


def score(answers: list[dict], chips: list[dict]) -> dict:
    """Mean absolute error in years and share of right genders."""
    errors = [abs(answer["age"] - chip["age"]) for answer, chip in zip(answers, chips, strict=True)]
    right = [
        answer["gender"] == ("male", "female")[chip["gender"]] for answer, chip in zip(answers, chips, strict=True)
    ]
    return {"faces": len(chips), "mae": float(np.mean(errors)), "gender_accuracy": float(np.mean(right))}


def compare(pipeline, chips: list[dict], seed: int) -> dict:
    """The pipeline on pasted faces against the same faces as they are, and whether the difference is small enough."""
    in_pictures = estimate_in_pictures(pipeline, chips, seed)
    whole = [faces[0] for faces in pipeline([chip["image"] for chip in chips], detect_faces=False)]
    found = [index for index, answer in enumerate(in_pictures) if answer is not None]
    found_chips = [chips[index] for index in found]
    results = {
        "found": len(found) / len(chips),
        "detected_and_aligned": score([in_pictures[index] for index in found], found_chips),
        "original_of_the_found": score([whole[index] for index in found], found_chips),
        "original_of_all": score(whole, chips),
    }
    detected, original = results["detected_and_aligned"], results["original_of_the_found"]
    results["mae_lost"] = detected["mae"] - original["mae"]
    results["gender_accuracy_lost"] = original["gender_accuracy"] - detected["gender_accuracy"]
    results["targets"] = TARGETS
    results["targets_met"] = results["found"] >= TARGETS["found"] and all(
        results[name] <= TARGETS[name] for name in ("mae_lost", "gender_accuracy_lost")
    )
    return results


def main():
    arguments = parse_arguments()
    chips = load_chips(arguments.data_dir, arguments.num_faces, arguments.seed)
    if arguments.by_size:
        results = {"by_size": found_by_size(chips, arguments.seed)}
    elif arguments.template:
        results = measure_template(chips)
    else:
        results = compare(load_pipeline(arguments.model), chips, arguments.seed)
    results = {
        "data_dir": name_data(arguments.data_dir),
        "seed": arguments.seed,
        "num_faces": len(chips),
        **results,
        "weights_sha256": None if arguments.by_size or arguments.template else weights_sha256(arguments.model),
        **describe_machine(),
    }
    print(json.dumps(results, indent=2))
    if arguments.output:
        write_json(arguments.output, results)


if __name__ == "__main__":
    main()
