"""
Writes the ages and genders of the faces in many pictures into a table.

    python predict.py --data_dir my_photos --output faces.parquet
    python predict.py --data_dir 'my_photos/**/*.jpg' --output faces.csv
    accelerate launch predict.py ...                  # on several GPUs
    torchrun --nproc_per_node 2 predict.py ...        # on a CPU

The same command resumes an interrupted run.
"""

import argparse
import hashlib
import time
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import groupby

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from PIL import Image
from tqdm.auto import tqdm

from data.sources import READING_ERRORS, Entry, Source
from files.pictures import PassedOver, PhotoError
from files.writing import OutputParser
from hub.errors import run
from hub.loading import load_pipeline
from image_processing_agegender import check_age_thresholds
from metrics.results import name_count, name_data
from photos.face_table import make_face_rows, make_unreadable_row, name_threshold
from photos.reading import read_picture
from photos.table_parts import FACE_COLUMNS, WRITERS, Parts
from pipeline_agegender import BACKENDS, AgeGenderPipeline, read_ahead


def parse_arguments() -> argparse.Namespace:
    parser = OutputParser(description="Writes the ages and genders of the faces in many pictures into a table.")
    parser.add_argument("--model", default=".", help="Model folder or Hub id. Default: the working directory.")
    parser.add_argument("--revision", help="Branch, tag or commit of a model on the Hub.")
    parser.add_argument(
        "--data_dir",
        required=True,
        nargs="+",
        help="Folder, picture, zip or tar archive, pattern of such paths in quotes, Parquet file or folder, or data set id.",
    )
    parser.add_output(required=True, help="Table to write, .parquet or .csv.")
    parser.add_argument(
        "--no_detection", action="store_true", help="Take each picture as one face, cropped as in UTKFace."
    )
    parser.add_argument(
        "--age_thresholds",
        type=int,
        nargs="+",
        metavar="YEARS",
        help="Ages, such as 18 25, for each of which a column such as age_at_least_18 tells the probability of being at least so "
        "old.",
    )
    parser.add_argument(
        "--backend", choices=BACKENDS, default="torch", help="onnx runs the model's onnx/model.onnx. Default: torch."
    )
    parser.add_argument("--per_device_eval_batch_size", type=int, default=64, help="Faces in a batch. Default: 64.")
    parser.add_argument(
        "--pictures_per_part",
        type=int,
        default=200,
        help="Pictures in each part, of which an interruption loses one per process. Default: 200.",
    )
    arguments = parser.parse_args()
    if len(arguments.data_dir) > 1:
        parser.error("--data_dir takes one path; a pattern needs quotes, as in --data_dir 'my_photos/*.jpg'.")
    arguments.data_dir = arguments.data_dir[0]
    if arguments.output.suffix.lower() not in WRITERS:
        parser.error(f"--output must end in {' or '.join(WRITERS)}, got {arguments.output}.")
    for name in ("per_device_eval_batch_size", "pictures_per_part"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(arguments, name)}.")
    return arguments


def describe_run(arguments: argparse.Namespace, source: Source, pipe: AgeGenderPipeline) -> dict:
    """Returns the settings that the rows depend on: photos, model and detection, but not the version of the code."""
    digest = hashlib.sha256(pipe.model.config.to_json_string().encode())
    digest.update(pipe.image_processor.to_json_string().encode())
    for _, tensor in sorted(pipe.model.state_dict().items()):
        digest.update(tensor.cpu().numpy().tobytes())
    return {
        "data_dir": name_data(arguments.data_dir),
        "files": source.fingerprint(),
        "model": digest.hexdigest()[:16],
        "no_detection": arguments.no_detection,
        "age_thresholds": arguments.age_thresholds,
        "backend": arguments.backend,
    }


def read_entry(entry: Entry) -> bytes | ValueError:
    """Reads the content of a file, or returns the reason why it cannot be read."""
    try:
        return entry.read()
    except READING_ERRORS as error:
        return error if isinstance(error, PhotoError) else ValueError(f"This file cannot be read: {error}")


def decode_picture(path: str, content: bytes | ValueError) -> Image.Image | ValueError:
    """Reads a picture from the content of a file, or returns the reason why there is none."""
    if isinstance(content, ValueError):
        return content
    try:
        picture = read_picture(content)
        picture.filename = path  # by which a warning names it
        return picture
    except PhotoError as error:
        return error


def label_pictures(
    pipe: AgeGenderPipeline, entries: Iterable[tuple[int, Entry]], batch_size: int, **options
) -> Iterator[tuple[int, list[dict]]]:
    """
    Labels pictures one after another.

    Args:
        entries: Index and entry of each picture.
        batch_size: Faces in one forward pass; they may come from several pictures.
        options: Those of the pipeline.

    Yields:
        The index of each picture and its rows of `face_table`, in the order of the entries.
    """
    waiting = deque()

    def open_pictures():
        # An archive gives the content of an entry before it moves on to the next one. Only the decoding is done ahead.
        contents = ((index, entry.path, read_entry(entry)) for index, entry in entries)
        for index, path, picture in read_ahead(lambda item: (*item[:2], decode_picture(*item[1:])), contents):
            error = picture if isinstance(picture, ValueError) else None
            more_pages = error is None and picture.info.get("more_pages", False)
            waiting.append((index, path, error, more_pages))
            # An unreadable picture is replaced by one without faces, so each picture has one answer.
            yield Image.new("RGB", (1, 1)) if error else picture

    for faces in pipe(open_pictures(), batch_size=batch_size, **options):
        index, name, error, more_pages = waiting.popleft()
        rows = [make_unreadable_row(name, error)] if error else make_face_rows(name, faces)
        rows[0] |= {"more_pages": more_pages}  # not a column of the table, but counted at the end
        yield index, rows


def write_parts(parts: Parts, answers: Iterator[tuple[int, list[dict]]], progress: tqdm):
    """Writes the answers of `label_pictures`, part by part."""
    for number, found in groupby(answers, key=lambda answer: answer[0] // parts.pictures_per_part):
        part = []
        for _, rows in found:
            part += rows
            progress.update()
        parts.write(number, part)
        show_progress(parts, progress)


def show_progress(parts: Parts, progress: tqdm) -> bool:
    """Moves the bar to the number of pictures in written parts; returns whether these are all."""
    done = parts.count_done()
    progress.update(done - progress.n)
    return done == parts.num_pictures


def report(parts: Parts, passed_over: PassedOver, progress: tqdm):
    """Merges the parts and prints what has become of all files, and the speed of this run."""
    counts = parts.merge()
    unreadable = f" (see {parts.unreadable})" if counts["unreadable"] else ""
    print(
        f"{name_count(parts.num_pictures, 'picture')}: {name_count(counts['faces'], 'face')}, "
        f"{counts['without_face']:,} without one, {counts['unreadable']:,} unreadable{unreadable}."
    )
    if counts["more_pages"]:
        print(f"Only the first page or frame was used of {name_count(counts['more_pages'], 'picture')} with several.")
    if passed_over:
        print(passed_over)
    if labelled := progress.n - progress.initial:  # none if only the merging was left
        rate = labelled / progress.format_dict["elapsed"]
        faces = rate * counts["faces"] / parts.num_pictures
        print(f"{rate:.1f} pictures and {faces:.1f} faces a second, from file to answer.")
    print(f"Wrote {parts.output}")


def main():
    arguments = parse_arguments()
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),  # otherwise the processes of torchrun do not connect on CPUs
        # the other processes wait while the main one downloads a data set from the Hub
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(days=1))],
    )
    detect_faces = not arguments.no_detection
    with accelerator.main_process_first():
        # The table and its parts may lie among the pictures.
        source = Source(arguments.data_dir, labelled=False, left_out=arguments.output)
    total = sum(1 for _ in source.entries())
    passed_over = source.passed_over
    if not total:
        raise ValueError(f"{arguments.data_dir} holds no picture. {passed_over}".strip())
    pipe = load_pipeline(
        arguments.model, arguments.revision, accelerator.device, detect_faces=detect_faces, backend=arguments.backend
    )
    thresholds = check_age_thresholds(arguments.age_thresholds or (), pipe.model.config.num_age_classes)
    columns = (*FACE_COLUMNS, *dict.fromkeys(map(name_threshold, thresholds)))
    settings = describe_run(arguments, source, pipe)
    parts = Parts(arguments.output, total, arguments.pictures_per_part, settings, columns)
    with accelerator.main_process_first():
        numbers = parts.open(accelerator.is_main_process)
    accelerator.wait_for_everyone()  # all processes list the parts before one writes another
    share = set(numbers[accelerator.process_index :: accelerator.num_processes])
    entries = (pair for pair in enumerate(source.entries()) if pair[0] // arguments.pictures_per_part in share)
    options = {"detect_faces": detect_faces, "age_thresholds": thresholds}
    answers = label_pictures(pipe, entries, arguments.per_device_eval_batch_size, **options)
    with tqdm(
        desc="Labelling",
        unit=" pictures",
        total=total,
        initial=parts.count_done(),
        smoothing=0,  # shows the mean rate, as the pictures of other processes are counted in leaps
        disable=not accelerator.is_main_process,
    ) as progress:
        write_parts(parts, answers, progress)
        # A barrier would time out if one process took much longer than another.
        while accelerator.is_main_process and not show_progress(parts, progress):
            time.sleep(0.5)
    if accelerator.is_main_process:
        report(parts, passed_over, progress)
    accelerator.end_training()


if __name__ == "__main__":
    run(main)
