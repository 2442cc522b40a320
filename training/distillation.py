"""Distillation: the averaged predictions of other models are soft labels beside the real labels."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from configuration_agegender import AgeGenderConfig
from data.transforms import Normalization
from hub.loading import load_model
from modeling_agegender import AgeGenderOutput


class Teachers(nn.Module):
    """
    Averages the predictions of saved models, each with its own image size and normalization.

    Args:
        models: Folders or Hub ids of AgeGenderModels.
        config: Config of the student. Raises ValueError if a teacher has other classes.
        age_weights: How much more often than others the training draws each age, for at least the classes of the student.
            The teachers learnt from other shares, so their probabilities are multiplied by it. Defaults to no change.
    """

    def __init__(self, models: list[str], config: AgeGenderConfig, age_weights: np.ndarray | None = None):
        super().__init__()
        loaded = [load_model(model) for model in models]
        self.models = nn.ModuleList(model for model, _ in loaded)
        self.normalizations = nn.ModuleList(Normalization(processor) for _, processor in loaded)
        self.sizes = [(processor.size["height"], processor.size["width"]) for _, processor in loaded]
        for name, model in zip(models, self.models):
            # The student sees mirror images as augmentation.
            for encoder in (model.encoder, *model.more_encoders):
                encoder.config.mirror_averaging = False
            # The temperature was fitted to images that will calibrate the student, so its weights must not depend on it.
            model.config.gender_temperature = 1.0
            for field in ("num_age_classes", "id2label"):
                own, expected = getattr(model.config, field), getattr(config, field)
                if own != expected:
                    raise ValueError(f"The teacher {name} has {field}={own}, but the student {expected}.")
        weights = None if age_weights is None else torch.from_numpy(age_weights[: config.num_age_classes]).float()
        self.register_buffer("age_weights", weights, persistent=False)
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Predicts ages and genders.

        Args:
            pixels: RGB images of the student in 0–1, (batch, 3, height, width). They are resized for each teacher.

        Returns:
            Mean probabilities of the ages (batch, num_age_classes) and of the genders (batch, 2), float32.
        """
        ages, genders = [], []
        for model, normalize, size in zip(self.models, self.normalizations, self.sizes):
            resized = pixels
            if pixels.shape[-2:] != size:
                resized = F.interpolate(pixels, size, mode="bilinear", antialias=True)
            output = model(normalize(resized))
            scores = output.age_logits.float().softmax(dim=-1)
            if self.age_weights is not None:
                scores = F.normalize(scores * self.age_weights, p=1, dim=-1)
            ages.append(scores)
            genders.append(output.gender_logits.float().softmax(dim=-1))
        return torch.stack(ages).mean(dim=0), torch.stack(genders).mean(dim=0)


def compute_soft_loss(
    config: AgeGenderConfig, output: AgeGenderOutput, targets: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """Computes the cross-entropy of a student with the probabilities of [`Teachers`], over all images, labelled or not."""
    age_loss, gender_loss = (
        F.cross_entropy(logits.float(), target)
        for logits, target in zip((output.age_logits, output.gender_logits), targets)
    )
    return config.age_loss_weight * age_loss + config.gender_loss_weight * gender_loss
