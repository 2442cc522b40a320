"""Learning from other models: what they say of an image, averaged, is a second, softer label."""

import torch
from torch import nn
from torch.nn import functional as F

from configuration_agegender import AgeGenderConfig
from data.transforms import Normalization
from hub.loading import load_model
from modeling_agegender import AgeGenderOutput


class Teachers(nn.Module):
    """
    Averages what saved models say of images, each at its own size and with its own normalisation.

    They see the pixels of the student's images, enlarged where their own size is larger.

    Args:
        models: Folders or Hub ids of AgeGenderModels.
        config: Of the student, whose classes the teachers must share.

    Raises:
        ValueError: if a teacher has other classes than the student.
    """

    def __init__(self, models: list[str], config: AgeGenderConfig):
        super().__init__()
        loaded = [load_model(model) for model in models]
        self.models = nn.ModuleList(model for model, _ in loaded)
        self.normalizations = nn.ModuleList(Normalization(processor) for _, processor in loaded)
        self.sizes = [(processor.size["height"], processor.size["width"]) for _, processor in loaded]
        for name, model in zip(models, self.models):
            # The student sees the mirror images too, as augmentation.
            model.config.mirror_averaging = False
            # Fitted to images that are to calibrate the student, whose weights must not know them.
            model.config.gender_temperature = 1.0
            for field in ("num_age_classes", "id2label"):
                own, expected = getattr(model.config, field), getattr(config, field)
                if own != expected:
                    raise ValueError(f"The teacher {name} has {field}={own}, but the student {expected}.")
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        What the teachers say.

        Args:
            pixels: RGB in 0–1, (batch, 3, height, width).

        Returns:
            Mean probabilities, float32: of the ages (batch, num_age_classes) and of the genders (batch, 2).
        """
        age_probabilities, gender_probabilities = [], []
        for model, normalize, size in zip(self.models, self.normalizations, self.sizes):
            resized = pixels
            if pixels.shape[-2:] != size:
                resized = F.interpolate(pixels, size, mode="bilinear", antialias=True)
            output = model(normalize(resized))
            age_probabilities.append(output.age_logits.float().softmax(dim=-1))
            gender_probabilities.append(output.gender_logits.float().softmax(dim=-1))
        return torch.stack(age_probabilities).mean(dim=0), torch.stack(gender_probabilities).mean(dim=0)


def soft_loss(
    config: AgeGenderConfig, output: AgeGenderOutput, targets: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """
    Cross-entropy of a student with what its teachers say, of all images, labelled or not.

    Args:
        config: Of the student; weighs age and gender.
        output: Of the student.
        targets: From [`Teachers`].

    Returns:
        A scalar, float32.
    """
    age_targets, gender_targets = targets
    age_loss = F.cross_entropy(output.age_logits.float(), age_targets)
    gender_loss = F.cross_entropy(output.gender_logits.float(), gender_targets)
    return config.age_loss_weight * age_loss + config.gender_loss_weight * gender_loss
