"""
Draws the distributions of age, gender and race of a face data set.

    python -m scripts.plot_dataset UTKFace.tar.gz --output_dir figures
"""

from pathlib import Path

import datasets
import numpy as np
from matplotlib.figure import Figure

from data.labels import GENDERS, MAXIMUM_AGE, RACES
from data.utkface import load_utkface
from files.writing import OutputParser
from hub.errors import run


def draw_figures(dataset: datasets.DatasetDict, output_dir: Path) -> list[Path]:
    """Writes `age_gender.png` and, if races are known, `race_age.png`; returns their paths. A band counts as its middle."""
    columns = ["age_low", "age_high", "gender", "race"]
    table = datasets.concatenate_datasets(list(dataset.values())).select_columns(columns).to_pandas()
    table["age"] = (table.age_low + table.age_high) / 2
    output_dir.mkdir(parents=True, exist_ok=True)
    bins = np.arange(0, MAXIMUM_AGE + 5, 5)
    total = f"{len(table):,} images"

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    gender_axes, age_axes = figure.subplots(1, 2, width_ratios=(1, 3))
    counts = [int((table.gender == index).sum()) for index in range(len(GENDERS))]
    gender_axes.bar_label(gender_axes.bar(GENDERS, counts, color=["tab:blue", "tab:orange"]))
    gender_axes.set(title=f"Gender, {total}", ylabel="images", ylim=(0, 1.1 * max(counts)))
    age_axes.hist(
        [table.age[table.gender == index] for index in range(len(GENDERS))], bins, stacked=True, label=GENDERS
    )
    age_axes.set(title="Age by gender", xlabel="age in years", ylabel="images")
    age_axes.legend()
    age_gender = output_dir / "age_gender.png"
    figure.savefig(age_gender, dpi=110)
    if table.race.isna().all():
        return [age_gender]

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.hist([table.age[table.race == index] for index in range(len(RACES))], bins, stacked=True, label=RACES)
    axes.set(title=f"Age by race, {total}", xlabel="age in years", ylabel="images")
    axes.legend(title="label of the data set")
    race_age = output_dir / "race_age.png"
    figure.savefig(race_age, dpi=110)
    return [age_gender, race_age]


def main():
    parser = OutputParser(description="Draws the distributions of a face data set.")
    parser.add_argument("data_dir", help="Folder, tar or zip archive, table (CSV, Parquet), or data set id.")
    parser.add_output("--output_dir", required=True, help="Folder for the figures.")
    arguments = parser.parse_args()
    for file in draw_figures(load_utkface(arguments.data_dir), arguments.output_dir):
        print(f"Wrote {file}")


if __name__ == "__main__":
    run(main)
