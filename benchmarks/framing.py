"""
Compares predictions for faces detected in photos with those for the original face crops.

Validation images of UTKFace are rotated, scaled and pasted into larger images, in which the pipeline detects them.

    python -m benchmarks.framing --data_dir PATH --output framing.json

Three parts need no model: the share of detected faces by size, alone or in crowds of thirty, and the landmarks that the detector
finds on UTKFace's images, from which `face_detection.UTKFACE_TEMPLATE` is taken.

    python -m benchmarks.framing --data_dir PATH --by_size --output found_by_size.json
    python -m benchmarks.framing --data_dir PATH --crowd --num_faces 90 --output found_in_crowds.json
    python -m benchmarks.framing --data_dir PATH --template

A further part measures what other crops cost the network without detection.

    python -m benchmarks.framing --data_dir PATH --crops --num_faces 500 --output other_crops.json
"""

import argparse
import math
from collections.abc import Iterator
from functools import partial
from itertools import islice

import numpy as np
from PIL import Image

from benchmarks.reporting import make_parser, report
from data.utkface import load_utkface
from face_detection import FaceDetector
from hub.errors import run
from hub.loading import load_pipeline
from image_processing_agegender import UTKFACE_TEMPLATE, align_face
from metrics.results import GENDERS, compute_weights_sha256, describe_machine, name_data
from pipeline_agegender import AgeGenderPipeline, find_largest, is_framed


FACE_SIDES = (24, 32, 40, 64, 100, 180, 300, 600)
CROWD, CROWD_SIDES = 30, (32, 40, 64)
MAXIMUM_ANGLE = 30
CHUNK = 50
# Minimum share of detected faces, maximum losses in years of error and in gender accuracy.
TARGETS = {"found": 0.98, "mae_lost": 0.3, "gender_accuracy_lost": 0.005}


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--data_dir", required=True, help="UTKFace: folder, archive, Parquet folder or data set id.")
    parser.add_argument("--num_faces", type=int, default=1000, help="Faces to paste, with --by_size of each size.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the faces, positions and angles.")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--by_size", action="store_true", help="Share of detected faces by size.")
    part.add_argument("--crowd", action="store_true", help="The same for thirty faces in an image.")
    part.add_argument("--crops", action="store_true", help="Errors on other crops of the same faces.")
    part.add_argument("--template", action="store_true", help="Mean landmarks on UTKFace's images.")
    return parser.parse_args()


def load_chips(data_dir: str, count: int, seed: int) -> list[dict]:
    """Returns random validation images of UTKFace with image (PIL), age (years) and gender (index)."""
    validation = load_utkface(data_dir)["validation"].shuffle(seed=seed)
    return list(validation.select(range(min(count, len(validation)))))


def draw_background(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """Draws an RGB image of coloured blotches with sensor noise."""
    blotches = rng.integers(40, 216, (6, 8, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(blotches).resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
    picture = picture + rng.normal(0, 6, picture.shape)
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def paste_chips(
    chips: list[Image.Image], side: int, angles: list[float], size: tuple[int, int], rng: np.random.Generator
) -> tuple[Image.Image, list[tuple[float, float]]]:
    """Pastes face crops into a larger image, as `paste_chip` does with one. Each lies in a cell of its own of a grid."""
    picture, columns = draw_background(size, rng), math.ceil(math.sqrt(len(chips)))
    width, height = size[0] // columns, size[1] // math.ceil(len(chips) / columns)
    centres = []
    for index, (chip, angle) in enumerate(zip(chips, angles, strict=True)):
        turned = chip.convert("RGB").resize((side, side), Image.Resampling.LANCZOS).convert("RGBA")
        # With an alpha channel, the corners of the rotated square stay transparent.
        turned = turned.rotate(angle, Image.Resampling.BICUBIC, expand=True)
        left = index % columns * width + int(rng.integers(0, width - turned.width + 1))
        top = index // columns * height + int(rng.integers(0, height - turned.height + 1))
        picture.paste(turned, (left, top), turned)
        centres.append((left + turned.width / 2, top + turned.height / 2))
    return picture, centres


def paste_chip(
    chip: Image.Image, side: int, angle: float, size: tuple[int, int], rng: np.random.Generator
) -> tuple[Image.Image, tuple[float, float]]:
    """Pastes a face crop into a larger image.

    Args:
        chip: Square face crop.
        side: Side of the crop in the image, in pixels.
        angle: Anticlockwise rotation in degrees.
        size: Width and height of the image in pixels.
        rng: Generator of the background and the position.

    Returns:
        The image and the centre (x, y) of the crop in it, in pixels.
    """
    picture, (centre,) = paste_chips([chip], side, [angle], size, rng)
    return picture, centre


def find_nearest_face(centres: list[tuple[float, float]], target: tuple[float, float], side: int) -> int | None:
    """Returns the index of the box centre nearest to `target`, None if none is within a third of the crop's side."""
    distances = [math.dist(centre, target) for centre in centres]
    if not distances or min(distances) > side / 3:
        return None
    return distances.index(min(distances))


def measure_by_size(chips: list[dict], seed: int, sides: tuple[int, ...], crowd: int = 1) -> list[dict]:
    """Returns the share of faces detected by side of the crop in pixels, in images of 1280 x 960 pixels that show `crowd` of them."""
    detector, rng, rows = FaceDetector(), np.random.default_rng(seed), []
    for side in sides:
        row = {"side": side, "faces": len(chips)}
        for name, maximum in (("upright", 0), ("turned", MAXIMUM_ANGLE)):
            found = 0
            for start in range(0, len(chips), crowd):
                images = [chip["image"] for chip in chips[start : start + crowd]]
                angles = [rng.uniform(-maximum, maximum) for _ in images]
                picture, targets = paste_chips(images, side, angles, (1280, 960), rng)
                boxes = [face.box for face in detector.detect(picture)]
                centres = [((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for box in boxes]
                found += sum(find_nearest_face(centres, target, side) is not None for target in targets)
            row[name] = found / len(chips)
        print(f"{side:4d} px: {row['upright']:.1%} upright, {row['turned']:.1%} turned", flush=True)
        rows.append(row)
    return rows


def measure_template(chips: list[dict]) -> dict:
    """Computes mean and standard deviation of the landmarks on face crops, as fractions of the side.

    `aligned_mean` is the mean after `align_face`, close to the template.
    """
    detector, landmarks, aligned = FaceDetector(), [], []

    def find_landmarks(image: Image.Image) -> np.ndarray | None:
        face = max(detector.detect(image), key=lambda face: face.score, default=None)
        return None if face is None else face.landmarks

    for chip in chips:
        before = find_landmarks(chip["image"])
        if before is None:
            continue
        landmarks.append(before / chip["image"].width)
        crop = align_face(chip["image"], before)
        after = find_landmarks(crop)
        if after is not None:
            aligned.append(after / crop.width)
    return {
        "found": len(landmarks) / len(chips),
        "mean": np.mean(landmarks, axis=0).round(4).tolist(),
        "standard_deviation": np.std(landmarks, axis=0).round(4).tolist(),
        "aligned_mean": np.mean(aligned, axis=0).round(4).tolist(),
        "template": UTKFACE_TEMPLATE.tolist(),
    }


def make_pictures(chips: list[dict], seed: int) -> Iterator[tuple[Image.Image, tuple[float, float], int]]:
    """Yields images of 640 x 480 to 1280 x 960 px that show one face each, with its centre and the side of its crop."""
    rng = np.random.default_rng(seed)
    for chip in chips:
        side, zoom = int(rng.integers(100, 301)), rng.uniform(1, 2)
        size = (round(640 * zoom), round(480 * zoom))
        angle = rng.uniform(-MAXIMUM_ANGLE, MAXIMUM_ANGLE)
        yield *paste_chip(chip["image"], side, angle, size, rng), side


def estimate_in_pictures(pipeline, chips: list[dict], seed: int) -> list[dict | None]:
    """Returns the estimate of each face pasted into an image, None if not detected."""
    made, answers = make_pictures(chips, seed), []
    while chunk := list(islice(made, CHUNK)):
        pictures, *targets = zip(*chunk)
        for faces, target, side in zip(pipeline(list(pictures)), *targets, strict=True):
            boxes = [face["box"] for face in faces]
            centres = [((box["xmin"] + box["xmax"]) / 2, (box["ymin"] + box["ymax"]) / 2) for box in boxes]
            nearest = find_nearest_face(centres, target, side)
            answers.append(None if nearest is None else faces[nearest])
        print(f"{len(answers)} of {len(chips)} pictures", flush=True)
    return answers


def score(answers: list[dict], chips: list[dict]) -> dict:
    """Computes the mean absolute error in years and the gender accuracy."""
    pairs = list(zip(answers, chips, strict=True))
    errors = [abs(answer["age"] - chip["age"]) for answer, chip in pairs]
    correct = [answer["gender"] == GENDERS[chip["gender"]] for answer, chip in pairs]
    inside = [
        low <= chip["age"] <= high for (low, high), chip in ((pair[0]["age_interval"], pair[1]) for pair in pairs)
    ]
    return {
        "faces": len(chips),
        "mae": float(np.mean(errors)),
        "gender_accuracy": float(np.mean(correct)),
        "interval_coverage": float(np.mean(inside)),
    }


def recrop(
    chip: Image.Image, rng: np.random.Generator, width: float = 1, shift: float = 0, angle: float = 0
) -> Image.Image:
    """
    Crops a face in another way; space around the chip is its mirror image.

    Args:
        chip: Square face crop.
        rng: Generator of the directions of shift and turn.
        width: Side of the new crop as a share of the chip's.
        shift: Distance between both middles as a share of the chip's side.
        angle: Turn in degrees, either way.
    """
    side = chip.width
    mirrored = np.pad(np.asarray(chip.convert("RGB")), ((side // 2,) * 2, (side // 2,) * 2, (0, 0)), mode="reflect")
    turned = Image.fromarray(mirrored).rotate(angle * rng.choice((-1, 1)), Image.Resampling.BICUBIC)
    direction = rng.uniform(0, 2 * math.pi)
    x, y = (turned.width / 2 + shift * side * part(direction) for part in (math.cos, math.sin))
    half = width * side / 2
    return turned.crop((round(x - half), round(y - half), round(x + half), round(y + half)))


def crop_box(chip: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Cuts out the box that the detector gives for the largest face."""
    chip = chip.convert("RGB")
    faces = find_largest(FaceDetector().detect(chip), 1)
    return chip.crop(tuple(round(side) for side in faces[0].box)) if faces else chip


CROPS = {
    "as UTKFace crops": recrop,
    **{f"{100 * share:.0f} % wider": partial(recrop, width=1 + share) for share in (0.1, 0.25, 0.5, 1)},
    **{f"{100 * share:.0f} % narrower": partial(recrop, width=1 - share) for share in (0.1, 0.25, 0.4)},
    **{f"shifted by {100 * share:.0f} %": partial(recrop, shift=share) for share in (0.1, 0.2)},
    **{f"turned by {angle}°": partial(recrop, angle=angle) for angle in (15, 30)},
    "the box of the face": crop_box,
    "a photo of 640×480": lambda chip, rng: paste_chip(chip, 160, 0, (640, 480), rng)[0],
}


def measure_crops(pipeline: AgeGenderPipeline, chips: list[dict], seed: int) -> dict:
    """
    Scores the pipeline on other crops of the same faces, without detection and with it.

    `reported` is the share of crops whose framing the pipeline's check finds to be another one.
    """
    results = {}
    for name, crop in CROPS.items():
        rng = np.random.default_rng(seed)
        crops = [crop(chip["image"], rng) for chip in chips]
        as_it_is = [faces[0] for faces in pipeline(crops, detect_faces=False, batch_size=16)]
        detected = pipeline(crops, max_faces=1, batch_size=16)
        found = [index for index, faces in enumerate(detected) if faces]
        results[name] = {
            "without_detection": score(as_it_is, chips),
            "with_detection": score([detected[index][0] for index in found], [chips[index] for index in found]),
            "reported": float(np.mean([not is_framed(image, pipeline.face_detector) for image in crops])),
        }
        print(name, results[name], flush=True)
    return {"crops": results}


def compare(pipeline, chips: list[dict], seed: int) -> dict:
    """Compares the pipeline on pasted faces with the same crops as they are."""
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
        results = {"by_size": measure_by_size(chips, arguments.seed, FACE_SIDES)}
    elif arguments.crowd:
        results = {"crowd": CROWD, "by_size": measure_by_size(chips, arguments.seed, CROWD_SIDES, CROWD)}
    elif arguments.template:
        results = measure_template(chips)
    elif arguments.crops:
        results = measure_crops(load_pipeline(arguments.model), chips, arguments.seed)
    else:
        results = compare(load_pipeline(arguments.model), chips, arguments.seed)
    has_model = not (arguments.by_size or arguments.crowd or arguments.template)
    results = {
        "data_dir": name_data(arguments.data_dir),
        "seed": arguments.seed,
        "num_faces": len(chips),
        **results,
        "weights_sha256": compute_weights_sha256(arguments.model) if has_model else None,
        **describe_machine(),
    }
    report(results, arguments.output)


if __name__ == "__main__":
    run(main)
