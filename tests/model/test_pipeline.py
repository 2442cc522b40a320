"""The pipeline: inputs, outputs, and the same results at each batch size."""

import base64
import copy
import io
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

import face_detection
from face_detection import DetectedFace, FaceDetector
from image_processing_agegender import AgeGenderImageProcessor
from image_reading import to_rgb
from pipeline_agegender import AgeGenderPipeline, sort_in_rows
from tests.support.models import make_model


# A square around the head in the photo: small, since finding faces is what takes the time here.
PORTRAIT_BOX = (96, 0, 352, 256)
TILE = 128
EXIF_ORIENTATION = 0x0112
EXIF_TURN_CLOCKWISE = 6
# Faces of lossy copies are found within a few pixels.
BOX_TOLERANCE = 6


def make_collage(portrait: Image.Image, brightness: list[float]) -> Image.Image:
    """The portrait once for each brightness, side by side; a grey picture for none."""
    portrait = portrait.resize((TILE, TILE))
    collage = Image.new("RGB", (TILE * max(len(brightness), 1), TILE), (128, 128, 128))
    for index, factor in enumerate(brightness):
        collage.paste(ImageEnhance.Brightness(portrait).enhance(factor), (index * TILE, 0))
    return collage


@pytest.fixture(scope="module")
def portrait(photo) -> Image.Image:
    return photo.crop(PORTRAIT_BOX)


@pytest.fixture(scope="module")
def collages(portrait) -> list[Image.Image]:
    """Pictures of 0, 1, 3, 2 and 0 faces, no two of them alike."""
    return [make_collage(portrait, brightness) for brightness in ([], [1.0], [0.55, 1.2, 0.8], [0.7, 0.9], [])]


@pytest.fixture(scope="module")
def faces_of_collages(estimator, collages) -> list[list[dict]]:
    return [estimator(collage) for collage in collages]


@pytest.fixture(scope="module")
def faces(estimator, portrait) -> list[dict]:
    """What the pipeline returns for the portrait."""
    return estimator(portrait)


def assert_same_faces(found: list[dict], expected: list[dict], box: float = 0, age: float = 1e-3):
    """Faces that agree up to a number of pixels and of years."""
    assert len(found) == len(expected)
    for face, reference in zip(found, expected):
        assert face["gender"] == reference["gender"]
        assert face["age"] == pytest.approx(reference["age"], abs=age)
        assert face["gender_score"] == pytest.approx(reference["gender_score"], abs=age)
        assert face["box"] == pytest.approx(reference["box"], abs=box)


def test_face_dict(faces):
    (face,) = faces
    assert list(face) == ["age", "age_interval", "gender", "gender_score", "box", "detection_score"]
    assert isinstance(face["age"], float) and 0 <= face["age"] <= 100
    assert face["gender"] in ("male", "female")
    assert isinstance(face["gender_score"], float) and 0.5 <= face["gender_score"] <= 1
    assert list(face["box"]) == ["xmin", "ymin", "xmax", "ymax"]
    assert all(isinstance(value, int) for value in face["box"].values())
    # Seen by eye.
    assert face["box"] == pytest.approx({"xmin": 84, "ymin": 66, "xmax": 174, "ymax": 177}, abs=15)
    assert isinstance(face["detection_score"], float) and 0.7 < face["detection_score"] <= 1


def test_gender_is_the_likelier_one(portrait):
    """The labels and the score follow the logits, whichever side they lean to."""
    model = make_model(id2label={0: "a", 1: "b"})
    layer = model.gender_head.layers[-1]
    for logits, name in (([2.0, 0.0], "a"), ([0.0, 2.0], "b")):
        with torch.no_grad():
            layer.weight.zero_()
            layer.bias.copy_(torch.tensor(logits))
        estimator = AgeGenderPipeline(model=model, image_processor=AgeGenderImageProcessor())
        (face,) = estimator(portrait, detect_faces=False)
        assert face["gender"] == name
        assert face["gender_score"] == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 16])
def test_batches_change_nothing(estimator, collages, faces_of_collages, batch_size):
    found = estimator(collages, batch_size=batch_size)
    assert [len(faces) for faces in found] == [0, 1, 3, 2, 0]
    for faces, reference in zip(found, faces_of_collages):
        assert_same_faces(faces, reference)
    # Else a wrong order would not show.
    assert min(np.diff(sorted(face["age"] for faces in found for face in faces))) > 5e-3


def test_faces_come_from_left_to_right(faces_of_collages):
    for index, face in enumerate(faces_of_collages[2]):
        assert index * TILE < face["box"]["xmin"] < face["box"]["xmax"] < (index + 1) * TILE


def test_faces_come_row_by_row():
    """Two rows, whose faces stand at uneven heights, and a small face behind the second one."""
    corners = [(0, 10), (100, 0), (200, 30), (10, 130), (90, 150), (210, 120)]
    faces = [DetectedFace((left, top, left + 60, top + 80), np.zeros((5, 2)), 0.9) for left, top in corners]
    faces.insert(4, DetectedFace((80, 160, 85, 165), np.zeros((5, 2)), 0.9))
    found = sort_in_rows(sorted(faces, key=lambda face: face.box[0]))
    assert [face.box for face in found] == [face.box for face in faces]


def test_generator_gives_one_list_a_picture(estimator, collages):
    found = list(estimator(collage for collage in collages))
    assert [len(faces) for faces in found] == [0, 1, 3, 2, 0]


@pytest.mark.parametrize(
    "convert",
    [
        np.asarray,
        lambda portrait: np.asarray(portrait).transpose(2, 0, 1),
        lambda portrait: torch.from_numpy(np.asarray(portrait).copy()),
        lambda portrait: torch.from_numpy(np.asarray(portrait).transpose(2, 0, 1).copy()),
    ],
    ids=["array", "array, channels first", "tensor", "tensor, channels first"],
)
def test_arrays_and_tensors(estimator, portrait, faces, convert):
    assert_same_faces(estimator(convert(portrait)), faces)


def test_grey_array(estimator, portrait):
    grey = portrait.convert("L")
    expected = estimator(grey.convert("RGB"))
    assert len(expected) == 1
    for array in (np.asarray(grey), np.asarray(grey)[:, :, None], np.asarray(grey)[None]):
        assert_same_faces(estimator(array), expected)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((64, 64, 3), np.float32), "float32"),
        (torch.zeros(3, 64, 64), "float32"),
        (np.zeros((64, 64, 2), np.uint8), r"\(64, 64, 2\)"),
        (np.zeros((1, 2, 3, 64, 64), np.uint8), r"\(1, 2, 3, 64, 64\)"),
        (np.zeros((0, 64, 3), np.uint8), r"\(0, 64, 3\)"),
    ],
)
def test_other_arrays_are_refused(estimator, array, message):
    with pytest.raises(ValueError, match=message):
        estimator(array)


def test_paths(estimator, portrait, faces, tmp_path):
    path = tmp_path / "photo.png"
    portrait.save(path)
    assert_same_faces(estimator(str(path)), faces)
    for found in estimator([str(path), path]):
        assert_same_faces(found, faces)


@pytest.fixture
def server(tmp_path, monkeypatch) -> str:
    """The address of a server of the files in tmp_path."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_address(estimator, portrait, faces, tmp_path, server):
    """A picture over http, a page that is not one, a page and a server that are not there."""
    portrait.save(tmp_path / "photo.png")
    (tmp_path / "other.jpg").write_text("<p>not here</p>")
    assert_same_faces(estimator(f"{server}/photo.png", timeout=10), faces)
    for address in (f"{server}/other.jpg", f"{server}/missing.jpg", "http://127.0.0.1:9/photo.jpg"):
        with pytest.raises(ValueError, match=f"{address} cannot be read as an image"):
            estimator(address, timeout=10)


def test_pixels_are_the_same_from_path_and_address(noise, tmp_path, server):
    """16-bit values are scaled and transparent pixels white, wherever the picture comes from."""
    deep = Image.fromarray(np.asarray(noise.convert("L"), dtype=np.uint16) * 257)
    clear = noise.copy()
    clear.putalpha(0)
    for picture in (deep, clear):
        path = tmp_path / "photo.png"
        picture.save(path)
        data_address = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
        expected = to_rgb(path).tobytes()
        assert len(set(expected)) == 1 or len(set(expected)) > 200 and picture is deep
        assert to_rgb(f"{server}/photo.png").tobytes() == expected
        assert to_rgb(data_address).tobytes() == expected


def test_truncated_picture_is_named(tmp_path, portrait):
    path = tmp_path / "cut.jpg"
    portrait.save(path)
    path.write_bytes(path.read_bytes()[:2000])
    content = io.BytesIO(path.read_bytes())
    for picture, name in ((path, "cut.jpg"), (Image.open(path), "cut.jpg"), (Image.open(content), "A JpegImageFile")):
        with pytest.raises(ValueError, match=f"{name} cannot be read as an image"):
            to_rgb(picture)


def test_no_picture_gives_no_list(estimator):
    assert estimator([]) == []


def test_exif_rotation(estimator, portrait, faces, tmp_path):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = EXIF_TURN_CLOCKWISE
    path = tmp_path / "turned.jpg"
    portrait.rotate(90).save(path, exif=exif, quality=95)
    for picture in (str(path), Image.open(path)):
        assert_same_faces(estimator(picture), faces, box=BOX_TOLERANCE, age=1)


def test_16_bit_png(estimator, portrait, tmp_path):
    grey = portrait.convert("L")
    path = tmp_path / "deep.png"
    Image.fromarray(np.asarray(grey, dtype=np.uint16) * 257).save(path)
    assert Image.open(path).mode.startswith("I")
    for picture in (str(path), Image.open(path)):
        assert_same_faces(estimator(picture), estimator(grey))


def test_cmyk_jpeg(estimator, portrait, faces, tmp_path):
    path = tmp_path / "print.jpg"
    portrait.convert("CMYK").save(path, quality=95)
    assert Image.open(path).mode == "CMYK"
    assert_same_faces(estimator(str(path)), faces, box=BOX_TOLERANCE, age=1)


@pytest.mark.parametrize("content", [b"this is text", b"", b"\xff\xd8\xff\xe0 cut off"])
def test_file_that_is_no_picture_is_named(estimator, tmp_path, content):
    path = tmp_path / "letter.jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="letter.jpg"):
        estimator(str(path))


def test_missing_file_is_named(estimator):
    with pytest.raises(ValueError, match="nowhere.jpg"):
        estimator("nowhere.jpg")


@pytest.mark.parametrize("value", [7, None, {"image": 1}])
def test_other_types_are_refused(estimator, value):
    with pytest.raises(ValueError, match=type(value).__name__):
        estimator(value)


def test_whole_picture_as_a_face(estimator, noise):
    """The network sees the picture as it is."""
    (face,) = estimator(noise, detect_faces=False)
    assert face["box"] == {"xmin": 0, "ymin": 0, "xmax": 48, "ymax": 40}
    assert face["detection_score"] is None
    with torch.no_grad():
        output = estimator.model(estimator.image_processor(noise, return_tensors="pt").pixel_values)
    assert face["age"] == pytest.approx(output.age.item(), abs=1e-4)
    assert face["gender_score"] == pytest.approx(output.gender_logits.softmax(dim=-1).max().item(), abs=1e-5)


def test_crops(estimator, portrait, noise):
    (face,) = estimator(portrait, return_crops=True)
    assert isinstance(face["crop"], Image.Image)
    assert face["crop"].size == (200, 200) and face["crop"].mode == "RGB"
    # The crop shows what the network saw.
    (again,) = estimator(face["crop"], detect_faces=False)
    assert again["age"] == face["age"]
    (whole,) = estimator(noise, detect_faces=False, return_crops=True)
    assert whole["crop"].tobytes() == noise.tobytes()


def test_turned_face_gives_a_similar_crop(estimator, portrait):
    """Mean difference in grey levels of a face turned by 25 degrees: less than three fifths of what not turning it back has.

    The detector's landmarks differ by some degrees between the two (see MAX_CHANGE in face_detection.py).
    """
    (upright,) = estimator(portrait, return_crops=True)
    (turned,) = estimator(portrait.rotate(25, Image.Resampling.BICUBIC, center=(129, 121)), return_crops=True)

    def difference(image: Image.Image) -> float:
        """Over the middle, away from corners that the turn has brought in."""
        box = (40, 40, 160, 160)
        pair = (np.asarray(crop.crop(box), dtype=float) for crop in (upright["crop"], image))
        return float(np.abs(next(pair) - next(pair)).mean())

    not_turned_back = upright["crop"].rotate(25, Image.Resampling.BICUBIC)
    assert difference(turned["crop"]) < 3 / 5 * difference(not_turned_back)


def test_age_distribution(estimator, portrait):
    (face,) = estimator(portrait, return_age_distribution=True)
    distribution = face["age_distribution"]
    assert len(distribution) == 101
    assert sum(distribution) == pytest.approx(1, abs=1e-5)
    below = sum(distribution[: round(face["age"])])
    assert below <= 0.5 <= below + distribution[round(face["age"])]


def test_age_interval(estimator, portrait):
    (face,) = estimator(portrait)
    low, high = face["age_interval"]
    assert isinstance(low, float) and 0 <= low < face["age"] < high <= 100


def test_unknown_parameter_is_refused(estimator, portrait):
    with pytest.raises(TypeError, match="return_corps"):
        estimator(portrait, return_corps=True)


def test_without_onnx_runtime(estimator, portrait, monkeypatch):
    monkeypatch.setattr(face_detection, "onnxruntime", None)
    monkeypatch.setattr(estimator, "face_detector", FaceDetector())
    with pytest.raises(ImportError, match="pip install.*onnxruntime.*detect_faces=False"):
        estimator(portrait)
    assert len(estimator(portrait, detect_faces=False)) == 1


def test_largest_faces_stay_in_order(estimator, portrait):
    """Three faces, the one in the middle the smallest."""
    picture = Image.new("RGB", (3 * TILE, TILE), (128, 128, 128))
    for index, side in enumerate((110, 90, TILE)):
        picture.paste(portrait.resize((side, side)), (index * TILE, 0))
    everyone = estimator(picture)
    assert len(everyone) == 3
    for count, kept in ((1, [2]), (2, [0, 2]), (3, [0, 1, 2]), (9, [0, 1, 2])):
        assert_same_faces(estimator(picture, max_faces=count), [everyone[index] for index in kept])


def test_threshold_is_the_least_detection_score(estimator, collages, faces_of_collages):
    scores = sorted(face["detection_score"] for face in faces_of_collages[2])
    assert 0.8 < scores[0] < scores[1]
    found = estimator(collages[2], threshold=(scores[0] + scores[1]) / 2)
    assert sorted(face["detection_score"] for face in found) == scores[1:]
    assert estimator(collages[2], threshold=1) == []


def test_options_of_the_pipeline_hold_for_each_call(estimator, collages):
    made = AgeGenderPipeline(model=estimator.model, image_processor=estimator.image_processor, max_faces=1)
    assert len(made(collages[2])) == 1 and len(made(collages[2], max_faces=2)) == 2


@pytest.mark.parametrize(
    "options",
    [{"threshold": value} for value in (-0.1, 1.5, 80, "0.5", float("nan"))]
    + [{"max_faces": value} for value in (0, -1, 1.5, "2")],
    ids=repr,
)
def test_options_that_cannot_be_are_refused(estimator, portrait, options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"{name} must be .*, got {value!r}"):
        estimator(portrait, **options)


def test_half_precision_model(estimator, portrait, faces):
    model = copy.deepcopy(estimator.model).to(torch.bfloat16)
    half = AgeGenderPipeline(model=model, image_processor=estimator.image_processor)
    assert_same_faces(half(portrait), faces, age=1)
