"""What the tests share: a tiny network, synthetic images, and one photo with a face."""

import os


os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Else the last bit of a matrix product hangs on where in memory the weights lie, another place after loading.
os.environ.setdefault("MKL_CBWR", "COMPATIBLE")

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from configuration_agegender import AgeGenderConfig
from image_processing_agegender import AgeGenderImageProcessor
from modeling_agegender import AgeGenderModel
from pipeline_agegender import AgeGenderPipeline


SIDE = 32
# The face of the photo in the framing of UTKFace: left, upper, right, lower, as in golden/faceres_astronaut.json.
FACE_BOX = (166, 68, 278, 180)

# Networks as small as these lose more by sharing their work between threads than they gain.
torch.set_num_threads(1)


def make_config(**changes) -> AgeGenderConfig:
    """A network with both kinds of blocks, a pooling and a hidden layer in one head."""
    fields = {
        "image_size": SIDE,
        "block_types": ["conv", "depthwise_separable"],
        "hidden_sizes": [8, 16],
        "depths": [1, 2],
        "strides": [2, 2],
        "pool_sizes": [1, 2],
        "age_head_sizes": [16],
    }
    return AgeGenderConfig(**fields | changes)


def make_model(seed: int = 0, **changes) -> AgeGenderModel:
    """A tiny model in eval mode whose batch normalisations have seen images."""
    torch.manual_seed(seed)
    model = AgeGenderModel(make_config(**changes)).train()
    with torch.no_grad():
        model(torch.randn(8, 3, SIDE, SIDE))
    return model.eval()


@pytest.fixture
def model() -> AgeGenderModel:
    return make_model()


@pytest.fixture
def pixel_values() -> torch.Tensor:
    """A batch of three normalised images."""
    return torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def photo() -> Image.Image:
    """A photo of 512 x 512 pixels with one face (NASA, public domain, part of scikit-image)."""
    return Image.fromarray(data.astronaut())


@pytest.fixture(scope="session")
def noise() -> Image.Image:
    """Uniform noise, 48 pixels wide and 40 high."""
    return Image.fromarray(np.random.RandomState(0).randint(0, 256, (40, 48, 3), dtype=np.uint8))


@pytest.fixture(scope="session")
def estimator() -> AgeGenderPipeline:
    """The pipeline around a tiny model that sees inputs of about -1 to 1 and tells similar faces apart."""
    model = make_model()
    with torch.no_grad():
        model.age_head.layers[-1].weight.mul_(200)
    processor = AgeGenderImageProcessor(size={"height": SIDE, "width": SIDE}, image_std=[0.5, 0.5, 0.5])
    return AgeGenderPipeline(model=model, image_processor=processor)


@pytest.fixture(scope="session")
def utkface_dir() -> str:
    """Where the real UTKFace lies; tests that need it are skipped without."""
    path = os.environ.get("UTKFACE_DIR")
    if not path:
        pytest.skip("UTKFACE_DIR is not set: no real UTKFace to test on")
    return path
