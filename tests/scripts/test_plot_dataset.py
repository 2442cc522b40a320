"""The figures of a data set."""

import datasets
from PIL import Image

from scripts.plot_dataset import draw_figures


def test_figures_are_drawn(tmp_path):
    columns = {
        "age_low": [1.0, 30.0, 50.0, None],
        "age_high": [1.0, 39.0, 50.0, None],
        "gender": [0, 1, None, 1],
        "race": [0, 1, 4, None],
    }
    dataset = datasets.DatasetDict({"train": datasets.Dataset.from_dict(columns)})
    for file in draw_figures(dataset, tmp_path / "figures"):
        with Image.open(file) as image:
            assert image.width > 500 and len(set(image.convert("L").tobytes())) > 50
