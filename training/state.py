"""Records the progress of a training, and its interruption by Ctrl-C."""

import math
import signal
import time
from dataclasses import asdict, dataclass, field

import torch

from metrics.age_gender import HIGHER_IS_BETTER
from metrics.prediction import find_exact_ages
from modeling_agegender import AgeGenderOutput
from training.arguments import TrainArguments


@torch.no_grad()
def sum_errors(loss: torch.Tensor, output: AgeGenderOutput, batch: dict) -> torch.Tensor:
    """
    Sums the loss and the errors of a batch.

    Returns:
        Loss times images, years of error, exact ages, correct genders and known genders, (5,) float32.
    """
    errors = (output.age - find_exact_ages(batch["age_labels"])).abs()
    correct = output.gender_logits.argmax(dim=-1) == batch["gender_labels"]  # never where the label is -100
    known_ages, known_genders = errors.isfinite(), batch["gender_labels"] != -100
    sums = (loss * len(errors), errors.nansum(), known_ages.sum(), correct.sum(), known_genders.sum())
    return torch.stack([value.float() for value in sums])


@dataclass
class TrainerState:
    """The progress of a training, the same on all processes. Checkpoints hold it beside weights and random states."""

    epoch: int = 0  # finished epochs
    images: int = 0  # done in the current epoch, on all processes together
    update: int = 0
    best_epoch: int | None = None  # 0 is the start
    best_metric: float | None = None
    seconds: float = 0.0  # of the finished epochs
    epoch_seconds: float = 0.0
    sums: torch.Tensor = field(default_factory=lambda: torch.zeros(5))  # of `sum_errors` over the done images
    history: list[dict] = field(default_factory=list)

    def state_dict(self) -> dict:
        return asdict(self)

    def load_state_dict(self, state: dict):
        for name, value in state.items():
            setattr(self, name, value)

    def compute_train_metrics(self) -> dict:
        """Returns loss, age error (years) and gender accuracy of the current epoch, NaN where no label is known."""
        loss, years, ages, correct, genders = self.sums.tolist()
        return {
            "train_loss": loss / self.images,
            "train_age_mae": years / ages if ages else math.nan,
            "train_gender_accuracy": correct / genders if genders else math.nan,
        }

    def finish_epoch(self, metrics: dict, arguments: TrainArguments) -> bool:
        """Records an epoch's metrics and begins the next one; returns whether they are the best so far."""
        self.epoch, self.images, self.sums = self.epoch + 1, 0, torch.zeros(5)
        self.seconds, self.epoch_seconds = self.seconds + self.epoch_seconds, 0.0
        return self.record(metrics, arguments)

    def record(self, metrics: dict, arguments: TrainArguments) -> bool:
        """Records the metrics after the finished epochs, of which the start has none; returns whether they are the best."""
        self.history.append({"epoch": self.epoch} | metrics)
        metric = metrics[arguments.metric_for_best_model]
        sign = 1 if HIGHER_IS_BETTER[arguments.metric_for_best_model] else -1
        improved = math.isfinite(metric) and (
            self.best_metric is None or sign * (metric - self.best_metric) > arguments.early_stopping_threshold
        )
        if improved:
            self.best_metric, self.best_epoch = metric, self.epoch
        return improved

    def is_finished(self, arguments: TrainArguments) -> bool:
        """Returns whether all epochs are done or early stopping ends the training."""
        bad_epochs = self.epoch - (self.best_epoch or 0)
        return self.epoch >= arguments.num_train_epochs or 0 < arguments.early_stopping_patience <= bad_epochs


class Interruption:
    """Turns the first Ctrl-C or SIGTERM into a request that the loop reads after each step; a second one interrupts at once."""

    def __init__(self):
        self.requested = False
        for number in (signal.SIGINT, signal.SIGTERM):  # job schedulers send SIGTERM
            signal.signal(number, self._request)

    def _request(self, signal_number, frame):
        # Under torchrun one Ctrl-C comes twice, from the terminal and from torchrun.
        if self.requested and time.monotonic() - self.request_time > 1:
            signal.default_int_handler(signal_number, frame)
        if not self.requested:
            self.requested, self.request_time = True, time.monotonic()
