"""The page resizes, turns and searches pixels as Pillow and OpenCV do."""

import numpy as np
import pytest
from PIL import Image

from face_detection import find_weights, load_yunet


pytestmark = pytest.mark.browser

RUN = """async ([name, width, height, data, rest]) => {
  const {Pixels, ...functions} = await import(new URL('resize.js', document.baseURI));
  const pixels = new Pixels(width, height, Uint8ClampedArray.from(data));
  const answer = functions[name](pixels, ...rest);
  return [answer.width, answer.height, ...answer.data];
}"""
DETECT = """async ([width, height, data]) => {
  const load = (name) => import(new URL(name, document.baseURI));
  const [{Pixels}, {runYunet}, {loadNetworks}] = await Promise.all(['resize.js', 'yunet.js', 'network.js'].map(load));
  const [network] = await loadNetworks(['yunet.onnx'], () => {});
  return runYunet(network, new Pixels(width, height, Uint8ClampedArray.from(data)), 0.4);
}"""


def list_pixels(image: Image.Image) -> list[int]:
    return np.asarray(image.convert("RGBA")).ravel().tolist()


def run(page, name: str, image: Image.Image, *rest) -> np.ndarray:
    """Calls a function of resize.js; returns RGB."""
    width, height, *data = page.evaluate(RUN, [name, *image.size, list_pixels(image), rest])
    return np.array(data, np.uint8).reshape(height, width, 4)[:, :, :3]


@pytest.mark.parametrize("gap", [None, 2.0])
@pytest.mark.parametrize("resample", [2, 3, 5])
@pytest.mark.parametrize("size", [(48, 40), (96, 80), (31, 52), (17, 3), (5, 7), (1, 1)])
def test_resizing_is_pillows(ready_page, noise, size, resample, gap):
    expected = np.asarray(noise.resize(size, resample, reducing_gap=gap))
    np.testing.assert_array_equal(run(ready_page, "resize", noise, size, resample, gap or 0), expected)


@pytest.mark.parametrize("resample", [2, 5])
@pytest.mark.parametrize("size", [(4, 97), (61, 40), (3, 2)])
def test_resizing_high_pictures_in_strips_is_pillows(ready_page, size, resample):
    image = Image.effect_noise((9, 700), 80).convert("RGB")
    expected = np.asarray(image.resize(size, resample, reducing_gap=2.0))
    np.testing.assert_array_equal(run(ready_page, "resize", image, size, resample, 2), expected)


@pytest.mark.parametrize(
    "matrix",
    [(1, 0, 0, 0, 1, 0), (0.7, 0.31, -3.2, -0.31, 0.7, 9.9), (1.4, -0.2, 5, 0.2, 1.4, -8), (0.2, 0, 40, 0, 0.2, 36)],
)
def test_transforming_is_pillows(ready_page, noise, matrix):
    expected = noise.transform((32, 32), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(run(ready_page, "transform", noise, matrix, 32), np.asarray(expected))


@pytest.mark.parametrize("size", [(512, 512), (301, 299), (150, 97)])
def test_network_finds_what_opencv_finds(ready_page, photo, size):
    image = photo.resize(size)
    rows = np.array(ready_page.evaluate(DETECT, [*size, list_pixels(image)]))
    yunet = load_yunet(find_weights())
    yunet.setInputSize(size)
    _, expected = yunet.detect(np.asarray(image)[:, :, ::-1].copy())
    assert len(rows) >= 1
    np.testing.assert_allclose(rows, expected, atol=0.01)
