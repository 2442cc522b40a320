"""The metrics, computed by hand."""

import math

import pytest

from metrics import AgeGenderMetric, format_metrics


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
