"""Pictures, the answers of the pipeline for them, and predict.py as a call."""

import io
from pathlib import Path

import pytest
from PIL import Image

from photos.face_table import make_face_rows
from photos.table_parts import FACE_COLUMNS
from tests.support.picture_sources import write_folder
from tests.support.predictions import BROKEN, make_command, read_rows
from tests.support.processes import run_here


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory, estimator) -> Path:
    folder = tmp_path_factory.mktemp("predict_model")
    estimator.model.save_pretrained(folder)
    estimator.image_processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pictures(photo, noise) -> dict[str, bytes]:
    """Content by path, in order: pictures of 1, 2, 0, 1, 1 faces and a broken one between them, names odd and plain."""
    small = photo.crop((80, 0, 368, 256))
    two = Image.new("RGB", (576, 256))
    two.paste(small, (0, 0))
    two.paste(small.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (288, 0))
    images = {'=1+1, "a".jpg': small, "Größe 🎂.png": two, "nobody.webp": noise, "sub/1.jpg": small.rotate(9)}
    contents = {}
    for name, image in images.items():
        stream = io.BytesIO()
        image.save(stream, {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[name.rpartition(".")[2]])
        contents[name] = stream.getvalue()
    contents["sub/a/1.jpg"] = contents["sub/1.jpg"]
    return contents | {BROKEN: contents["sub/1.jpg"][:900]}


@pytest.fixture(scope="session")
def expected(pictures, estimator) -> list[dict]:
    """The answers of the pipeline for each picture alone."""
    rows = []
    for name in sorted(pictures, key=lambda name: Path(name).parts):
        if name != BROKEN:
            rows += make_face_rows(name, estimator(Image.open(io.BytesIO(pictures[name]))))
    rows = [{column: row[column] for column in FACE_COLUMNS} for row in rows if row["face"]]
    assert [row["face"] for row in rows] == [1, 1, 2, 1, 1]
    return rows


@pytest.fixture(scope="session")
def folder(tmp_path_factory, pictures) -> str:
    return write_folder(tmp_path_factory.mktemp("predict") / "photos", pictures)


@pytest.fixture
def run_predict(model_folder, tmp_path):
    """Calls main() as the command line does; returns the rows of the table."""

    def run(data_dir: str, *words: str, output: str = "faces.parquet") -> list[dict]:
        file = tmp_path / output
        run_here("predict", make_command(model_folder, data_dir, file, *words)[1:])
        assert {path.name for path in file.parent.glob(f"{file.name}*")} <= {file.name, f"{file.name}.unreadable.csv"}
        return read_rows(file)

    return run
