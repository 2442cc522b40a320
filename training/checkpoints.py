"""Checkpoints: where they lie, which of them are whole, how they are written, and which training they fit."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors import SafetensorError

from configuration_agegender import AgeGenderConfig
from image_processing_agegender import AgeGenderImageProcessor
from metrics.results import name_paths
from training.arguments import Arguments, TrainArguments


DESCRIPTION = "training.json"
LAYOUT = ("num_processes", "per_device_train_batch_size", "gradient_accumulation_steps")
# Arguments that a resumed training may change: without a word, since its weights are the same, as with hub_..., ...
FREE = {
    "output_dir", "resume_from_checkpoint", "dataloader_num_workers", "per_device_eval_batch_size", "checkpointing_steps",
    "checkpoints_total_limit", "report_to", "push_to_hub",
}  # fmt: skip
# ... compared by what they lead to, images and network, ...
BY_EFFECT = {"data_dir", "strict", "config", "config_overrides"}
# ... or with a sentence.
TOLD = {
    "num_train_epochs", "early_stopping_patience", "early_stopping_threshold", "mixed_precision", "torch_compile",
    "gradient_checkpointing", "sync_batchnorm",
}  # fmt: skip


def find_checkpoints(output_dir: Path) -> dict[int, Path]:
    """The checkpoints of an output folder by number, oldest first."""
    folders = (output_dir / "checkpoints").glob("checkpoint_*")
    numbers = {folder.name.removeprefix("checkpoint_"): folder for folder in folders}
    return dict(sorted((int(number), folder) for number, folder in numbers.items() if number.isdigit()))


def read_description(checkpoint: Path) -> dict:
    """
    What a checkpoint says of its training, once all its files are seen to be there in full.

    Raises:
        ValueError: if one is missing or shorter than it was.
    """
    file = checkpoint / DESCRIPTION
    try:
        description = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{checkpoint} is no whole checkpoint: {DESCRIPTION} is missing or cut off.") from error
    for name, size in description["files"].items():
        path = checkpoint / name
        if not path.is_file() or path.stat().st_size != size:
            raise ValueError(f"{checkpoint} is no whole checkpoint: {name} is missing or cut off.")
    return description


def is_whole(checkpoint: Path) -> bool:
    """True if all files of a checkpoint are there in full."""
    try:
        read_description(checkpoint)
    except ValueError:
        return False
    return True


def choose_checkpoint(arguments: TrainArguments) -> tuple[Path | None, str]:
    """
    The checkpoint to go on from, None for a new training; and a sentence to print where `latest` is not what it seems.

    Raises:
        ValueError: if it does not exist, or if a new training would mix its checkpoints with those of another.
    """
    wanted, present = arguments.resume_from_checkpoint, find_checkpoints(arguments.output_dir)
    if wanted is None:
        if present:
            raise ValueError(
                f"{arguments.output_dir} holds checkpoints of another training: go on with --resume_from_checkpoint "
                "latest, or choose another --output_dir."
            )
        return None, ""
    if wanted != "latest":
        folder = Path(wanted)
        if not folder.is_dir():
            raise ValueError(f"There is no checkpoint {folder}.")
        read_description(folder)
        return folder, ""
    whole = [folder for folder in present.values() if is_whole(folder)]
    if not whole:
        # No error, so that a job that is started again by itself has one command from its first start on.
        return None, f"{arguments.output_dir} holds no whole checkpoint yet: the training starts from its beginning."
    newest = list(present.values())[-1]
    remark = "" if whole[-1] == newest else f"{newest} is not whole, so the one before it is taken."
    return whole[-1], remark


def open_output_folder(accelerator: Accelerator, arguments: TrainArguments) -> Path | None:
    """
    Makes the output folder and chooses the checkpoint to go on from, the same on all processes.

    Raises:
        ValueError: as `choose_checkpoint`, and on all processes if one of them sees another folder than the main one.
    """
    checkpoint, remark = choose_checkpoint(arguments)
    if accelerator.is_main_process:
        arguments.output_dir.mkdir(parents=True, exist_ok=True)
    accelerator.wait_for_everyone()
    seen = gather_object([str(checkpoint) if arguments.output_dir.is_dir() else "no folder"])
    if len(set(seen)) > 1:
        raise ValueError(
            f"--output_dir must lie on a disk that all machines share, but its newest checkpoint is {seen[0]} for the "
            f"main process and {next(name for name in seen if name != seen[0])} for another."
        )
    if remark:
        accelerator.print(remark)
    return checkpoint


def describe_training(
    arguments: Arguments, config: AgeGenderConfig, processor: AgeGenderImageProcessor, images: dict, num_processes: int
) -> dict:
    """What a checkpoint says of its training, as read back from JSON; `images` is of `TrainingData.describe`."""
    stored = config.to_dict()  # the fields, without what is the same for all configurations
    description = {
        "arguments": name_paths(arguments.to_dict()) | {"num_processes": num_processes},
        "network": {name: stored[name] for name in AgeGenderConfig.__annotations__ if name in stored},
        "processor": {name: getattr(processor, name) for name in ("size", "image_mean", "image_std")},
        "images": images,
    }
    return json.loads(json.dumps(description, default=dict))


def is_binding(argument: str) -> bool:
    """False for arguments that a resumed training may change without a word, or that are compared in another way."""
    return argument not in FREE | BY_EFFECT | set(LAYOUT) and not argument.startswith("hub_")


def compare_trainings(checkpoint: Path, then: dict, now: dict) -> list[str]:
    """
    What a resumed training does in another way than the one that wrote the checkpoint, in sentences to print.

    Args:
        checkpoint: For the message.
        then: From `read_description`.
        now: From `describe_training`.

    Raises:
        ValueError: with the names of the fields, if they differ in what the weights depend on. Fields that one of them
            does not know are left out.
    """
    told, refused = [], []
    for group, prefix in (("network", "the network's "), ("processor", "the image processor's "), ("arguments", "--")):
        for name in then[group].keys() & now[group].keys():
            old, new = then[group][name], now[group][name]
            if old != new and (group != "arguments" or is_binding(name)):
                sentences = told if name in TOLD else refused
                sentences.append(f"{prefix}{name} was {old} and is {new}")
    known = then["images"].keys() & now["images"].keys()
    differing = {name for name in known if then["images"][name] != now["images"][name]}
    if any(name.startswith("extra_") for name in differing):
        refused.append("--extra_data had other images")
    if any(not name.startswith("extra_") for name in differing):
        refused.append("--data_dir had other images, other labels or another split")
    if refused:
        raise ValueError(
            f"{checkpoint} is of another training: {'; '.join(sorted(refused))}. Resume with what it had, or start anew "
            "in another --output_dir."
        )
    return [f"Resuming changes the training: {sentence}." for sentence in sorted(told)]


@contextmanager
def failing_in_a_sentence(what: str, output_dir: Path, *partial: Path) -> Iterator[None]:
    """
    Removes what was begun where writing fails, as on a full disk, and says what is safe.

    Raises:
        OSError: in place of the many errors of the libraries that write.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        for folder in partial:
            shutil.rmtree(folder, ignore_errors=True)
        reason = str(error).strip().partition("\n")[0]
        whole = [folder for folder in find_checkpoints(output_dir).values() if is_whole(folder)]
        safe = f"{whole[-1]} is whole" if whole else "There is no checkpoint yet"
        raise OSError(
            f"{what} could not be written ({reason}). {safe}: make room on the disk, then run the same command with "
            "--resume_from_checkpoint latest."
        ) from error


def finish_checkpoint(partial: Path, description: dict, limit: int) -> Path:
    """
    Turns a folder with all of a checkpoint's files into a checkpoint in one step, then deletes the oldest.

    Args:
        partial: Beside the checkpoints.
        description: Of `describe_training`.
        limit: So many of the newest checkpoints stay.

    Returns:
        The new checkpoint.
    """
    files = [file for file in sorted(partial.rglob("*")) if file.is_file()]
    sizes = {str(file.relative_to(partial)): file.stat().st_size for file in files}
    (partial / DESCRIPTION).write_text(json.dumps(description | {"files": sizes}, indent=2))
    for path in (*files, partial / DESCRIPTION, partial):
        # Else the new name might be on the disk before the content, should the machine fail.
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    output_dir = partial.parent.parent
    number = max(find_checkpoints(output_dir), default=-1) + 1
    folder = partial.rename(partial.with_name(f"checkpoint_{number}"))
    folders = list(find_checkpoints(output_dir).values())
    kept = [folder for folder in folders if is_whole(folder)][-limit:]
    for old in folders:
        if old not in kept:
            # Under another name first, so that what is half deleted is taken for no checkpoint.
            shutil.rmtree(old.rename(partial))
    return folder
