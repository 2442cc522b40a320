"""Predictions of a model for a data loader, and their metrics."""

from collections.abc import Callable

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import AutocastKwargs, broadcast_object_list
from torch.utils.data import DataLoader

from image_processing_agegender import compute_age_at_least
from metrics.age_gender import AgeGenderMetric
from modeling_agegender import AgeGenderModel


def find_exact_ages(age_labels: torch.Tensor) -> torch.Tensor:
    """Returns the age labels of [`AgeGenderModel`] as `(batch_size,)`, NaN where unknown and where only a band is known."""
    bands = age_labels if age_labels.ndim == 2 else age_labels[:, None]
    return torch.where(bands[:, 0] == bands[:, -1], bands[:, 0], torch.nan)


@torch.no_grad()
def compute_predictions(
    model: AgeGenderModel,
    dataloader: DataLoader,
    accelerator: Accelerator,
    change: Callable[[torch.Tensor], torch.Tensor] = lambda images: images,
    autocast: bool = True,
) -> dict[str, np.ndarray] | None:
    """
    Computes the predictions for all images of a data loader, in its order.

    Args:
        model: A model on the accelerator's device.
        dataloader: A data loader prepared by the accelerator.
        accelerator: Gathers the predictions of all processes, each image once.
        change: Changes the `pixel_values` of each batch first.
        autocast: False computes in float32, whatever precision the accelerator has.

    Returns:
        On the main process arrays of `num_images` rows: `ages` and `age_labels` (years, NaN if unknown or only a band is
        known), `age_bands` (the labels as they are in the batches), `age_classes` (labels rounded and limited to the model's
        classes), `age_intervals` (2 columns, years), `age_logits` and `age_at_least` (`num_age_classes` columns),
        `gender_logits` (2 columns) and `gender_labels` (-100 if unknown). None elsewhere.
    """
    was_training, config = model.training, model.config
    model.eval()
    gathered = []
    for batch in dataloader:
        with accelerator.autocast(AutocastKwargs(enabled=autocast)):
            output = model(change(batch["pixel_values"]))
        ages = find_exact_ages(batch["age_labels"])
        values = {
            "ages": output.age,
            "age_intervals": output.age_interval,
            "age_logits": output.age_logits.float(),
            "age_at_least": compute_age_at_least(
                output.age_logits, config.age_at_least_scale, config.age_at_least_shift
            ),
            "gender_logits": output.gender_logits.float(),
            "age_labels": ages,
            "age_bands": batch["age_labels"],
            "gender_labels": batch["gender_labels"],
            "age_classes": ages.round().clamp(max=output.age_logits.shape[-1] - 1),
        }
        values = accelerator.gather_for_metrics(values)
        if accelerator.is_main_process:
            gathered.append({name: value.cpu().numpy() for name, value in values.items()})
    model.train(was_training)
    if not accelerator.is_main_process:
        return None
    return {name: np.concatenate([values[name] for values in gathered]) for name in gathered[0]}


def compute_metrics(model: AgeGenderModel, predictions: dict[str, np.ndarray]) -> dict:
    """Returns the values of [`AgeGenderMetric`] and the mean `loss` over the known labels."""
    metrics = AgeGenderMetric().compute(
        age_predictions=predictions["ages"],
        age_references=predictions["age_labels"],
        gender_predictions=predictions["gender_logits"].argmax(axis=-1),
        gender_references=predictions["gender_labels"],
    )
    # Over all images: with unknown labels, the mean of the batch losses would be another number.
    names = ("age_logits", "gender_logits", "age_bands", "gender_labels")
    loss = model.compute_loss(*(torch.from_numpy(predictions[name]) for name in names))
    return metrics | {"loss": loss.item()}


def compute_weighted_loss(model: AgeGenderModel, predictions: dict[str, np.ndarray], age_weights: np.ndarray) -> float:
    """Returns the mean loss over the images, each with the weight of its age; unknown ages have the weight 1."""
    ages, losses, weights = np.nan_to_num(predictions["age_classes"], nan=-1).astype(int), [], []
    names = ("age_logits", "gender_logits", "age_bands", "gender_labels")
    for age in np.unique(ages):
        values = (torch.from_numpy(predictions[name][ages == age]) for name in names)
        losses.append(model.compute_loss(*values).item())
        weights.append((ages == age).sum() * (age_weights[age] if age >= 0 else 1))
    return float(np.average(losses, weights=weights))


def evaluate_model(
    model: AgeGenderModel,
    dataloader: DataLoader,
    accelerator: Accelerator,
    age_weights: np.ndarray | None = None,
) -> dict:
    """
    Returns the result of `compute_metrics` on all processes; arguments as in `compute_predictions`.

    With `age_weights`, from `compute_age_weights`, ages count in the loss as in a training that draws them so.
    """
    predictions = compute_predictions(model, dataloader, accelerator)
    results = [compute_metrics(model, predictions) if predictions else None]
    if predictions and age_weights is not None:
        results[0]["loss"] = compute_weighted_loss(model, predictions, age_weights)
    return broadcast_object_list(results)[0]
