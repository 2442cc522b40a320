"""Image processor class for AgeGender, the alignment of faces, the resizing of tensors, and what follows from age scores."""

import math
import numbers
from collections.abc import Iterable, Sequence


try:
    from .configuration_agegender import AgeGenderConfig
    from .image_reading import is_several, read_each, to_rgb
except ImportError:
    if __package__:  # remote code: the file is there, so this is an error in it, such as an old transformers
        raise
    from configuration_agegender import AgeGenderConfig
    from image_reading import is_several, read_each, to_rgb

import numpy as np
import torch
from PIL import Image
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import PILImageResampling
from transformers.utils.generic import maybe_autocast


# Mean landmarks that the detector finds on 500 images of UTKFace, as fractions of the side, in the order of
# `face_detection.DetectedFace.landmarks`; printed by `python -m benchmarks.framing --template`.
UTKFACE_TEMPLATE = np.array([(0.295, 0.288), (0.687, 0.286), (0.486, 0.507), (0.322, 0.675), (0.660, 0.672)])
# Correlation of the landmarks with the template, 1 for the same shape: at least 0.9 on UTKFace, 0.7 for a profile reduced
# to a line, 0.1 for a mirrored face.
MIN_CORRELATION = 0.5
# The least `gender_score` at which the page names a gender. Scores of small children, of an estimated age below
# `SMALL_CHILD_AGE` years, claim more than they keep.
SURE_GENDER, SURE_GENDER_OF_SMALL_CHILD, SMALL_CHILD_AGE = 0.75, 0.9, 7


class AgeGenderImageProcessor(PilBackend):
    """
    Prepares face crops in UTKFace's framing for [`AgeGenderModel`].

    Accepts an image or an iterable of images, each as the pipeline does: a path, an address, a PIL image, a uint8 array or tensor
    with channels first or last in the order RGB, and others. Converts them to upright RGB, resizes to `size`, rescales to 0–1 and
    normalizes with `image_mean` and `image_std`. The default mean and standard deviation are those of the face-pretrained weights,
    123.68, 116.779 and 103.939 and 1 on a scale of 0–255.

    Returns `pixel_values` of shape `(batch_size, 3, height, width)`, float32, as tensors unless `return_tensors` says otherwise.

    Raises:
        ValueError: if there is no image, if an input cannot be read as an image, or if an array does not hold uint8 values, nor
            floats from 0 to 1 with `do_rescale=False`.

    Example, from a photo to tensors:

    ```python
    >>> from transformers import pipeline

    >>> estimator = pipeline("age-gender-estimation", model=".", trust_remote_code=True)
    >>> crops = [face["crop"] for face in estimator("assets/astronaut.jpg", return_crops=True)]
    >>> inputs = estimator.image_processor(crops)
    >>> inputs.pixel_values.shape
    torch.Size([1, 3, 160, 160])
    >>> output = estimator.model(**inputs)
    >>> output.age
    tensor([34.])
    ```
    """

    model_input_names = ["pixel_values"]
    do_convert_rgb = True
    do_resize = True
    size = {"height": AgeGenderConfig.image_size, "width": AgeGenderConfig.image_size}
    resample = PILImageResampling.BILINEAR
    do_rescale = True
    rescale_factor = 1 / 255
    do_normalize = True
    image_mean = [123.68 / 255, 116.779 / 255, 103.939 / 255]
    image_std = [1 / 255, 1 / 255, 1 / 255]

    @classmethod
    def of_model(cls, config: AgeGenderConfig) -> "AgeGenderImageProcessor":
        """Returns the image processor of the folder or repo that a model comes from, or one for a new model's image size."""
        try:
            if config.name_or_path:
                return cls.from_pretrained(config.name_or_path)
        except (OSError, ValueError):  # a folder of weights alone, or one that is gone
            pass
        return cls(size={"height": config.image_size, "width": config.image_size})

    def preprocess(self, images, *args, return_tensors: str | None = "pt", **kwargs):
        return super().preprocess(images, *args, return_tensors=return_tensors, **kwargs)

    def fetch_images(self, images):
        """Reads images as upright RGB, but for arrays and tensors, which `process_image` checks."""
        if is_several(images):
            images = [self.fetch_images(image) for image in read_each(images)]
            if not images:
                raise ValueError("There is no image to process.")
            return images
        is_pixels = isinstance(images, np.ndarray | torch.Tensor) and images.ndim == 3
        return images if is_pixels else to_rgb(images)

    def process_image(self, image, do_rescale: bool | None = None, **kwargs) -> np.ndarray:
        """Converts an image to an RGB array of shape (3, height, width)."""
        if isinstance(image, torch.Tensor):
            image = image.detach().cpu()
            image = (image.float() if image.is_floating_point() else image).numpy()
        if isinstance(image, np.ndarray) and image.dtype != np.uint8:
            is_0_to_1 = np.issubdtype(image.dtype, np.floating) and (0 <= image).all() and (image <= 1).all()
            if do_rescale or not is_0_to_1:
                raise ValueError(
                    f"Arrays must hold uint8 pixels (0–255), got {image.dtype}: convert them, or pass do_rescale=False if "
                    "they are floats from 0 to 1."
                )
        return super().process_image(image, do_rescale=do_rescale, **kwargs)


def make_resizing_matrix(size: int, new_size: int, like: torch.Tensor) -> torch.Tensor:
    """Returns the weight of each of `size` pixels in each of `new_size` pixels, with dtype and device of `like`."""
    pixels, new_pixels = (torch.arange(n, dtype=like.dtype, device=like.device) + 0.5 for n in (size, new_size))
    distance = (pixels - new_pixels[:, None] * (size / new_size)).abs()
    weights = (1 - distance / max(size / new_size, 1)).clamp(min=0)
    return weights / weights.sum(dim=-1, keepdim=True)


def resize(images: torch.Tensor, factor: float) -> torch.Tensor:
    """
    Resizes images by `factor`, at least in float32.

    The result is that of `F.interpolate(mode="bilinear", antialias=True)`, which CPUs do not have in half precision and ONNX
    does not have at all.
    """
    images = images.to(torch.promote_types(images.dtype, torch.float32))
    rows, columns = (make_resizing_matrix(n, max(1, round(int(n) * factor)), images) for n in images.shape[-2:])
    with maybe_autocast(images.device.type, enabled=False):  # it would round the pixels
        return rows @ images @ columns.T


def make_age_classes(age_logits: torch.Tensor) -> torch.Tensor:
    """Returns the ages of the classes in years: float32, shape `(num_age_classes,)`."""
    return torch.arange(age_logits.shape[-1], device=age_logits.device, dtype=torch.float32)


def compute_mean_age(age_logits: torch.Tensor) -> torch.Tensor:
    """Returns the mean of each age distribution in years: float32, shape `(batch_size,)`."""
    # A product and a sum instead of a matmul, whose inputs autocast would round to bfloat16.
    return (age_logits.float().softmax(dim=-1) * make_age_classes(age_logits)).sum(dim=-1)


def compute_median_age(age_logits: torch.Tensor) -> torch.Tensor:
    """Returns the first age at which the cumulative probability reaches 0.5, in whole years: float32, `(batch_size,)`."""
    cumulative = age_logits.float().softmax(dim=-1).cumsum(dim=-1)
    age = (cumulative < 0.5).sum(dim=-1).float()
    return torch.where(cumulative[..., -1].isnan(), torch.nan, age)


def compute_interpolated_median_age(age_logits: torch.Tensor) -> torch.Tensor:
    """Returns the median in years if each age's probability is spread evenly over its year: float32, `(batch_size,)`."""
    # The year of an age lasts from half a year before it to half a year after.
    probabilities = age_logits.float().softmax(dim=-1)
    cumulative = probabilities.cumsum(dim=-1)
    index = (cumulative < 0.5).sum(dim=-1, keepdim=True)
    beyond = (cumulative.gather(-1, index) - 0.5) / probabilities.gather(-1, index)
    return (index + 0.5 - beyond).squeeze(-1).clamp(0, age_logits.shape[-1] - 1)


AGE_STATISTICS = {  # by `AgeGenderConfig.age_statistic`
    "median": compute_median_age,
    "interpolated_median": compute_interpolated_median_age,
    "mean": compute_mean_age,
}


def compute_centrality(age_logits: torch.Tensor) -> torch.Tensor:
    """Returns for each age the probability of the central part of the distribution that ends there, 0 at the median."""
    probabilities = age_logits.float().softmax(dim=-1)
    return (2 * (probabilities.cumsum(dim=-1) - probabilities / 2) - 1).abs()


def compute_entropy(age_logits: torch.Tensor) -> torch.Tensor:
    """Returns how little a face tells about its age: the entropy of each distribution in nats, float32, `(batch_size,)`."""
    log_probabilities = age_logits.float().log_softmax(dim=-1)
    return -(log_probabilities.exp() * log_probabilities).sum(dim=-1)


def check_age_thresholds(age_thresholds: Iterable[int], num_age_classes: int) -> list[int]:
    """Returns the ages as a list of `int`, each once; raises ValueError if one is no whole number or no age of the model."""
    ages = list(age_thresholds) if isinstance(age_thresholds, Iterable) else [None]
    is_whole = all(isinstance(age, numbers.Integral) and not isinstance(age, bool) for age in ages)
    if not is_whole or not all(0 <= age < num_age_classes for age in ages):
        raise ValueError(
            f"age_thresholds must be a list of whole numbers from 0 to {num_age_classes - 1}, got {age_thresholds!r}."
        )
    return list(dict.fromkeys(map(int, ages)))


def compute_age_at_least(age_logits: torch.Tensor, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    """
    Computes for each age the probability that a face is labelled with it or an older one. It falls with the age.

    Platt scaling: the log-odds of the sum of the distribution from that age on, times `scale`, plus `shift`.

    Args:
        age_logits: Scores of the ages, shape `(batch_size, num_age_classes)`.
        scale, shift: `age_at_least_scale` and `age_at_least_shift` of the configuration.

    Returns:
        Probabilities, float32, shape `(batch_size, num_age_classes)`, which begin with 1.
    """
    probabilities = age_logits.float().softmax(dim=-1)
    at_least = probabilities.flip(-1).cumsum(dim=-1).flip(-1)
    below = torch.nn.functional.pad(probabilities.cumsum(dim=-1)[..., :-1], (1, 0))
    return torch.sigmoid(scale * (at_least.log() - below.log()) + shift)


def is_gender_sure(age: float | np.ndarray, gender_score: float | np.ndarray) -> bool | np.ndarray:
    """Returns whether the page names a gender, by the estimated age in years and the probability of the gender, 0 to 1."""
    return gender_score >= np.where(age < SMALL_CHILD_AGE, SURE_GENDER_OF_SMALL_CHILD, SURE_GENDER)


def interpolate(positions: torch.Tensor, points: Sequence[float], values: Sequence[float]) -> torch.Tensor:
    """Returns the values at some positions, linear between the points, which increase, and constant outside."""
    result = torch.full_like(positions, values[0])
    for start, end, value, end_value in zip(points, points[1:], values, values[1:]):
        result = result + (end_value - value) / (end - start) * (positions - start).clamp(0.0, float(end - start))
    return result


def compute_age_interval(
    age_logits: torch.Tensor,
    age: torch.Tensor,
    ages: Sequence[float],
    levels: Sequence[float],
    entropies: Sequence[float] = (0,),
    exponents: Sequence[float] = (1,),
) -> torch.Tensor:
    """
    Computes the first and last age that lie in the central part of the distribution, extended to contain `age`.

    Distributional conformal prediction (https://doi.org/10.1073/pnas.2107794118). The probability of the central part depends
    on the age, to cover each age alike, and on the entropy, to cover faces that tell little as well as others.

    Args:
        age_logits: Scores of the ages, shape `(batch_size, num_age_classes)`.
        age: Predicted ages in years, shape `(batch_size,)`.
        ages, levels: Increasing ages in years, and the probability of the central part at each, 0 to 1.
        entropies, exponents: Increasing entropies in nats, and the power to which the probability outside is raised at each.

    Returns:
        Years, float32, shape `(batch_size, 2)`.
    """
    classes = make_age_classes(age_logits)
    exponent = interpolate(compute_entropy(age_logits), entropies, exponents)
    outside = (1 - interpolate(classes, ages, levels)) ** exponent[:, None]
    inside = 1 - compute_centrality(age_logits) >= outside
    first = torch.where(inside, classes, torch.inf).amin(dim=-1)
    last = torch.where(inside, classes, -torch.inf).amax(dim=-1)
    return torch.stack((torch.minimum(first, age), torch.maximum(last, age)), dim=-1)


def compute_age(age_logits: torch.Tensor, config: AgeGenderConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns ages and their intervals as a model with this configuration does: float32, `(batch_size,)` and `(batch_size, 2)`."""
    age = AGE_STATISTICS[config.age_statistic](age_logits)
    levels = (config.age_interval_ages, config.age_interval_levels)
    exponents = (config.age_interval_entropies, config.age_interval_exponents)
    return age, compute_age_interval(age_logits, age, *levels, *exponents)


def select_age_at_least(age_logits: torch.Tensor, ages: Iterable[int], config: AgeGenderConfig) -> dict[int, float]:
    """Returns the probability, by age, that a face with the scores `age_logits[0]` is labelled at least so old."""
    at_least = compute_age_at_least(age_logits, config.age_at_least_scale, config.age_at_least_shift)[0].tolist()
    return {age: at_least[age] for age in ages}


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
    return warp_face(image, *fit_to_template(landmarks), size)


def warp_face(
    image: Image.Image,
    factor: complex,
    shift: complex,
    size: int,
    resample: Image.Resampling = Image.Resampling.BICUBIC,
) -> Image.Image:
    """Returns the RGB square in which the point z = x + iy of the image lies at (factor * z + shift) * size."""
    # The inverse: the pixel w of the crop shows the point turn * w + origin of the image.
    turn, origin = 1 / (size * factor), -shift / factor
    corners = np.array([0, size, size * 1j, size + size * 1j]) * turn + origin
    # A face larger than its crop is reduced first, because the transform does not average over pixels.
    shrink = max(1.0, abs(turn))
    left, top, right, bottom = _compute_bounds(corners, margin=2 * shrink, image_size=image.size)
    region = image.crop((left, top, right, bottom))
    region = region if region.mode == "RGB" else region.convert("RGB")
    if shrink > 1:
        region_size = (math.ceil(region.width / shrink), math.ceil(region.height / shrink))
        region = region.resize(region_size, Image.Resampling.HAMMING, reducing_gap=2.0)
    scale_x, scale_y = region.width / (right - left), region.height / (bottom - top)
    x_row = (turn.real * scale_x, -turn.imag * scale_x, (origin.real - left) * scale_x)
    y_row = (turn.imag * scale_y, turn.real * scale_y, (origin.imag - top) * scale_y)
    return region.transform((size, size), Image.Transform.AFFINE, (*x_row, *y_row), resample)


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


AgeGenderImageProcessor.register_for_auto_class("AutoImageProcessor")

__all__ = ["AgeGenderImageProcessor"]
