"""Checkpoints: saving, finding and loading them, and what may change when a training resumes."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator, PartialState
from accelerate.utils import gather_object
from safetensors import SafetensorError

from configuration_agegender import AgeGenderConfig
from files.writing import flush_to_disk
from image_processing_agegender import AgeGenderImageProcessor
from metrics.results import name_paths
from modeling_agegender import AgeGenderModel
from training.arguments import Arguments


DESCRIPTION_FILE = "training.json"
# Arguments that do not concern a resumed training.
IGNORED = {"output_dir", "resume_from_checkpoint"}
# Arguments that may change when a training resumes. Data and network are compared by their content instead.
CHANGEABLE = {
    "checkpointing_steps", "checkpoints_total_limit", "config", "config_overrides", "data_dir", "dataloader_num_workers",
    "early_stopping_patience", "early_stopping_threshold", "gradient_accumulation_steps", "gradient_checkpointing",
    "hub_model_id", "hub_private_repo", "hub_strategy", "mixed_precision", "num_processes", "num_train_epochs",
    "per_device_eval_batch_size", "per_device_train_batch_size", "push_to_hub", "report_to", "strict", "sync_batchnorm",
    "torch_compile",
}  # fmt: skip


def find_checkpoints(output_dir: Path) -> dict[int, Path]:
    """Returns the checkpoints of an output folder by number, oldest first."""
    folders = (output_dir / "checkpoints").glob("checkpoint_*")
    numbers = {folder.name.removeprefix("checkpoint_"): folder for folder in folders}
    return dict(sorted((int(number), folder) for number, folder in numbers.items() if number.isdigit()))


def find_damage(checkpoint: Path) -> str | None:
    """Returns the first file of a checkpoint that is missing or cut off, None if the checkpoint is whole."""
    try:
        sizes = json.loads((checkpoint / DESCRIPTION_FILE).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError):
        return DESCRIPTION_FILE
    for name, size in sizes.items():
        if not (checkpoint / name).is_file() or (checkpoint / name).stat().st_size != size:
            return name
    return None


def choose_checkpoint(output_dir: Path, wanted: str | None) -> Path | None:
    """
    Returns the checkpoint to resume from, None for a new training. `wanted` is a folder, `latest` or None.

    Raises:
        ValueError: if it does not exist or is damaged, or if a new training would mix its checkpoints with others
            or replace other weights.
    """
    present = find_checkpoints(output_dir).values()
    if wanted is None and present:
        raise ValueError(
            f"{output_dir} holds checkpoints of another training: resume it with --resume_from_checkpoint latest, or "
            "choose another --output_dir."
        )
    if wanted in (None, "latest") and not present and (output_dir / "model.safetensors").exists():
        raise ValueError(f"{output_dir} holds weights of another training: choose another --output_dir.")
    if wanted in (None, "latest"):
        return next((folder for folder in reversed(present) if not find_damage(folder)), None)
    if not Path(wanted).is_dir():
        raise ValueError(f"There is no checkpoint {wanted}.")
    if damage := find_damage(Path(wanted)):
        raise ValueError(f"{wanted} is not a whole checkpoint: {damage} is missing or cut off.")
    return Path(wanted)


def open_output_folder(accelerator: Accelerator, output_dir: Path, wanted: str | None) -> Path | None:
    """
    Makes the output folder and returns the result of `choose_checkpoint`, the same on all processes.

    Raises:
        ValueError: also if a process sees another folder than the main one.
    """
    checkpoint = choose_checkpoint(output_dir, wanted)
    if accelerator.is_main_process:
        output_dir.mkdir(parents=True, exist_ok=True)
    accelerator.wait_for_everyone()
    seen = gather_object([str(checkpoint) if output_dir.is_dir() else "no folder"])
    if len(set(seen)) > 1:
        raise ValueError(
            f"--output_dir must lie on a disk that all machines share, but they see {' and '.join(sorted(set(seen)))}."
        )
    if wanted == "latest" and checkpoint is None:
        # Not an error, so a job that is restarted automatically has one command from its first start on.
        accelerator.print(f"{output_dir} holds no whole checkpoint yet: the training starts from its beginning.")
    return checkpoint


def describe_training(
    arguments: Arguments, config: AgeGenderConfig, processor: AgeGenderImageProcessor, images: dict, num_processes: int
) -> dict:
    """Returns everything that a training depends on, in JSON types; `images` is from `TrainingData.describe`."""
    values, stored = name_paths(arguments.to_dict()) | {"num_processes": num_processes}, config.to_dict()
    network = [name for name in AgeGenderConfig.__annotations__ if name in stored]
    description = {
        **{f"--{name}": value for name, value in values.items() if name not in IGNORED},
        **{f"the network's {name}": stored[name] for name in network},
        **{f"the image processor's {name}": getattr(processor, name) for name in ("size", "image_mean", "image_std")},
        **{f"the {name} (of names and labels)": value for name, value in images.items()},
    }
    return json.loads(json.dumps(description, default=dict))


def compare_trainings(checkpoint: Path, then: dict, now: dict) -> list[str]:
    """
    Returns the arguments that have changed since a checkpoint was written, with both values.

    Raises:
        ValueError: with all differences that resuming does not allow. Entries that only one side has are not compared.
    """
    if not then.keys() & now.keys():
        raise ValueError(f"{checkpoint} was written by another version of train.py, which has to resume from it.")
    different = sorted(name for name in then.keys() & now.keys() if then[name] != now[name])
    changed, refused = [], []
    for name in different:
        differences = changed if name.removeprefix("--") in CHANGEABLE else refused
        differences.append(f"{name} was {then[name]} and is {now[name]}")
    if refused:
        raise ValueError(
            f"{checkpoint} is of another training: {'; '.join(refused)}. Resume with the former values and images, or "
            "start a new training in another --output_dir."
        )
    return changed


@contextmanager
def explain_failed_writing(path: Path) -> Iterator[None]:
    """Turns the errors of the three libraries that write, as on a full disk, into a ValueError of one line."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"{path} could not be written ({reason}). Earlier checkpoints are kept: make room on the disk, then run the "
            "same command with --resume_from_checkpoint latest."
        ) from error


@contextmanager
def write_folder(folder: Path) -> Iterator[Path]:
    """
    Yields a folder to write to, which replaces `folder` in one step: neither a kill nor a full disk leaves it half written.

    All processes enter together. Raises ValueError if writing fails.
    """
    state, partial = PartialState(), folder.with_name("partial")
    if state.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    state.wait_for_everyone()
    try:
        with explain_failed_writing(folder):
            yield partial
            state.wait_for_everyone()
            if state.is_main_process:
                # If the machine fails, the new name must not be on the disk without the content.
                for path in (*partial.rglob("*"), partial):
                    flush_to_disk(path)
                shutil.rmtree(folder, ignore_errors=True)
                partial.rename(folder)
    except ValueError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    state.wait_for_everyone()


def save_best(model: AgeGenderModel, output_dir: Path):
    """Writes the weights of the best epoch so far."""
    with write_folder(output_dir / "best") as partial:
        if PartialState().is_main_process:
            model.save_pretrained(partial)


def save_checkpoint(accelerator: Accelerator, output_dir: Path, description: dict, limit: int):
    """Writes the state of the accelerator, the best weights and the description; keeps `limit` checkpoints."""
    number = max(find_checkpoints(output_dir), default=-1) + 1
    checkpoint, best = output_dir / "checkpoints" / f"checkpoint_{number}", output_dir / "best"
    with write_folder(checkpoint) as partial:
        accelerator.save_state(str(partial))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            if best.exists():
                shutil.copytree(best, partial / "best")
            files = [file for file in sorted(partial.rglob("*")) if file.is_file()]
            sizes = {file.relative_to(partial).as_posix(): file.stat().st_size for file in files}
            text = json.dumps(description | {"files": sizes}, indent=2)
            (partial / DESCRIPTION_FILE).write_text(text, encoding="utf-8")
    if accelerator.is_main_process:
        print(f"Saved {checkpoint}")
        delete_old_checkpoints(output_dir, limit)
    accelerator.wait_for_everyone()


def delete_old_checkpoints(output_dir: Path, limit: int):
    """Deletes all but the newest whole checkpoints."""
    folders = list(find_checkpoints(output_dir).values())
    kept = [folder for folder in folders if not find_damage(folder)][-limit:]
    for old in folders:
        if old not in kept:
            # Renamed first, so a half-deleted checkpoint is not taken for one.
            shutil.rmtree(old.rename(old.with_name("partial")))


def load_checkpoint(accelerator: Accelerator, checkpoint: Path, output_dir: Path, description: dict):
    """
    Restores a checkpoint, including its best weights, and prints which arguments have changed.

    Raises:
        ValueError: if the checkpoint is of another training than `description`.
    """
    then = json.loads((checkpoint / DESCRIPTION_FILE).read_text(encoding="utf-8"))
    changes = compare_trainings(checkpoint, then, description)
    accelerator.load_state(str(checkpoint))
    if (checkpoint / "best").exists():
        with write_folder(output_dir / "best") as partial:
            if accelerator.is_main_process:
                shutil.copytree(checkpoint / "best", partial)
    if changes:
        accelerator.print(f"Changed since the checkpoint: {'; '.join(changes)}.")
