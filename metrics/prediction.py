"""Predictions of a model on a data loader, and their metrics."""

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch.utils.data import DataLoader

from metrics.age_gender import AgeGenderMetric
from modeling_agegender import AgeGenderModel


@torch.no_grad()
def predict(model: AgeGenderModel, dataloader: DataLoader, accelerator: Accelerator) -> dict[str, np.ndarray] | None:
    """
    What a model says of all images of a data loader, in their order.

    Args:
        model: On the accelerator's device.
        dataloader: Prepared by the accelerator.
        accelerator: Gathers the predictions of all processes, each image once.

    Returns:
        On the main process `ages` (years), `age_intervals` (images, 2), `age_logits` (images, num_age_classes),
        `gender_logits` (images, 2), `age_labels` (NaN where not known), `age_classes` (the same as whole years that the
        model has) and `gender_labels` (-100 where not known); elsewhere None.
    """
    was_training = model.training
    model.eval()
    gathered = []
    for batch in dataloader:
        pixel_values = batch["pixel_values"].contiguous(memory_format=torch.channels_last)
        with accelerator.autocast():
            output = model(pixel_values)
        values = {
            "ages": output.age,
            "age_intervals": output.age_interval,
            "age_logits": output.age_logits.float(),
            "gender_logits": output.gender_logits.float(),
            "age_labels": batch["age_labels"],
            "gender_labels": batch["gender_labels"],
            "age_classes": batch["age_labels"].round().clamp(max=output.age_logits.shape[-1] - 1),
        }
        values = accelerator.gather_for_metrics(values)
        if accelerator.is_main_process:
            gathered.append({name: value.cpu().numpy() for name, value in values.items()})
    model.train(was_training)
    if not accelerator.is_main_process:
        return None
    return {name: np.concatenate([values[name] for values in gathered]) for name in gathered[0]}


def compute_metrics(model: AgeGenderModel, predictions: dict[str, np.ndarray]) -> dict:
    """The values of [`AgeGenderMetric`] and `loss`, the mean over the labels that are known."""
    metrics = AgeGenderMetric().compute(
        age_predictions=predictions["ages"],
        age_references=predictions["age_labels"],
        gender_predictions=predictions["gender_logits"].argmax(axis=-1),
        gender_references=predictions["gender_labels"],
    )
    # One loss over all images: the mean of the batches' losses would weigh missing labels by their batch.
    names = ("age_logits", "gender_logits", "age_labels", "gender_labels")
    loss = model.compute_loss(*(torch.from_numpy(predictions[name]) for name in names))
    return metrics | {"loss": loss.item()}


def evaluate_model(model: AgeGenderModel, dataloader: DataLoader, accelerator: Accelerator) -> dict:
    """The result of `compute_metrics`, the same on all processes; arguments as in `predict`."""
    predictions = predict(model, dataloader, accelerator)
    results = [compute_metrics(model, predictions) if predictions else None]
    return broadcast_object_list(results)[0]
