"""The network: shapes, loss, initialization, training, and the tools of torch and transformers."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import Trainer, TrainingArguments
from transformers.utils.generic import find_labels

from modeling_agegender import AgeGenderConvLayer, AgeGenderModel, AgeGenderResidualBlock
from tests.support.models import SIDE, make_config, make_model


AGE_LABELS = torch.tensor([3.0, 30.0, 71.0])
GENDER_LABELS = torch.tensor([0, 1, 1])


def test_output_shapes(model, pixel_values):
    output = model(pixel_values)
    assert output.loss is None
    assert {name: tuple(value.shape) for name, value in output.items()} == {
        "age_logits": (3, 101),
        "gender_logits": (3, 2),
        "age": (3,),
        "age_interval": (3, 2),
    }


def test_temperature_divides_the_scores_of_gender(pixel_values):
    plain, divided = (make_model(gender_temperature=temperature)(pixel_values) for temperature in (1.0, 2.0))
    torch.testing.assert_close(2 * divided.gender_logits, plain.gender_logits)
    torch.testing.assert_close(divided.age_logits, plain.age_logits)


def test_mirror_images_look_the_same_in_eval_mode_only(pixel_values):
    fields = {"more_encoders": [], "age_head_dropout": 0, "gender_head_dropout": 0}
    model = make_model(**fields)
    torch.testing.assert_close(model(pixel_values).age_logits, model(pixel_values.flip(-1)).age_logits)
    alone = make_model(mirror_averaging=False, **fields)
    one, other = alone(pixel_values).gender_logits, alone(pixel_values.flip(-1)).gender_logits
    assert (one - other).abs().max() > 1e-3
    # The gender head is linear here, so that averaged features are averaged scores.
    torch.testing.assert_close(model(pixel_values).gender_logits, (one + other) / 2, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.train()(pixel_values).age_logits, alone.train()(pixel_values).age_logits)


def test_each_encoder_sees_the_image_at_its_own_size(pixel_values, tmp_path):
    body = {
        "image_size": 16,
        "block_types": ["conv"],
        "hidden_sizes": [5],
        "depths": [1],
        "strides": [2],
        "pool_sizes": [1],
        "mirror_averaging": False,
    }
    torch.manual_seed(0)
    model = AgeGenderModel(make_config(more_encoders=[body, body | {"image_size": 32}])).eval()
    features = model.encode(pixel_values)
    assert features.shape == (3, 16 + 5 + 5)
    halved = F.interpolate(pixel_values, (16, 16), mode="bilinear", antialias=True)
    torch.testing.assert_close(features[:, 16:21], model.more_encoders[0](halved))
    torch.testing.assert_close(features[:, 21:], model.more_encoders[1](pixel_values))
    torch.testing.assert_close(features[:, :16], model.encode(pixel_values.flip(-1))[:, :16])
    assert (features - model.encode(pixel_values.flip(-1)))[:, 16:].abs().max() > 1e-3
    # An image of another size is resized by the same ratio.
    assert model.encode(torch.randn(1, 3, 47, 64)).shape == (1, 26)
    model.save_pretrained(tmp_path)
    loaded = AgeGenderModel.from_pretrained(tmp_path).eval()
    assert torch.equal(loaded(pixel_values).age_logits, model(pixel_values).age_logits)


def test_age_is_exact_under_bfloat16():
    """bfloat16 has no whole numbers between 128 and 256 that are odd: 131 comes out only if no year is rounded."""
    model = make_model(num_age_classes=141)
    with torch.no_grad():
        model.age_head.layers[-1].weight.zero_()
        model.age_head.layers[-1].bias.zero_()[131] = 50.0
    with torch.autocast("cpu", torch.bfloat16):
        output = model(torch.randn(2, 3, SIDE, SIDE), age_labels=torch.tensor([131.0, 131.0]))
    assert output.age_logits.dtype == torch.bfloat16
    assert output.age.dtype == output.loss.dtype == torch.float32
    assert output.age.tolist() == pytest.approx([131.0, 131.0], abs=1e-3)


def test_eval_is_deterministic_and_keeps_no_state(model, pixel_values):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = model(pixel_values).age
    model(10 * pixel_values, age_labels=AGE_LABELS)
    assert torch.equal(model(pixel_values).age, first)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_images_of_a_batch_do_not_mix(model, pixel_values):
    together = model(pixel_values).age_logits
    alone = torch.cat([model(image[None]).age_logits for image in pixel_values])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_residual_block(pixel_values):
    """Activation of two convolutions and of a shortcut: halved by averages, its new channels zero."""
    block = AgeGenderResidualBlock(make_config(hidden_act="relu"), 3, 5, kernel_size=3, stride=2).eval()
    with torch.no_grad():
        output = block(pixel_values)
        assert output.shape == (3, 5, 16, 16)
        convolutions = block.second.normalization(
            F.conv2d(block.first(pixel_values), block.second.convolution.weight, padding=1)
        )
        mean = pixel_values.unflatten(2, (16, 2)).unflatten(4, (16, 2)).mean(dim=(3, 5))
        shortcut = torch.cat((mean, torch.zeros(3, 2, 16, 16)), dim=1)
        torch.testing.assert_close(output, (convolutions + shortcut).relu(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("side", [31, 32])
def test_residual_stages_of_any_side(side):
    model = make_model(block_types=["conv", "residual"], kernel_sizes=[7, 3], depths=[1, 2])
    assert model.encoder.compute_maps(torch.zeros(1, 3, side, side))[-1].shape == (1, 16, 4, 4)
    assert model.encoder.stages[0].blocks[0].layer.convolution.kernel_size == (7, 7)


def test_without_batch_normalisation(pixel_values):
    torch.manual_seed(0)
    model = AgeGenderModel(make_config(use_batch_norm=False, more_encoders=[])).eval()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert convolutions and all(convolution.bias.abs().max() == 0 for convolution in convolutions)
    assert torch.isfinite(model(pixel_values).age).all()


def test_train_mode_drops_out(pixel_values):
    model = make_model(age_head_dropout=0.5, gender_head_dropout=0.0).train()
    first, second = model(pixel_values), model(pixel_values)
    assert not torch.equal(first.age_logits, second.age_logits)
    torch.testing.assert_close(first.gender_logits, second.gender_logits)


def test_gradient_checkpointing_gives_the_same_gradients(pixel_values):
    gradients = []
    for checkpointing in (False, True):
        model = make_model(age_head_dropout=0, gender_head_dropout=0).train()
        if checkpointing:
            model.activation_checkpointing_enable()
        calls = []
        model.encoder.stages[1].blocks[0].first.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        model(pixel_values, age_labels=AGE_LABELS, gender_labels=GENDER_LABELS).loss.backward()
        assert len(calls) == (2 if checkpointing else 1)
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain)


@pytest.mark.slow
def test_compiles_without_a_graph_break(model, pixel_values):
    """The slowest test here: it runs a C++ compiler."""
    labels = {"age_labels": torch.tensor([3.0, math.nan, 71.0]), "gender_labels": GENDER_LABELS}
    compiled = torch.compile(model, fullgraph=True)
    with torch.no_grad():
        eager, fast = model(pixel_values, **labels), compiled(pixel_values, **labels)
    for name in ("loss", "age_logits", "gender_logits", "age", "age_interval"):
        torch.testing.assert_close(fast[name], eager[name], rtol=1e-4, atol=1e-4)


def test_channels_last(model, pixel_values):
    expected = model(pixel_values)
    output = model.to(memory_format=torch.channels_last)(pixel_values.to(memory_format=torch.channels_last))
    torch.testing.assert_close(output.age_logits, expected.age_logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.gender_logits, expected.gender_logits, rtol=1e-4, atol=1e-5)


def test_save_and_load_to_the_last_bit(model, pixel_values, tmp_path):
    assert model.encoder.stages[0].blocks[0].layer.normalization.running_mean.abs().max() > 0
    model.save_pretrained(tmp_path)
    loaded, info = AgeGenderModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())
    expected, output = model(pixel_values), loaded(pixel_values)
    assert all(torch.equal(output[name], expected[name]) for name in ("age", "age_logits", "gender_logits"))


def test_overfits_a_batch(pixel_values):
    torch.manual_seed(0)
    model = AgeGenderModel(make_config(age_head_dropout=0, gender_head_dropout=0)).train()
    labels = {"age_labels": AGE_LABELS, "gender_labels": GENDER_LABELS}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    first = model(pixel_values, **labels).loss.item()
    for _ in range(150):
        optimizer.zero_grad()
        model(pixel_values, **labels).loss.backward()
        optimizer.step()
    output = model(pixel_values, **labels)
    # The targets have an entropy of about 2, below which the age loss cannot fall.
    assert first > 5 and output.loss.item() < 2.5
    assert (output.age - AGE_LABELS).abs().max() < 3
    assert output.gender_logits.argmax(dim=-1).tolist() == GENDER_LABELS.tolist()


def test_initialisation():
    def build(seed: int) -> AgeGenderModel:
        torch.manual_seed(seed)
        return AgeGenderModel(
            make_config(
                more_encoders=[], hidden_sizes=[64, 128], depths=[2, 2], block_types=["conv", "depthwise_separable"]
            )
        )

    model = build(0)
    for layer in (module for module in model.modules() if isinstance(module, AgeGenderConvLayer)):
        weight = layer.convolution.weight
        kaiming = math.sqrt(2 / weight[0].numel())
        assert weight.std().item() == pytest.approx(kaiming, rel=0.15)
        assert weight.mean().item() == pytest.approx(0, abs=0.15 * kaiming)
        assert layer.normalization.weight.unique().tolist() == [1]
        assert layer.normalization.bias.unique().tolist() == [0]
    same, other = build(0), build(1)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, same.get_parameter(name)), name
        assert not torch.equal(parameter, other.get_parameter(name)) or parameter.unique().numel() == 1, name


def test_trainer_trains_it(model, tmp_path):
    assert find_labels(AgeGenderModel) == ["age_labels", "gender_labels"]
    generator = torch.Generator().manual_seed(3)
    examples = [
        {"pixel_values": torch.randn(3, SIDE, SIDE, generator=generator), "age_labels": age, "gender_labels": gender}
        for age, gender in zip(AGE_LABELS.tolist(), GENDER_LABELS.tolist())
    ]
    arguments = TrainingArguments(
        output_dir=tmp_path,
        max_steps=1,
        per_device_train_batch_size=3,
        per_device_eval_batch_size=3,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    before = model.age_head.layers[-1].weight.clone()
    trainer = Trainer(model=model, args=arguments, train_dataset=examples, eval_dataset=examples)
    assert math.isfinite(trainer.train().training_loss)
    assert not torch.equal(model.age_head.layers[-1].weight, before)
    prediction = trainer.predict(examples)
    np.testing.assert_array_equal(prediction.label_ids[0], AGE_LABELS)
    np.testing.assert_array_equal(prediction.label_ids[1], GENDER_LABELS)
    assert prediction.metrics["test_loss"] > 0


@pytest.mark.parametrize("shape", [(3, SIDE, SIDE), (2, 1, SIDE, SIDE), (2, SIDE, SIDE, 3), (1, 2, 3, SIDE, SIDE)])
def test_wrong_shape_is_refused(model, shape):
    with pytest.raises(ValueError, match="pixel_values"):
        model(torch.zeros(shape))


@pytest.mark.parametrize("size", [(33, 33), (31, 47), (64, 20)])
def test_other_input_sizes(model, size):
    # Strides 2 and 2 round up, the pooling by 2 rounds down.
    height, width = (math.ceil(math.ceil(side / 2) / 2) // 2 for side in size)
    assert model.encoder.compute_maps(torch.randn(1, 3, *size))[-1].shape == (1, 16, height, width)
    assert model(torch.randn(1, 3, *size)).age.isfinite().all()


@pytest.mark.parametrize("side", [8, 9])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_padding_is_tensorflows(side, stride):
    """
    "Same" padding: ceil(side / stride) outputs, and the smaller half of the padding before the image.

    A kernel of nine different numbers over one bright pixel shows which of them lay on it. References:
    https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2
    """
    layer = AgeGenderConvLayer(make_config(hidden_act="relu"), 1, 1, stride=stride).eval()
    kernel = torch.arange(1.0, 10.0).reshape(3, 3)
    with torch.no_grad():
        layer.convolution.weight.copy_(kernel)
        layer.normalization.running_var.fill_(1 - layer.normalization.eps)
    outputs = math.ceil(side / stride)
    before = max((outputs - 1) * stride + 3 - side, 0) // 2
    for row, column in [(0, 0), (0, side - 1), (side - 1, side - 1), (3, 4)]:
        image = torch.zeros(1, 1, side, side)
        image[0, 0, row, column] = 1
        expected = torch.zeros(outputs, outputs)
        for i in range(outputs):
            for j in range(outputs):
                kernel_row, kernel_column = row + before - i * stride, column + before - j * stride
                if 0 <= kernel_row < 3 and 0 <= kernel_column < 3:
                    expected[i, j] = kernel[kernel_row, kernel_column]
        torch.testing.assert_close(layer(image)[0, 0].detach(), expected)
