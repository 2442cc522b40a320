"""
What makes a model's age intervals and gender probabilities hold, fitted on images that chose neither weights nor epoch.

The results are three fields of the configuration, so that they travel with the weights.
"""

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from metrics import INTERVAL_COVERAGE, describe_errors
from modeling_agegender import AgeGenderModel


CALIBRATED_FIELDS = ("age_interval_ages", "age_interval_levels", "gender_temperature")
# Ages, years, that have a level of their own; closer where errors change fast.
LEVEL_AGES = (0, 2, 5, 10, 16, 21, 26, 31, 38, 46, 55, 65, 80)
# A level is fitted to the images whose labels lie nearest to its age; with fewer images nothing is fitted.
NEAREST_IMAGES = 100
NUM_FOLDS = 10


def fit_levels(centralities: np.ndarray, ages: np.ndarray) -> list[float]:
    """
    The level of each of `LEVEL_AGES`: the conformal quantile over the labels nearest to it.

    Args:
        centralities: How far out each label lies in its predicted distribution, 0–1, (images,).
        ages: The labels, years, (images,).

    Returns:
        Levels, 0–1.
    """
    levels = []
    for age in LEVEL_AGES:
        nearest = np.argsort(np.abs(ages - age), kind="stable")[:NEAREST_IMAGES]
        # The rank of split conformal prediction (https://huggingface.co/papers/2107.07511).
        rank = min(int(np.ceil(INTERVAL_COVERAGE * (len(nearest) + 1))), len(nearest))
        levels.append(round(float(np.sort(centralities[nearest])[rank - 1]), 4))
    return levels


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """
    The temperature with the smallest cross-entropy (https://huggingface.co/papers/1706.04599).

    Args:
        logits: Scores at temperature 1, (images, classes).
        labels: Indices of classes, (images,).

    Returns:
        A number in 0.05–20.
    """

    def cross_entropy(log_temperature: float) -> float:
        return -log_softmax(logits / np.exp(log_temperature), axis=-1)[np.arange(len(labels)), labels].mean()

    fitted = minimize_scalar(cross_entropy, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return round(float(np.exp(fitted.x)), 4)


def fit_fields(model: AgeGenderModel, predictions: dict[str, np.ndarray], least_labels: int = NEAREST_IMAGES) -> dict:
    """The fields of the configuration that fit; those with fewer labels than `least_labels` are left out."""
    fields = {}
    known = np.isfinite(predictions["age_labels"])
    if known.sum() >= least_labels:
        ages = predictions["age_labels"][known].clip(0, model.config.num_age_classes - 1)
        centralities = model.age_centrality(torch.from_numpy(predictions["age_logits"][known])).numpy()
        levels = fit_levels(centralities[np.arange(len(ages)), ages.round().astype(int)], ages)
        fields |= {"age_interval_ages": list(LEVEL_AGES), "age_interval_levels": levels}
    known = predictions["gender_labels"] != -100
    if known.sum() >= least_labels:
        labels = predictions["gender_labels"][known]
        fields["gender_temperature"] = fit_temperature(predictions["gender_logits"][known], labels)
    return fields


def apply_fields(model: AgeGenderModel, predictions: dict[str, np.ndarray], fields: dict) -> dict[str, np.ndarray]:
    """Sets the fields in the model's configuration and works out what it then says of the same images."""
    for name, value in fields.items():
        setattr(model.config, name, value)
    age_intervals = model.age_interval(
        torch.from_numpy(predictions["age_logits"]), torch.from_numpy(predictions["ages"])
    )
    gender_logits = predictions["gender_logits"] / fields.get("gender_temperature", 1.0)
    return predictions | {"age_intervals": age_intervals.numpy(), "gender_logits": gender_logits}


def calibrate(model: AgeGenderModel, predictions: dict[str, np.ndarray], groups: np.ndarray, seed: int = 0) -> dict:
    """
    Fits the fields, sets them in the model's configuration and counts how well such fields hold.

    What is counted is cross-fitted: each tenth of the images by the fields that the other nine give.

    Args:
        model: Gave the predictions with `gender_temperature=1`.
        predictions: What `evaluation.predict` returns, of images that chose neither weights nor epoch.
        groups: Groups of near-duplicates, which are not divided, (images,).
        seed: Of the draw of the tenths.

    Returns:
        `fields`, empty where there are too few labels, and `cross_fitted`, the result of [`describe_errors`].
    """
    fields = fit_fields(model, predictions)
    if not fields:
        return {"fields": {}, "cross_fitted": None}
    members, numbers = np.unique(groups, return_inverse=True)
    folds = np.random.default_rng(seed).permutation(len(members))[numbers] % NUM_FOLDS
    parts = []
    for fold in np.unique(folds):
        others, own = (
            {name: values[chosen] for name, values in predictions.items()} for chosen in (folds != fold, folds == fold)
        )
        parts.append(apply_fields(model, own, fit_fields(model, others, least_labels=1)))
    held = {name: np.concatenate([part[name] for part in parts]) for name in predictions}
    apply_fields(model, predictions, fields)
    return {"fields": fields, "cross_fitted": describe_errors(held)}
