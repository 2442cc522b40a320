"""Loads weights, configuration and image processor of a saved model, with the code of this folder alone."""

import torch
from safetensors import SafetensorError

from configuration_agegender import AgeGenderConfig
from image_processing_agegender import AgeGenderImageProcessor
from modeling_agegender import AgeGenderModel


def load_model(
    source: str, revision: str | None = None, config: AgeGenderConfig | None = None
) -> tuple[AgeGenderModel, AgeGenderImageProcessor]:
    """
    A model in eval mode, float32, and its image processor.

    Args:
        source: A folder or a Hub id.
        revision: Branch, tag or commit on the Hub.
        config: In place of the saved one.

    Raises:
        ValueError: if there is no AgeGenderModel to be had there, or if its weights do not fill the network.
    """
    try:
        # A pickle could carry code, hence safetensors only.
        model, info = AgeGenderModel.from_pretrained(
            source,
            revision=revision,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
        )
        processor = AgeGenderImageProcessor.from_pretrained(source, revision=revision)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"No model could be loaded from {source}; give a folder or a Hub id: {reason}") from error
    if info["missing_keys"]:
        # Transformers would put random numbers in their place.
        raise ValueError(f"{source} is no AgeGender model of this network: it lacks {min(info['missing_keys'])}.")
    return model, processor
