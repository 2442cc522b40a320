"""
Joins the encoders of models in one network with new heads, which is then trained.

    python -m scripts.join_encoders start_dlib start_faceres start_mobilefacenet --data_dir UTKFace.tar.gz --output_dir start

Networks of different kinds make different errors.
"""

from pathlib import Path

import torch

from configuration_agegender import AgeGenderConfig
from files.writing import OutputParser
from hub.errors import run
from hub.loading import load_model
from image_processing_agegender import AgeGenderImageProcessor
from metrics.results import name_data
from modeling_agegender import AgeGenderModel
from scripts.weight_conversion import CONFIGS, load_images, save_start, set_feature_statistics
from training.initial_model import load_config


CARD = """# Initial weights

The encoders of {names} side by side, and new heads.
"""


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


def make_parser(description: str) -> OutputParser:
    """Makes the parser of a program that makes one network of several."""
    parser = OutputParser(description=description)
    parser.add_argument("models", nargs="+", help="Model folders or Hub ids, in the order of the config.")
    parser.add_argument(
        "--config", type=Path, default=CONFIGS / "agegender.json", help="Network. Default: configs/agegender.json."
    )
    parser.add_output("--output_dir", required=True, help="Folder for the model.")
    return parser


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


def save_network(
    model: AgeGenderModel, processor: AgeGenderImageProcessor, card: str, names: list[str], output_dir: Path
):
    """Saves the network that was made of models, whose names the card tells."""
    save_start(model, processor, card.format(names=", ".join(f"`{name_data(name)}`" for name in names)), output_dir)
    print(f"Wrote {output_dir}: {model.num_parameters():,} parameters of {len(names)} models.")


def main():
    parser = make_parser("Joins the encoders of models in one network with new heads.")
    parser.add_argument("--data_dir", required=True, help="UTKFace: folder, archive, Parquet folder or data set id.")
    parser.add_argument("--num_images", type=int, default=500, help="Training images for statistics. Default: 500.")
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    torch.manual_seed(0)
    joined = AgeGenderModel(config).eval()
    models, processor = load_members(arguments.models, config)
    join_encoders(models, joined)
    set_feature_statistics(joined, processor, load_images(arguments.data_dir, arguments.num_images))
    save_network(joined, processor, CARD, arguments.models, arguments.output_dir)


if __name__ == "__main__":
    run(main)
