"""Metrics of age and gender estimation, with a local `evaluate` metric that needs no download."""

import datasets
import evaluate
import numpy as np
from scipy.special import softmax
from scipy.stats import binomtest

from metrics.results import (
    ADULT_AGES,
    AGE_THRESHOLDS,
    CONFIDENCE,
    INTERVAL_COVERAGE,
    format_value,
    make_estimate,
    name_count,
    warn_of_few,
)


CUMULATIVE_SCORE_YEARS = 5
CALIBRATION_BINS = 15  # of equal width, between the probabilities 0 and 1
THRESHOLD_BINS = 10  # the same for the probabilities of being at least an age
BOOTSTRAP_SAMPLES = 200
LEAST_IMAGES = 10  # for the coverage of an interval: with fewer, its standard error is above ten points
AGE_BANDS = ((0, 3), (4, 12), (13, 20), (21, 30), (31, 40), (41, 50), (51, 60), (61, 75), (76, 120))

HIGHER_IS_BETTER = {"loss": False, "age_mae": False, "age_cs5": True, "gender_accuracy": True}


class AgeGenderMetric(evaluate.Metric):
    """
    Computes the mean absolute error of the age in years, the cumulative score CS@5 (share of ages with an error of at most 5
    years) and the gender accuracy, over all images and over those labelled 21 to 60 years.

    With several processes, gather the predictions first and compute on the main process.

    Args of `add_batch` and `compute`:
        age_predictions: Ages in years.
        age_references: Age labels in years, NaN if unknown.
        gender_predictions: Gender indices.
        gender_references: Gender labels, -100 if unknown.

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
        types = {"age": "float32", "gender": "int64"}
        names = [f"{key}_{kind}" for key in types for kind in ("predictions", "references")]
        features = datasets.Features({name: datasets.Value(types[name.partition("_")[0]]) for name in names})
        return evaluate.MetricInfo(description=type(self).__doc__, citation="", features=features)

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
    """Returns the metrics of the chosen images, NaN without a label. All arguments are arrays of shape `(num_images,)`."""
    age_known = chosen & np.isfinite(ages)
    gender_known = chosen & (genders != -100)
    return {
        "age_mae": float(errors[age_known].mean()) if age_known.any() else float("nan"),
        "age_cs5": float((errors[age_known] <= CUMULATIVE_SCORE_YEARS).mean()) if age_known.any() else float("nan"),
        "gender_accuracy": float(correct[gender_known].mean()) if gender_known.any() else float("nan"),
        "num_images": int(chosen.sum()),
    }


def name_band(age: float | None) -> str | None:
    """Returns the one of `AGE_BANDS` in which an age in years lies, such as `21–30`, None if it is unknown."""
    if age is None or np.isnan(age):
        return None
    return next(f"{low}–{high}" for low, high in AGE_BANDS if age < high + 1)


def estimate_share(values: np.ndarray) -> dict:
    """Returns the `count` of the true values, `num_images`, and their share as an estimate with Wilson's interval."""
    count, number = int(np.sum(values)), len(values)
    if not number:
        return {"count": 0, "num_images": 0} | make_estimate(np.nan)
    interval = binomtest(count, number).proportion_ci(CONFIDENCE, method="wilson")
    return {"count": count, "num_images": number} | make_estimate(count / number, *interval)


def find_bins(probabilities: np.ndarray, num_bins: int) -> np.ndarray:
    """Returns the number of the bin of each probability, among `num_bins` of equal width, shape `(num_images,)`."""
    return np.minimum((probabilities * num_bins).astype(int), num_bins - 1)


def compute_calibration_error(
    probabilities: np.ndarray, correct: np.ndarray, num_bins: int = CALIBRATION_BINS
) -> float:
    """
    Computes the expected calibration error (https://huggingface.co/papers/1706.04599).

    Args:
        probabilities: Probabilities of the predicted classes, 0 to 1, shape `(num_images,)`.
        correct: Whether the predicted classes are the labels, shape `(num_images,)`.
        num_bins: Number of bins of equal width, between the probabilities 0 and 1.
    """
    bins = find_bins(probabilities, num_bins)
    differences = np.bincount(bins, weights=probabilities - correct, minlength=num_bins)
    return float(np.abs(differences).sum() / len(probabilities))


def bootstrap_calibration_error(probabilities: np.ndarray, correct: np.ndarray) -> tuple[float, float]:
    """Returns the expected calibration error and its standard error, estimated by bootstrap over the images."""
    generator = np.random.default_rng(0)
    draws = generator.integers(0, len(correct), (BOOTSTRAP_SAMPLES, len(correct)))
    errors = [compute_calibration_error(probabilities[draw], correct[draw]) for draw in draws]
    return compute_calibration_error(probabilities, correct), float(np.std(errors))


def compute_threshold_errors(predictions: dict[str, np.ndarray]) -> dict[str, float | None]:
    """Returns the expected calibration error of being at least each of `AGE_THRESHOLDS`, None without a known age."""
    known = np.isfinite(predictions["age_classes"])
    at_least, ages = predictions["age_at_least"][known], predictions["age_classes"][known]
    return {
        str(age): compute_calibration_error(at_least[:, age], ages >= age, THRESHOLD_BINS) if known.any() else None
        for age in AGE_THRESHOLDS
        if age < at_least.shape[1]
    }


def describe_errors(predictions: dict[str, np.ndarray]) -> dict:
    """
    Computes errors, age intervals and gender probabilities by labelled age.

    Args:
        predictions: As returned by `metrics.prediction`.

    Returns:
        `by_age`: one dict for all ages and one for each of `AGE_BANDS` with images, with error, bias (positive if the
        predicted age is too high), coverage of the intervals (None with fewer than `LEAST_IMAGES` images), its standard
        error for a true coverage of 90 %, and mean width, in years. `age_mae_of_bands`: the mean of the bands' errors, in
        which each band counts alike, however few images it has. `gender_confusion`: counts, labels in rows and
        predictions in columns. `gender_calibration_error` and its standard error. `age_at_least_calibration_errors`: those
        of `compute_threshold_errors`. Values without a label are None.
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
        covered = float(((first <= classes) & (classes <= last)).mean())
        rows.append(
            {
                "ages": "all" if high == np.inf else f"{low}–{high}",
                "num_images": summary["num_images"],
                "age_mae": summary["age_mae"],
                "age_bias": float(errors.mean()),
                "gender_accuracy": None if np.isnan(gender_accuracy) else gender_accuracy,
                "interval_standard_error": float(np.sqrt(INTERVAL_COVERAGE * (1 - INTERVAL_COVERAGE) / chosen.sum())),
                "interval_coverage": covered if chosen.sum() >= LEAST_IMAGES else None,
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
        "age_mae_of_bands": float(np.mean([row["age_mae"] for row in rows[1:]])) if rows else None,
        "gender_confusion": confusion.tolist(),
        "gender_calibration_error": error,
        "gender_calibration_standard_error": standard_error,
        "age_at_least_calibration_errors": compute_threshold_errors(predictions),
    }


def compare_errors(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> dict:
    """
    Compares the predictions of two models for the same images.

    Args:
        before, after: As returned by `metrics.prediction`.

    Returns:
        For `age_mae` (years) and `gender_accuracy` (0 to 1): `before`, `after` and `change`, each a mean and its standard
        error, NaN with fewer than two labels. Images count in pairs, so the change is known better than either mean.
    """
    labels, genders = after["age_labels"], after["gender_labels"]
    errors = [np.abs(values["ages"] - labels)[np.isfinite(labels)] for values in (before, after)]
    correct = [
        (values["gender_logits"].argmax(axis=-1) == genders)[genders != -100].astype(float)
        for values in (before, after)
    ]
    return {
        name: {
            key: (float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5))
            if len(values) > 1
            else (np.nan,) * 2
            for key, values in (("before", first), ("after", second), ("change", second - first))
        }
        for name, (first, second) in (("age_mae", errors), ("gender_accuracy", correct))
    }


def format_comparison(comparison: dict) -> str:
    """Returns the result of `compare_errors` as two lines of text."""

    def format_mean(mean: float, error: float, style: str) -> str:
        return f"{format_value(mean, style)} ± {format_value(error, style.lstrip('+'))}"

    lines = []
    for name, title, style in (("age_mae", "age MAE, years", ".2f"), ("gender_accuracy", "gender accuracy", ".1%")):
        before, after = (format_mean(*comparison[name][key], style) for key in ("before", "after"))
        lines.append(
            f"{title:>15}: {before} before, {after} after: {format_mean(*comparison[name]['change'], '+' + style)}"
        )
    return "\n".join(lines)


def find_changes(comparison: dict) -> tuple[list[str], list[str]]:
    """Returns which of age and gender are better, and which worse, by more than the standard error of the change."""
    better, worse = [], []
    for name, title in (("age_mae", "age"), ("gender_accuracy", "gender")):
        change, error = comparison[name]["change"]
        if abs(change) > error:
            (better if (change > 0) == HIGHER_IS_BETTER[name] else worse).append(title)
    return better, worse


def format_errors(errors: dict) -> str:
    """Returns one line of text for each age band."""
    lines = ["     ages  images    MAE   bias  gender    in interval  width"]
    for row in errors["by_age"]:
        coverage = f"{format_value(row['interval_coverage'], '.1%')} ± {row['interval_standard_error']:.1%}"
        lines.append(
            f"{row['ages']:>9} {row['num_images']:>7,} {row['age_mae']:>6.2f} {row['age_bias']:>+6.2f} "
            f"{format_value(row['gender_accuracy'], '.1%'):>7} "
            f"{'–' if row['interval_coverage'] is None else coverage:>16} {row['interval_width']:>6.1f}"
        )
    if errors["age_mae_of_bands"] is not None:
        lines.append(f"Mean of the bands: age MAE {errors['age_mae_of_bands']:.2f} years.")
    if errors["gender_calibration_error"] is not None:
        lines.append(
            f"Gender probabilities are off by {errors['gender_calibration_error']:.2%} (ECE) ± "
            f"{errors['gender_calibration_standard_error']:.2%}."
        )
    thresholds = errors["age_at_least_calibration_errors"]
    if any(error is not None for error in thresholds.values()):
        lines.append(
            f"Probabilities of being at least {', '.join(thresholds)} years old are off by "
            f"{', '.join(f'{error:.2%}' for error in thresholds.values())} (ECE)."
        )
    lines.append(warn_of_few(errors["by_age"][0]["num_images"] if errors["by_age"] else 0))
    return "\n".join(filter(None, lines))


def format_metrics(metrics: dict) -> str:
    """Returns one line of text for all ages and one for adults."""
    low, high = ADULT_AGES
    lines = []
    for name, suffix in (("all ages", ""), (f"{low}–{high} years", f"_{low}_{high}")):
        lines.append(
            f"{name:>11}: age MAE {format_value(metrics['age_mae' + suffix], '.2f')} years, "
            f"CS@5 {format_value(metrics['age_cs5' + suffix], '.1%')}, "
            f"gender accuracy {format_value(metrics['gender_accuracy' + suffix], '.1%')} "
            f"({name_count(metrics['num_images' + suffix], 'image')})"
        )
    return "\n".join(lines)
