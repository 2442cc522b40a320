"""
Makes one network that answers as the average of several: their encoders side by side, and the layers of their heads.

    python -m scripts.average_models resnet29 frozen --output_dir averaged

Networks of different kinds make different errors. The average is that of the age and gender scores.
"""

from pathlib import Path

import torch

from configuration_agegender import AgeGenderConfig
from files.writing import OutputParser
from hub.errors import run
from hub.loading import load_model
from image_processing_agegender import AgeGenderImageProcessor
from metrics.results import name_data
from modeling_agegender import AgeGenderHead, AgeGenderModel
from scripts.weight_conversion import CONFIGS, save_start
from training.initial_model import load_config


CARD = """# Initial weights

The average of {names} as one network.
"""


def load_members(
    names: list[str], config: AgeGenderConfig
) -> tuple[tuple[AgeGenderModel, ...], AgeGenderImageProcessor]:
    """
    Loads models, and makes the image processor of the network that is made of them.

    Raises:
        ValueError: if the models normalize pixels in different ways.
    """
    models, processors = zip(*(load_model(name) for name in names))
    processor = AgeGenderImageProcessor.of_model(config)
    for name in ("image_mean", "image_std"):
        if len({tuple(getattr(each, name)) for each in processors}) > 1:
            raise ValueError(f"The models differ in {name}.")
        setattr(processor, name, getattr(processors[0], name))
    return models, processor


def join_encoders(models: list[AgeGenderModel], joined: AgeGenderModel):
    """
    Copies the encoders of models, in their order, to those of another one.

    Raises:
        ValueError: if their number or their layers differ from those of the other model.
    """
    encoders, given = (
        [each for model in group for each in (model.encoder, *model.more_encoders)] for group in ((joined,), models)
    )
    if len(given) != len(encoders):
        raise ValueError(f"The config describes {len(encoders)} encoders, but the models have {len(given)}.")
    for number, (encoder, other) in enumerate(zip(encoders, given), start=1):
        shapes, other_shapes = (
            {name: values.shape for name, values in each.state_dict().items()} for each in (encoder, other)
        )
        if shapes != other_shapes:
            raise ValueError(f"Encoder {number} of the models is not the one that the config describes.")
        encoder.load_state_dict(other.state_dict())


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
    parser = OutputParser(description="Makes one network that answers as the average of several.")
    parser.add_argument("models", nargs="+", help="Model folders or Hub ids, in the order of the config.")
    parser.add_argument(
        "--config", type=Path, default=CONFIGS / "agegender.json", help="Network. Default: configs/agegender.json."
    )
    parser.add_output("--output_dir", required=True, help="Folder for the model.")
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    models, processor = load_members(arguments.models, config)
    average = AgeGenderModel(config).eval()
    average_models(models, average)
    names = ", ".join(f"`{name_data(name)}`" for name in arguments.models)
    save_start(average, processor, CARD.format(names=names), arguments.output_dir)
    print(f"Wrote {arguments.output_dir}: {average.num_parameters():,} parameters of {len(models)} models.")


if __name__ == "__main__":
    run(main)
