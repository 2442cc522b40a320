"""Errors of rules that draw a line at an age, and the reliability of the probability of being at least so old."""

import numpy as np

from metrics.age_gender import THRESHOLD_BINS, compute_threshold_errors, estimate_share, find_bins
from metrics.results import ADULT_AGE, LEAST_PROBABILITY


LINES = (ADULT_AGE, 25)  # years; “Challenge 25” asks whoever looks younger than 25 for a proof of being 18
RULES = ("answer", "interval", "probability")
MINORS = ((0, 17), (13, 17), (14, 17))  # years, the labels of whom no rule should let pass
TEENAGERS = (13, 16)  # years


def apply_rule(rule: str, predictions: dict[str, np.ndarray], line: int) -> np.ndarray:
    """
    Returns which faces pass a line, `(num_images,)` bool.

    Args:
        rule: `answer`: the age is at least the line. `interval`: the lower end of the 90 % interval is. `probability`: the
            probability of being at least so old is at least `LEAST_PROBABILITY`.
        predictions: As returned by `metrics.prediction`.
        line: Years.
    """
    if rule == "answer":
        return predictions["ages"] >= line
    if rule == "interval":
        return predictions["age_intervals"][:, 0] >= line
    at_least = predictions["age_at_least"][:, line:]  # no column where the model ends below the line
    return (at_least[:, :1] >= LEAST_PROBABILITY).any(axis=1)


def count_rule_errors(predictions: dict[str, np.ndarray]) -> list[dict]:
    """
    Counts the errors of each rule at each of `LINES`.

    Returns:
        `line`, `rule`, `false_adults` (minors who pass, by their ages) and `adults_refused` (who do not pass, of those
        labelled `ADULT_AGE` and more).
    """
    labels, rows = np.floor(predictions["age_labels"]), []
    for line in LINES:
        for rule in RULES:
            passed = apply_rule(rule, predictions, line)
            minors = {
                f"{low}–{high}": estimate_share(passed[(low <= labels) & (labels <= high)]) for low, high in MINORS
            }
            refused = estimate_share(~passed[labels >= ADULT_AGE])
            rows.append({"line": line, "rule": rule, "false_adults": minors, "adults_refused": refused})
    return rows


def count_teenagers(predictions: dict[str, np.ndarray]) -> dict:
    """Counts whose answer lies in the band `TEENAGERS`: of those labelled in it, and of adults."""
    low, high = TEENAGERS
    labels, inside = predictions["age_labels"], (low <= predictions["ages"]) & (predictions["ages"] < high + 1)
    return {
        "ages": f"{low}–{high}",
        "within": estimate_share(inside[(low <= labels) & (labels < high + 1)]),
        "adults_within": estimate_share(inside[labels >= ADULT_AGE]),
    }


def compute_reliability(predictions: dict[str, np.ndarray]) -> list[dict]:
    """
    Compares the probability of being at least so old with the share that is, for each age of `compute_threshold_errors`.

    Returns:
        `threshold`, `num_images`, `calibration_error` (ECE over `THRESHOLD_BINS` bins) and `bins`, each with the mean `probability`
        of its images and the estimated `share` of those that are so old. Bins without images are left out.
    """
    known, rows = np.isfinite(predictions["age_classes"]), []
    for name, error in compute_threshold_errors(predictions).items() if known.any() else ():
        threshold = int(name)
        probabilities = predictions["age_at_least"][known, threshold]
        older = predictions["age_classes"][known] >= threshold
        numbers = find_bins(probabilities, THRESHOLD_BINS)
        bins = [
            {"probability": round(float(probabilities[numbers == number].mean()), 6)}
            | {"share": estimate_share(older[numbers == number])}
            for number in np.unique(numbers)
        ]
        rows.append({"threshold": threshold, "num_images": int(known.sum())})
        rows[-1] |= {"calibration_error": round(error, 6), "bins": bins}
    return rows
