"""The age and the interval of an age distribution."""

import math

import numpy as np
import pytest
import torch

from configuration_agegender import AgeGenderConfig
from image_processing_agegender import AGE_STATISTICS
from modeling_agegender import AgeGenderModel
from tests.support.models import make_model


def test_mean_age(pixel_values):
    output = make_model(age_statistic="mean")(pixel_values)
    scores = np.exp(output.age_logits.detach().double().numpy())
    ages = (scores / scores.sum(axis=1, keepdims=True) * np.arange(101)).sum(axis=1)
    np.testing.assert_allclose(output.age.detach().numpy(), ages, rtol=1e-5)


def set_ages(model: AgeGenderModel, probabilities: dict[int, float]) -> AgeGenderModel:
    """Makes the model predict these ages for any image."""
    with torch.no_grad():
        layer = model.age_head.layers[-1]
        layer.weight.zero_()
        layer.bias.fill_(-50.0)
        for age, probability in probabilities.items():
            layer.bias[age] = math.log(probability)
    return model


@pytest.mark.parametrize(
    ("probabilities", "age", "interpolated_age"),
    [
        ({30: 1.0}, 30.0, 30.0),
        ({30: 0.25, 31: 0.5, 80: 0.25}, 31.0, 31.0),
        ({30: 0.3, 31: 0.7}, 31.0, 30.5 + 2 / 7),
        ({20: 0.4, 60: 0.6}, 60.0, 59.5 + 1 / 6),  # a sixth of the year around 60 is below the median
        ({0: 1.0}, 0.0, 0.0),
        ({100: 1.0}, 100.0, 100.0),
        ({0: 0.9, 1: 0.1}, 0.0, 0.5 / 0.9 - 0.5),
    ],
)
def test_median_age(pixel_values, probabilities, age, interpolated_age):
    output = set_ages(make_model(), probabilities)(pixel_values)
    assert output.age.tolist() == [age] * 3 and output.age.dtype == torch.float32
    output = set_ages(make_model(age_statistic="interpolated_median"), probabilities)(pixel_values)
    assert output.age.tolist() == pytest.approx([interpolated_age] * 3, abs=1e-4)


@pytest.mark.parametrize("age_statistic", sorted(AGE_STATISTICS))
def test_ages_of_broken_weights_are_no_ages(pixel_values, age_statistic):
    model = set_ages(make_model(age_statistic=age_statistic), {30: math.nan})
    assert model(pixel_values).age.isnan().all()


def test_statistics_of_the_configuration_are_those_that_there_are():
    assert set(AgeGenderConfig.allowed_age_statistics) == set(AGE_STATISTICS)


def test_age_interval(pixel_values):
    """With 0.8, the ages that lie within 10 to 90 % of the distribution; a level of the age's own where there is one."""
    ages = {20: 0.04, 30: 0.16, 40: 0.6, 50: 0.16, 60: 0.04}
    # Centre of each age in the distribution: 0.02, 0.12, 0.5, 0.88, 0.98; from the median, doubled: 0.96, 0.76, 0.
    model = set_ages(make_model(age_interval_levels=[0.8]), ages)
    assert model(pixel_values).age_interval.tolist() == [[30.0, 50.0]] * 3
    model = set_ages(make_model(age_interval_levels=[0.97]), ages)
    assert model(pixel_values).age_interval.tolist() == [[20.0, 60.0]] * 3
    # 0.98 up to 20 years, then falling to 0.5 at 60: 0.86 at 30, 0.62 at 50.
    model = set_ages(make_model(age_interval_ages=[20, 60], age_interval_levels=[0.98, 0.5]), ages)
    assert model(pixel_values).age_interval.tolist() == [[20.0, pytest.approx(49.0)]] * 3


def test_age_interval_holds_the_age(pixel_values):
    output = make_model(age_interval_levels=[0.0])(pixel_values)
    assert (output.age_interval[:, 0] <= output.age).all() and (output.age <= output.age_interval[:, 1]).all()
