"""The configuration: validation, saving, and the networks in `configs`."""

import importlib
import importlib.metadata
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import configuration_agegender
from configuration_agegender import AgeGenderConfig
from modeling_agegender import AgeGenderConvLayer, AgeGenderModel
from tests.support.models import make_config


ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"


def load_config(name: str) -> AgeGenderConfig:
    return AgeGenderConfig(**json.loads((CONFIGS / name).read_text()))


def test_residual_stages_do_not_shrink():
    with pytest.raises(ValueError, match="8 channels after 16"):
        make_config(block_types=["conv", "residual"], hidden_sizes=[16, 8])


def test_kernels_are_3_by_default():
    assert list(make_config(kernel_sizes=None).kernel_sizes) == [3, 3]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("block_types", ["conv", "bottleneck"]),
        ("block_types", []),
        ("hidden_sizes", [8, 0]),
        ("hidden_sizes", [8]),
        ("depths", [0, 1]),
        ("depths", [1, 1, 1]),
        ("strides", [2, -1]),
        ("strides", [0, 2]),
        ("strides", [1]),
        ("kernel_sizes", [3]),
        ("kernel_sizes", [3, 4]),
        ("kernel_sizes", [3, -1]),
        ("pool_sizes", [0, 1]),
        ("pool_sizes", []),
        ("num_channels", 0),
        ("image_size", 0),
        ("image_size", 4),
        ("more_encoders", [{"image_size": 0}]),
        ("more_encoders", [{}, {"age_head_sizes": [8]}]),
        ("more_encoders", [{"depths": [1, 1]}]),  # the other lists have six entries
        ("num_age_classes", 1),
        ("age_head_sizes", [0]),
        ("gender_head_sizes", [4, -1]),
        ("hidden_act", "tanhh"),
        ("age_head_dropout", 1.0),
        ("age_head_dropout", -0.1),
        ("gender_head_dropout", 1.5),
        ("batch_norm_momentum", 0.0),
        ("batch_norm_momentum", 1.1),
        ("batch_norm_eps", 0.0),
        ("age_statistic", "mode"),
        ("age_interval_ages", [0, 10]),  # one level only
        ("age_interval_levels", []),
        ("age_interval_levels", [1.1]),
        ("gender_temperature", 0),
        ("age_at_least_scale", 0.0),
        ("age_at_least_shift", "0"),
        ("age_label_sigma", -1.0),
        ("age_expectation_loss_weight", -0.1),
        ("age_loss_weight", -1),
        ("gender_loss_weight", -1.0),
        ("id2label", {0: "male"}),
        ("id2label", {0: "male", 1: "female", 2: "other"}),
        ("id2label", {1: "male", 2: "female"}),
    ],
)
def test_wrong_value_is_named(field, value):
    with pytest.raises(ValueError, match=field):
        make_config(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_channels", "three"),
        ("image_size", 32.5),
        ("image_size", None),
        ("block_types", "conv"),
        ("hidden_sizes", [8, "16"]),
        ("depths", 1),
        ("hidden_act", 6),
        ("more_encoders", [8, 16]),
        ("batch_norm_eps", "small"),
        ("age_head_sizes", [8.5]),
        ("gender_head_dropout", "0.2"),
        ("age_label_sigma", None),
    ],
)
def test_wrong_type_is_named(field, value):
    with pytest.raises(ValueError, match=field):
        make_config(**{field: value})


def test_configurations_with_a_second_encoder_load():
    values = make_config().to_dict()
    (second,) = values.pop("more_encoders")
    config = AgeGenderConfig(**values, second_encoder=second)
    assert config.more_encoders == (second | {"mirror_averaging": False},) and "second_encoder" not in config.to_dict()
    assert AgeGenderConfig(second_encoder=None).more_encoders == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"image_size": 5},  # two strides leave two pixels, the pooling one
        {"num_age_classes": 2},
        {"more_encoders": [{}, {}]},  # the default encoder, twice
        {"age_head_dropout": 0},
        {"batch_norm_momentum": 1.0},
        {"age_label_sigma": 0, "age_expectation_loss_weight": 0, "age_loss_weight": 0, "gender_loss_weight": 0},
    ],
)
def test_values_at_the_border_are_accepted(changes):
    config = make_config(**changes)
    assert {name: getattr(config, name) for name in changes} == changes


def test_names_of_the_genders():
    assert make_config().id2label == {0: "male", 1: "female"}
    assert make_config().label2id == {"male": 0, "female": 1}
    renamed = make_config(id2label={0: "m", 1: "f"})
    assert renamed.label2id == {"m": 0, "f": 1}


@pytest.mark.parametrize("make", [AgeGenderConfig, make_config], ids=["tuples", "lists"])
def test_save_and_load(make, tmp_path):
    config = make(age_head_dropout=0.4, id2label={0: "m", 1: "f"})
    written = json.loads(config.to_json_string(use_diff=False))
    config.save_pretrained(tmp_path)
    loaded = AgeGenderConfig.from_pretrained(tmp_path)
    reloaded = json.loads(loaded.to_json_string(use_diff=False))
    assert reloaded.pop("auto_map") == {"AutoConfig": "configuration_agegender.AgeGenderConfig"}
    assert reloaded["custom_pipelines"]["age-gender-estimation"]["impl"] == "pipeline_agegender.AgeGenderPipeline"
    assert reloaded == written
    assert list(loaded.strides) == list(config.strides)
    assert loaded.id2label == {0: "m", 1: "f"}


def test_baseline_is_the_network_of_the_original():
    """Five convolutions with batch normalisation, ReLU and pooling; three fully connected layers for each output."""
    model = AgeGenderModel(load_config("plain.json"))
    layers = [module for module in model.encoder.modules() if not list(module.children())]
    for layer, layer_class in zip(layers, [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d] * 5, strict=True):
        assert isinstance(layer, layer_class)
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert [convolution.out_channels for convolution in convolutions] == [32, 64, 128, 256, 256]
    assert {convolution.kernel_size for convolution in convolutions} == {(3, 3)}
    for head, widths in ((model.age_head, [256, 512, 256, 101]), (model.gender_head, [256, 256, 128, 2])):
        assert [layer.in_features for layer in head.layers] + [head.layers[-1].out_features] == widths


def test_dropout_comes_before_each_fully_connected_layer():
    model = AgeGenderModel(load_config("plain.json")).train()
    for head in (model.age_head, model.gender_head):
        calls = []
        for module in (head.dropout, *head.layers):
            module.register_forward_hook(lambda module, *_: calls.append(type(module).__name__))
        head(torch.zeros(2, 256))
        assert calls == ["Dropout", "Linear"] * 3


def test_default_is_mobilenet():
    config = load_config("mobilenet.json")
    model = AgeGenderModel(config)
    layers = [module for module in model.modules() if isinstance(module, AgeGenderConvLayer)]
    assert len(layers) == 27
    assert sum(layer.convolution.groups > 1 for layer in layers) == 13
    assert 3_200_000 < model.num_parameters() < 3_500_000
    defaults = AgeGenderConfig()
    assert {name: list(getattr(defaults, name)) for name in ("block_types", "hidden_sizes", "depths", "strides")} == {
        name: getattr(config, name) for name in ("block_types", "hidden_sizes", "depths", "strides")
    }


def test_old_transformers_is_named(monkeypatch):
    """Raises one sentence with the remedy before any import that an old version lacks."""
    monkeypatch.setattr(importlib.metadata, "version", lambda package: "4.57.6")
    with pytest.raises(ImportError, match="4.57.6") as error:
        importlib.reload(configuration_agegender)
    assert f"pip install --upgrade 'transformers>={configuration_agegender.MINIMUM_TRANSFORMERS}'" in str(error.value)


@pytest.mark.parametrize("name", ["modeling_agegender", "image_processing_agegender", "pipeline_agegender"])
def test_remote_code_passes_the_sentence_on(monkeypatch, tmp_path, name):
    """Remote code is in a package, where the sentence must not become "No module named …"."""
    package = tmp_path / "remote_code"
    package.mkdir()
    for file in ROOT.glob("*_agegender.py"):
        shutil.copy(file, package)
    shutil.copy(ROOT / "face_detection.py", package)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    for module in [module for module in sys.modules if module.startswith("remote_code")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(importlib.metadata, "version", lambda package: "4.57.6")
    with pytest.raises(ImportError, match="4.57.6"):
        importlib.import_module(f"remote_code.{name}")
