"""
Joins the encoders of models in one network with new heads, which is then trained.

    python -m scripts.join_encoders start_dlib start_faceres start_mobilefacenet --data_dir UTKFace.tar.gz --output_dir start

Networks of different kinds make different errors.
"""

from pathlib import Path

import torch

from files.writing import OutputParser
from hub.errors import run
from hub.loading import load_model
from image_processing_agegender import AgeGenderImageProcessor
from metrics.results import name_data
from modeling_agegender import AgeGenderModel
from pipeline_agegender import AgeGenderPipeline
from scripts.weight_conversion import CONFIGS, load_images, set_feature_statistics
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


def main():
    parser = OutputParser(description="Joins the encoders of models in one network with new heads.")
    parser.add_argument("models", nargs="+", help="Model folders or Hub ids, in the order of the config.")
    parser.add_argument(
        "--config", type=Path, default=CONFIGS / "agegender.json", help="Network. Default: configs/agegender.json."
    )
    parser.add_argument("--data_dir", required=True, help="UTKFace: folder, archive, Parquet folder or data set id.")
    parser.add_argument("--num_images", type=int, default=500, help="Training images for statistics. Default: 500.")
    parser.add_output("--output_dir", required=True, help="Folder for the model.")
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    torch.manual_seed(0)
    joined = AgeGenderModel(config).eval()
    models, processors = zip(*(load_model(name) for name in arguments.models))
    for name in ("image_mean", "image_std"):
        if len({tuple(getattr(processor, name)) for processor in processors}) > 1:
            raise ValueError(f"The models differ in {name}.")
    join_encoders(models, joined)
    processor = AgeGenderImageProcessor.of_model(config)
    processor.image_mean, processor.image_std = processors[0].image_mean, processors[0].image_std
    set_feature_statistics(joined, processor, load_images(arguments.data_dir, arguments.num_images))
    AgeGenderPipeline(model=joined, image_processor=processor).save_pretrained(arguments.output_dir)
    names = ", ".join(f"`{name_data(name)}`" for name in arguments.models)
    (arguments.output_dir / "README.md").write_text(CARD.format(names=names), encoding="utf-8")
    print(f"Wrote {arguments.output_dir}: {joined.num_parameters():,} parameters, {len(models)} encoders, new heads.")


if __name__ == "__main__":
    run(main)
