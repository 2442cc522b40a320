"""
Joins trained models into one with all their encoders, whose logits are the mean of theirs.

    python -m scripts.join_models runs/resnet29 runs/mobilenet runs/mobilefacenet --output_dir start

Networks of different kinds make different errors. The result can be trained further.
"""

import torch

from configuration_agegender import AgeGenderConfig
from files.writing import OutputParser
from hub.errors import run
from hub.loading import load_model
from image_processing_agegender import AgeGenderImageProcessor
from metrics.calibration import CALIBRATED_FIELDS
from metrics.results import name_data
from modeling_agegender import AgeGenderModel
from pipeline_agegender import AgeGenderPipeline


CARD = """# Networks side by side

The encoders of {names} side by side; the logits are the mean of theirs.
"""


def check_fit(models: list[AgeGenderModel], processors: list[AgeGenderImageProcessor]):
    """Raises ValueError if models cannot be joined: each needs one encoder and linear heads, and all the same input."""
    configs = [model.config for model in models]
    for config in configs:
        if config.more_encoders or config.age_head_sizes or config.gender_head_sizes:
            raise ValueError(f"{config.name_or_path} has several encoders already, or more than one layer in a head.")
    for parts, names in (
        (configs, ("num_channels", "num_age_classes", "id2label")),
        (processors, ("image_mean", "image_std")),
    ):
        for name in names:
            first, *others = (getattr(part, name) for part in parts)
            for other in others:
                if first != other:
                    raise ValueError(f"The models differ in {name}: {first} and {other}.")


@torch.no_grad()
def join_models(models: list[AgeGenderModel]) -> AgeGenderModel:
    """
    Joins the encoders and averages the heads.

    Args:
        models: The configuration of the first is kept, including `mirror_averaging`. The encoders of the others receive each
            image once, at their own sizes.

    Returns:
        A model in eval mode, not calibrated. Its gender logits are the mean of those at temperature 1.
    """
    first, *others = models
    values = {name: value for name, value in first.config.to_dict().items() if name not in CALIBRATED_FIELDS}
    values["more_encoders"] = [
        {name: getattr(other.config, name) for name in AgeGenderConfig.encoder_fields} for other in others
    ]
    joined = AgeGenderModel(AgeGenderConfig(**values)).eval()
    for encoder, model in zip((joined.encoder, *joined.more_encoders), models):
        encoder.load_state_dict(model.encoder.state_dict())
    for name in ("age_head", "gender_head"):
        layers = [getattr(model, name).layers[0] for model in models]
        layer = getattr(joined, name).layers[0]
        layer.weight.copy_(torch.cat([each.weight for each in layers], dim=-1) / len(models))
        layer.bias.copy_(sum(each.bias for each in layers) / len(models))
    return joined


def main():
    parser = OutputParser(description="Joins trained models into one.")
    parser.add_argument(
        "models", nargs="+", help="Model folders or Hub ids. The image processor is that of the first."
    )
    parser.add_output("--output_dir", required=True, help="Folder for the model.")
    arguments = parser.parse_args()
    models, processors = zip(*(load_model(name) for name in arguments.models))
    check_fit(models, processors)
    joined = join_models(models)
    AgeGenderPipeline(model=joined, image_processor=processors[0]).save_pretrained(arguments.output_dir)
    names = ", ".join(f"`{name_data(name)}`" for name in arguments.models)
    (arguments.output_dir / "README.md").write_text(CARD.format(names=names), encoding="utf-8")
    print(f"Wrote {arguments.output_dir}: {joined.num_parameters():,} parameters, not calibrated.")


if __name__ == "__main__":
    run(main)
