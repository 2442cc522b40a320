"""The probability of being at least an age: from the distribution, calibrated, falling with the age."""

import copy
import re

import numpy as np
import pytest
import torch

from image_processing_agegender import compute_age_at_least
from pipeline_agegender import AgeGenderPipeline


@pytest.fixture(scope="module")
def estimate(estimator, photo):
    """Returns the only face of a picture, taken whole; options are the pipeline's."""
    return lambda pipe=estimator, **options: pipe(photo, detect_faces=False, **options)[0]


def make_pipeline(estimator, **options) -> AgeGenderPipeline:
    model = copy.deepcopy(estimator.model)
    return AgeGenderPipeline(model=model, image_processor=estimator.image_processor, **options)


def test_pipeline_returns_the_sum_of_the_distribution_from_each_age_on(estimate):
    face = estimate(age_thresholds=(25, np.int64(0), 18, 25, 100), return_age_distribution=True)
    assert list(face)[-2:] == ["age_distribution", "age_at_least"]
    assert list(face["age_at_least"]) == [25, 0, 18, 100]
    for age, probability in face["age_at_least"].items():
        assert type(age) is int and isinstance(probability, float)
        assert probability == pytest.approx(sum(face["age_distribution"][age:]), abs=1e-5)


def test_pipeline_calibrates_it_and_nothing_else(estimate, estimator):
    calibrated = make_pipeline(estimator)
    calibrated.model.config.age_at_least_scale, calibrated.model.config.age_at_least_shift = 2.0, 0.5
    options = {"age_thresholds": [30, 50], "return_age_distribution": True}
    before, after = estimate(**options), estimate(calibrated, **options)
    for age, probability in before.pop("age_at_least").items():
        odds = probability / (1 - probability)
        assert after["age_at_least"][age] == pytest.approx(1 / (1 + odds**-2 * np.exp(-0.5)), rel=1e-3)
    after.pop("age_at_least")
    assert after == before


def test_no_age_thresholds_are_as_none(estimate, estimator):
    made = make_pipeline(estimator, age_thresholds=[18])
    assert list(estimate(made)["age_at_least"]) == [18]
    assert estimate(made, age_thresholds=[]) == estimate()


@pytest.mark.parametrize(
    "value", [18, "18", [18.0], ["18"], [True], [-1], [18, 101], [None], {"age": 18}, [float("nan")]], ids=repr
)
def test_other_age_thresholds_are_refused(estimate, estimator, value):
    sentence = re.escape(f"age_thresholds must be a list of whole numbers from 0 to 100, got {value!r}.")
    with pytest.raises(ValueError, match=sentence):
        estimate(age_thresholds=value)
    with pytest.raises(ValueError, match=sentence):
        make_pipeline(estimator, age_thresholds=value)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1.2, 0.3), (0.3, -2.0)])
@pytest.mark.parametrize("sureness", [0.1, 1, 100])
def test_it_falls_with_the_age_even_where_the_distribution_is_sure(scale, shift, sureness):
    logits = sureness * torch.randn(50, 101, generator=torch.Generator().manual_seed(0))
    at_least = compute_age_at_least(logits, scale, shift)
    assert (at_least[:, 0] == 1).all() and (at_least[:, 1:] <= at_least[:, :-1]).all() and (at_least >= 0).all()


def test_half_precision_scores_are_summed_in_single_precision():
    logits = torch.randn(5, 101, generator=torch.Generator().manual_seed(0)).bfloat16()
    at_least = compute_age_at_least(logits)
    assert at_least.dtype == torch.float32
    torch.testing.assert_close(at_least, compute_age_at_least(logits.float()))
