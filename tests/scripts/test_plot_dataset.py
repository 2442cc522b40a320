"""The figures of a data set."""

import datasets
import pytest
from PIL import Image

from scripts.plot_dataset import draw_figures, main


def test_figures_are_drawn(tmp_path):
    columns = {
        "age_low": [1.0, 30.0, 50.0, None],
        "age_high": [1.0, 39.0, 50.0, None],
        "gender": [0, 1, None, 1],
        "race": [0, 1, 4, None],
    }
    dataset = datasets.DatasetDict({"train": datasets.Dataset.from_dict(columns)})
    files = draw_figures(dataset, tmp_path / "figures")
    assert [file.name for file in files] == ["age_gender.png", "race_age.png"]
    for file in files:
        with Image.open(file) as image:
            assert image.width > 500 and len(set(image.convert("L").tobytes())) > 50


def test_an_output_is_needed(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["plot_dataset.py", "faces"])
    with pytest.raises(SystemExit):
        main()
    assert "required: --output_dir" in capsys.readouterr().err
