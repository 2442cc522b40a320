"""
Crops the faces in photos as UTKFace's are, which is the framing that train.py and evaluation.py expect.

    python -m scripts.crop_faces my_photos --output_dir my_faces

Of each photo the largest face is written, under the name of the photo, with its labels.
"""

import argparse
import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePath

from tqdm.auto import tqdm

from data.sources import READING_ERRORS, Entry, Source
from data.tables import find_split
from face_detection import FaceDetector
from files.writing import OutputParser
from hub.errors import run
from image_processing_agegender import align_face
from image_reading import to_rgb
from metrics.results import name_count
from pipeline_agegender import CROP_SIDE, find_largest


def make_name(entry: Entry) -> str:
    """Returns the path of a crop below the output folder: that of the photo, as a JPEG, in the folder of its split."""
    path = PurePath(entry.path)
    parts = [part for part in path.parts if part not in ("..", path.anchor)]
    if entry.split and find_split(path.parent) != entry.split:
        parts.insert(0, entry.split)
    name = PurePath(*parts).as_posix()
    return name if name.lower().endswith((".jpg", ".jpeg")) else f"{name}.jpg"


def crop_faces(source: Source, output_dir: Path, counts: Counter) -> Iterator[dict]:
    """
    Writes a crop of the largest face of each photo, 200 x 200 pixels.

    Args:
        counts: Counts the photos by what is wrong with them.

    Yields:
        The path of each crop, `file_name`, and the labels that a table gives to its photo.
    """
    detector = FaceDetector()
    for entry in tqdm(source.entries(), desc="Cropping", unit=" photos"):
        try:
            image = to_rgb(entry.read())
        except READING_ERRORS as error:
            counts["unreadable"] += 1
            tqdm.write(f"{entry.path}: {error}")
            continue
        faces = detector.detect(image)
        if not faces:
            counts["without a face"] += 1
            tqdm.write(f"{entry.path}: no face was found.")
            continue
        if len(faces) > 1:
            counts["with several faces"] += 1
            tqdm.write(f"{entry.path}: {len(faces)} faces, of which the largest is taken.")
        name = make_name(entry)
        (output_dir / name).parent.mkdir(parents=True, exist_ok=True)
        crop = align_face(image, find_largest(faces, 1)[0].landmarks, size=CROP_SIDE)
        crop.save(output_dir / name, quality=95)
        yield {"file_name": name} | (entry.labels or {})


def parse_arguments() -> argparse.Namespace:
    parser = OutputParser(description="Crops the largest face of each photo as UTKFace's are.")
    parser.add_argument("data_dir", help="Photos, in any of the forms of --data_dir of train.py.")
    parser.add_output("--output_dir", required=True, help="Folder for the crops.")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    source, counts = Source(arguments.data_dir), Counter()
    rows = list(crop_faces(source, arguments.output_dir, counts))
    if not rows:
        raise ValueError(f"No face was found in {arguments.data_dir}, so nothing was written.")
    (arguments.output_dir / "metadata.csv").unlink(missing_ok=True)  # the labels of an earlier call
    if any(len(row) > 1 for row in rows):
        with open(arguments.output_dir / "metadata.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, max(rows, key=len))
            writer.writeheader()
            writer.writerows(rows)
    print(f"Wrote {name_count(len(rows), 'face')} to {arguments.output_dir}. Look at them before training.")
    for what, count in counts.items():
        print(f"{name_count(count, 'photo')} {what}.")


if __name__ == "__main__":
    run(main)
