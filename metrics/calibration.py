"""
Calibrates age intervals, age thresholds and gender probabilities on images that were not used to select the weights.

The result is seven fields of the configuration, which are saved with the weights.
"""

import numpy as np
import torch
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax

from configuration_agegender import AgeGenderConfig
from image_processing_agegender import (
    compute_age_at_least,
    compute_age_interval,
    compute_centrality,
    compute_entropy,
)
from metrics.results import AGE_THRESHOLDS, INTERVAL_COVERAGE


INTERVAL_FIELDS = ("age_interval_ages", "age_interval_levels", "age_interval_entropies", "age_interval_exponents")
AT_LEAST_FIELDS = ("age_at_least_scale", "age_at_least_shift")
CALIBRATED_FIELDS = (*INTERVAL_FIELDS, "gender_temperature", *AT_LEAST_FIELDS)
# Ages in years at which levels are fitted, closer where errors change fast.
LEVEL_AGES = (0, 2, 5, 10, 14, 18, 22, 26, 31, 38, 46, 55, 65, 80)
# A level is fitted to at least so many nearest labels and to all labels within so many years. With more labels, teenagers,
# which are few and the most overestimated, would get the level of younger and older faces.
NEAREST_IMAGES, NEAREST_YEARS = 60, 2
# A calibrated model keeps the level of an age with fewer than NEAREST_IMAGES labels within these years + a fifth of the age.
FARTHEST_YEARS = 5
LEAST_LABELS = 100  # over all ages
# The exponent of the interval is 1 up to the first of these quantiles of the entropy, and at the second one the least of
# EXPONENTS that covers the UNCLEAR share of faces with the largest entropies.
ENTROPY_QUANTILES = (0.5, 0.9)
EXPONENTS = np.arange(1, 5, 0.05).round(2)
UNCLEAR = 0.25
# Without wrong answers, the fitted temperature or scale would make all others certain.
LEAST_WRONG = 10
NUM_FOLDS = 10


def find_calibration(config: AgeGenderConfig) -> dict:
    """Returns the calibrated fields of a configuration, an empty dict if they have their defaults."""
    default = AgeGenderConfig()
    fields = {name: getattr(config, name) for name in CALIBRATED_FIELDS}
    is_default = all(np.array_equal(value, getattr(default, name)) for name, value in fields.items())
    return {} if is_default else fields


def fit_levels(centralities: np.ndarray, ages: np.ndarray) -> list[float]:
    """
    Fits the level of each of `LEVEL_AGES`: the conformal quantile of the nearest labels.

    Args:
        centralities: Centrality of each label in its predicted distribution, 0 to 1, shape `(num_images,)`.
        ages: Labels in years, shape `(num_images,)`.

    Returns:
        Levels, 0 to 1.
    """
    levels = []
    for age in LEVEL_AGES:
        distances = np.abs(ages - age)
        farthest = max(np.sort(distances)[:NEAREST_IMAGES][-1], NEAREST_YEARS)
        nearest = np.sort(centralities[distances <= farthest])
        # The rank of split conformal prediction (https://huggingface.co/papers/2107.07511).
        rank = min(int(np.ceil(INTERVAL_COVERAGE * (len(nearest) + 1))), len(nearest))
        levels.append(round(float(nearest[rank - 1]), 4))
    return levels


def fit_interval(predictions: dict[str, np.ndarray], degraded: dict[str, np.ndarray]) -> dict:
    """
    Fits levels to predictions, with the exponent that covers the unclear faces among these and degraded copies.

    Arguments as in `calibrate`. Returns the values of `INTERVAL_FIELDS`.
    """
    parts = []
    for values in (predictions, degraded):
        known = np.isfinite(values["age_classes"])
        ages, logits = values["age_classes"][known], torch.from_numpy(values["age_logits"][known])
        outside = 1 - compute_centrality(logits).numpy()[np.arange(len(ages)), ages.astype(int)]
        parts.append((ages, outside.clip(1e-6), compute_entropy(logits).numpy()))
    (own_ages, own_outside, own_entropies), (ages, outside, entropies) = parts[0], map(np.concatenate, zip(*parts))
    points = np.quantile(entropies, ENTROPY_QUANTILES).round(4)
    unclear = entropies >= np.quantile(entropies, 1 - UNCLEAR)
    for exponent in EXPONENTS:
        powers = [np.interp(values, points, (1, exponent)) for values in (own_entropies, entropies)]
        levels = fit_levels(1 - own_outside ** (1 / powers[0]), own_ages)
        covered = outside >= (1 - np.interp(ages, LEVEL_AGES, levels)) ** powers[1]
        if covered[unclear].mean() >= INTERVAL_COVERAGE:
            break
    return dict(zip(INTERVAL_FIELDS, (list(LEVEL_AGES), levels, points.tolist(), [1.0, float(exponent)])))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """
    Fits the temperature with the smallest cross-entropy (https://huggingface.co/papers/1706.04599).

    Args:
        logits: Scores at temperature 1, shape `(num_images, num_classes)`.
        labels: Class indices, shape `(num_images,)`.

    Returns:
        The temperature, 0.05 to 20.
    """

    def cross_entropy(log_temperature: float) -> float:
        return -log_softmax(logits / np.exp(log_temperature), axis=-1)[np.arange(len(labels)), labels].mean()

    fitted = minimize_scalar(cross_entropy, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return round(float(np.exp(fitted.x)), 4)


def find_log_odds(predictions: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the uncalibrated log-odds of being at least each of `AGE_THRESHOLDS` for the known ages, and whether they are."""
    known = np.isfinite(predictions["age_classes"])
    at_least = compute_age_at_least(torch.from_numpy(predictions["age_logits"][known]))
    thresholds = np.array([age for age in AGE_THRESHOLDS if age < at_least.shape[-1]], dtype=int)
    return at_least[:, thresholds].logit(eps=1e-6).numpy(), predictions["age_classes"][known, None] >= thresholds


def fit_at_least(log_odds: np.ndarray, reached: np.ndarray) -> dict:
    """
    Fits the scale and shift with the smallest cross-entropy, the same for all thresholds: Platt scaling
    (https://huggingface.co/papers/1706.04599).

    Arguments as returned by `find_log_odds`. Returns the values of `AT_LEAST_FIELDS`.
    """
    signs = np.where(reached, 1, -1)

    def cross_entropy(parameters: np.ndarray) -> float:
        scale, shift = parameters
        return np.logaddexp(0, -signs * (scale * log_odds + shift)).mean()

    fitted = minimize(cross_entropy, (1.0, 0.0), method="L-BFGS-B", bounds=((0.05, 20), (-10, 10)))
    return dict(zip(AT_LEAST_FIELDS, (round(float(value), 4) for value in fitted.x)))


def fit_fields(
    predictions: dict[str, np.ndarray],
    degraded: dict[str, np.ndarray],
    start: dict,
    chosen: tuple[np.ndarray, bool, bool],
) -> dict:
    """Returns the fitted fields of the configuration; `chosen` is from `choose_fitted`, other levels are those of `start`."""
    fields, (levels, temperature, at_least) = {}, chosen
    if levels.any():
        fields = fit_interval(predictions, degraded)
        if not levels.all():
            former = np.interp(LEVEL_AGES, start["age_interval_ages"], start["age_interval_levels"])
            fields["age_interval_levels"] = np.where(levels, fields["age_interval_levels"], former.round(4)).tolist()
    if temperature:
        known = predictions["gender_labels"] != -100
        labels = predictions["gender_labels"][known]
        fields["gender_temperature"] = fit_temperature(predictions["gender_logits"][known], labels)
    if at_least:
        fields |= fit_at_least(*find_log_odds(predictions))
    return fields


def choose_fitted(predictions: dict[str, np.ndarray], start: dict) -> tuple[np.ndarray, bool, bool, str]:
    """
    Chooses what the labels of some predictions suffice for.

    Args:
        predictions: As returned by `metrics.prediction`.
        start: The model's former calibration. Without one, a level is fitted to the nearest labels, however far they are.

    Returns:
        Which of `LEVEL_AGES` get a fitted level, `(14,)` bool, whether a temperature is fitted, whether `AT_LEAST_FIELDS` are,
        and sentences for the log.
    """
    ages, genders = predictions["age_classes"], predictions["gender_labels"]
    near = np.array([(np.abs(ages - age) <= FARTHEST_YEARS + age / 5).sum() for age in LEVEL_AGES])
    levels = ((near >= NEAREST_IMAGES) | (not start)) & (np.isfinite(ages).sum() >= LEAST_LABELS)
    known = genders != -100
    wrong = (known & (predictions["gender_logits"].argmax(axis=-1) != genders)).sum()
    temperature = bool(known.sum() >= LEAST_LABELS and wrong >= LEAST_WRONG)
    log_odds, reached = find_log_odds(predictions)
    wrong_ages = ((log_odds >= 0) != reached).any(axis=-1).sum()
    at_least = bool(len(reached) >= LEAST_LABELS and wrong_ages >= LEAST_WRONG)
    sentences = []
    for is_fitted, intro in (
        (True, f"Calibrated on {len(ages):,} validation images"),
        (False, "Kept from the start, for want of labels" if start else "Not calibrated, for want of labels"),
    ):
        part = [str(age) for age, fitted in zip(LEVEL_AGES, levels) if fitted == is_fitted]
        at = f" at {', '.join(part)} years" if len(part) < len(LEVEL_AGES) else ""
        names = [f"the interval levels{at}"] * bool(part)
        names += ["the gender temperature"] * (temperature == is_fitted)
        names += ["the age thresholds"] * (at_least == is_fitted)
        *first, last = names or [""]
        sentences += [f"{intro}: {', '.join(first)}{' and ' * bool(first)}{last}."] * bool(names)
    if len(ages) and not (levels.all() and temperature and at_least):
        sentences.append(
            f"Levels take {LEAST_LABELS} ages (here {np.isfinite(ages).sum()}), {NEAREST_IMAGES} of them near each; the "
            f"temperature takes {LEAST_LABELS} genders (here {known.sum()}), {LEAST_WRONG} of them answered wrong "
            f"(here {wrong}); the thresholds take {LEAST_LABELS} ages, {LEAST_WRONG} of them on the wrong side of one (here "
            f"{wrong_ages})."
        )
    return levels, temperature, at_least, " ".join(sentences)


def apply_calibration(predictions: dict[str, np.ndarray], fields: dict) -> dict[str, np.ndarray]:
    """Returns the predictions of the model with these fields of the configuration."""
    changed = {}
    if "age_interval_levels" in fields:
        logits, ages = (torch.from_numpy(predictions[name]) for name in ("age_logits", "ages"))
        interval = compute_age_interval(logits, ages, *(fields[name] for name in INTERVAL_FIELDS))
        changed["age_intervals"] = interval.numpy()
    if "gender_temperature" in fields:
        changed["gender_logits"] = predictions["gender_logits"] / fields["gender_temperature"]
    if "age_at_least_scale" in fields:
        logits = torch.from_numpy(predictions["age_logits"])
        changed["age_at_least"] = compute_age_at_least(logits, *(fields[name] for name in AT_LEAST_FIELDS)).numpy()
    return predictions | changed


def calibrate(
    config: AgeGenderConfig,
    predictions: dict[str, np.ndarray],
    degraded: dict[str, np.ndarray],
    calibrating: np.ndarray,
    groups: np.ndarray,
) -> tuple[dict, dict[str, np.ndarray], str]:
    """
    Fits the calibration and sets it in a configuration.

    Args:
        config: Configuration of the model with its former calibration, changed in place.
        predictions: Predictions with `gender_temperature=1`, as returned by `metrics.prediction`.
        degraded: The same of degraded copies of the images.
        calibrating: Whether an image is used for calibration, shape `(num_images,)`.
        groups: Groups of near-duplicates, shape `(num_images,)`.

    Returns:
        The fitted fields, calibrated predictions, and what was fitted and why not all, for the log. What has too few labels
        keeps its former value. Coverage is cross-fitted: no image is scored with a calibration fitted on it or its
        near-duplicates.
    """
    start = find_calibration(config)
    *chosen, text = choose_fitted(take(predictions, calibrating), start)

    def fit(images: np.ndarray) -> dict:
        return fit_fields(take(predictions, images), take(degraded, images), start, chosen)

    fields = fit(calibrating)
    cross_fitted = {name: values.copy() for name, values in apply_calibration(predictions, start | fields).items()}
    members, numbers = np.unique(groups, return_inverse=True)
    folds = np.random.default_rng(0).permutation(len(members))[numbers] % NUM_FOLDS
    for fold in range(NUM_FOLDS) if fields else ():
        own = calibrating & (folds == fold)
        fold_fields = start | fit(calibrating & (folds != fold))
        for name, values in apply_calibration(take(predictions, own), fold_fields).items():
            cross_fitted[name][own] = values
    for name, value in fields.items():
        setattr(config, name, value)
    return fields, cross_fitted, text


def take(predictions: dict[str, np.ndarray], chosen: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the predictions of the chosen images."""
    return {name: values[chosen] for name, values in predictions.items()}
