"""
Joins two trained models into one with both encoders, whose logits are the mean of theirs.

    python -m scripts.join_models runs/resnet29 runs/mobilenet --output_dir start

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


CARD = """# Two networks in one

The encoders of {first} and {second} side by side; the logits are the mean of theirs.
"""


def check_fit(models: list[AgeGenderModel], processors: list[AgeGenderImageProcessor]):
    """Raises ValueError if two models cannot be joined: each needs one encoder and linear heads, and both the same input."""
    configs = [model.config for model in models]
    for config in configs:
        if config.second_encoder is not None or config.age_head_sizes or config.gender_head_sizes:
            raise ValueError(f"{config.name_or_path} has two encoders already, or more than one layer in a head.")
    for parts, names in (
        (configs, ("num_channels", "num_age_classes", "id2label")),
        (processors, ("image_mean", "image_std")),
    ):
        for name in names:
            first, second = (getattr(part, name) for part in parts)
            if first != second:
                raise ValueError(f"The models differ in {name}: {first} and {second}.")


@torch.no_grad()
def join_models(first: AgeGenderModel, second: AgeGenderModel) -> AgeGenderModel:
    """
    Joins the encoders and averages the heads.

    Args:
        first: Model whose configuration is kept, including `mirror_averaging`.
        second: Model whose encoder receives each image once, at its own size.

    Returns:
        A model in eval mode, not calibrated. Its gender logits are the mean of those at the two temperatures.
    """
    values = {name: value for name, value in first.config.to_dict().items() if name not in CALIBRATED_FIELDS}
    values["second_encoder"] = {name: getattr(second.config, name) for name in AgeGenderConfig.encoder_fields}
    model = AgeGenderModel(AgeGenderConfig(**values)).eval()
    model.encoder.load_state_dict(first.encoder.state_dict())
    model.second_encoder.load_state_dict(second.encoder.state_dict())
    for name in ("age_head", "gender_head"):
        layers = [getattr(part, name).layers[0] for part in (first, second)]
        divisors = [2 * (part.config.gender_temperature if name == "gender_head" else 1) for part in (first, second)]
        joined = getattr(model, name).layers[0]
        joined.weight.copy_(torch.cat([layer.weight / by for layer, by in zip(layers, divisors)], dim=-1))
        joined.bias.copy_(sum(layer.bias / by for layer, by in zip(layers, divisors)))
    return model


def main():
    parser = OutputParser(description="Joins two trained models into one.")
    parser.add_argument("models", nargs=2, help="Model folders or Hub ids. The image processor is that of the first.")
    parser.add_output("--output_dir", required=True, help="Folder for the model.")
    arguments = parser.parse_args()
    models, processors = zip(*(load_model(name) for name in arguments.models))
    check_fit(models, processors)
    joined = join_models(*models)
    AgeGenderPipeline(model=joined, image_processor=processors[0]).save_pretrained(arguments.output_dir)
    first, second = (f"`{name_data(name)}`" for name in arguments.models)
    (arguments.output_dir / "README.md").write_text(CARD.format(first=first, second=second), encoding="utf-8")
    print(f"Wrote {arguments.output_dir}: {joined.num_parameters():,} parameters, not calibrated.")


if __name__ == "__main__":
    run(main)
