"""What the tests share: a tiny network, synthetic images, and one photo with a face."""

import json
import os
import signal
from pathlib import Path


os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Else the last bit of a matrix product hangs on where in memory the weights lie, another place after loading.
os.environ.setdefault("MKL_CBWR", "COMPATIBLE")

import datasets
import numpy as np
import pytest
import torch
import trustme
from PIL import Image
from skimage import data

from image_processing_agegender import AgeGenderImageProcessor
from modeling_agegender import AgeGenderModel
from pipeline_agegender import AgeGenderPipeline
from tests.support.hub import Pushed, push_tiny_model
from tests.support.loopback_hub import READ_TOKEN, WRITE_TOKEN, LoopbackHub
from tests.support.models import SIDE, make_model
from tests.support.processes import reset_accelerate, run_forked, run_train_here
from tests.support.training import NETWORK, TRAINED, make_command, write_faces


# Networks as small as these lose more by sharing their work between threads than they gain.
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def one_authority(tmp_path_factory):
    """One certificate authority instead of the world's, which HTTP clients read one by one whenever they are made."""
    file = tmp_path_factory.mktemp("certificates") / "authority.pem"
    trustme.CA().cert_pem.write_to_path(file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(file))
        yield


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
    model = make_model(age_statistic="interpolated_median")  # of whole years, similar faces have the same
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


@pytest.fixture(scope="session")
def datasets_cache(tmp_path_factory) -> Path:
    """The cache of `datasets` in a temporary folder."""
    folder = tmp_path_factory.mktemp("datasets_cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
        yield folder


@pytest.fixture
def fresh_accelerate_state():
    """A new state of accelerate, which it keeps for the whole process, and the former signal handlers afterwards."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    reset_accelerate()
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    reset_accelerate()


@pytest.fixture(scope="session")
def faces(tmp_path_factory, datasets_cache) -> Path:
    """40 images, of which --validation_share 0.25 leaves 30 for training, and 3 of the test split."""
    return write_faces(tmp_path_factory.mktemp("train_data") / "faces", 40, test_count=3)


@pytest.fixture(scope="session")
def network(tmp_path_factory) -> Path:
    """A JSON file of the tiny network."""
    file = tmp_path_factory.mktemp("train_config") / "tiny.json"
    file.write_text(json.dumps(NETWORK))
    return file


@pytest.fixture(scope="session")
def trained(tmp_path_factory, faces, network) -> Path:
    """The output folder of an uninterrupted training of three epochs: checkpoints at updates 5, 10, 15, 20 and 21."""
    folder = tmp_path_factory.mktemp("trained") / "tiny-faces"
    command, log = make_command(faces, network, folder, **TRAINED), folder.parent / "log"
    assert run_forked(run_train_here, command, log=log) == 0, log.read_text()
    return folder


@pytest.fixture(scope="session")
def one_epoch(tmp_path_factory, faces, network) -> Path:
    """The output folder of a training of one epoch, with a checkpoint at its end. Tests copy it to resume from it."""
    folder = tmp_path_factory.mktemp("one_epoch") / "run"
    command, log = make_command(faces, network, folder, num_train_epochs=1), folder.parent / "log"
    assert run_forked(run_train_here, command, log=log) == 0, log.read_text()
    return folder


@pytest.fixture
def run_train(faces, network, monkeypatch):
    """Calls main() of train.py as the command line does, in this process, but for the curves; each call is a training."""
    monkeypatch.setattr(
        "hub.model_card.draw_curves", lambda history, file: file.write_bytes(b"")
    )  # takes half of the time
    return lambda output_dir, **changes: run_train_here(make_command(faces, network, output_dir, **changes))


@pytest.fixture(scope="session")
def hub_server(tmp_path_factory):
    """A Hub on 127.0.0.1 for all tests that need one."""
    with LoopbackHub(tmp_path_factory.mktemp("hub") / "hub") as server:
        yield server


@pytest.fixture
def hub(hub_server) -> LoopbackHub:
    """The Hub without faults and with both logins."""
    hub_server.faults.clear()
    hub_server.tokens.update({WRITE_TOKEN: "write", READ_TOKEN: "read"})
    return hub_server


@pytest.fixture(scope="session")
def pushed(hub_server, tmp_path_factory) -> Pushed:
    """What `train.py --push_to_hub` has trained, printed and left in the repo somebody/tiny."""
    return push_tiny_model(hub_server, tmp_path_factory.mktemp("pushed"))


@pytest.fixture(scope="session")
def playwright():
    """Playwright, of which a process has only one; skips the test if it is missing."""
    api = pytest.importorskip("playwright.sync_api", reason="needs pip install playwright")
    with api.sync_playwright() as playwright:
        yield playwright
