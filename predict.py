"""
Writes the ages and genders of the faces in many pictures and films into a table.

    python predict.py --data_dir my_photos --output faces.parquet
    python predict.py --data_dir 'my_photos/**/*.jpg' --output faces.csv
    python predict.py --data_dir film.mp4 --output film.csv --annotated_video annotated.mp4
    accelerate launch predict.py ...                  # on several GPUs
    torchrun --nproc_per_node 2 predict.py ...        # on a CPU

The same command resumes an interrupted run.
"""

import argparse
import hashlib
import heapq
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from itertools import groupby
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from PIL import Image
from tqdm.auto import tqdm

from configuration_agegender import AgeGenderConfig
from data.sources import READING_ERRORS, Entry, Source
from files.pictures import PhotoError
from files.writing import EXISTS, OutputParser
from hub.errors import run
from hub.loading import load_pipeline
from image_processing_agegender import check_age_thresholds
from metrics.results import name_count, name_data
from photos.face_table import make_face_rows, make_unreadable_row, name_threshold
from photos.film_table import FILM_COLUMNS, make_frame_rows, open_film_table
from photos.films import CODECS, count_slots, read_frames
from photos.people import OPTIONS
from photos.reading import read_picture
from photos.table_parts import FACE_COLUMNS, WRITERS, Parts
from pipeline_agegender import BACKENDS, AgeGenderPipeline, read_ahead


MAX_FRAMES_PER_SECOND = 1000


def parse_arguments() -> argparse.Namespace:
    parser = OutputParser(
        description="Writes the ages and genders of the faces in many pictures and films into a table."
    )
    parser.add_argument("--model", default=".", help="Model folder or Hub id. Default: the working directory.")
    parser.add_argument("--revision", help="Branch, tag or commit of a model on the Hub.")
    parser.add_argument(
        "--data_dir",
        required=True,
        nargs="+",
        help="Folder, picture, film, zip or tar archive, pattern of such paths in quotes, Parquet file or folder, or data set id.",
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
    parser.add_argument("--frames_per_second", type=float, default=5.0, help="Frames to read of a film. Default: 5.")
    parser.add_output(
        "--annotated_video", help="Film to write with boxes and numbers, .mp4 or .webm, of the only film."
    )
    arguments = parser.parse_args()
    if len(arguments.data_dir) > 1:
        parser.error("--data_dir takes one path; a pattern needs quotes, as in --data_dir 'my_photos/*.jpg'.")
    arguments.data_dir = arguments.data_dir[0]
    if arguments.output.suffix.lower() not in WRITERS:
        parser.error(f"--output must end in {' or '.join(WRITERS)}, got {arguments.output}.")
    if arguments.annotated_video and arguments.annotated_video.suffix.lower() not in CODECS:
        parser.error(f"--annotated_video must end in {' or '.join(CODECS)}, got {arguments.annotated_video}.")
    if not 0 < arguments.frames_per_second <= MAX_FRAMES_PER_SECOND:
        limit = f"above 0 and at most {MAX_FRAMES_PER_SECOND}"
        parser.error(f"--frames_per_second must be {limit}, got {arguments.frames_per_second}.")
    for name in ("per_device_eval_batch_size", "pictures_per_part"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(arguments, name)}.")
    return arguments


def describe_run(arguments: argparse.Namespace, source: Source, pipe: AgeGenderPipeline, has_films: bool) -> dict:
    """Returns the settings that the rows depend on: photos, model and detection, but not the version of the code."""
    digest = hashlib.sha256((pipe.model.compute_digest() + pipe.image_processor.to_json_string()).encode())
    return {
        "data_dir": name_data(arguments.data_dir),
        "files": source.fingerprint(),
        "model": digest.hexdigest()[:16],
        "no_detection": arguments.no_detection,
        "age_thresholds": arguments.age_thresholds,
        "backend": arguments.backend,
        **({"frames_per_second": arguments.frames_per_second} if has_films else {}),
    }


def count_pictures(entry: Entry, frames_per_second: float) -> int:
    """Returns how many pictures an entry holds: 1, or the frames to read of a film as the film says itself."""
    try:
        return count_slots(entry.film, frames_per_second, read_through=True) if entry.film else 1
    except PhotoError:  # which is reported when the film is read
        return 1


def check_annotated(films: list[str], frames_per_second: float):
    """Raises ValueError if there is no film to annotate, or more than one."""
    if len(films) != 1:
        raise ValueError(f"--annotated_video needs one film, but --data_dir holds {len(films)}: name the film itself.")
    next(read_frames(films[0], frames_per_second), None)


def read_entry(entry: Entry) -> bytes | ValueError:
    """Reads the content of a file, or returns the reason why it cannot be read."""
    try:
        return entry.read()
    except READING_ERRORS as error:
        return error if isinstance(error, PhotoError) else ValueError(f"This file cannot be read: {error}")


def read_film(
    entry: Entry, start: int, length: int, frames_per_second: float, is_wanted: Callable[[int], bool]
) -> Iterator[tuple[int, str, Image.Image | ValueError, float | None]]:
    """Yields what `read_pictures` does for the frames of a film, whose indices begin with `start`."""
    last = start + length - 1  # also the index of frames beyond the length that the film says itself
    if not any(map(is_wanted, range(start, last + 1))):
        return
    try:
        for frame in read_frames(entry.film, frames_per_second, lambda slot: is_wanted(min(start + slot, last))):
            yield min(start + frame.slot, last), entry.path, frame.picture, frame.time
    except PhotoError as error:
        if is_wanted(last):
            yield last, entry.path, error, None


def read_pictures(
    source: Source, lengths: list[int], frames_per_second: float, is_wanted: Callable[[int], bool]
) -> Iterator[tuple[int, str, bytes | Image.Image | ValueError, float | None]]:
    """
    Reads the pictures of a source and the frames of its films.

    Args:
        lengths: From `count_pictures`, for each entry.
        is_wanted: Whether to read the picture of an index.

    Yields:
        Index, path, content or the reason why there is none, and the seconds at which a frame is shown, None for a picture.
    """
    index = 0
    for entry, length in zip(source.entries(), lengths):
        if entry.film:
            yield from read_film(entry, index, length, frames_per_second, is_wanted)
        elif is_wanted(index):
            yield index, entry.path, read_entry(entry), None
        index += length


def decode_picture(path: str, content: bytes | Image.Image | ValueError) -> Image.Image | ValueError:
    """Reads a picture from the content of a file, or returns the reason why there is none. A frame is decoded already."""
    if isinstance(content, ValueError | Image.Image):
        return content
    try:
        picture = read_picture(content)
        picture.filename = path  # by which a warning names it
        return picture
    except PhotoError as error:
        return error


def label_pictures(
    pipe: AgeGenderPipeline, contents: Iterable[tuple], batch_size: int, **options
) -> Iterator[tuple[int, list[dict]]]:
    """
    Labels pictures one after another.

    Args:
        contents: As `read_pictures` yields them.
        batch_size: Faces in one forward pass; they may come from several pictures.
        options: Those of the pipeline.

    Yields:
        The index of each picture and its rows of `face_table` or `film_table`, in their order.
    """
    waiting = deque()

    def decode(item: tuple) -> tuple:
        index, path, content, seconds = item
        return index, path, decode_picture(path, content), seconds

    def open_pictures():
        # An archive gives the content of an entry before it moves on to the next one. Only the decoding is done ahead.
        for index, path, picture, seconds in read_ahead(decode, contents):
            error = picture if isinstance(picture, ValueError) else None
            more_pages = error is None and picture.info.get("more_pages", False)
            waiting.append((index, path, error, more_pages, seconds))
            # An unreadable picture is replaced by one without faces, so each picture has one answer.
            yield Image.new("RGB", (1, 1)) if error else picture

    for faces in pipe(open_pictures(), batch_size=batch_size, **options):
        index, name, error, more_pages, seconds = waiting.popleft()
        if error:
            rows = [make_unreadable_row(name, error)]
        else:
            rows = make_face_rows(name, faces) if seconds is None else make_frame_rows(name, seconds, faces)
        rows[0] |= {"more_pages": more_pages}  # not a column of the table, but counted at the end
        yield index, rows


def write_parts(parts: Parts, numbers: list[int], answers: Iterator[tuple[int, list[dict]]], progress: tqdm):
    """Writes the answers of `label_pictures`, part by part, also parts without any: a film may be shorter than it says."""
    empty = ((number * parts.pictures_per_part, []) for number in numbers)
    answers = heapq.merge(answers, empty, key=lambda answer: answer[0])
    for number, found in groupby(answers, key=lambda answer: answer[0] // parts.pictures_per_part):
        part = []
        for _, rows in found:
            part += rows
            progress.update(bool(rows))
        parts.write(number, part)
        show_progress(parts, progress)


def show_progress(parts: Parts, progress: tqdm) -> bool:
    """Moves the bar to the number of pictures in written parts; returns whether these are all."""
    done = parts.count_done()
    progress.update(done - progress.n)
    return done == parts.num_pictures


def merge(
    parts: Parts,
    config: AgeGenderConfig,
    films: list[str],
    people: Path,
    annotated_video: Path | None,
    thresholds: list[int],
) -> tuple[Counter, str]:
    """Merges the parts; returns their counts, and a sentence about the people of films."""
    if not films:
        return parts.merge(), ""
    counts = parts.merge(open_film_table(config, people, parts.folder, films[0], annotated_video, thresholds))
    count = "1 person" if counts["people"] == 1 else f"{counts['people']:,} people"
    return counts, f"{name_count(len(films), 'film')}: {count} (see {people})."


def report(parts: Parts, counts: Counter, noun: str, notes: Iterable[str], progress: tqdm):
    """Prints what has become of all files, and the speed of this run."""
    unreadable = f" (see {parts.unreadable})" if counts["unreadable"] else ""
    print(
        f"{name_count(counts['pictures'], noun)}: {name_count(counts['faces'], 'face')}, "
        f"{counts['without_face']:,} without one, {counts['unreadable']:,} unreadable{unreadable}."
    )
    if counts["more_pages"]:
        print(f"Only the first page or frame was used of {name_count(counts['more_pages'], 'picture')} with several.")
    for note in filter(None, notes):
        print(note)
    if labelled := progress.n - progress.initial:  # none if only the merging was left
        rate = labelled / progress.format_dict["elapsed"]
        faces = rate * counts["faces"] / counts["pictures"]
        print(f"{rate:.1f} {noun}s and {faces:.1f} faces a second, from file to answer.")
    print(f"Wrote {parts.output}")


def main():
    arguments = parse_arguments()
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),  # otherwise the processes of torchrun do not connect on CPUs
        # the other processes wait while the main one downloads a data set from the Hub
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(days=1))],
    )
    detect_faces = not arguments.no_detection
    people = arguments.output.with_suffix(f".people{arguments.output.suffix}")
    with accelerator.main_process_first():
        # The tables, their parts and the annotated film may lie among the pictures.
        outputs = filter(None, (arguments.output, people, arguments.annotated_video))
        source = Source(arguments.data_dir, labelled=False, left_out=outputs, films=True)
    rate, films, lengths = arguments.frames_per_second, [], []
    for entry in source.entries():
        lengths.append(count_pictures(entry, rate))
        films += [entry.film] if entry.film else []
    total, noun = sum(lengths), "image" if films else "picture"
    passed_over = source.passed_over
    if not total:
        raise ValueError(f"{arguments.data_dir} holds no picture. {passed_over}".strip())
    if arguments.annotated_video:
        check_annotated(films, rate)
    pipe = load_pipeline(
        arguments.model, arguments.revision, accelerator.device, detect_faces=detect_faces, backend=arguments.backend
    )
    thresholds = check_age_thresholds(arguments.age_thresholds or (), pipe.model.config.num_age_classes)
    columns = (*FACE_COLUMNS, *map(name_threshold, thresholds), *(FILM_COLUMNS if films else ()))
    settings = describe_run(arguments, source, pipe, bool(films))
    parts = Parts(arguments.output, total, arguments.pictures_per_part, settings, columns)
    is_resumed = parts.folder.exists()  # and may have written the people
    if films and people.exists() and not (is_resumed or arguments.overwrite):
        raise ValueError(EXISTS.format(people, "--output"))
    with accelerator.main_process_first():
        numbers = parts.open(accelerator.is_main_process)
    accelerator.wait_for_everyone()  # all processes list the parts before one writes another
    numbers = numbers[accelerator.process_index :: accelerator.num_processes]
    share = set(numbers)
    contents = read_pictures(source, lengths, rate, lambda index: index // arguments.pictures_per_part in share)
    options = {"detect_faces": detect_faces, "age_thresholds": thresholds} | (OPTIONS if films else {})
    answers = label_pictures(pipe, contents, arguments.per_device_eval_batch_size, **options)
    with tqdm(
        desc="Labelling",
        unit=f" {noun}s",
        total=total,
        initial=parts.count_done(),
        smoothing=0,  # shows the mean rate, as the pictures of other processes are counted in leaps
        disable=not accelerator.is_main_process,
    ) as progress:
        write_parts(parts, numbers, answers, progress)
        # A barrier would time out if one process took much longer than another.
        while accelerator.is_main_process and not show_progress(parts, progress):
            time.sleep(0.5)
    if accelerator.is_main_process:
        counts, note = merge(parts, pipe.model.config, films, people, arguments.annotated_video, thresholds)
        report(parts, counts, noun, (str(passed_over), note), progress)
    accelerator.end_training()


if __name__ == "__main__":
    run(main)
