"""The metrics, computed by hand."""

import math

import numpy as np
import pytest

from metrics.age_gender import (
    AgeGenderMetric,
    compare_errors,
    compute_calibration_error,
    describe_errors,
    find_changes,
    format_comparison,
    format_errors,
    format_metrics,
)


NOT_KNOWN = math.nan
NO_GENDER = -100
# Age: predicted, labelled. Gender: predicted, labelled.
ROWS = [
    (12.0, 10.0, 0, 0),
    (26.0, 21.0, 1, 1),
    (30.0, 36.0, 0, 1),
    (60.0, 60.0, 1, 1),
    (70.0, 61.0, 1, 0),
]


def compute(rows: list[tuple], batch_size: int | None = None) -> dict:
    metric = AgeGenderMetric()
    batch_size = batch_size or len(rows)
    for start in range(0, len(rows), batch_size):
        columns = [list(column) for column in zip(*rows[start : start + batch_size])]
        metric.add_batch(
            age_predictions=columns[0],
            age_references=columns[1],
            gender_predictions=columns[2],
            gender_references=columns[3],
        )
    return metric.compute()


def test_all_ages():
    results = compute(ROWS)
    assert results["age_mae"] == pytest.approx((2 + 5 + 6 + 0 + 9) / 5)
    assert results["age_cs5"] == pytest.approx(3 / 5)
    assert results["gender_accuracy"] == pytest.approx(3 / 5)
    assert results["num_images"] == 5


def test_21_and_60_count_as_adults():
    results = compute([*ROWS, (20.0, 20.9, 0, 0), (20.0, 60.1, 0, 0)])
    assert results["age_mae_21_60"] == pytest.approx((5 + 6 + 0) / 3)
    assert results["age_cs5_21_60"] == pytest.approx(2 / 3)
    assert results["gender_accuracy_21_60"] == pytest.approx(2 / 3)
    assert results["num_images_21_60"] == 3


@pytest.mark.parametrize(("predicted", "share"), [(35.0, 1), (25.0, 1), (35.1, 0), (24.9, 0)])
def test_five_years_are_within_five_years(predicted, share):
    assert compute([(predicted, 30.0, 0, 0)])["age_cs5"] == share


def test_missing_labels_are_left_out():
    results = compute([*ROWS, (50.0, NOT_KNOWN, 1, 1), (33.0, 30.0, 0, NO_GENDER)])
    assert results["age_mae"] == pytest.approx((2 + 5 + 6 + 0 + 9 + 3) / 6)
    assert results["gender_accuracy"] == pytest.approx(4 / 6)
    assert results["gender_accuracy_21_60"] == pytest.approx(2 / 3)
    assert results["num_images"] == 7
    assert results["num_images_21_60"] == 4


def test_no_label_at_all_is_not_a_number():
    results = compute([(50.0, NOT_KNOWN, 1, NO_GENDER)])
    assert all(math.isnan(value) for name, value in results.items() if not name.startswith("num_images"))
    assert (results["num_images"], results["num_images_21_60"]) == (1, 0)


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_batches_change_nothing(batch_size):
    assert compute(ROWS, batch_size) == compute(ROWS)


def test_text_for_people():
    assert format_metrics(compute(ROWS)).splitlines() == [
        "   all ages: age MAE 4.40 years, CS@5 60.0%, gender accuracy 60.0% (5 images)",
        "21–60 years: age MAE 3.67 years, CS@5 66.7%, gender accuracy 66.7% (3 images)",
    ]


def test_compute_calibration_error():
    """Ten of 0.95 and ten of 0.75, of which eight and six are right."""
    probabilities = np.repeat([0.95, 0.75], 10)
    correct = np.array([True] * 8 + [False] * 2 + [True] * 6 + [False] * 4)
    assert compute_calibration_error(probabilities, correct) == pytest.approx((0.15 + 0.15) / 2)
    assert compute_calibration_error(np.ones(4), np.ones(4, dtype=bool)) == 0


PREDICTIONS = {
    "ages": np.array([2.0, 25.0, 29.0, 70.0, 33.0]),
    "age_labels": np.array([1.0, 30.0, 26.0, 70.0, math.nan]),
    "age_classes": np.array([1.0, 30.0, 26.0, 70.0, math.nan]),
    "age_intervals": np.array([[0.0, 3.0], [20.0, 29.0], [26.0, 40.0], [60.0, 80.0], [30.0, 40.0]]),
    "gender_logits": np.array([[4.0, 0.0], [0.0, 4.0], [4.0, 0.0], [0.0, 4.0], [4.0, 0.0]]),
    "gender_labels": np.array([0, 1, 1, NO_GENDER, 0]),
    "age_at_least": np.full((5, 101), 0.9),
}


def test_errors_by_age():
    errors = describe_errors({name: np.repeat(values, 5, axis=0) for name, values in PREDICTIONS.items()})
    rows = {row["ages"]: row for row in errors["by_age"]}
    assert list(rows) == ["all", "0–3", "21–30", "61–75"]
    assert rows["all"]["num_images"] == 20 and rows["all"]["age_mae"] == pytest.approx((1 + 5 + 3 + 0) / 4)
    adults = rows["21–30"]
    assert (adults["num_images"], adults["age_mae"], adults["age_bias"]) == (10, 4.0, -1.0)
    assert (adults["gender_accuracy"], adults["interval_coverage"], adults["interval_width"]) == (0.5, 0.5, 11.5)
    assert rows["61–75"]["gender_accuracy"] is None
    assert errors["age_mae_of_bands"] == pytest.approx((1 + 4 + 0) / 3)
    assert "Mean of the bands: age MAE 1.67 years." in format_errors(errors)
    assert errors["gender_confusion"] == [[10, 0], [5, 5]]
    probability = 1 / (1 + math.exp(-4))
    assert errors["gender_calibration_error"] == pytest.approx(abs(probability - 3 / 4))
    # Of twenty images, fifteen of them right: the accuracy's standard error.
    assert errors["gender_calibration_standard_error"] == pytest.approx(math.sqrt(0.75 * 0.25 / 20), rel=0.25)
    assert rows["all"]["interval_standard_error"] == pytest.approx(math.sqrt(0.9 * 0.1 / 20))


def test_probabilities_of_being_at_least_an_age_are_compared_with_the_labels():
    """Three of the four known ages are at least 13 to 25 years."""
    errors = describe_errors(PREDICTIONS)
    ages = ["13", "16", "18", "21", "25"]
    assert errors["age_at_least_calibration_errors"] == pytest.approx(dict.fromkeys(ages, 0.15))
    assert "at least 13, 16, 18, 21, 25 years old are off by 15.00%, 15.00%," in format_errors(errors)
    small = describe_errors(PREDICTIONS | {"age_at_least": np.full((5, 18), 0.9)})
    assert list(small["age_at_least_calibration_errors"]) == ages[:2]
    unknown = np.full(5, math.nan)
    errors = describe_errors(PREDICTIONS | {"age_labels": unknown, "age_classes": unknown})
    assert set(errors["age_at_least_calibration_errors"].values()) == {None}
    assert "at least" not in format_errors(errors)


def test_a_handful_of_images_tells_nothing_about_the_interval():
    errors = describe_errors(PREDICTIONS)
    assert errors["by_age"][1]["interval_coverage"] is None
    header, *rows, _, warning = format_errors(errors).splitlines()
    assert "±" not in rows[1] and rows[1].split()[-2] == "–"
    assert (
        warning == "Few images: errors by age and curves rest on 4 images, so differences between them may be chance."
    )


def test_two_models_are_compared_in_pairs():
    """The second errs one year less on each of three known ages, and has another one of four genders right."""
    labels = {"age_labels": np.array([30.0, 40.0, 50.0, math.nan]), "gender_labels": np.array([0, 1, 1, 0])}
    before = labels | {"ages": np.array([33.0, 48.0, 50.0, 1.0]) + 1, "gender_logits": np.eye(2)[[0, 1, 0, 0]]}
    after = labels | {"ages": np.array([33.0, 48.0, 50.0, 1.0]), "gender_logits": np.eye(2)[[0, 1, 1, 0]]}
    comparison = compare_errors(before, after)
    years, share = comparison["age_mae"], comparison["gender_accuracy"]
    assert years["change"] == pytest.approx((-1, 0)) and years["after"][0] == pytest.approx(11 / 3)
    assert (
        years["before"][1]
        == years["after"][1]
        == pytest.approx(math.sqrt((9 + 64) / 2 - 1.5 * (11 / 3) ** 2) / 3**0.5)
    )
    assert share["change"] == pytest.approx((0.25, 0.25))
    assert find_changes(comparison) == (["age"], []) and find_changes(compare_errors(after, after)) == ([], [])
    assert find_changes(compare_errors(after, before)) == ([], ["age"])
    assert format_comparison(comparison).splitlines()[1] == (
        "gender accuracy: 75.0% ± 25.0% before, 100.0% ± 0.0% after: +25.0% ± 25.0%"
    )


def test_fractions_of_years_have_a_band():
    labels = np.array([3.6, 30.4, 20.9, 70.0, math.nan])
    errors = describe_errors(PREDICTIONS | {"age_labels": labels, "age_classes": labels.round()})
    assert [(row["ages"], row["num_images"]) for row in errors["by_age"]] == [
        ("all", 4),
        ("0–3", 1),
        ("13–20", 1),
        ("21–30", 1),
        ("61–75", 1),
    ]


def test_errors_without_a_gender():
    errors = describe_errors(PREDICTIONS | {"gender_labels": np.full(5, NO_GENDER)})
    assert errors["gender_calibration_error"] is None
    assert "Gender" not in format_errors(errors) and "–" in format_errors(errors).splitlines()[1]
