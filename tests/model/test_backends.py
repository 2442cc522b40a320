"""What the pipeline computes with: the model with batch normalization folded, or its ONNX file."""

import copy
import pickle
import threading

import pytest
import torch
from torch import nn

import face_detection
from face_detection import open_session
from image_processing_agegender import AgeGenderImageProcessor
from pipeline_agegender import AgeGenderPipeline, OnnxNetwork, fold_batch_norm
from scripts.export_onnx import export_onnx, make_file
from tests.model.test_pipeline import assert_same_faces
from tests.support.models import make_model


@pytest.fixture
def folder(tmp_path):
    """A model folder with an ONNX file."""
    model = make_model()
    AgeGenderPipeline(model=model, image_processor=AgeGenderImageProcessor.of_model(model.config)).save_pretrained(
        tmp_path
    )
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_bytes(make_file(export_onnx(model.eval()), model))
    return tmp_path


def load(folder, **options) -> AgeGenderPipeline:
    model = type(make_model()).from_pretrained(folder)
    return AgeGenderPipeline(model=model, image_processor=AgeGenderImageProcessor.from_pretrained(folder), **options)


def test_folding_changes_no_answer_and_not_the_model():
    model = make_model().eval()
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_()
                layer.running_var.uniform_(0.5, 2)
                layer.weight.uniform_(0.5, 2)
                layer.bias.normal_()
    weights = copy.deepcopy(model.state_dict())
    folded = fold_batch_norm(model)
    assert not any(
        isinstance(layer.normalization, nn.BatchNorm2d) for layer in folded.modules() if hasattr(layer, "convolution")
    )
    pixels = torch.randn(3, 3, model.config.image_size, model.config.image_size)
    with torch.no_grad():
        expected, output = model(pixels), folded(pixels)
    for name in ("age_logits", "gender_logits"):
        torch.testing.assert_close(output[name], expected[name], rtol=1e-4, atol=1e-4)
    assert all(torch.equal(values, weights[name]) for name, values in model.state_dict().items())


def test_the_next_image_is_read_while_the_network_runs(photo):
    pipe = AgeGenderPipeline(model=make_model(), image_processor=AgeGenderImageProcessor())
    network, find_crops, found, second = pipe.network, pipe.find_crops, [], threading.Event()

    def record(*arguments):
        found.append(arguments)
        if len(found) == 2:
            second.set()
        return find_crops(*arguments)

    def wait(pixel_values):
        assert second.wait(timeout=10)
        return network(pixel_values)

    pipe.find_crops, pipe.network = record, wait
    assert len(pipe([photo, photo], detect_faces=False)) == 2


@pytest.mark.slow
def test_onnx_gives_the_same_faces(folder, photo):
    by_torch, by_onnx = (load(folder, backend=name)(photo) for name in ("torch", "onnx"))
    assert len(by_torch) == 1
    assert_same_faces(by_onnx, by_torch, age=0.01)


@pytest.mark.slow
def test_a_pickled_onnx_network_answers(folder):
    network = load(folder, backend="onnx").network
    pixels = torch.zeros(2, 3, 32, 32)
    torch.testing.assert_close(pickle.loads(pickle.dumps(network))(pixels).age, network(pixels).age)


def calibrate(model):
    model.config.age_interval_levels = [0.8]


def train(model):
    with torch.no_grad():
        model.encoder.stages[0].blocks[0].layer.convolution.weight[0] += 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("change", [calibrate, train, torch.nn.Module.bfloat16])
def test_a_file_of_another_model_is_refused(folder, change):
    model = type(make_model()).from_pretrained(folder)
    OnnxNetwork(model)
    change(model)
    with pytest.raises(ValueError, match="python -m scripts.export_onnx --model"):
        OnnxNetwork(model)


def test_a_folder_without_the_file_is_an_error(tmp_path):
    AgeGenderPipeline(model=make_model(), image_processor=AgeGenderImageProcessor()).save_pretrained(tmp_path)
    with pytest.raises(OSError, match="onnx/model.onnx"):
        load(tmp_path, backend="onnx")


def test_wrong_backends_and_a_missing_package_are_errors(monkeypatch):
    with pytest.raises(ValueError, match="'torch' or 'onnx', got 'tensorflow'"):
        AgeGenderPipeline(model=make_model(), image_processor=AgeGenderImageProcessor(), backend="tensorflow")
    monkeypatch.setattr(face_detection, "onnxruntime", None)
    with pytest.raises(ImportError, match="onnxruntime"):
        open_session(b"")
