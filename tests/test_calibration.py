"""Intervals and probabilities: what is fitted holds on images that did not fit it."""

import numpy as np
import pytest
import torch

import calibration
from conftest import make_model
from metrics import describe_errors


def make_predictions(model, count: int, seed: int) -> dict[str, np.ndarray]:
    """
    Faces of 0–90 years whose distributions are too narrow for the old and too wide for the young.

    The genders' scores are three times as sure as they should be.
    """
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 91, count).astype(np.float32)
    centres = labels + generator.normal(0, 1 + labels / 10)
    age_logits = torch.from_numpy(-((np.arange(101) - centres[:, None]) ** 2) / (2 * 4**2)).float()
    scores = generator.normal(0, 2, count)
    genders = (generator.random(count) < 1 / (1 + np.exp(-scores))).astype(int)
    with torch.no_grad():
        ages = age_logits.softmax(dim=-1) @ torch.arange(101.0)
        intervals = model.age_interval(age_logits, ages)
    return {
        "ages": ages.numpy(),
        "age_intervals": intervals.numpy(),
        "age_logits": age_logits.numpy(),
        "gender_logits": np.stack([-1.5 * scores, 1.5 * scores], axis=1).astype(np.float32),
        "age_labels": labels,
        "gender_labels": genders,
    }


def test_calibrated_intervals_and_probabilities_hold_on_other_images():
    model = make_model()
    fitting, other = (make_predictions(model, 4000, seed) for seed in (0, 1))
    before = describe_errors(other)
    assert before["by_age"][-1]["interval_coverage"] < 0.75 and before["gender_calibration_error"] > 0.1

    result = calibration.calibrate(model, fitting, np.arange(4000))
    assert result["fields"]["gender_temperature"] == pytest.approx(3.0, rel=0.1)
    after = describe_errors(calibration.apply_fields(model, other, result["fields"]))
    assert after["gender_calibration_error"] < 0.02
    for row in after["by_age"][1:]:
        # Both samples count: 100 images fit a level, a few hundred measure it.
        error = np.sqrt(0.9 * 0.1 * (1 / 100 + 1 / row["num_images"]))
        assert row["interval_coverage"] == pytest.approx(0.9, abs=3 * error), row["ages"]
    assert after["by_age"][1]["interval_width"] < 10 < after["by_age"][-1]["interval_width"]


def test_fields_are_set_in_the_configuration():
    model = make_model()
    fields = calibration.calibrate(model, make_predictions(model, 300, 0), np.arange(300))["fields"]
    assert set(fields) == set(calibration.CALIBRATED_FIELDS)
    assert {name: getattr(model.config, name) for name in fields} == fields
    model.config.validate()


def test_what_is_counted_was_not_fitted():
    """Each image's level comes from images of other groups: with all scores of a group alike, few of them are held."""
    model = make_model()
    predictions = make_predictions(model, 400, 0)
    counted = calibration.calibrate(model, predictions, np.arange(400))["cross_fitted"]
    fields = calibration.fit_fields(model, predictions)
    fitted = describe_errors(calibration.apply_fields(model, predictions, fields))
    assert counted["by_age"][0]["interval_coverage"] != fitted["by_age"][0]["interval_coverage"]
    assert counted["by_age"][0]["num_images"] == fitted["by_age"][0]["num_images"] == 400


def test_level_is_the_conformal_quantile_of_the_nearest_labels():
    ages = np.repeat([0.0, 50.0], 100)
    scores = np.concatenate([np.arange(100) / 1000, np.arange(100) / 100])
    levels = calibration.fit_levels(scores, ages)
    # Rank ceil(0.9 * 101) = 91 of 100.
    assert levels[0] == 0.09 and levels[-1] == 0.9


def test_too_few_labels_fit_nothing():
    model = make_model()
    predictions = make_predictions(model, 99, 0)
    assert calibration.calibrate(model, predictions, np.arange(99)) == {"fields": {}, "cross_fitted": None}
    predictions = make_predictions(model, 300, 0) | {"gender_labels": np.full(300, -100)}
    fields = calibration.calibrate(model, predictions, np.arange(300))["fields"]
    assert "gender_temperature" not in fields and "age_interval_levels" in fields
