"""Where a training stands, and what ends it."""

import math
import signal
import time
from dataclasses import asdict, dataclass, field

from metrics.age_gender import HIGHER_IS_BETTER
from training.arguments import TrainArguments


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

    def recount(
        self, epoch_images: int, steps: list[int], num_processes: list[int], accumulation: int, epoch_updates: int
    ) -> int:
        """
        Counts anew for a training whose steps take another number of images.

        Args:
            epoch_images: Of all steps of an epoch and all processes.
            steps: Of an epoch, then and now, divided as `cut` does.
            num_processes: Then and now.
            accumulation: Steps of an update now. The epoch goes on where an update begins.
            epoch_updates: Updates of an epoch now.

        Returns:
            How many images of this epoch are seen a second time.
        """
        done, processes_share = self.step * epoch_images // steps[0], num_processes[0] / num_processes[1]
        step = ((done + 1) * steps[1] - 1) // epoch_images  # the last one before which nothing is left to do
        step = step // accumulation * accumulation
        seen = step * epoch_images // steps[1]
        # The sums are means over the processes: the first of a loss for each step, the others of counts of images.
        shares = [step / self.step, *[seen / done * processes_share] * 4] if done else [0.0] * 5
        self.sums = [value * share for value, share in zip(self.sums, shares)]
        self.step, self.update = step, self.epoch * epoch_updates + step // accumulation
        return done - seen

    def should_stop(self, arguments: TrainArguments) -> bool:
        """True if early stopping ends the training here."""
        return 0 < arguments.early_stopping_patience <= self.bad_epochs


class Interruption:
    """Turns the first Ctrl-C into a request that the loop meets after its step; a second one acts at once."""

    def __init__(self):
        self.requested = False
        signal.signal(signal.SIGINT, self._request)

    def _request(self, signal_number, frame):
        # Under torchrun one Ctrl-C comes twice, from the terminal and from torchrun.
        if self.requested and time.monotonic() - self.request_time > 1:
            signal.default_int_handler(signal_number, frame)
        if not self.requested:
            self.requested, self.request_time = True, time.monotonic()
