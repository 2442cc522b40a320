"""Detection at each size and alignment to UTKFace's framing, on NASA's portrait of Eileen Collins."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage.data import chelsea, coffee, gravel, page

import face_detection
from face_detection import FaceDetector, find_weights, read_yunet
from image_processing_agegender import UTKFACE_TEMPLATE, align_face


ASSETS = Path(__file__).resolve().parents[2] / "assets"
# By eye, in pixels of the photo: eyes, nose, corners of the mouth.
ASTRONAUT_LANDMARKS = np.array([(206, 103), (246, 105), (224, 126), (206, 141), (243, 145)])


@pytest.fixture(scope="module")
def portrait(photo) -> Image.Image:
    """The photo's head, 180 x 180."""
    return photo.crop((135, 20, 315, 200))


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


def centre(face) -> np.ndarray:
    return np.array([face.box[0] + face.box[2], face.box[1] + face.box[3]]) / 2


def test_finds_the_face_of_a_photo(detector, photo):
    (face,) = detector.detect(photo)
    np.testing.assert_allclose(face.box, (180, 66, 270, 177), atol=8)
    np.testing.assert_allclose(face.landmarks, ASTRONAUT_LANDMARKS, atol=5)
    assert 0.85 < face.score <= 1


@pytest.mark.parametrize("angle", [-30, 0, 20])
def test_aligned_face_lies_on_the_template(detector, photo, angle):
    turned = photo.rotate(angle, Image.Resampling.BICUBIC, center=(224, 120))
    (face,) = detector.detect(turned)
    crop = align_face(turned, face.landmarks)
    assert crop.size == (200, 200) and crop.mode == "RGB"
    (again,) = detector.detect(crop)
    # YuNet itself moves by some 0.03 from one crop of this face to the next.
    np.testing.assert_allclose(again.landmarks / 200, UTKFACE_TEMPLATE, atol=0.08)
    np.testing.assert_allclose((again.landmarks / 200).mean(axis=0), UTKFACE_TEMPLATE.mean(axis=0), atol=0.04)
    x, y = again.landmarks[1] - again.landmarks[0]
    assert abs(np.degrees(np.arctan2(y, x))) < 8


def turn(picture: Image.Image, angle: float, points: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    """Turns a picture anticlockwise by an angle in degrees; returns it with the new places of points."""
    turned = picture.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    offsets = np.asarray(points) - np.array(picture.size) / 2
    return turned, offsets @ np.array([(cosine, -sine), (sine, cosine)]) + np.array(turned.size) / 2


@pytest.mark.parametrize("angle", range(15, 360, 15))
def test_a_turned_face_is_found_the_right_way_up(detector, portrait, angle):
    turned, expected = turn(portrait, angle, ASTRONAUT_LANDMARKS - (135, 20))
    (face,) = detector.detect(turned)
    np.testing.assert_allclose(face.landmarks, expected, atol=7)
    assert face.score > 0.9


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_the_box_of_a_turned_face_is_that_of_the_photo_as_it_is(detector, portrait, angle):
    (upright,) = detector.detect(portrait)
    turned, corners = turn(portrait, angle, np.reshape(upright.box, (2, 2)))
    (face,) = detector.detect(turned)
    np.testing.assert_allclose(face.box, (*corners.min(axis=0), *corners.max(axis=0)), atol=8)


def test_faces_of_one_photo_may_lie_in_several_ways(detector, portrait):
    picture, angles = Image.new("RGB", (900, 300), (120, 120, 120)), (0, 180, 90)
    for index, angle in enumerate(angles):
        picture.paste(portrait.rotate(angle, expand=True), (60 + 300 * index, 60))
    faces = detector.detect(picture)
    assert len(faces) == 3
    for index, (face, angle) in enumerate(zip(faces, angles, strict=True)):
        _, expected = turn(portrait, angle, ASTRONAUT_LANDMARKS - (135, 20))
        np.testing.assert_allclose(face.landmarks, expected + (60 + 300 * index, 60), atol=7)


@pytest.fixture
def shown(monkeypatch) -> list[tuple[int, int]]:
    """The sizes of the pictures that the network is shown."""
    sizes, run = [], FaceDetector._run

    def record(self, image, *arguments):
        sizes.append(image.size)
        return run(self, image, *arguments)

    monkeypatch.setattr(FaceDetector, "_run", record)
    return sizes


def test_a_photo_with_an_upright_face_is_not_searched_turned(shown, photo):
    detector = FaceDetector()
    assert len(detector.detect(photo)) == 1
    assert shown == [*detector.compute_sizes(*photo.size)[1:], (320, 320)]


@pytest.mark.parametrize("search_turned", [True, False])
def test_a_picture_without_a_face_is_searched_turned_at_the_small_sizes(shown, search_turned):
    detector = FaceDetector(search_turned=search_turned)
    assert detector.detect(Image.new("RGB", (800, 600))) == []
    finest, *others = detector.compute_sizes(800, 600)
    sideways = [(height, width) for width, height in others]
    assert len(others) == 2
    assert shown == [*others, finest, *(sideways * 2 + others if search_turned else [])]


@pytest.mark.parametrize("picture", [chelsea, coffee, gravel])
def test_pictures_without_a_face_have_none_turned_either(detector, picture):
    assert detector.detect(Image.fromarray(picture()).convert("RGB")) == []


def test_faces_come_from_left_to_right(detector, portrait):
    picture = Image.new("RGB", (900, 500), (120, 120, 120))
    places = [(650, 40), (40, 280), (340, 150)]
    for place in places:
        picture.paste(portrait, place)
    faces = detector.detect(picture)
    assert len(faces) == 3
    expected = [(left + 90, top + 100) for left, top in sorted(places)]
    np.testing.assert_allclose([centre(face) for face in faces], expected, atol=15)


@pytest.mark.parametrize("side", [60, 180, 1600, pytest.param(3000, marks=pytest.mark.slow)])
def test_finds_a_face_as_large_as_the_picture(detector, portrait, side):
    (face,) = detector.detect(portrait.resize((side, side), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(centre(face) / side, (0.5, 0.56), atol=0.05)


def test_finds_a_small_face(detector, portrait):
    picture = Image.new("RGB", (640, 480), (120, 120, 120))
    picture.paste(portrait.resize((40, 40), Image.Resampling.LANCZOS), (500, 300))
    (face,) = detector.detect(picture)
    np.testing.assert_allclose(centre(face), (520, 322), atol=4)


def test_finds_faces_of_a_panorama(detector, portrait):
    picture = Image.new("RGB", (12000, 300), (120, 120, 120))
    picture.paste(portrait, (11000, 60))
    (face,) = detector.detect(picture)
    np.testing.assert_allclose(centre(face), (11090, 160), atol=15)


@pytest.mark.parametrize("size", [(1, 1), (15, 400), (30000, 2), (16, 16), (400, 300)])
def test_finds_nothing_in_blank_and_tiny_pictures(detector, size):
    assert detector.detect(Image.new("RGB", size, (200, 180, 160))) == []


@pytest.mark.parametrize("size", [(20000, 300), (2, 30000), (12000, 9000), (100, 80), (16, 100000)])
def test_pictures_shown_to_the_network_are_bounded(detector, size):
    shown = detector.compute_sizes(*size)
    assert 1 <= len(shown) <= 4
    assert all(width * height <= 1.01 * detector.max_pixels for width, height in shown)


def test_a_printed_page_holds_no_face(detector, monkeypatch):
    """The first pass finds candidates, which the second one rejects."""
    picture = Image.fromarray(page()).convert("RGB").resize((960, 478))
    assert detector.detect(picture) == []
    monkeypatch.setattr(FaceDetector, "_check_candidate", lambda self, image, candidate: candidate)
    assert FaceDetector().detect(picture, threshold=0.5)


def test_threads_share_a_detector(portrait):
    pictures = [portrait.resize((side, side + 20)) for side in range(120, 280, 20)]
    expected = [FaceDetector().detect(picture)[0].landmarks for picture in pictures]
    shared = FaceDetector()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(shared.detect, pictures * 2))
    for faces, landmarks in zip(found, expected * 2, strict=True):
        np.testing.assert_array_equal(faces[0].landmarks, landmarks)


def test_space_outside_the_picture_is_black():
    landmarks = UTKFACE_TEMPLATE * 100 - (50, 0)
    crop = np.asarray(align_face(Image.new("RGB", (100, 100), (255, 255, 255)), landmarks))
    assert crop[:, :95].max() == 0
    assert crop[:, 105:].min() == 255


def test_alignment_puts_pixels_where_the_landmarks_say():
    """A picture whose landmarks are the template already comes back as it was, whatever its size."""
    ramp = np.linspace(0, 255, 800)
    pixels = np.stack([np.tile(ramp, (800, 1)), np.tile(ramp[:, None], (1, 800)), np.full((800, 800), 90)], axis=-1)
    picture = Image.fromarray(pixels.astype(np.uint8))
    crop = np.asarray(align_face(picture, UTKFACE_TEMPLATE * 800, size=100), dtype=float)
    expected = np.asarray(picture.resize((100, 100), Image.Resampling.BOX), dtype=float)
    assert np.abs(crop - expected)[3:-3, 3:-3].max() < 3


def test_alignment_averages_what_it_scales_down():
    checkers = (np.indices((1600, 1600)).sum(axis=0) % 2 * 255).astype(np.uint8)
    crop = np.asarray(align_face(Image.fromarray(checkers), UTKFACE_TEMPLATE * 1600, size=100))
    assert crop.min() > 110 and crop.max() < 145


@pytest.mark.parametrize(
    "landmarks",
    [
        np.full((5, 2), 50.0),
        np.full((5, 2), np.nan),
        np.zeros((4, 2)),
        UTKFACE_TEMPLATE * (-100, 100),
        UTKFACE_TEMPLATE * 100 + 5000,
    ],
    ids=["one point", "not numbers", "four points", "mirrored", "outside the picture"],
)
def test_alignment_refuses_landmarks_of_no_face(landmarks):
    with pytest.raises(ValueError, match="landmarks|outside"):
        align_face(Image.new("RGB", (100, 100)), landmarks)


@pytest.mark.parametrize("name", ["astronaut.jpg", "portraits/group.jpg"])
def test_onnx_runtime_finds_what_opencv_finds(detector, name):
    """Without the second pass, as `cv2.FaceDetectorYN` has none."""
    picture = Image.open(ASSETS / name).convert("RGB")
    picture.thumbnail((620, 500))  # no multiples of 32
    opencv = cv2.FaceDetectorYN.create(
        str(find_weights()), "", picture.size, face_detection.CANDIDATE_THRESHOLD, face_detection.MAX_IOU
    )
    _, expected = opencv.detect(np.asarray(picture)[:, :, ::-1].copy())  # blue, green, red
    found = detector._run(picture)
    np.testing.assert_allclose(found[:, :14], expected[:, :14], atol=0.05)
    np.testing.assert_allclose(found[:, 14], expected[:, 14], atol=0.001)


def test_wrong_weights_are_refused(tmp_path):
    weights = bytearray(find_weights().read_bytes())
    weights[-1] ^= 1
    changed = tmp_path / "yunet.onnx"
    changed.write_bytes(weights)
    with pytest.raises(ValueError, match="sha256"):
        read_yunet(changed)


def test_missing_onnx_runtime_says_what_to_do(monkeypatch, photo):
    monkeypatch.setattr(face_detection, "onnxruntime", None)
    with pytest.raises(ImportError, match=re.escape("detect_faces=False")):
        FaceDetector().detect(photo)


@pytest.mark.parametrize("arguments", [{"max_upscale": 0.5}, {"max_pixels": 100}])
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        FaceDetector(**arguments)
