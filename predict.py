"""
Finds the faces of many pictures and writes their ages and genders into a table.

    python predict.py --data_dir photos --output faces.parquet
    python predict.py --data_dir 'photos/**/*.jpg' --output faces.csv
    accelerate launch predict.py ...      (several GPUs; on a CPU: torchrun --nproc_per_node 2 predict.py ...)

The same command goes on where an interrupted one stopped.
"""

import argparse
import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from PIL import Image
from tqdm.auto import tqdm

from data.sources import READING_ERRORS, Source
from data.tables import Entry
from hub.errors import FULL_DISK, explain
from hub.loading import load_pipeline
from metrics.results import name_data
from photos.face_table import error_row, face_rows
from photos.reading import read_picture
from photos.table_parts import WRITERS, Parts
from pipeline_agegender import AgeGenderPipeline


SECONDS_BETWEEN_LOOKS = 0.5
# What says of a picture what it says, beside the weights.
ANSWERING_CODE = (
    "face_detection.py",
    "image_processing_agegender.py",
    "modeling_agegender.py",
    "pipeline_agegender.py",
)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Writes the ages and genders of all faces of many pictures into a table.", allow_abbrev=False
    )
    parser.add_argument("--model", default=".", help="Model folder or Hub id. Default: the working directory.")
    parser.add_argument("--revision", help="Branch, tag or commit of a model on the Hub.")
    parser.add_argument(
        "--data_dir",
        required=True,
        nargs="+",
        help="Folder, pattern in quotes, zip or tar archive, Parquet file or folder, or data set id.",
    )
    parser.add_argument("--output", type=Path, required=True, help="The table to write: .parquet or .csv.")
    parser.add_argument(
        "--no_detection", action="store_true", help="Take each picture as one face, cropped as UTKFace crops."
    )
    parser.add_argument("--per_device_eval_batch_size", type=int, default=64, help="Faces in one forward pass.")
    parser.add_argument(
        "--pictures_per_part",
        type=int,
        default=200,
        help="Pictures between writes: an interruption loses at most these.",
    )
    arguments = parser.parse_args()
    if len(arguments.data_dir) > 1:
        parser.error("--data_dir takes one path; a pattern needs quotes, as in --data_dir 'photos/*.jpg'.")
    arguments.data_dir = arguments.data_dir[0]
    if arguments.output.suffix not in WRITERS:
        parser.error(f"--output must end in {' or '.join(WRITERS)}, got {arguments.output}.")
    for name in ("per_device_eval_batch_size", "pictures_per_part"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(arguments, name)}.")
    return arguments


def describe_run(arguments: argparse.Namespace, source: Source, pipe: AgeGenderPipeline) -> dict:
    """What the answers depend on."""
    digest = hashlib.sha256(pipe.model.config.to_json_string().encode())
    digest.update(pipe.image_processor.to_json_string().encode())
    for _, tensor in sorted(pipe.model.state_dict().items()):
        digest.update(tensor.cpu().numpy().tobytes())
    for file in ANSWERING_CODE:
        digest.update(Path(__file__).with_name(file).read_bytes())
    return {
        "data_dir": name_data(arguments.data_dir),
        "files": source.fingerprint(),
        "model": digest.hexdigest()[:16],
        "no_detection": arguments.no_detection,
    }


def read_entry(entry: Entry) -> Image.Image | ValueError:
    """The picture, or why there is none."""
    try:
        data = entry.read()
    except READING_ERRORS as error:
        return ValueError(f"This file cannot be read: {error}")
    try:
        return read_picture(data)
    except ValueError as error:
        return error


def label_pictures(
    pipe: AgeGenderPipeline, entries: Iterator[tuple[int, Entry]], batch_size: int, detect_faces: bool
) -> Iterator[tuple[int, list[dict]]]:
    """
    The rows of pictures, one picture at a time.

    Args:
        entries: Number and entry of each picture.
        batch_size: Faces that go through the network at once, also of several pictures.

    Yields:
        The number of a picture and its rows as of `face_table`, in the order of the entries.
    """
    waiting = deque()

    def read_pictures():
        for index, entry in entries:
            picture = read_entry(entry)
            # Names that are no text, as old systems leave them, cannot stand in a table.
            name = entry.path.encode("utf-8", "backslashreplace").decode()
            error = picture if isinstance(picture, ValueError) else None
            waiting.append((index, name, error))
            # A picture without faces keeps the answers in step.
            yield Image.new("RGB", (1, 1)) if error else picture

    for faces in pipe(read_pictures(), batch_size=batch_size, detect_faces=detect_faces):
        index, name, error = waiting.popleft()
        yield index, [error_row(name, error)] if error else face_rows(name, faces)


def write_parts(parts: Parts, numbers: set[int], label: Callable, source: Source, progress: tqdm):
    """
    Labels the pictures of some parts and writes these.

    Args:
        numbers: Of the parts.
        label: `label_pictures`, but for its entries.
        progress: Counts the pictures of all processes, those of others whenever a part is written.
    """
    size = parts.pictures_per_part
    entries = ((index, entry) for index, entry in enumerate(source.entries()) if index // size in numbers)
    rows, pictures = [], 0
    for index, found in label(entries):
        rows += found
        pictures += 1
        progress.update()
        number = index // size
        if pictures == parts.count_pictures(number):
            parts.write(number, rows)
            rows, pictures = [], 0
            show_progress(parts, progress)


def show_progress(parts: Parts, progress: tqdm) -> bool:
    """Moves the bar to the number of pictures in all parts that are there; True if these are all."""
    done = sum(map(parts.count_pictures, parts.find_done()))
    progress.update(done - progress.n)
    return done == parts.num_pictures


def open_parts(parts: Parts, accelerator: Accelerator) -> list[int]:
    """The numbers of the parts that are still to be written, the same on all processes."""
    if accelerator.is_main_process:
        parts.start()
    accelerator.wait_for_everyone()
    parts.check()
    left = sorted(set(parts.numbers) - parts.find_done())
    accelerator.wait_for_everyone()  # for all to have looked before one writes
    return left


def main():
    arguments = parse_arguments()
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),  # else the processes of torchrun would not find each other on CPUs
        # The others wait while the main process fetches a data set from the Hub.
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(days=1))],
    )
    with accelerator.main_process_first():
        # Its own table and parts may lie among the pictures.
        source = Source(arguments.data_dir, labelled=False, left_out=arguments.output)
    total = sum(1 for _ in source.entries())
    if not total:
        raise ValueError(f"{arguments.data_dir} holds no picture.")
    pipe = load_pipeline(
        arguments.model, arguments.revision, accelerator.device, detect_faces=not arguments.no_detection
    )
    parts = Parts(arguments.output, total, arguments.pictures_per_part, describe_run(arguments, source, pipe))
    numbers = open_parts(parts, accelerator)
    label = partial(
        label_pictures,
        pipe,
        batch_size=arguments.per_device_eval_batch_size,
        detect_faces=not arguments.no_detection,
    )
    with tqdm(
        desc="Labelling",
        unit=" pictures",
        total=total,
        initial=total - sum(map(parts.count_pictures, numbers)),
        smoothing=0,  # the mean rate: what other processes have done comes in leaps
        disable=not accelerator.is_main_process,
    ) as progress:
        share = numbers[accelerator.process_index :: accelerator.num_processes]
        write_parts(parts, set(share), label, source, progress)
        # Not a barrier, which would give up if one process took much longer than another.
        while accelerator.is_main_process and not show_progress(parts, progress):
            time.sleep(SECONDS_BETWEEN_LOOKS)
    if accelerator.is_main_process:
        counts = parts.merge()
        print(
            f"{total:,} pictures: {counts['faces']:,} faces, {counts['without_face']:,} without one, "
            f"{counts['unreadable']:,} unreadable{f' (see {parts.unreadable})' if counts['unreadable'] else ''}."
        )
        print(f"Wrote {arguments.output}")
    accelerator.end_training()


if __name__ == "__main__":
    try:
        main()
    except (ImportError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in FULL_DISK:
            error = f"{explain(error)}. Make room; the same command goes on where it stopped."
        raise SystemExit(f"predict.py: error: {error}")
    except KeyboardInterrupt:
        raise SystemExit("Interrupted. The same command goes on where it stopped.")
