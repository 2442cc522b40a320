"""
Trains an AgeGenderModel with accelerate.

    python train.py --model start --data_dir UTKFace.tar.gz --output_dir runs/agegender
    python train.py --from_scratch --config configs/plain.json --data_dir UTKFace.tar.gz --output_dir runs/baseline
    python train.py ... --teacher runs/first runs/second --extra_data more_faces
    python train.py ... --data_dir user/faces --streaming
    python train.py ... --resume_from_checkpoint latest
    accelerate launch train.py ...      (several GPUs; torchrun works too)
"""

import math
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, set_seed
from datasets import Dataset
from torch.distributed.elastic.multiprocessing.errors import record
from torch.nn import SyncBatchNorm
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import get_scheduler

from data.augmentation import FaceAugmentation
from data.labels import is_utkface
from data.loaders import make_dataloader, make_train_dataloader, read_batches
from data.splits import describe_split, draw_calibration_half
from data.training_set import TrainingData, load_training_data
from data.transforms import Normalization
from hub.model_card import describe_start, write_results
from hub.upload import create_repo, push_epoch, push_to_hub
from image_processing_agegender import AgeGenderImageProcessor
from metrics.age_gender import describe_errors, format_errors, format_metrics
from metrics.calibration import calibrate, recount
from metrics.prediction import compute_metrics, evaluate_model, predict
from metrics.results import describe_machine, name_paths, weights_sha256
from modeling_agegender import AgeGenderModel
from training.arguments import Arguments, parse_arguments
from training.checkpoints import (
    LAYOUT,
    compare_trainings,
    describe_training,
    failing_in_a_sentence,
    finish_checkpoint,
    open_output_folder,
    read_description,
)
from training.distillation import Teachers, soft_loss
from training.export import round_kernels, save_result
from training.initial_model import load_start
from training.setup import build_accelerator, build_average, build_optimizer, count_errors
from training.state import Interruption, TrainerState


class Training:
    """One training: its parts, made by the accelerator, and its loop."""

    def __init__(
        self,
        arguments: Arguments,
        accelerator: Accelerator,
        data: TrainingData,
        model: AgeGenderModel,
        processor: AgeGenderImageProcessor,
        teachers: Teachers | None,
    ):
        self.arguments, self.accelerator, self.processor, self.teachers = arguments, accelerator, processor, teachers
        self.data, self.dataset = data, data.splits
        self.output_dir = arguments.train.output_dir
        if arguments.train.gradient_checkpointing:
            model.activation_checkpointing_enable()
        if arguments.train.sync_batchnorm:
            model = SyncBatchNorm.convert_sync_batchnorm(model)  # the names of the weights stay
        height = self.processor.size["height"]
        self.augmentation = FaceAugmentation(arguments.augmentation, height)
        self.normalize = Normalization(self.processor).to(accelerator.device)
        model = model.to(accelerator.device, memory_format=torch.channels_last)
        # One half of the validation images chooses the weights, the other calibrates them at the end.
        self.calibrating = draw_calibration_half(self.dataset["validation"], arguments.data.split_seed)
        choosing = self.dataset["validation"].select(np.flatnonzero(~self.calibrating))
        self.train_dataloader = make_train_dataloader(data, processor, arguments, accelerator)
        self.model, self.optimizer, self.validation_dataloader = accelerator.prepare(
            model, build_optimizer(model, arguments.train), self._make_eval_dataloader(choosing)
        )
        self.unwrapped = model
        self.average = build_average(model, arguments.train.ema_decay) if arguments.train.ema_decay else None
        self.mean_batch = data.epoch_images / (len(self.train_dataloader) * accelerator.num_processes)
        self.epoch_updates = math.ceil(len(self.train_dataloader) / arguments.train.gradient_accumulation_steps)
        self.updates = self.epoch_updates * arguments.train.num_train_epochs
        # Not prepared: a prepared scheduler steps once a process at each update.
        self.scheduler = get_scheduler(
            arguments.train.lr_scheduler_type,
            self.optimizer.optimizer,
            num_warmup_steps=int(self.updates * arguments.train.warmup_ratio),
            num_training_steps=self.updates,
        )
        self.state, self.saved_at = TrainerState(), (0, 0)
        self.description = describe_training(
            arguments, model.config, processor, data.describe(), accelerator.num_processes
        )
        parts = [self.scheduler, self.state] + ([self.average] if self.average else [])
        accelerator.register_for_checkpointing(*parts)

    def resume(self, checkpoint: Path):
        """Goes back to a checkpoint, its best weights included, and says what it does in another way than before."""
        then = read_description(checkpoint)
        changes = compare_trainings(checkpoint, then, self.description)
        try:
            self.accelerator.load_state(str(checkpoint))
        except (OSError, RuntimeError, ValueError) as error:
            raise ValueError(f"{checkpoint} is no checkpoint of a training with these arguments: {error}") from error
        changes += self._adopt_layout(then["arguments"])
        self.saved_at = (self.state.epoch, self.state.step)
        if self.accelerator.is_main_process and self.state.best_epoch:
            partial = self.output_dir / "best.partial"
            with failing_in_a_sentence("The best weights", self.output_dir, partial):
                shutil.copytree(checkpoint / "best", partial, dirs_exist_ok=True)
            self._replace_best()
        self.accelerator.wait_for_everyone()
        for sentence in changes:
            self.accelerator.print(sentence)
        self.accelerator.print(f"Resumed from {checkpoint}: epoch {self.state.epoch + 1}, update {self.state.update}.")

    def _adopt_layout(self, then: dict) -> list[str]:
        """Counts on in updates of this training's size where the checkpoint's had another; sentences to print."""
        now, state = self.description["arguments"], self.state
        changes = [f"{name} was {then[name]} and is {now[name]}" for name in LAYOUT if then[name] != now[name]]
        if not changes:
            return []
        processes, sizes, accumulations = ([values[name] for values in (then, now)] for name in LAYOUT)
        steps = [self.data.count_steps(size, count) for size, count in zip(sizes, processes)]
        seen_again = state.recount(self.data.epoch_images, steps, processes, accumulations[1], self.epoch_updates)
        self.accelerator.step = state.step
        self.scheduler.last_epoch = state.update - 1
        self.scheduler.step()
        repeated = f"Images of epoch {state.epoch + 1} that are seen a second time: {seen_again}."
        if any(self.data.has_own_files(size, count) for size, count in zip(sizes, processes)):
            # Which images are done depends on how many processes there were, and how far each was.
            repeated = f"Some images of epoch {state.epoch + 1} may be seen a second time, and as many not."
        old_images, images = (math.prod(numbers) for numbers in zip(processes, sizes, accumulations))
        return [
            f"Resuming changes the training: {', '.join(changes)}. An update averages {images} images instead of "
            f"{old_images}; --learning_rate stays, and its schedule goes on at update {state.update} of {self.updates}. "
            f"{repeated}"
        ]

    def run(self, interruption: Interruption) -> bool:
        """Trains to the end or to an interruption; True at the end."""
        train = self.arguments.train
        while self.state.epoch < train.num_train_epochs and not self.state.should_stop(train):
            if not self._train_epoch(interruption):
                return False
            self._finish_epoch()
        if self.saved_at != (self.state.epoch, self.state.step):
            self.save_checkpoint()
        return True

    def _train_epoch(self, interruption: Interruption) -> bool:
        """The batches of one epoch that are not done yet; False if interrupted."""
        train, state = self.arguments.train, self.state
        self.model.train()
        self.train_dataloader.set_epoch(state.epoch)
        batches = read_batches(self.train_dataloader, state.step, self.accelerator)
        batch_images = self.mean_batch * self.accelerator.num_processes
        sums = torch.as_tensor(state.sums, dtype=torch.float32, device=self.accelerator.device)
        start, start_seconds, first_step = time.perf_counter(), state.seconds, state.step
        with tqdm(
            initial=state.step,
            total=len(self.train_dataloader),
            desc=f"Epoch {state.epoch + 1}/{train.num_train_epochs}",
            disable=not self.accelerator.is_main_process,
        ) as progress:
            for batch in batches:
                sums = sums + self._train_step(batch)
                state.sums, state.step = sums, state.step + 1
                state.seconds = start_seconds + time.perf_counter() - start
                progress.update()
                if state.step % 10 == 0:
                    rate = batch_images * (state.step - first_step) / (time.perf_counter() - start)
                    progress.set_postfix(loss=f"{sums[0] / state.step:.3f}", images_per_second=f"{rate:.0f}")
                if interruption.requested:
                    self.accelerator.set_trigger()
                interrupted = self.accelerator.sync_gradients and self.accelerator.check_trigger()
                if interrupted or (self._is_checkpoint_due() and state.step < len(self.train_dataloader)):
                    self.save_checkpoint()
                if interrupted:
                    return False
        return True

    def _train_step(self, batch: dict) -> torch.Tensor:
        """Forward, backward and, where accumulation ends, an update; returns what `TrainerState.sums` adds up, (5,)."""
        state, accelerator = self.state, self.accelerator
        step = state.epoch * len(self.train_dataloader) + state.step
        seed = (self.arguments.train.seed * 1_000_003 + step) * accelerator.num_processes + accelerator.process_index
        images = self.augmentation(batch["pixel_values"], seed)
        with accelerator.accumulate(self.model):
            output = self.model(
                self.normalize(images),
                age_labels=batch["age_labels"],
                gender_labels=batch["gender_labels"],
            )
            loss = output.loss
            if self.teachers:
                weight = self.arguments.model.teacher_weight
                with accelerator.autocast():
                    targets = self.teachers(images)
                loss = (1 - weight) * loss + weight * soft_loss(self.unwrapped.config, output, targets)
            loss = loss * (len(images) / self.mean_batch)  # an image counts the same in a batch that has one less
            accelerator.backward(loss)
            if accelerator.sync_gradients and self.arguments.train.max_grad_norm:
                accelerator.clip_grad_norm_(self.model.parameters(), self.arguments.train.max_grad_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
        if accelerator.sync_gradients:
            self.scheduler.step()
            state.update += 1
            if self.average:
                self.average.update_parameters(self.unwrapped)
        return torch.stack((loss.detach(), *count_errors(output, batch)))

    def _is_checkpoint_due(self) -> bool:
        every = self.arguments.train.checkpointing_steps
        return every != "epoch" and self.accelerator.sync_gradients and self.state.update % int(every) == 0

    def _finish_epoch(self):
        """Validation, best weights, one line of metrics, checkpoint."""
        train, state = self.arguments.train, self.state
        sums = torch.as_tensor(state.sums, dtype=torch.float32, device=self.accelerator.device)
        loss, years, ages, right, genders = self.accelerator.reduce(sums, reduction="mean").tolist()
        train_metrics = {
            "train_loss": loss / state.step,
            "train_age_mae": years / ages if ages else math.nan,
            "train_gender_accuracy": right / genders if genders else math.nan,
        }
        state.epoch, state.step, state.sums = state.epoch + 1, 0, [0.0] * 5
        for buffer in self.best_candidate.buffers():
            # Each process has the statistics of its own batches, but those of the main one are kept.
            buffer.copy_(broadcast(buffer))
        metrics = evaluate_model(self.best_candidate, self.validation_dataloader, self.accelerator)
        learning_rate = self.scheduler.get_last_lr()[0]
        improved = state.add_epoch(train_metrics | metrics, train)
        if improved and self.accelerator.is_main_process:
            partial = self.output_dir / "best.partial"
            with failing_in_a_sentence("The best weights", self.output_dir, partial):
                self.best_candidate.save_pretrained(partial)
            self._replace_best()
        self.accelerator.log(train_metrics | metrics | {"learning_rate": learning_rate}, step=state.update)
        self.accelerator.print(
            f"Epoch {state.epoch}: train loss {train_metrics['train_loss']:.3f}, validation loss {metrics['loss']:.3f}, age MAE "
            f"{metrics['age_mae']:.2f} years, CS@5 {metrics['age_cs5']:.1%}, gender {metrics['gender_accuracy']:.1%}, "
            f"{state.seconds:.0f} s{', best so far' if improved else ''}"
        )
        if train.checkpointing_steps == "epoch" or self._is_checkpoint_due():
            self.save_checkpoint()
        if improved and train.push_to_hub and train.hub_strategy == "best":
            with torch.random.fork_rng(devices=[]):  # uses up no random numbers of the training
                self.export()
            if self.accelerator.is_main_process:
                push_epoch(self.output_dir, train.hub_model_id, train.hub_private_repo)

    @property
    def best_candidate(self) -> AgeGenderModel:
        """The model that is measured and kept: the average where there is one."""
        return self.average.module if self.average else self.unwrapped

    def _replace_best(self):
        # Written beside and renamed, so that a kill in between leaves the weights of the epoch before.
        shutil.rmtree(self.output_dir / "best", ignore_errors=True)
        (self.output_dir / "best.partial").rename(self.output_dir / "best")

    def save_checkpoint(self):
        """Writes all that resuming needs, then deletes the oldest checkpoints above the limit."""
        accelerator, state = self.accelerator, self.state
        # Only the main process writes the state, so it holds the mean of all.
        sums = torch.as_tensor(state.sums, dtype=torch.float32, device=accelerator.device)
        state.sums = accelerator.reduce(sums, reduction="mean").tolist()
        # Written beside and renamed, so that a kill in between leaves the checkpoints before.
        partial = self.output_dir / "checkpoints" / "partial"
        if accelerator.is_main_process and partial.exists():
            shutil.rmtree(partial)
        accelerator.wait_for_everyone()
        with failing_in_a_sentence("A checkpoint", self.output_dir, partial):
            accelerator.save_state(str(partial))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            with failing_in_a_sentence("A checkpoint", self.output_dir, partial):
                if state.best_epoch:
                    shutil.copytree(self.output_dir / "best", partial / "best")
                limit = self.arguments.train.checkpoints_total_limit
                print(f"Saved {finish_checkpoint(partial, self.description, limit)}")
        self.saved_at = (state.epoch, state.step)
        accelerator.wait_for_everyone()

    def _describe(self, metrics: dict, errors: dict, calibration: dict) -> dict:
        """All that the result depends on, and the result."""
        return {
            "arguments": name_paths(self.arguments.to_dict()),
            "start": describe_start(self.arguments.model.model, self.arguments.model.config),
            "split_images": {name: len(split) for name, split in self.dataset.items()},
            "is_utkface": is_utkface(self.dataset["train"]["file_name"]),
            "split": describe_split(self.dataset),
            "extra_images": self.data.num_extra_images,
            "metrics": metrics,
            "errors": errors,
            "calibration": calibration,
            "best_epoch": self.state.best_epoch,
            "history": self.state.history,
            "training_seconds": round(self.state.seconds),
            "num_processes": self.accelerator.num_processes,
            "weights_sha256": weights_sha256(self.output_dir),
            **describe_machine(),
        }

    def _make_eval_dataloader(self, images: Dataset) -> DataLoader:
        batch_size, num_workers = (
            self.arguments.train.per_device_eval_batch_size,
            self.arguments.data.dataloader_num_workers,
        )
        return make_dataloader(images, self.processor, batch_size, num_workers)

    def export(self):
        """Writes the best weights as a complete model folder, with results, curves and card."""
        if not self.state.best_epoch:
            raise ValueError(
                f"No epoch gave a finite {self.arguments.train.metric_for_best_model} on the validation images, so there "
                "are no best weights: lower --learning_rate or choose another --metric_for_best_model."
            )
        self.accelerator.wait_for_everyone()  # for the main process to have written them
        best = AgeGenderModel.from_pretrained(self.output_dir / "best").to(self.accelerator.device)
        if self.arguments.train.half_precision_weights:
            round_kernels(best)  # before it is measured
        predictions = {}
        for split in ("validation", "test"):
            if split in self.dataset:
                dataloader = self.accelerator.prepare(self._make_eval_dataloader(self.dataset[split]))
                predictions[split] = predict(best, dataloader, self.accelerator)
        if not self.accelerator.is_main_process:
            return
        groups = np.asarray(self.dataset["validation"]["group"])
        fields, held = calibrate(best.config, predictions["validation"], self.calibrating, groups)
        with failing_in_a_sentence("The model", self.output_dir):
            save_result(best, self.processor, self.arguments.train)
        predictions = {split: recount(values, fields) for split, values in predictions.items()} | {"validation": held}
        metrics = {split: compute_metrics(best, values) for split, values in predictions.items()}
        errors = {split: describe_errors(values) for split, values in predictions.items()}
        with failing_in_a_sentence("The results", self.output_dir):
            write_results(self.output_dir, self._describe(metrics, errors, fields))
        for split, values in metrics.items():
            print(f"Best weights (epoch {self.state.best_epoch}) on the {split} split\n{format_metrics(values)}")
            print(format_errors(errors[split]))
        calibrated = f"{self.calibrating.sum():,} validation images, none of which counts by its own fit"
        print(f"Calibrated on {calibrated}: {', '.join(fields) or 'nothing, since labels are too few'}.")


def main():
    arguments = parse_arguments()
    accelerator = build_accelerator(arguments.train)
    checkpoint = open_output_folder(accelerator, arguments.train)
    if arguments.train.push_to_hub and accelerator.is_main_process:
        # Before hours of training, since there may be no login or no right to write.
        name = arguments.train.hub_model_id or arguments.train.output_dir.resolve().name
        arguments.train.hub_model_id = create_repo(name, arguments.train.hub_private_repo)
    set_seed(arguments.train.seed, device_specific=True)  # else all processes would drop the same features
    # Before the data: a wrong network should not cost the minutes that a new data set takes.
    model, processor = load_start(arguments.model)
    teachers = None
    if arguments.model.teacher:
        teachers = Teachers(arguments.model.teacher, model.config).to(accelerator.device)
    data = load_training_data(arguments, accelerator)
    interruption = Interruption()
    training = Training(arguments, accelerator, data, model, processor, teachers)
    if arguments.train.report_to:
        # TensorBoard takes no lists.
        values = {
            name: str(value) if isinstance(value, list) else value for name, value in arguments.to_dict().items()
        }
        accelerator.init_trackers("agegender", config=values)
    if checkpoint:
        training.resume(checkpoint)
    finished = training.run(interruption)
    if finished:
        training.export()
    else:
        accelerator.print("Interrupted. Go on with the same command and --resume_from_checkpoint latest")
    # Over gloo, a distributed model that outlives its process group never gets to its end.
    del training
    accelerator.free_memory()
    accelerator.end_training()
    if finished and arguments.train.push_to_hub and accelerator.is_main_process:
        push_to_hub(arguments.train.output_dir, arguments.train.hub_model_id, arguments.train.hub_private_repo)


if __name__ == "__main__":
    try:
        record(main)()  # so that torchrun's summary names the error of the process that failed first
    except (OSError, ValueError) as error:
        raise SystemExit(f"train.py: error: {error}")
