"""Tiny models and faces for the tests."""

from types import SimpleNamespace

import torch
from PIL import Image

from configuration_agegender import AgeGenderConfig
from modeling_agegender import AgeGenderModel


AT_LEAST = {age: 1 - age / 101 for age in range(101)}
CROP = {"crop": Image.new("RGB", (200, 200)), "age_distribution": [0.01] * 100, "age_at_least": AT_LEAST}
SIDE = 32
# The face of the photo in UTKFace's framing: left, upper, right, lower, as in golden/faceres_astronaut.json.
FACE_BOX = (166, 68, 278, 180)


# As shipped: residual blocks in the first encoder, and another encoder for smaller images.
BODIES = {
    "image_size": SIDE,
    "block_types": ["conv", "residual"],
    "hidden_sizes": [8, 16],
    "depths": [1, 2],
    "strides": [2, 2],
    "kernel_sizes": [7, 3],
    "pool_sizes": [1, 2],
    "hidden_act": "relu",
    "more_encoders": [
        {
            "image_size": 26,
            "block_types": ["conv", "depthwise_separable"],
            "hidden_sizes": [4, 8],
            "depths": [1, 1],
            "strides": [2, 2],
            "pool_sizes": [1, 1],
            "mirror_averaging": False,
        },
    ],
}


def make_config(**changes) -> AgeGenderConfig:
    """Returns a network of the form of the shipped one, with a hidden layer in one head."""
    return AgeGenderConfig(**BODIES | {"age_head_sizes": [16]} | changes)


def make_model(seed: int = 0, **changes) -> AgeGenderModel:
    """Returns a tiny model in eval mode with batch normalization statistics of random images."""
    torch.manual_seed(seed)
    model = AgeGenderModel(make_config(**changes)).train()
    with torch.no_grad():
        model(torch.randn(8, 3, SIDE, SIDE))
    return model.eval()


def make_face(xmin: int, ymin: int, xmax: int, ymax: int) -> dict:
    """Returns a face as the pipeline does."""
    return {
        "age": 31.4,
        "age_interval": [24.0, 42.6],
        "gender": "female",
        "gender_score": 0.98,
        "box": {"xmin": xmin, "ymin": ymin, "xmax": xmax, "ymax": ymax},
        "detection_score": 0.93,
    }


class FixedFaces:
    """A pipeline that always returns the same faces and records its options."""

    def __init__(self, *faces: dict):
        self.faces, self.options = [face | CROP for face in faces], None
        self.model = SimpleNamespace(config=make_config())

    def __call__(self, pictures: list, **options) -> list[list[dict]]:
        self.options = options
        return [self.faces] * len(pictures)
