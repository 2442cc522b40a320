"""Groups, rules and probabilities of an age against figures computed by hand."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binomtest

from image_processing_agegender import compute_age_at_least
from metrics.age_gender import estimate_share
from metrics.age_thresholds import (
    compute_reliability,
    count_rule_errors,
    count_teenagers,
)
from metrics.groups import (
    compute_young_adults,
    count_sure_genders,
    describe_groups,
    make_features,
    make_image_values,
    summarize_groups,
)
from metrics.tables import find_group, find_groups
from tests.support.groups import FEATURES


def spread(*ages: int) -> np.ndarray:
    """Scores of a distribution that is even over some ages."""
    logits = np.full(101, -200.0)
    logits[list(ages)] = 0
    return logits


def sum_from(logits: np.ndarray) -> np.ndarray:
    """Returns the probabilities of being at least each age, as they are without a calibration."""
    return compute_age_at_least(torch.from_numpy(logits)).numpy()


SIX = {
    "age_labels": np.array([10.0, 13, 15, 17, 18, 30]),
    "age_classes": np.array([10.0, 13, 15, 17, 18, 30]),
    "ages": np.array([12.0, 19, 16, 26, 17, 40]),
    "age_intervals": np.array([[8.0, 15], [18, 25], [12, 20], [17, 30], [12, 20], [33, 50]]),
    "age_logits": np.stack([spread(12), spread(17, 19), spread(16), spread(26), spread(17), spread(40)]),
    "gender_logits": np.array([[4.0, 0], [4, 0], [0, 0.1], [0, 4], [0, 4], [4, 0]]),
    "gender_labels": np.array([0, 1, 0, 1, 1, -100]),
}
SIX["age_at_least"] = sum_from(SIX["age_logits"])


def make_many(number: int, seed: int = 0) -> tuple[dict, list[str]]:
    """Returns predictions at random and race labels, some labels of each kind unknown."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 60, number).astype(float)
    ages = np.round(labels + generator.normal(0, 5, number)).clip(0, 100)
    genders = generator.integers(0, 2, number)
    right = generator.random(number) < 0.8
    predictions = {
        "age_labels": np.where(generator.random(number) < 0.1, np.nan, labels),
        "ages": ages,
        "age_intervals": np.stack([ages - 7, ages + 7], axis=1),
        "age_logits": -((np.arange(101) - ages[:, None]) ** 2) / 50,
        "gender_logits": 3.0 * np.eye(2)[np.where(right, genders, 1 - genders)],
        "gender_labels": np.where(generator.random(number) < 0.1, -100, genders),
    }
    races = [None if unknown else race for unknown, race in zip(generator.random(number) < 0.1, "AB" * number)]
    at_least = sum_from(predictions["age_logits"])
    return predictions | {"age_classes": predictions["age_labels"], "age_at_least": at_least}, races


def test_groups_equal_a_direct_computation():
    predictions, races = make_many(150)
    found = describe_groups(predictions, races)
    labels, genders = predictions["age_labels"], predictions["gender_labels"]
    for race, gender, low, high in (("A", "female", 21, 30), ("B", "male", 31, 40), ("A", "male", 41, 50)):
        for names in FEATURES:
            chosen, wanted = np.ones(150, dtype=bool), {"race": race, "gender": gender, "ages": f"{low}–{high}"}
            if "race" in names:
                chosen &= np.array(races) == race
            if "gender" in names:
                chosen &= genders == ("male", "female").index(gender)
            if "ages" in names:
                chosen &= (labels >= low) & (labels <= high)
            row = find_group(found, **{name: wanted[name] for name in names})
            assert row["num_images"] == chosen.sum()
            if chosen.sum() < 10:
                assert "age_mae" not in row
                continue
            errors = (predictions["ages"] - labels)[chosen]
            errors = errors[np.isfinite(errors)]
            known = chosen & (genders != -100)
            correct = predictions["gender_logits"].argmax(axis=1)[known] == genders[known]
            expected = {
                "age_mae": np.abs(errors).mean(),
                "age_bias": errors.mean(),
                "gender_accuracy": correct.mean(),
                "interval_coverage": (np.abs(errors) <= 7).mean(),
            }
            for name, value in expected.items():
                assert row[name]["value"] == pytest.approx(value, abs=1e-4), (names, name)
    assert find_group(found)["num_images"] == 150


def test_intervals_are_drawn_by_bootstrap_and_repeat():
    predictions, races = make_many(240)
    features = make_features(predictions, races)[["gender"]].dropna()
    values = make_image_values(predictions).loc[features.index]
    rows = summarize_groups(values, features)
    assert rows == summarize_groups(values, features) and rows[0]["gender"] == "female"
    row = rows[0]
    errors = np.abs(predictions["ages"] - predictions["age_labels"])[predictions["gender_labels"] == 1]
    reach = 1.96 * np.nanstd(errors) / np.isfinite(errors).sum() ** 0.5
    assert row["age_mae"]["low"] < row["age_mae"]["value"] < row["age_mae"]["high"]
    assert row["age_mae"]["high"] - row["age_mae"]["low"] == pytest.approx(2 * reach, rel=0.1)


def test_a_share_of_all_has_an_interval_too():
    """Each draw of a bootstrap has the same share, which would look certain."""
    predictions, races = make_many(200)
    predictions["age_intervals"] = np.array([[0.0, 100]] * 200)
    covered = find_group(describe_groups(predictions, races))["interval_coverage"]
    known = int(np.isfinite(predictions["age_labels"]).sum())
    low, _ = binomtest(known, known).proportion_ci(method="wilson")
    assert covered == {"value": 1.0, "low": round(low, 6), "high": 1.0}


def test_without_races_groups_are_of_gender_and_age():
    predictions, races = make_many(60)
    found = describe_groups(predictions, [None] * 60)
    assert find_groups(found, "gender", "ages") and not any("race" in row for row in found["by_group"])


def test_no_label_at_all_makes_no_groups():
    predictions, _ = make_many(20)
    unknown = {
        "age_labels": np.full(20, np.nan),
        "age_classes": np.full(20, np.nan),
        "gender_labels": np.full(20, -100),
    }
    found = describe_groups(predictions | unknown, [None] * 20)
    assert len(found["by_group"]) == 1 and found["by_group"][0]["age_mae"]["value"] is None
    assert found["reliability"] == found["sure_genders"] == [] and found["young_adults"] is None


def test_rules_are_counted():
    counts = {}
    for row in count_rule_errors(SIX):
        shares = [*row["false_adults"].values(), row["adults_refused"]]
        counts[row["line"], row["rule"]] = [(share["count"], share["num_images"]) for share in shares]
    # Passes at 0–17, 13–17 and 14–17 years; refused adults.
    assert counts == {
        (18, "answer"): [(2, 4), (2, 3), (1, 2), (1, 2)],
        (18, "interval"): [(1, 4), (1, 3), (0, 2), (1, 2)],
        (18, "probability"): [(1, 4), (1, 3), (1, 2), (1, 2)],
        (25, "answer"): [(1, 4), (1, 3), (1, 2), (1, 2)],
        (25, "interval"): [(0, 4), (0, 3), (0, 2), (1, 2)],
        (25, "probability"): [(1, 4), (1, 3), (1, 2), (1, 2)],
    }


def test_teenagers_are_counted():
    found = count_teenagers(SIX)
    assert (found["within"]["count"], found["within"]["num_images"]) == (1, 2)
    assert (found["adults_within"]["count"], found["adults_within"]["num_images"]) == (0, 2)


def test_reliability_of_an_age():
    assert SIX["age_at_least"][:, 18] == pytest.approx([0, 0.5, 0, 1, 0, 1], abs=1e-6)
    (row,) = (row for row in compute_reliability(SIX) if row["threshold"] == 18)
    assert row["calibration_error"] == pytest.approx((1 + 0.5 + 1) / 6, abs=1e-4)
    bins = [(part["probability"], part["share"]["count"], part["share"]["num_images"]) for part in row["bins"]]
    assert bins == [(0, 1, 3), (0.5, 0, 1), (1, 1, 2)]


def test_a_model_that_ends_below_a_line_lets_nobody_pass_by_its_probability():
    """Its classes end at 20 years."""
    small = SIX | {"age_at_least": SIX["age_at_least"][:, :21]}
    passed = {(row["line"], row["rule"]): row["adults_refused"]["count"] for row in count_rule_errors(small)}
    assert passed[25, "probability"] == 2 and passed[18, "probability"] == 1
    assert [row["threshold"] for row in compute_reliability(small)] == [13, 16, 18]


def test_sure_genders_by_age():
    """Of four sure ones three are right; the unsure one is wrong, and one label is unknown."""
    every, child, teenagers = describe_groups(SIX, [None] * 6)["sure_genders"]
    assert [(every[name]["count"], every[name]["num_images"]) for name in ("sure", "right_where_sure")] == [
        (4, 5),
        (3, 4),
    ]
    assert (every["right_where_unsure"]["count"], every["right_where_unsure"]["num_images"]) == (0, 1)
    assert teenagers["ages"] == "13–20" and teenagers["sure"]["num_images"] == 4
    assert child["sure"]["count"] == 1


def test_a_small_child_takes_a_surer_gender():
    scores = np.array([0.8, 0.8, 0.95, 0.95])
    predictions = SIX | {
        "gender_logits": np.log(np.stack([scores, 1 - scores], axis=1)),
        "ages": np.array([6.0, 7, 6, 7]),
    }
    predictions |= {"gender_labels": np.zeros(4, dtype=int)}
    found = count_sure_genders(predictions, pd.DataFrame({"gender": ["male"] * 4, "ages": ["4–12"] * 4}))
    assert [row["sure"]["count"] for row in found] == [3, 3]


def test_each_gender_counts_alike_among_young_adults():
    labels = np.array([20.0] * 30 + [31.0] * 10)
    predictions = {
        "age_labels": labels,
        "age_classes": labels,
        "ages": labels + np.array([2.0] * 20 + [5.0] * 10 + [9.0] * 10),
        "age_intervals": np.zeros((40, 2)),
        "gender_logits": np.zeros((40, 2)),
        "gender_labels": np.array([0] * 20 + [1] * 20),
    }
    features = make_features(predictions, [None] * 40)
    found = compute_young_adults(make_image_values(predictions), features, labels)
    assert found["num_images"] == 30 and found["age_mae_of_genders"]["value"] == 3.5
    assert {gender: value["value"] for gender, value in found["age_mae"].items()} == {"male": 2, "female": 5}


def test_estimate_of_a_share():
    assert estimate_share(np.array([True, False])) == {
        "count": 1, "num_images": 2, "value": 0.5, "low": 0.094531, "high": 0.905469,
    }  # fmt: skip
    assert estimate_share(np.zeros(0))["value"] is None and not math.isnan(estimate_share(np.zeros(3))["high"])
