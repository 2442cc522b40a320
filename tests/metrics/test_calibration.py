"""Calibration: intervals and probabilities hold on other images than those of the fit."""

import numpy as np
import pytest
import torch

from image_processing_agegender import compute_age_at_least
from metrics import calibration
from metrics.age_gender import describe_errors
from tests.support.models import make_config


def make_predictions(count: int, seed: int, blurred: float = 0.0) -> dict[str, np.ndarray]:
    """
    Faces of 0–90 years whose distributions are too narrow for the old and too wide for the young.

    A share of the faces is blurred: their distributions are twice as wide as others, but should be thrice as wide.
    The genders' scores are three times as sure as they should be.
    """
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 91, count).astype(np.float32)
    is_blurred = generator.random(count) < blurred
    centres = labels + generator.normal(0, 2 + labels / 25) * (1 + 2 * is_blurred)
    width = 3 * generator.uniform(0.8, 1.2, (count, 1)) * (1 + is_blurred)[:, None]
    age_logits = (-((np.arange(101) - centres[:, None]) ** 2) / (2 * width**2)).astype(np.float32)
    scores = generator.normal(0, 2, count)
    predictions = {
        "ages": (torch.from_numpy(age_logits).softmax(dim=-1) @ torch.arange(101.0)).numpy(),
        "age_logits": age_logits,
        "gender_logits": np.stack([-1.5 * scores, 1.5 * scores], axis=1).astype(np.float32),
        "age_labels": labels,
        "age_classes": labels,
        "gender_labels": (generator.random(count) < 1 / (1 + np.exp(-scores))).astype(int),
    }
    fields = dict(zip(calibration.INTERVAL_FIELDS, ([0], [0.9], [0], [1])))
    fields |= {"age_at_least_scale": 1.0, "age_at_least_shift": 0.0}
    return calibration.apply_calibration(predictions | {"age_intervals": None}, fields)


def calibrate(predictions: dict, config=None, degraded: dict | None = None) -> tuple[dict, dict, str]:
    """On all images, each a group of its own; degraded copies are like the images unless they are given."""
    count = len(predictions["ages"])
    return calibration.calibrate(
        config or make_config(),
        predictions,
        degraded or predictions,
        np.ones(count, dtype=bool),
        groups=np.arange(count),
    )


def test_calibrated_intervals_and_probabilities_hold_on_other_images():
    fitting, other = (make_predictions(4000, seed) for seed in (0, 1))
    before = describe_errors(other)
    assert before["by_age"][-1]["interval_coverage"] < 0.75 and before["gender_calibration_error"] > 0.1

    fields, *_ = calibrate(fitting)
    assert fields["gender_temperature"] == pytest.approx(3.0, rel=0.1)
    after = describe_errors(calibration.apply_calibration(other, fields))
    assert after["gender_calibration_error"] < 0.025
    for row in after["by_age"][1:]:
        # Both samples count: at least 60 images fit a level, a few hundred measure it.
        error = np.sqrt(0.9 * 0.1 * (1 / 60 + 1 / row["num_images"]))
        assert row["interval_coverage"] == pytest.approx(0.9, abs=3 * error), row["ages"]
    assert after["by_age"][1]["interval_width"] < 10 < after["by_age"][-1]["interval_width"]


def distort(predictions: dict, scale: float, shift: float) -> dict:
    """Makes labels follow the probabilities of being at least an age once these get a scale and a shift."""
    generator = np.random.default_rng(2)
    at_least = compute_age_at_least(torch.from_numpy(predictions["age_logits"]), scale, shift).numpy()
    ages = (at_least >= generator.random((len(at_least), 1))).sum(axis=1) - 1.0
    return predictions | {"age_labels": ages, "age_classes": ages}


@pytest.mark.parametrize(("scale", "shift"), [(0.5, 0.4), (1.0, 0.0), (0.5, -0.4)])
def test_age_thresholds_are_as_frequent_on_other_images_as_they_claim(scale, shift):
    fitting, other = (distort(make_predictions(6000, seed), scale, shift) for seed in (0, 1))
    fields, *_ = calibrate(fitting)
    assert fields["age_at_least_scale"] == pytest.approx(scale, rel=0.15)
    assert fields["age_at_least_shift"] == pytest.approx(shift, abs=0.2)
    before, after = (
        describe_errors(values)["age_at_least_calibration_errors"]
        for values in (other, calibration.apply_calibration(other, fields))
    )
    assert list(after) == ["13", "16", "18", "21", "25"] and max(after.values()) < 0.012
    assert scale == 1 or max(before.values()) > 0.015


def test_thresholds_that_all_are_right_about_fit_nothing():
    """Of faces of 50 to 90 years, every threshold is reached: the scale would rise without end."""
    predictions = make_predictions(1000, 0)
    old = calibration.take(predictions, predictions["age_labels"] >= 50)
    fields, _, text = calibrate(old)
    assert "age_at_least_scale" not in fields and "gender_temperature" in fields
    assert "Not calibrated, for want of labels: the age thresholds." in text and "wrong side of one (here 0)" in text


def test_intervals_hold_on_blurred_faces_and_are_no_wider_on_others():
    sharp, degraded = make_predictions(4000, 0), make_predictions(4000, 0, blurred=0.7)
    fields, *_ = calibrate(sharp, degraded=degraded)
    assert fields["age_interval_exponents"][-1] > 1.5
    plain, *_ = calibrate(sharp)
    rows = {}
    for blurred in (0.0, 1.0):
        other = make_predictions(4000, 1, blurred)
        for name, values in (("plain", plain), ("both", fields)):
            rows[name, blurred] = describe_errors(calibration.apply_calibration(other, values))["by_age"][0]
    assert rows["plain", 1.0]["interval_coverage"] < 0.8
    assert rows["both", 1.0]["interval_coverage"] > 0.86
    assert rows["both", 0.0]["interval_coverage"] == pytest.approx(0.9, abs=0.02)
    assert rows["both", 0.0]["interval_width"] < 1.1 * rows["plain", 0.0]["interval_width"]


def test_fields_are_set_in_the_configuration():
    config = make_config()
    fields, *_ = calibrate(make_predictions(300, 0), config)
    assert set(fields) == set(calibration.CALIBRATED_FIELDS)
    assert {name: getattr(config, name) for name in fields} == fields
    config.validate()


def test_no_image_counts_by_a_fit_to_its_group(monkeypatch):
    """Pairs make the groups: no fit of a fold sees one of a pair and counts the other."""
    predictions, seen = make_predictions(400, 0), []
    fit_fields = calibration.fit_fields

    def fit_and_remember(part, *options):
        seen.append({age.tobytes() for age in part["age_logits"]})
        return fit_fields(part, *options)

    monkeypatch.setattr(calibration, "fit_fields", fit_and_remember)
    calibrating = np.arange(400) >= 200
    groups = np.arange(400) // 2
    fields, held, _ = calibration.calibrate(make_config(), predictions, predictions, calibrating, groups)
    rows = [age.tobytes() for age in predictions["age_logits"]]
    assert len(seen) == 11 and seen[0] == set(rows[200:])
    for fitted in seen[1:]:
        left_out = [index for index in range(200, 400) if rows[index] not in fitted]
        assert 0 < len(left_out) < 60 and len({groups[index] for index in left_out}) == len(left_out) / 2
        assert fitted <= set(rows[200:])
    # The images that chose the weights are counted as the model will say them.
    final = calibration.apply_calibration(predictions, fields)
    np.testing.assert_array_equal(held["age_intervals"][:200], final["age_intervals"][:200])
    assert (held["gender_logits"][200:] != final["gender_logits"][200:]).any()


def test_level_is_the_conformal_quantile_of_the_nearest_labels():
    ages = np.repeat([0.0, 50.0], 100)
    scores = np.concatenate([np.arange(100) / 1000, np.arange(100) / 100])
    levels = calibration.fit_levels(scores, ages)
    # Rank ceil(0.9 * 101) = 91 of 100.
    assert levels[0] == 0.09 and levels[-1] == 0.9


def test_all_labels_as_near_as_the_last_one_count():
    ages = np.full(300, 26.0)
    scores = np.concatenate([np.zeros(100), np.ones(200)])
    assert set(calibration.fit_levels(scores, ages)) == {1.0}


def test_too_few_labels_fit_nothing():
    config, before = make_config(), make_config().to_dict()
    predictions = make_predictions(99, 0)
    fields, held, _ = calibrate(predictions, config)
    assert fields == {} and config.to_dict() == before
    np.testing.assert_array_equal(held["age_intervals"], predictions["age_intervals"])


@pytest.mark.parametrize(
    ("labels", "unknown", "missing"),
    [("gender_labels", -100, "gender_temperature"), ("age_classes", np.nan, "age_interval_levels")],
)
def test_one_kind_of_label_may_be_missing(labels, unknown, missing):
    """Then its fields stay as they are, in the configuration and in what is counted."""
    config, predictions = make_config(), make_predictions(300, 0)
    predictions[labels] = np.where(np.arange(300) < 60, predictions[labels], unknown)
    fields, held, _ = calibrate(predictions, config)
    assert missing not in fields and len(fields) in (1, 6)
    assert ("age_at_least_scale" in fields) == ("age_interval_levels" in fields)
    assert getattr(config, missing) == getattr(make_config(), missing)
    unchanged = "gender_logits" if missing == "gender_temperature" else "age_intervals"
    np.testing.assert_array_equal(held[unchanged], predictions[unchanged])


START = {
    "age_interval_ages": [0, 100],
    "age_interval_levels": [0.2, 0.4],
    "age_interval_entropies": [0],
    "age_interval_exponents": [1],
    "gender_temperature": 1.5,
    "age_at_least_scale": 1.2,
    "age_at_least_shift": 0.1,
}


def test_levels_without_labels_near_are_kept_from_the_start():
    """Of 300 faces of 20 to 50 years, none is near the levels of children."""
    predictions = make_predictions(1000, 0)
    chosen = np.flatnonzero((predictions["age_labels"] >= 20) & (predictions["age_labels"] <= 50))[:300]
    config = make_config(**START)
    fields, held, text = calibrate({name: values[chosen] for name, values in predictions.items()}, config)
    levels = dict(zip(calibration.LEVEL_AGES, fields["age_interval_levels"], strict=True))
    former = {age: round(0.2 + 0.2 * age / 100, 4) for age in levels}
    assert [age for age in levels if levels[age] == former[age]] == [0, 2, 5, 10, 14, 65, 80]
    assert config.age_interval_levels == fields["age_interval_levels"]
    assert "Calibrated on 300 validation images: the interval levels at 18, 22, 26, 31, 38, 46, 55 years" in text
    assert "Kept from the start, for want of labels: the interval levels at 0, 2, 5, 10, 14, 65, 80 years." in text


def test_too_few_labels_keep_the_calibration_of_the_start():
    config = make_config(**START)
    predictions = make_predictions(99, 0)
    fields, held, text = calibrate(predictions, config)
    assert fields == {} and {name: getattr(config, name) for name in START} == START
    assert text.startswith(
        "Kept from the start, for want of labels: the interval levels, the gender temperature and the age thresholds."
    )
    np.testing.assert_array_equal(held["gender_logits"], predictions["gender_logits"] / 1.5)


def test_genders_that_are_all_right_fit_no_temperature():
    """It would fall to the least one, and every probability rise to one."""
    predictions = make_predictions(300, 0)
    predictions["gender_labels"] = predictions["gender_logits"].argmax(axis=-1)
    config = make_config(**START)
    fields, _, text = calibrate(predictions, config)
    assert "gender_temperature" not in fields and config.gender_temperature == 1.5
    assert "(here 0)" in text
