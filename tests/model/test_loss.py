"""The loss: of exact ages, bands of ages and genders, by other means, and of missing labels."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.models import make_model


AGE_LABELS = torch.tensor([3.0, 30.0, 71.0])
GENDER_LABELS = torch.tensor([0, 1, 1])
NO_GENDER = -100


def expected_loss(age_logits, gender_logits, age_labels, gender_labels, sigma=2.0, expectation_weight=0.1) -> float:
    """The loss by numpy: soft cross-entropy + 0.1 smooth L1 of the expectation + cross-entropy, known labels only."""
    age_logits, gender_logits, age_labels, gender_labels = (
        np.asarray(array, dtype=np.float64) for array in (age_logits, gender_logits, age_labels, gender_labels)
    )
    years = np.arange(age_logits.shape[1])
    age_losses, gender_losses = [], []
    for logits, label in zip(age_logits, age_labels):
        if np.isfinite(label):
            label = min(label, years[-1])
            # Narrower where the Gaussian would reach over the first or the last age.
            label_sigma = min(sigma, (min(label, years[-1] - label) + 0.5) / 2)
            target = np.exp(-((years - label) ** 2) / (2 * label_sigma**2))
            log_probabilities = logits - np.log(np.exp(logits).sum())
            error = abs((np.exp(log_probabilities) * years).sum() - label)
            smooth = error**2 / 2 if error < 1 else error - 0.5
            age_losses.append(-(target / target.sum() * log_probabilities).sum() + expectation_weight * smooth)
    for logits, label in zip(gender_logits, gender_labels):
        if label != NO_GENDER:
            gender_losses.append(np.log(np.exp(logits).sum()) - logits[int(label)])
    return sum(np.mean(losses) if losses else 0 for losses in (age_losses, gender_losses))


@pytest.fixture
def logits() -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of three images; the third one's expected age is within a year of its label, 71."""
    generator = torch.Generator().manual_seed(2)
    age_logits = 2 * torch.randn(3, 101, generator=generator)
    age_logits[2, 70:73] += 12
    return age_logits, torch.randn(3, 2, generator=generator)


@pytest.mark.parametrize(
    ("age_labels", "gender_labels"),
    [
        (AGE_LABELS, GENDER_LABELS),
        ([3.5, 0.0, 71.0], GENDER_LABELS),
        ([math.nan, 30.0, 71.0], [0, NO_GENDER, 1]),
        ([math.nan] * 3, GENDER_LABELS),
        (AGE_LABELS, [NO_GENDER] * 3),
        ([116.0, 30.0, 101.0], GENDER_LABELS),
    ],
    ids=["all known", "half a year and 0", "some missing", "no age", "no gender", "above 100"],
)
def test_loss(model, logits, age_labels, gender_labels):
    age_labels, gender_labels = torch.as_tensor(age_labels), torch.as_tensor(gender_labels)
    loss = model.compute_loss(*logits, age_labels, gender_labels)
    assert loss.item() == pytest.approx(expected_loss(*logits, age_labels, gender_labels), rel=1e-5)


def test_ages_above_the_last_class_count_as_it(model, logits):
    losses = [model.compute_loss(*logits, age_labels=torch.full((3,), age)) for age in (100.0, 101.0, 116.0)]
    assert losses[0] == losses[1] == losses[2]


def expected_band_loss(age_logits, first: int, last: int) -> float:
    probabilities = np.exp(age_logits.double().numpy())
    return -math.log(probabilities[first : last + 1].sum() / probabilities.sum())


@pytest.mark.parametrize(
    ("band", "classes"),
    [
        ((25.0, 32.0), (25, 32)),
        ((0.0, 2.0), (0, 2)),
        ((70.0, 120.0), (70, 100)),
        ((105.0, 120.0), (100, 100)),
        ((30.3, 31.6), (30, 32)),
        ((30.6, 31.4), (31, 31)),
        ((0.0, 120.0), (0, 100)),
    ],
)
def test_loss_of_a_band_is_the_logarithm_of_its_probability(model, logits, band, classes):
    loss = model.compute_loss(*logits, age_labels=torch.tensor([band] * 3))
    assert loss.item() == pytest.approx(np.mean([expected_band_loss(row, *classes) for row in logits[0]]), abs=1e-5)


def test_ages_and_bands_in_a_batch(model, logits):
    """An exact age has the loss that it has without bands, to the last bit, and an unknown age none."""
    labels = torch.tensor([[30.0, 30.0], [25.0, 32.0], [math.nan, math.nan]])
    first, second, third = (slice(index, index + 1) for index in range(3))
    losses = [
        model.compute_loss(logits[0][row], logits[1][row], age_labels=labels[row]) for row in (first, second, third)
    ]
    assert losses[0] == model.compute_loss(logits[0][first], logits[1][first], age_labels=torch.tensor([30.0]))
    assert losses[2] == 0
    torch.testing.assert_close(model.compute_loss(*logits, age_labels=labels), (losses[0] + losses[1]) / 2)
    exact = torch.tensor([3.5, math.nan, 116.0])
    assert model.compute_loss(*logits, exact) == model.compute_loss(*logits, torch.stack((exact, exact), dim=-1))


def test_a_band_without_probability_still_teaches(model):
    """Its probability, e^-200, is 0 in float32. The gradient pushes into the band and is 0 for an unknown age."""
    age_logits = torch.zeros(2, 101)
    age_logits[:, 10] = 200.0
    age_logits.requires_grad_()
    loss = model.compute_loss(age_logits, torch.zeros(2, 2), torch.tensor([[60.0, 69.0], [math.nan, 69.0]]))
    loss.backward()
    assert loss.item() == pytest.approx(200 - math.log(10), rel=1e-5)
    gradient = age_logits.grad
    assert gradient[0, 60:70].sum().item() == pytest.approx(-1, rel=1e-4) and gradient[1].abs().max() == 0


def test_loss_follows_the_config(logits):
    model = make_model(
        age_label_sigma=3.0, age_expectation_loss_weight=0.5, age_loss_weight=2, gender_loss_weight=0.25
    )
    age_loss = expected_loss(*logits, AGE_LABELS, [NO_GENDER] * 3, sigma=3.0, expectation_weight=0.5)
    gender_loss = expected_loss(*logits, [math.nan] * 3, GENDER_LABELS)
    loss = model.compute_loss(*logits, AGE_LABELS, GENDER_LABELS)
    assert loss.item() == pytest.approx(2 * age_loss + 0.25 * gender_loss, rel=1e-5)


def test_sigma_0_is_a_class_label(logits):
    model = make_model(age_label_sigma=0, age_expectation_loss_weight=0)
    loss = model.compute_loss(*logits, age_labels=torch.tensor([3.2, 29.6, 71.0]))
    assert loss.item() == pytest.approx(nn.functional.cross_entropy(logits[0], AGE_LABELS.long()).item())


def test_one_kind_of_label_is_enough(model, pixel_values):
    age_loss = model(pixel_values, age_labels=AGE_LABELS).loss
    gender_loss = model(pixel_values, gender_labels=GENDER_LABELS).loss
    both = model(pixel_values, age_labels=AGE_LABELS, gender_labels=GENDER_LABELS).loss
    torch.testing.assert_close(both, age_loss + gender_loss)
    assert age_loss > 0 and gender_loss > 0


def test_missing_labels_give_no_gradient(model, pixel_values):
    """Of an image without labels, or of a batch of them, neither a gradient nor a NaN."""
    pixel_values.requires_grad_()
    labels = {"age_labels": AGE_LABELS.clone(), "gender_labels": GENDER_LABELS.clone()}
    labels["age_labels"][1], labels["gender_labels"][1] = math.nan, NO_GENDER
    model(pixel_values, **labels).loss.backward()
    assert pixel_values.grad[1].abs().max() == 0
    assert pixel_values.grad[0].abs().max() > 0 and pixel_values.grad[2].abs().max() > 0

    model.zero_grad()
    loss = model(pixel_values, age_labels=torch.full((3,), math.nan), gender_labels=torch.full((3,), NO_GENDER)).loss
    loss.backward()
    assert loss.item() == 0
    assert all(parameter.grad.abs().max() == 0 for parameter in model.parameters())
