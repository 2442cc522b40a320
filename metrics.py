"""Metrics of age and gender estimation, as a local `evaluate` metric that needs no download."""

import datasets
import evaluate
import numpy as np


# The ages of the published protocol on UTKFace (CORAL, MWR, MiVOLO), years.
ADULT_AGES = (21, 60)
CUMULATIVE_SCORE_YEARS = 5

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
