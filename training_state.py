"""Where a training stands, what ends it, and where its checkpoints lie."""

import math
import signal
from dataclasses import asdict, dataclass, field
from pathlib import Path

from metrics import HIGHER_IS_BETTER
from training_arguments import TrainArguments


@dataclass
class TrainerState:
    """Where a training stands; a checkpoint holds it beside weights, optimizer and random numbers."""

    epoch: int = 0
    step: int = 0  # batches of this epoch that are done, on each process
    update: int = 0
    best_epoch: int = 0
    best_metric: float | None = None
    bad_epochs: int = 0
    seconds: float = 0.0
    # Over the batches of this epoch that are done: loss; years of error and known ages; right and known genders.
    sums: list[float] = field(default_factory=lambda: [0.0] * 5)
    history: list[dict] = field(default_factory=list)

    def state_dict(self) -> dict:
        return asdict(self)

    def load_state_dict(self, state: dict):
        for name, value in state.items():
            setattr(self, name, value)

    def add_epoch(self, results: dict, arguments: TrainArguments) -> bool:
        """Files an epoch's results; True if they are the best so far."""
        self.history.append({"epoch": self.epoch} | results)
        metric = results[arguments.metric_for_best_model]
        sign = 1 if HIGHER_IS_BETTER[arguments.metric_for_best_model] else -1
        improved = math.isfinite(metric) and (
            self.best_metric is None or sign * (metric - self.best_metric) > arguments.early_stopping_threshold
        )
        if improved:
            self.best_metric, self.best_epoch, self.bad_epochs = metric, self.epoch, 0
        else:
            self.bad_epochs += 1
        return improved

    def should_stop(self, arguments: TrainArguments) -> bool:
        """True if early stopping ends the training here."""
        return 0 < arguments.early_stopping_patience <= self.bad_epochs


class Interruption:
    """Turns the first Ctrl-C into a request that the loop meets after its step; a second one acts at once."""

    def __init__(self):
        self.requested = False
        signal.signal(signal.SIGINT, self._request)

    def _request(self, signal_number, frame):
        self.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


def find_checkpoints(output_dir: Path) -> dict[int, Path]:
    """The complete checkpoints of an output folder by number, oldest first."""
    folders = (output_dir / "checkpoints").glob("checkpoint_*")
    numbers = {folder.name.removeprefix("checkpoint_"): folder for folder in folders}
    return dict(sorted((int(number), folder) for number, folder in numbers.items() if number.isdigit()))


def choose_checkpoint(arguments: TrainArguments) -> Path | None:
    """
    The checkpoint to go on from; None for a new training.

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
        return None
    if wanted == "latest" and not present:
        raise ValueError(f"{arguments.output_dir} holds no checkpoint: start without --resume_from_checkpoint.")
    folder = present[max(present)] if wanted == "latest" else Path(wanted)
    if not folder.is_dir():
        raise ValueError(f"There is no checkpoint {folder}.")
    return folder
