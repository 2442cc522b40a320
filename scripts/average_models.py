"""
Makes one network that answers as the average of several: their encoders side by side, and the layers of their heads.

    python -m scripts.average_models resnet29 frozen --output_dir averaged

Networks of different kinds make different errors. The average is that of the age and gender scores.
"""

import torch

from hub.errors import run
from modeling_agegender import AgeGenderHead, AgeGenderModel
from scripts.join_encoders import join_encoders, load_members, make_parser, save_network
from training.initial_model import load_config


CARD = """# Initial weights

The average of {names} as one network.
"""


@torch.no_grad()
def average_heads(heads: list[AgeGenderHead], average: AgeGenderHead):
    """
    Loads the layers of heads, which do not see each other's features, into a head that gives the mean of their outputs.

    Raises:
        ValueError: if the heads have other numbers of layers, or that of the average has other sizes.
    """
    try:
        for target, *layers in zip(average.layers, *(head.layers for head in heads), strict=True):
            weights, biases = ([getattr(layer, name) for layer in layers] for name in ("weight", "bias"))
            is_last = target is average.layers[-1]
            target.weight.copy_(torch.cat(weights, dim=1) / len(heads) if is_last else torch.block_diag(*weights))
            target.bias.copy_(torch.stack(biases).mean(dim=0) if is_last else torch.cat(biases))
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"The heads of the models do not fit those that the config describes: {error}") from error


def average_models(models: list[AgeGenderModel], average: AgeGenderModel):
    """
    Loads models into one that gives the mean of their scores. Their gender temperatures are left out.

    Raises:
        ValueError: if their encoders or heads are not those of the average, or their features are not normalized.
    """
    join_encoders(models, average)
    if not all(model.config.normalize_features for model in (*models, average)):
        raise ValueError("The models and the config must have normalize_features.")
    for name in ("running_mean", "running_var"):
        statistics = [getattr(model.feature_normalization, name) for model in models]
        getattr(average.feature_normalization, name).copy_(torch.cat(statistics))
    for name in ("age_head", "gender_head"):
        average_heads([getattr(model, name) for model in models], getattr(average, name))


def main():
    arguments = make_parser("Makes one network that answers as the average of several.").parse_args()
    config = load_config(arguments.config)
    models, processor = load_members(arguments.models, config)
    average = AgeGenderModel(config).eval()
    average_models(models, average)
    save_network(average, processor, CARD, arguments.models, arguments.output_dir)


if __name__ == "__main__":
    run(main)
