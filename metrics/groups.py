"""Errors of groups of people: by race, gender and age, with intervals drawn by bootstrap."""

from functools import partial

import numpy as np
import pandas as pd
from fairlearn.metrics import MetricFrame
from scipy.special import softmax
from scipy.stats import bootstrap

from image_processing_agegender import is_gender_sure
from metrics.age_gender import AGE_BANDS, LEAST_IMAGES, estimate_share, name_band
from metrics.age_thresholds import compute_reliability, count_rule_errors, count_teenagers
from metrics.results import CONFIDENCE, GENDERS, make_estimate


FEATURES = (
    ("race",),
    ("gender",),
    ("ages",),
    ("gender", "ages"),
    ("race", "gender"),
    ("race", "gender", "ages"),
)
# Of a bootstrap, by scipy: that of fairlearn handles each image of each draw by itself, which takes a minute for 100 draws.
NUM_DRAWS = 1000
SHARES = ("gender_accuracy", "interval_coverage")  # the other statistics are in years
YOUNG_ADULTS = (18, 30)  # years, the ages whose error NIST's evaluation of age estimation reports (NIST IR 8525)


def make_image_values(predictions: dict[str, np.ndarray]) -> pd.DataFrame:
    """Returns a row for each image: what the statistics of a group are the means of, NaN without a label."""
    labels, genders = predictions["age_labels"], predictions["gender_labels"]
    classes, (first, last) = predictions["age_classes"], predictions["age_intervals"].T
    correct = predictions["gender_logits"].argmax(axis=-1) == genders
    return pd.DataFrame(
        {
            "age_mae": np.abs(predictions["ages"] - labels),
            "age_bias": predictions["ages"] - labels,
            "gender_accuracy": np.where(genders == -100, np.nan, correct),
            "interval_coverage": np.where(np.isnan(classes), np.nan, (first <= classes) & (classes <= last)),
        }
    )


def make_features(predictions: dict[str, np.ndarray], races: list[str | None]) -> pd.DataFrame:
    """Returns `race`, `gender` and `ages` (the band of the label) of each image, None where unknown."""
    bands = [name_band(age) for age in predictions["age_labels"]]
    genders = [None if gender == -100 else GENDERS[gender] for gender in predictions["gender_labels"]]
    return pd.DataFrame({"race": list(races), "gender": genders, "ages": bands}, dtype=object)


def estimate_mean(*groups: np.ndarray) -> dict:
    """Returns the mean of some values as an estimate; of several groups, the mean of their means, in which each counts alike."""
    if min(map(len, groups)) < LEAST_IMAGES:
        return make_estimate(np.nan)

    def compute(*draws: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.mean([draw.mean(axis=axis) for draw in draws], axis=0)

    options = {"n_resamples": NUM_DRAWS, "batch": 100, "confidence_level": CONFIDENCE, "rng": 0}
    interval = bootstrap(groups, compute, paired=False, method="percentile", **options).confidence_interval
    return make_estimate(compute(*groups), *interval)


def estimate(name: str, values: np.ndarray, positions: np.ndarray, _) -> dict:
    """Returns the estimate of a statistic from the known values at some positions. It has the form of fairlearn's metrics."""
    known = values[positions][~np.isnan(values[positions])]
    if name not in SHARES:
        return estimate_mean(known)
    share = estimate_share(known)
    return {key: share[key] for key in ("value", "low", "high")}


def summarize_groups(values: pd.DataFrame, features: pd.DataFrame) -> list[dict]:
    """
    Computes the mean of each column of `values` for each group.

    Args:
        values: From `make_image_values`.
        features: The columns that make the groups, without unknown values.

    Returns:
        For each group its features, `num_images` and, from `LEAST_IMAGES` images on, an estimate for each column.
    """
    metrics = {name: partial(estimate, name, column.to_numpy()) for name, column in values.items()}
    positions, rows = np.arange(len(values)), []
    frame = MetricFrame(metrics=metrics, y_true=positions, y_pred=positions, sensitive_features=features).by_group
    for group, count in features.value_counts(sort=False).items():
        row = dict(zip(features, group)) | {"num_images": int(count)}
        if count >= LEAST_IMAGES:
            row |= frame.loc[group if len(group) > 1 else group[0]].to_dict()
        rows.append(row)
    return sorted(rows, key=lambda row: [row.get("race", ""), row.get("gender", ""), find_first_age(row)])


def find_first_age(row: dict) -> int:
    """Returns the first age of a group's band, 0 if the group has all ages."""
    return int(row.get("ages", "0–").partition("–")[0])


def compute_young_adults(values: pd.DataFrame, features: pd.DataFrame, labels: np.ndarray) -> dict | None:
    """Computes the error at `YOUNG_ADULTS` of each gender, and their mean; None if there are too few images of either."""
    low, high = YOUNG_ADULTS
    chosen = (labels >= low) & (labels < high + 1) & features["gender"].notna()
    errors = [values.loc[chosen & (features["gender"] == gender), "age_mae"].to_numpy() for gender in GENDERS]
    if min(map(len, errors)) < LEAST_IMAGES:
        return None
    by_gender = {gender: estimate_mean(group) for gender, group in zip(GENDERS, errors)}
    return {"ages": f"{low}–{high}", "num_images": sum(map(len, errors)), "age_mae": by_gender} | {
        "age_mae_of_genders": estimate_mean(*errors)
    }


def count_sure_genders(predictions: dict[str, np.ndarray], features: pd.DataFrame) -> list[dict]:
    """Computes for each age band how often a gender is sure, and how often it is right where it is sure and where not."""
    scores = softmax(predictions["gender_logits"], axis=-1)
    sure = is_gender_sure(predictions["ages"], scores.max(axis=-1))
    correct = scores.argmax(axis=-1) == predictions["gender_labels"]
    rows = []
    for ages in ("all", *(f"{low}–{high}" for low, high in AGE_BANDS)):
        chosen = features["gender"].notna() & (features["ages"].notna() if ages == "all" else features["ages"] == ages)
        if chosen.any():
            rows.append(
                {
                    "ages": ages,
                    "sure": estimate_share(sure[chosen]),
                    "right_where_sure": estimate_share(correct[chosen & sure]),
                    "right_where_unsure": estimate_share(correct[chosen & ~sure]),
                }
            )
    return rows


def describe_groups(predictions: dict[str, np.ndarray], races: list[str | None]) -> dict:
    """
    Computes what a decision about a use of the model needs: errors of groups, of rules and of probabilities.

    Args:
        predictions: As returned by `metrics.prediction`.
        races: The race label of each image, None where unknown. It is measured only; no model predicts it.

    Returns:
        `by_group`: from `summarize_groups` for each of `FEATURES`, first one row for all images. `young_adults`,
        `sure_genders`, and `rules`, `teenagers` and `reliability` from `metrics.age_thresholds`. An estimate is a dict of
        `value`, `low` and `high`, the ends of its 95 % interval, which are None without one: by bootstrap for years, by
        Wilson's formula for shares.
    """
    values, features = make_image_values(predictions), make_features(predictions, races)
    whole = summarize_groups(values, pd.DataFrame({"group": ["all"] * len(values)})) if len(values) else []
    rows = [{key: value for key, value in row.items() if key != "group"} for row in whole]
    for names in FEATURES:
        known = features[list(names)].dropna()
        if len(known):
            rows += summarize_groups(values.loc[known.index], known)
    return {
        "by_group": rows,
        "young_adults": compute_young_adults(values, features, predictions["age_labels"]),
        "sure_genders": count_sure_genders(predictions, features),
        "rules": count_rule_errors(predictions),
        "teenagers": count_teenagers(predictions),
        "reliability": compute_reliability(predictions),
    }
