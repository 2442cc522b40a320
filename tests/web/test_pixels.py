"""The page resizes and turns pixels as Pillow does, and searches them as `face_detection.py` does."""

import base64

import numpy as np
import pytest
from PIL import Image

from face_detection import FaceDetector
from tests.support.browser import ASTRONAUT


pytestmark = pytest.mark.browser

RUN = """async ([name, width, height, data, rest]) => {
  const {Pixels, ...functions} = await import(new URL('resize.js', document.baseURI));
  const pixels = new Pixels(width, height, Uint8ClampedArray.from(atob(data), (character) => character.charCodeAt(0)));
  const answer = functions[name](pixels, ...rest);
  return [answer.width, answer.height, ...answer.data];
}"""
DETECT = """async ([width, height, data]) => {
  const load = (name) => import(new URL(name, document.baseURI));
  const names = ['resize.js', 'detect.js', 'network.js', 'settings.js'];
  const [{Pixels}, {FaceDetector}, {loadNetworks}, {detector}] = await Promise.all(names.map(load));
  const [network] = await loadNetworks(['yunet.onnx'], () => {});
  return new FaceDetector(network, detector).detect(new Pixels(width, height, Uint8ClampedArray.from(atob(data), (character) => character.charCodeAt(0))));
}"""
BOXES = [(3, 5, 40, 38), (7.3, 0, 48, 31.9), (20.5, 11.25, 29.1, 17.6)]


def encode_pixels(image: Image.Image) -> str:
    """Returns RGBA in base64, which reaches the browser a hundred times as fast as a list of numbers."""
    return base64.b64encode(image.convert("RGBA").tobytes()).decode()


def run(page, name: str, image: Image.Image, *rest) -> np.ndarray:
    """Calls a function of resize.js; returns RGB."""
    width, height, *data = page.evaluate(RUN, [name, *image.size, encode_pixels(image), rest])
    return np.array(data, np.uint8).reshape(height, width, 4)[:, :, :3]


@pytest.mark.parametrize("gap", [None, 1.0, 2.0])
@pytest.mark.parametrize("resample", [2, 3, 5])
@pytest.mark.parametrize("size", [(48, 40), (96, 80), (31, 52), (17, 3), (5, 7), (1, 1)])
def test_resizing_is_pillows(ready_page, noise, size, resample, gap):
    expected = np.asarray(noise.resize(size, resample, reducing_gap=gap))
    np.testing.assert_array_equal(run(ready_page, "resize", noise, size, resample, gap or 0), expected)


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("gap", [None, 1.0])
@pytest.mark.parametrize("size", [(48, 40), (25, 21), (7, 5)])
def test_resizing_a_box_is_pillows(ready_page, noise, size, gap, box):
    expected = np.asarray(noise.resize(size, 5, box, gap))
    np.testing.assert_array_equal(run(ready_page, "resize", noise, size, 5, gap or 0, box), expected)


@pytest.mark.parametrize("resample", [2, 5])
@pytest.mark.parametrize("size", [(4, 97), (61, 40), (3, 2)])
def test_resizing_high_pictures_in_strips_is_pillows(ready_page, size, resample):
    image = Image.effect_noise((9, 700), 80).convert("RGB")
    expected = np.asarray(image.resize(size, resample, reducing_gap=2.0))
    np.testing.assert_array_equal(run(ready_page, "resize", image, size, resample, 2), expected)


@pytest.mark.parametrize("resample", [2, 3])
@pytest.mark.parametrize(
    "matrix",
    [(1, 0, 0, 0, 1, 0), (0.7, 0.31, -3.2, -0.31, 0.7, 9.9), (1.4, -0.2, 5, 0.2, 1.4, -8), (0.2, 0, 40, 0, 0.2, 36)],
)
def test_transforming_is_pillows(ready_page, noise, matrix, resample):
    expected = noise.transform((32, 32), Image.Transform.AFFINE, matrix, resample)
    np.testing.assert_array_equal(run(ready_page, "transform", noise, matrix, 32, resample), np.asarray(expected))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "group_side"), [((512, 512), 0), ((301, 299), 0), ((150, 97), 0), ((800, 600), 160), ((800, 600), 240)]
)
def test_detector_finds_the_same_faces(ready_page, photo, size, group_side):
    """A group in the corner holds small faces, for which the largest size is searched wholly or in part."""
    image = photo.resize(size)
    if group_side:
        image.paste(Image.open(ASTRONAUT.parent / "portraits" / "group.jpg").resize((group_side, group_side)))
    faces, expected = ready_page.evaluate(DETECT, [*size, encode_pixels(image)]), FaceDetector().detect(image)
    assert len(faces) == len(expected) >= 1
    for face, wanted in zip(faces, expected, strict=True):
        np.testing.assert_allclose(face["box"], wanted.box, atol=0.01)
        np.testing.assert_allclose(face["landmarks"], wanted.landmarks, atol=0.01)
        assert face["score"] == pytest.approx(wanted.score, abs=0.001)
