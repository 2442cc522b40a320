"""The log of a training: its opening, its epochs and what it gained."""

from accelerate import Accelerator

from data.training_set import TrainingData
from metrics.age_gender import find_changes
from metrics.results import describe_machine, format_hardware, format_value, name_count
from training.arguments import FINE_TUNING, Arguments, TrainArguments
from training.initial_model import InitialModel


def describe_opening(
    arguments: Arguments, accelerator: Accelerator, data: TrainingData, start: InitialModel, epoch_updates: int
) -> str:
    """Describes device, precision, images, network, updates, and the defaults that follow from the start."""
    train, count = arguments.train, accelerator.num_processes
    precision = "float32" if train.mixed_precision == "no" else train.mixed_precision
    images = ", ".join(f"{len(part):,} {name}" for name, part in data.splits.items())
    parameters = sum(parameter.numel() for parameter in start.model.parameters())
    kind = "random weights" if arguments.model.from_scratch else "weights without a calibration"
    if start.calibration:
        kind = "a trained model"
    values = arguments.to_dict()
    chosen = ", ".join(
        f"{name} {values[name]}" for name in FINE_TUNING if values["teacher"] or name != "teacher_weight"
    )
    names = ["the start itself" if teacher == values["model"] else teacher for teacher in values["teacher"]]
    chosen += f", teacher {', '.join(names)}" if names else ""
    return (
        f"Device: {accelerator.device.type}, {format_hardware(describe_machine()['hardware'])}"
        f"{f', in each of {count} processes' * (count > 1)}. Precision: {precision}.\n"
        f"Images: {images}{f', {len(data.extra):,} extra' if data.extra else ''}. "
        f"Network: {parameters:,} parameters, {start.model.config.image_size} px. "
        f"Updates: {epoch_updates:,} in each of {name_count(train.num_train_epochs, 'epoch')}.\n"
        f"The start is {kind}, which sets the defaults. With these and what was given: {chosen}."
    )


def format_epoch(metrics: dict) -> str:
    """Returns the metrics of the validation images as one line."""
    return (
        f"validation loss {metrics['loss']:.3f}, age MAE {format_value(metrics['age_mae'], '.2f')} years, "
        f"CS@5 {format_value(metrics['age_cs5'], '.1%')}, gender {format_value(metrics['gender_accuracy'], '.1%')}"
    )


def describe_gain(comparison: dict, best_epoch: int, arguments: TrainArguments) -> str:
    """Returns sentences about the result of `compare_errors` for the start and the best epoch, which is 0 for the start."""
    if best_epoch == 0:
        metric = arguments.metric_for_best_model
        return (
            f"Nothing was won: no epoch had a better {metric} than the start. "
            f"{arguments.output_dir} holds the start's weights."
        )
    better, worse = map(", ".join, find_changes(comparison))
    text = (
        f"Better by more than its standard error: {better}."
        if better
        else "Nothing was won that is larger than its standard error."
    )
    return text + (f" Worse by more than its standard error: {worse}." if worse else "")
