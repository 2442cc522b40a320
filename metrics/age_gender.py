"""Metrics of age and gender estimation, as a local `evaluate` metric that needs no download."""

import datasets
import evaluate
import numpy as np
from scipy.special import softmax

from metrics.results import ADULT_AGES, INTERVAL_COVERAGE


CUMULATIVE_SCORE_YEARS = 5
AGE_BANDS = ((0, 3), (4, 12), (13, 20), (21, 30), (31, 40), (41, 50), (51, 60), (61, 75), (76, 120))

HIGHER_IS_BETTER = {"loss": False, "age_mae": False, "age_cs5": True, "gender_accuracy": True}

DESCRIPTION = """
Mean absolute error of the age (years), cumulative score CS@5 (share of ages that are wrong by at most 5 years) and gender
accuracy, over all images and over those labelled 21–60 years.
"""

INPUTS = """
Args:
    age_predictions: Ages in years.
    age_references: Labelled ages in years, NaN where not known.
    gender_predictions: Indices of genders.
    gender_references: Labelled indices, -100 where not known.
"""


class AgeGenderMetric(evaluate.Metric):
    """
    Age MAE, CS@5 and gender accuracy.

    Under several processes: gather first, compute on the main one.

    Example:

    ```python
    >>> metric = AgeGenderMetric()
    >>> metric.add_batch(age_predictions=[30.0], age_references=[36.0], gender_predictions=[1], gender_references=[1])
    >>> metric.compute()["age_mae"]
    6.0
    ```
    """

    def __init__(self):
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features(
                {
                    "age_predictions": datasets.Value("float32"),
                    "age_references": datasets.Value("float32"),
                    "gender_predictions": datasets.Value("int64"),
                    "gender_references": datasets.Value("int64"),
                }
            ),
        )

    def _compute(self, age_predictions, age_references, gender_predictions, gender_references) -> dict:
        ages = np.asarray(age_references, dtype=np.float64)
        errors = np.abs(np.asarray(age_predictions, dtype=np.float64) - ages)
        genders = np.asarray(gender_references)
        correct = np.asarray(gender_predictions) == genders
        low, high = ADULT_AGES
        results = summarize(errors, ages, correct, genders, np.ones(len(ages), dtype=bool))
        adults = summarize(errors, ages, correct, genders, (ages >= low) & (ages <= high))
        return results | {f"{key}_{low}_{high}": value for key, value in adults.items()}


def summarize(errors, ages, correct, genders, chosen) -> dict:
    """The metrics of the chosen images; NaN where none of them has the label. All arguments are arrays (images,)."""
    age_known = chosen & np.isfinite(ages)
    gender_known = chosen & (genders != -100)
    return {
        "age_mae": float(errors[age_known].mean()) if age_known.any() else float("nan"),
        "age_cs5": float((errors[age_known] <= CUMULATIVE_SCORE_YEARS).mean()) if age_known.any() else float("nan"),
        "gender_accuracy": float(correct[gender_known].mean()) if gender_known.any() else float("nan"),
        "num_images": int(chosen.sum()),
    }


def expected_calibration_error(probabilities: np.ndarray, correct: np.ndarray, num_bins: int = 15) -> float:
    """
    Mean distance of probability and accuracy over bins of equal width (https://huggingface.co/papers/1706.04599).

    Args:
        probabilities: Of the predicted class, 0–1, (images,).
        correct: Whether that class is the labelled one, (images,).
        num_bins: Number of bins of 0–1.
    """
    bins = np.minimum((probabilities * num_bins).astype(int), num_bins - 1)
    differences = np.bincount(bins, weights=probabilities - correct, minlength=num_bins)
    return float(np.abs(differences).sum() / len(probabilities))


def bootstrap_calibration_error(
    probabilities: np.ndarray, correct: np.ndarray, num_samples: int = 200
) -> tuple[float, float]:
    """The expected calibration error and its standard error, from images drawn with replacement."""
    generator = np.random.default_rng(0)
    draws = generator.integers(0, len(correct), (num_samples, len(correct)))
    errors = [expected_calibration_error(probabilities[draw], correct[draw]) for draw in draws]
    return expected_calibration_error(probabilities, correct), float(np.std(errors))


def describe_errors(predictions: dict[str, np.ndarray]) -> dict:
    """
    Where a model errs and whether its intervals and probabilities hold.

    Args:
        predictions: `ages` and `age_labels` (years, NaN where not known), `age_classes` (the labels as whole years that
            the model has, older ones as its last), `age_intervals` (images, 2), `gender_logits` (images, 2) and
            `gender_labels` (-100 where not known).

    Returns:
        `by_age`, one dict for all ages and one for each of `AGE_BANDS` that has images, with error, bias (years too old),
        the coverage of the intervals, its standard error if nine of ten are the truth, and their mean width (years);
        `gender_confusion`, counts of labels (rows) by predictions; and `gender_calibration_error` with its standard error.
        None where no image has the label.
    """
    labels, genders = predictions["age_labels"], predictions["gender_labels"]
    predicted = predictions["gender_logits"].argmax(axis=-1)
    rows = []
    for low, high in ((0, np.inf), *AGE_BANDS):
        chosen = (np.floor(labels) >= low) & (np.floor(labels) <= high)
        if not chosen.any():
            continue
        errors = predictions["ages"][chosen] - labels[chosen]
        first, last = predictions["age_intervals"][chosen].T
        classes = predictions["age_classes"][chosen]
        summary = summarize(np.abs(predictions["ages"] - labels), labels, predicted == genders, genders, chosen)
        gender_accuracy = summary["gender_accuracy"]
        rows.append(
            {
                "ages": "all" if high == np.inf else f"{low}–{high}",
                "num_images": summary["num_images"],
                "age_mae": summary["age_mae"],
                "age_bias": float(errors.mean()),
                "gender_accuracy": None if np.isnan(gender_accuracy) else gender_accuracy,
                "interval_standard_error": float(np.sqrt(INTERVAL_COVERAGE * (1 - INTERVAL_COVERAGE) / chosen.sum())),
                "interval_coverage": float(((first <= classes) & (classes <= last)).mean()),
                "interval_width": float((last - first).mean()),
            }
        )
    known = genders != -100
    confusion = np.zeros((2, 2), dtype=int)
    np.add.at(confusion, (genders[known], predicted[known]), 1)
    probabilities = softmax(predictions["gender_logits"], axis=-1).max(axis=-1)
    error = standard_error = None
    if known.any():
        error, standard_error = bootstrap_calibration_error(probabilities[known], (predicted == genders)[known])
    return {
        "by_age": rows,
        "gender_confusion": confusion.tolist(),
        "gender_calibration_error": error,
        "gender_calibration_standard_error": standard_error,
    }


def format_errors(errors: dict) -> str:
    """One line a band of ages, for people."""
    lines = ["     ages  images    MAE   bias  gender    in interval  width"]
    for row in errors["by_age"]:
        gender = "–" if row["gender_accuracy"] is None else f"{row['gender_accuracy']:.1%}"
        lines.append(
            f"{row['ages']:>9} {row['num_images']:>7,} {row['age_mae']:>6.2f} {row['age_bias']:>+6.2f} {gender:>7} "
            f"{row['interval_coverage']:>7.1%} ± {row['interval_standard_error']:.1%} {row['interval_width']:>6.1f}"
        )
    if errors["gender_calibration_error"] is not None:
        lines.append(
            f"Gender probabilities are off by {errors['gender_calibration_error']:.2%} (ECE) ± "
            f"{errors['gender_calibration_standard_error']:.2%}."
        )
    return "\n".join(lines)


def format_metrics(metrics: dict) -> str:
    """One line a range of ages, for people."""
    low, high = ADULT_AGES
    lines = []
    for name, suffix in (("all ages", ""), (f"{low}–{high} years", f"_{low}_{high}")):
        lines.append(
            f"{name:>11}: age MAE {metrics['age_mae' + suffix]:.2f} years, CS@5 {metrics['age_cs5' + suffix]:.1%}, "
            f"gender accuracy {metrics['gender_accuracy' + suffix]:.1%} ({metrics['num_images' + suffix]:,} images)"
        )
    return "\n".join(lines)
