"""
Trains an AgeGenderModel with accelerate.

    python train.py --model start --data_dir UTKFace.tar.gz --output_dir runs/agegender
    python train.py --from_scratch --config configs/plain.json --data_dir UTKFace.tar.gz --output_dir runs/baseline
    python train.py ... --teacher runs/first runs/second --extra_data more_faces
    python train.py ... --data_dir user/faces --streaming
    python train.py ... --resume_from_checkpoint latest
    accelerate launch train.py ...      # several GPUs; torchrun works too
"""

import copy
import math
import time
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, set_seed
from torch.distributed.elastic.multiprocessing.errors import record
from torch.nn import SyncBatchNorm
from tqdm.auto import tqdm
from transformers.utils.logging import disable_progress_bar

from data.augmentation import FaceAugmentation
from data.loaders import make_evaluation_dataloader, make_train_dataloader, read_batches
from data.sampling import compute_age_weights
from data.training_set import TrainingData, load_training_data
from data.transforms import Normalization, compute_features
from hub.errors import run
from hub.upload import create_repo, push_epoch, push_to_hub
from metrics.prediction import evaluate_model
from modeling_agegender import AgeGenderModel
from training.arguments import Arguments, parse_arguments
from training.checkpoints import describe_training, load_checkpoint, open_output_folder, save_best, save_checkpoint
from training.distillation import Teachers, compute_soft_loss
from training.export import export
from training.initial_model import InitialModel, load_initial_model
from training.report import describe_opening, format_epoch
from training.setup import (
    build_accelerator,
    build_average,
    build_optimizer,
    build_scheduler,
    draw_calibrating,
    freeze_batch_norm,
)
from training.state import Interruption, TrainerState, sum_errors


class Training:
    """The parts of a training, and its loop."""

    def __init__(
        self,
        arguments: Arguments,
        accelerator: Accelerator,
        data: TrainingData,
        start: InitialModel,
        teachers: Teachers | None,
        age_weights: np.ndarray | None,
    ):
        train, (model, processor, _) = arguments.train, start
        self.arguments, self.accelerator, self.data, self.start = arguments, accelerator, data, start
        self.teachers, self.age_weights, self.state = teachers, age_weights, TrainerState()
        self.augmentation = FaceAugmentation(arguments.augmentation, processor.size["height"])
        self.normalize = Normalization(processor).to(accelerator.device)
        if train.gradient_checkpointing:
            model.activation_checkpointing_enable()
        if train.sync_batchnorm:
            model = SyncBatchNorm.convert_sync_batchnorm(model)  # keeps the names of the weights
        self.unwrapped = model.to(accelerator.device, memory_format=torch.channels_last)
        self._make_dataloaders()
        self.model, self.optimizer = accelerator.prepare(self.unwrapped, build_optimizer(model, train))
        self.average = build_average(self.unwrapped, train.ema_decay) if train.ema_decay else None
        self.start_weights = copy.deepcopy(self.unwrapped.state_dict()) if arguments.model.start_share else {}
        self.step_images = train.per_device_train_batch_size * accelerator.num_processes
        self.epoch_updates = math.ceil(len(self.train_dataloader) / train.gradient_accumulation_steps)
        self.scheduler = build_scheduler(self.optimizer.optimizer, self.epoch_updates, train)
        self.description = describe_training(
            arguments, model.config, processor, data.describe(), accelerator.num_processes
        )
        parts = [self.scheduler, self.state] + ([self.average] if self.average else [])
        accelerator.register_for_checkpointing(*parts)

    def _make_dataloaders(self):
        """Makes the loaders. Features that never change are computed here, once."""
        data, train, validation = self.arguments.data, self.arguments.train, self.data.splits["validation"]
        choosing = validation.select(np.flatnonzero(~draw_calibrating(validation, data.split_seed)))
        images = self.data
        if self.arguments.have_fixed_features():
            compute = partial(compute_features, model=self.unwrapped.eval(), processor=self.start.processor)
            with self.accelerator.main_process_first():
                choosing, train_images = compute(choosing), compute(images.splits["train"])
                images = TrainingData({"train": train_images}, images.extra and compute(images.extra))
            self.augmentation = self.normalize = lambda features, *_: features
        self.train_dataloader, self.sampler = make_train_dataloader(
            images,
            self.start.processor,
            batch_size=train.per_device_train_batch_size,
            num_workers=data.dataloader_num_workers,
            extra_share=data.extra_share,
            age_weights=self.age_weights,
            buffer_size=data.shuffle_buffer_size,
            seed=train.seed,
            strict=data.strict,
            accelerator=self.accelerator,
        )
        dataloader = make_evaluation_dataloader(
            choosing, self.start.processor, train.per_device_eval_batch_size, data.dataloader_num_workers
        )
        self.validation_dataloader = self.accelerator.prepare(dataloader)

    def resume(self, checkpoint: Path):
        """Restores a checkpoint, including its best weights."""
        load_checkpoint(self.accelerator, checkpoint, self.arguments.train.output_dir, self.description)
        self.accelerator.step = 0  # checkpoints follow an update, so accumulation starts anew
        self._align_schedule()
        state = self.state
        self.accelerator.print(f"Resumed from {checkpoint}: epoch {state.epoch + 1}, update {state.update}.")

    def _align_schedule(self):
        """Counts updates by done images where a resumed training has had batches of another size."""
        state, update_images = self.state, self.step_images * self.arguments.train.gradient_accumulation_steps
        update = state.epoch * self.epoch_updates + math.ceil(state.images / update_images)
        if update != state.update:
            state.update, self.scheduler.last_epoch = update, update - 1
            self.scheduler.step()

    def run(self, interruption: Interruption) -> bool:
        """Trains until the end or an interruption; returns whether the end was reached."""
        if self.arguments.model.model and not self.state.history:
            self._measure_start()
        while not self.state.is_finished(self.arguments.train):
            if not self._train_epoch(interruption):
                return False
            self._finish_epoch()
        return True

    def _train_epoch(self, interruption: Interruption) -> bool:
        """Trains on the images of the epoch that are left; returns False if interrupted."""
        accelerator, state = self.accelerator, self.state
        self.model.train()
        if self.arguments.train.freeze_batch_norm or self.arguments.train.encoder_learning_rate == 0:
            freeze_batch_norm(self.model)
        self.sampler.load_state_dict({"epoch": state.epoch, "images": state.images})
        self.train_dataloader.set_epoch(state.epoch)
        state.sums = state.sums.to(accelerator.device)
        start = time.perf_counter() - state.epoch_seconds
        with tqdm(
            initial=state.images,
            total=len(self.train_dataloader) * self.step_images,
            desc=f"Epoch {state.epoch + 1}/{self.arguments.train.num_train_epochs}",
            unit=" images",
            disable=not accelerator.is_main_process,
        ) as progress:
            for step, batch in enumerate(read_batches(self.train_dataloader), start=1):
                state.sums = state.sums + self._train_step(batch)
                state.images += self.step_images
                state.epoch_seconds = time.perf_counter() - start
                progress.update(self.step_images)
                if step % 10 == 0:
                    progress.set_postfix(loss=f"{state.sums[0] / state.images:.3f}")
                if interruption.requested:
                    accelerator.set_trigger()
                interrupted = accelerator.sync_gradients and accelerator.check_trigger()
                is_last = accelerator.gradient_state.end_of_dataloader
                if interrupted or (self._is_checkpoint_due() and not is_last):
                    self._save_checkpoint()
                if interrupted:
                    return False
        return True

    def _train_step(self, batch: dict) -> torch.Tensor:
        """Runs forward, backward and, where accumulation ends, an update; returns `sum_errors` of all processes."""
        accelerator, state = self.accelerator, self.state
        done = state.epoch * len(self.train_dataloader) * self.step_images + state.images
        seed = (self.arguments.train.seed * 1_000_003 + done) * accelerator.num_processes + accelerator.process_index
        images = self.augmentation(batch["pixel_values"], seed)
        with accelerator.accumulate(self.model):
            output = self.model(
                self.normalize(images), age_labels=batch["age_labels"], gender_labels=batch["gender_labels"]
            )
            loss = output.loss
            if self.teachers:
                weight = self.arguments.model.teacher_weight
                with accelerator.autocast():
                    targets = self.teachers(images)
                loss = (1 - weight) * loss + weight * compute_soft_loss(self.unwrapped.config, output, targets)
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
        return accelerator.reduce(sum_errors(loss, output, batch))

    def _is_checkpoint_due(self) -> bool:
        every = self.arguments.train.checkpointing_steps
        return every != "epoch" and self.accelerator.sync_gradients and self.state.update % int(every) == 0

    def _save_checkpoint(self):
        train = self.arguments.train
        save_checkpoint(self.accelerator, train.output_dir, self.description, train.checkpoints_total_limit)

    def _make_candidate(self) -> AgeGenderModel:
        """Returns the weights to evaluate and export, which `--start_share` averages with those of the start."""
        candidate = self.average.module if self.average else self.unwrapped
        if self.start_weights:
            candidate = copy.deepcopy(candidate)
            for name, values in candidate.state_dict().items():
                if values.is_floating_point():
                    values.lerp_(self.start_weights[name], self.arguments.model.start_share)
        return candidate

    def _evaluate(self, candidate: AgeGenderModel) -> dict:
        return evaluate_model(candidate, self.validation_dataloader, self.accelerator, self.age_weights)

    def _measure_start(self):
        """Measures the saved weights of the start, which compete for the best ones as epoch 0."""
        candidate = self._make_candidate()
        metrics = self._evaluate(candidate)
        if self.state.record(metrics, self.arguments.train):
            save_best(candidate, self.arguments.train.output_dir)
        self.accelerator.print(f"Before training: {format_epoch(metrics)}")

    def _finish_epoch(self):
        """Evaluates the model, keeps the best weights, prints the metrics and saves a checkpoint."""
        train, state = self.arguments.train, self.state
        candidate = self._make_candidate()
        for buffer in candidate.buffers():
            # Each process has batch statistics of its own, but those of the main process are exported.
            buffer.copy_(broadcast(buffer))
        metrics = state.compute_train_metrics()
        metrics |= self._evaluate(candidate)
        seconds, improved = state.epoch_seconds, state.finish_epoch(metrics, train)
        self._align_schedule()
        if improved:
            save_best(candidate, train.output_dir)
        self.accelerator.log(metrics | {"learning_rate": self.scheduler.get_last_lr()[0]}, step=state.update)
        best = f", best {train.metric_for_best_model} so far" if improved else ""
        self.accelerator.print(
            f"Epoch {state.epoch}: train loss {metrics['train_loss']:.3f}, {format_epoch(metrics)}, {seconds:.0f} s "
            f"({state.seconds:.0f} s in all){best}"
        )
        if train.checkpointing_steps == "epoch" or self._is_checkpoint_due() or state.is_finished(train):
            self._save_checkpoint()
        if improved and train.push_to_hub and train.hub_strategy == "best":
            with torch.random.fork_rng(devices=[]):  # leaves the training's random numbers as they are
                self.export()
            if self.accelerator.is_main_process:
                push_epoch(train.output_dir, train.hub_model_id, train.hub_private_repo)

    def export(self):
        """Writes the best weights as a complete model folder."""
        export(self.arguments, self.accelerator, self.data, self.start, self.state)


def main():
    # Of the files in which libraries keep weights and images.
    disable_progress_bar()
    datasets.disable_progress_bars()
    arguments = parse_arguments()
    train, accelerator = arguments.train, build_accelerator(arguments.train)
    checkpoint = open_output_folder(accelerator, train.output_dir, train.resume_from_checkpoint)
    if train.push_to_hub and accelerator.is_main_process:
        # Before hours of training: the login or its right to write may be missing.
        train.hub_model_id = create_repo(train.hub_model_id or train.output_dir.resolve().name, train.hub_private_repo)
    set_seed(train.seed, device_specific=True)  # otherwise dropout would be the same on all processes
    # Before the data: building a new data set takes minutes, which a wrong network should not cost.
    start = load_initial_model(arguments.model)
    arguments.set_defaults(is_trained=bool(start.calibration))
    data = load_training_data(
        arguments.data.data_dir,
        extra_data=arguments.data.extra_data,
        strict=arguments.data.strict,
        split_seed=arguments.data.split_seed,
        validation_share=arguments.data.validation_share,
        streaming=arguments.data.streaming,
    )
    teachers = age_weights = None
    if arguments.data.age_balance:
        age_weights = compute_age_weights(data.find_ages(), arguments.data.age_balance)
    if arguments.model.teacher:
        teachers = Teachers(arguments.model.teacher, start.model.config, age_weights).to(accelerator.device)
    interruption = Interruption()
    training = Training(arguments, accelerator, data, start, teachers, age_weights)
    if train.report_to:
        values = arguments.to_dict().items()
        # TensorBoard takes no lists.
        config = {name: str(value) if isinstance(value, list) else value for name, value in values}
        accelerator.init_trackers("agegender", config=config)
    accelerator.print(describe_opening(arguments, accelerator, data, start, training.epoch_updates))
    if checkpoint:
        training.resume(checkpoint)
    finished = training.run(interruption)
    if finished:
        training.export()
    else:
        accelerator.print("Interrupted. Resume with the same command and --resume_from_checkpoint latest")
    # Over gloo, a distributed model that outlives its process group does not end.
    del training
    accelerator.free_memory()
    accelerator.end_training()
    if finished and train.push_to_hub and accelerator.is_main_process:
        push_to_hub(train.output_dir, train.hub_model_id, train.hub_private_repo)


if __name__ == "__main__":
    run(record(main))  # torchrun's summary then names the error of the process that failed first
