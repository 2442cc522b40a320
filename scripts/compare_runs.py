"""
Compares finished trainings: prints a Markdown table and draws their curves.

    python -m scripts.compare_runs runs/plain runs/batch_norm runs/dropout --output curves.png
"""

import json
import math
import shlex
from pathlib import Path

from matplotlib.figure import Figure

from files.writing import OutputParser
from hub.errors import run
from metrics.results import ADULT_AGES, format_value, name_paths
from metrics.tables import format_rows
from training.arguments import parse_arguments


HEADERS = [
    "trial", "options", "minutes", "MAE", "CS@5", "gender", "21–60: MAE", "gender",
    "last epoch: MAE", "gender", "in training: MAE", "gender",
]  # fmt: skip
# Not listed in a row.
COMMON_OPTIONS = ("data_dir", "output_dir", "dataloader_num_workers", "checkpointing_steps", "resume_from_checkpoint")


def read_run(folder: Path) -> dict:
    """Reads the results of a training. Raises ValueError if there are none."""
    file = folder / "train_results.json"
    if not file.is_file():
        raise ValueError(f"{folder} has no train_results.json: is the training finished?")
    return json.loads(file.read_text(encoding="utf-8"))


def describe_options(arguments: dict, defaults: dict) -> str:
    """Returns the options that differ from the defaults, as on the command line."""
    words = []
    for name, value in arguments.items():
        if name in COMMON_OPTIONS or value is None or value is False or value == defaults.get(name):
            continue
        values = value if isinstance(value, list) else [value]
        words += [f"--{name}"] + ([] if value is True else [shlex.quote(str(item)) for item in values])
    return f"`{' '.join(words)}`" if words else "–"


def make_row(name: str, results: dict, defaults: dict) -> list[str]:
    """
    Returns a training as cells below `HEADERS`: the best weights on the validation images, then the last epoch.

    The last epoch is evaluated on the half of the validation images that selects the weights; the values in training are with
    augmentation and dropout.
    """
    metrics, last = results["metrics"]["validation"], results["history"][-1]
    adults = "_{}_{}".format(*ADULT_AGES)
    values = [metrics[key] for key in ("age_mae", "age_cs5", "gender_accuracy")]
    values += [metrics[key + adults] for key in ("age_mae", "gender_accuracy")]
    values += [last.get(prefix + key) for prefix in ("", "train_") for key in ("age_mae", "gender_accuracy")]
    styles = [".2f", ".1%", ".1%"] + [".2f", ".1%"] * 3
    minutes = f"{results['training_seconds'] / 60:.0f}"
    cells = [format_value(value, style) for value, style in zip(values, styles, strict=True)]
    return [name, describe_options(results["arguments"], defaults), minutes, *cells]


def draw_comparison(runs: dict[str, dict], file: Path):
    """Draws gender accuracy and age error by epoch of each run, on validation (solid) and training images (dashed)."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    gender_axes, age_axes = figure.subplots(1, 2)
    for number, (name, results) in enumerate(runs.items()):
        history, colour = results["history"], f"C{number}"
        epochs = [row["epoch"] for row in history]
        for axes, key, factor in ((gender_axes, "gender_accuracy", 100), (age_axes, "age_mae", 1)):
            for prefix, style, label in (("", "-", Path(name).name), ("train_", "--", None)):
                values = [row.get(prefix + key) for row in history]
                values = [math.nan if value is None else factor * value for value in values]
                axes.plot(epochs, values, style, color=colour, label=label)
    gender_axes.set(title="Gender accuracy, %: validation (solid), training (dashed)", xlabel="epoch")
    age_axes.set(title="Age MAE, years: validation (solid), training (dashed)", xlabel="epoch")
    for axes in (gender_axes, age_axes):
        axes.xaxis.get_major_locator().set_params(integer=True)
    gender_axes.legend()
    figure.savefig(file, dpi=110)


def main():
    parser = OutputParser(description="Compares finished trainings.")
    parser.add_argument("runs", type=Path, nargs="+", help="Output folders of train.py.")
    parser.add_output(help="Picture file for the curves. Default: they are not drawn.")
    arguments = parser.parse_args()
    runs = {str(folder): read_run(folder) for folder in arguments.runs}
    full = parse_arguments(["--from_scratch", "--data_dir", "", "--output_dir", ""])
    full.set_defaults(is_trained=False)
    defaults = name_paths(full.to_dict())
    del defaults["from_scratch"], defaults["config"]  # always listed
    print(format_rows([HEADERS, ["---"] * len(HEADERS)]))
    print(format_rows([make_row(name, results, defaults) for name, results in runs.items()]))
    if arguments.output:
        draw_comparison(runs, arguments.output)
        print(f"Wrote {arguments.output}")


if __name__ == "__main__":
    run(main)
