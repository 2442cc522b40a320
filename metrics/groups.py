"""Errors of groups of people: by race, gender and age, with intervals drawn by bootstrap."""

import warnings
from functools import partial

import numpy as np
import pandas as pd
from fairlearn.metrics import MetricFrame
from scipy.special import softmax

from image_processing_agegender import is_gender_sure
from metrics.age_gender import AGE_BANDS, LEAST_IMAGES, estimate_share, name_band
from metrics.age_thresholds import compute_reliability, count_rule_errors, count_teenagers
from metrics.results import CONFIDENCE, FEW_IMAGES, GENDERS, make_estimate


FEATURES = (
    ("race",),
    ("gender",),
    ("ages",),
    ("gender", "ages"),
    ("race", "gender"),
    ("race", "gender", "ages"),
)
NUM_DRAWS = 100  # of a bootstrap; fairlearn takes seconds for ten of them, since it handles each image by itself
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


def compute_mean(values: np.ndarray, positions: np.ndarray, _) -> float:
    """Returns the mean of the known values at some positions. It has the form of fairlearn's metrics, whose columns are slow."""
    known = values[positions][~np.isnan(values[positions])]
    return float(known.mean()) if len(known) else np.nan


def compute_mean_of_genders(genders: np.ndarray, errors: np.ndarray) -> float:
    """Returns the mean of the genders' mean errors, in which each gender counts alike."""
    return float(np.mean([errors[genders == gender].mean() for gender in np.unique(genders)]))


def make_frame(features: pd.DataFrame, **arguments) -> MetricFrame:
    """Makes fairlearn's table of metrics by group, with bootstrap intervals from `FEW_IMAGES` images on."""
    outside = (1 - CONFIDENCE) / 2
    bootstrap = {"n_boot": NUM_DRAWS, "ci_quantiles": [outside, 1 - outside], "random_state": 0}
    options = bootstrap if len(features) >= FEW_IMAGES else {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice encountered")  # groups that no image has
        return MetricFrame(sensitive_features=features, **arguments, **options)


def read_estimates(frame: MetricFrame, group=None) -> dict[str, dict]:
    """Returns the estimate of each metric for a group in the index of the table, or for all images."""
    name = "overall" if group is None else "by_group"
    tables = [getattr(frame, name), *(getattr(frame, f"{name}_ci") if frame.ci_quantiles else ())]
    columns = [table if group is None else table.loc[group] for table in tables]
    return {metric: make_estimate(*(column[metric] for column in columns)) for metric in columns[0].index}


def summarize_groups(values: pd.DataFrame, features: pd.DataFrame) -> list[dict]:
    """
    Computes the mean of each column of `values` for each group.

    Args:
        values: From `make_image_values`.
        features: The columns that make the groups, without unknown values.

    Returns:
        For each group its features, `num_images` and, from `LEAST_IMAGES` images on, an estimate for each column.
    """
    metrics = {name: partial(compute_mean, column.to_numpy()) for name, column in values.items()}
    positions = np.arange(len(values))
    frame = make_frame(features, metrics=metrics, y_true=positions, y_pred=positions)
    rows = []
    for group, count in features.value_counts(sort=False).items():
        row = dict(zip(features, group)) | {"num_images": int(count)}
        if count >= LEAST_IMAGES:
            row |= read_estimates(frame, group if len(group) > 1 else group[0])
            own = values[(features == list(group)).all(axis=1)]
            for name in SHARES:  # no draw of a bootstrap differs where all images are alike
                if row[name]["value"] in (0, 1):
                    row[name] = {key: estimate_share(own[name].dropna())[key] for key in row[name]}
        rows.append(row)
    return sorted(rows, key=lambda row: [row.get("race", ""), row.get("gender", ""), find_first_age(row)])


def find_first_age(row: dict) -> int:
    """Returns the first age of a group's band, 0 if the group has all ages."""
    return int(row.get("ages", "0–").partition("–")[0])


def compute_young_adults(values: pd.DataFrame, features: pd.DataFrame, labels: np.ndarray) -> dict | None:
    """Computes the error at `YOUNG_ADULTS` of each gender, and their mean; None if there are too few images of either."""
    low, high = YOUNG_ADULTS
    chosen = (labels >= low) & (labels < high + 1) & features["gender"].notna()
    genders, errors = features.loc[chosen, "gender"], values.loc[chosen, "age_mae"]
    if genders.nunique() < len(GENDERS) or genders.value_counts().min() < LEAST_IMAGES:
        return None
    frame = make_frame(
        features.loc[chosen, ["gender"]],
        metrics={"age_mae": compute_mean_of_genders},
        y_true=genders.to_numpy(),
        y_pred=errors.to_numpy(),
    )
    by_gender = {gender: read_estimates(frame, gender)["age_mae"] for gender in GENDERS}
    return {"ages": f"{low}–{high}", "num_images": int(chosen.sum()), "age_mae": by_gender} | {
        "age_mae_of_genders": read_estimates(frame)["age_mae"]
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
        `value`, `low` and `high`, the ends of its 95 % interval, which are None without one: by bootstrap in `by_group` and
        `young_adults`, by Wilson's formula for shares elsewhere and for shares of none or all.
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
