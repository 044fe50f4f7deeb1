"""A training ready to run: network, inputs, schedules and state, continued from a checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mixbench.augmentations.bank import Bank
from mixbench.augmentations.forward import Forward
from mixbench.augmentations.plans.base import Batch
from mixbench.experiments.config.method_needs import pairs_by
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.config.training import TrainingConfig
from mixbench.experiments.data.crops import normalise
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.errors import UserError
from mixbench.experiments.signals import Stopped
from mixbench.experiments.staging.methods import methods_of
from mixbench.experiments.tasks.base import task_of
from mixbench.experiments.training.checkpoints import Checkpoints
from mixbench.experiments.training.control import Control, Order, Paused
from mixbench.experiments.training.distillation import Criterion, Distillation
from mixbench.experiments.training.epoch_totals import EpochTotals
from mixbench.experiments.training.history import History
from mixbench.experiments.training.inputs import inputs_for
from mixbench.experiments.training.learner import Learner
from mixbench.experiments.training.random_streams import RandomStreams
from mixbench.experiments.training.schedules import TrainingSchedules
from mixbench.experiments.training.state import TrainingState
from mixbench.experiments.training.unlabelled.learn import Beside, Unlabelled

log = logging.getLogger(__name__)


class Training:
    """One rank's training from where its checkpoint left off, or from the start.

    epoch, position: the epoch and batch that come next, from 0.
    """

    def __init__(
        self,
        network: nn.Module,
        dataset: Dataset,
        config: RunConfig,
        device: torch.device,
        folder: Path,
        control: Control,
    ) -> None:
        self.config = config.training
        self.control = control
        self._dataset = dataset
        self.ranks = control.ranks
        self.device, self.train_images = device, len(dataset.train)
        self.task = task_of(config, dataset, device)
        _check_ranks(self.ranks.size, len(dataset.train))
        _check_noise(config.training, len(dataset.train))
        _check_pairing(config, dataset.train.labels)
        self.batches_of_one = self.config.batch_size == 1 or len(dataset.train) == 1
        self.steps_per_epoch = dataset.train.steps(self.config.batch_size, self.ranks.size)
        self.steps = self.config.epochs * self.steps_per_epoch

        self.streams = RandomStreams.seeded(config.seed, device, self.ranks)
        self.learner = learner = Learner.of(network, config, device)
        self.schedules = TrainingSchedules(
            config, self.steps, self.steps_per_epoch, learner.freezing.moments
        )
        self.history = History(folder / "metrics.jsonl", *self.task.info.validation[0])
        self.totals = EpochTotals(device)
        self.bank = Bank()
        state = TrainingState(
            learner, self.streams, self.schedules, self.history, self.totals, self.bank
        )
        self.checkpoints = Checkpoints(folder, state, control, self.steps_per_epoch)
        self.epoch, self.position = self.checkpoints.resume()
        # At an epoch's end validation comes next, with the layers that its last step trained.
        reached = min(self.position, self.steps_per_epoch - 1)
        learner.unfreeze(self.schedules.unfreezings(self.epoch * self.steps_per_epoch + reached))

        self.inputs = inputs_for(learner, dataset, config, self.streams, control)
        self._distillation = Distillation.of(config, dataset, device, folder.parent)
        self._unlabelled = Unlabelled.of(config, dataset, learner, self.ranks, self.steps)
        self.model = self.ranks.wrap(self.inputs.network)
        self._progress: dict[str, Any] = {"stage": "training"}

    def batches(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """The rest of the current epoch: number, what `inputs.mix` takes, labels."""
        self.totals.start_clock()
        self._order_at_start = self.streams.order.get_state()
        self.learner.freezing.train()
        batches = self.inputs.epoch(self.streams.order, start=self.position, part=self.ranks.part)
        for number, (raw, labels) in enumerate(batches, start=self.position):
            yield number, raw, labels

    def beside(self, step: int, batch: Batch, share: float) -> Beside | None:
        """The images without labels of a step, which a labelled batch may be mixed with; or None.

        share: what the whole loss is multiplied with.
        """
        if self._unlabelled is None:
            return None
        with self.learner.precision():
            return self._unlabelled.beside(step, batch, share)

    def forward(
        self, model: nn.Module, clean: Batch | None, mixed: Batch, beside: Beside | None = None
    ) -> Forward:
        """The forward passes of a step, and its loss.

        model: `inputs.network`, or a wrapper. clean, mixed: the batch, as a teacher may see it.
        beside: what goes through the network with it.
        """

        def logits(batch: Batch) -> Tensor:
            if beside is not None:
                batch = replace(batch, images=torch.cat([batch.images, beside.images]))
            with self.learner.precision():
                return self.inputs.logits(model, batch)

        criterion: Criterion = self.task.loss
        if beside is not None:
            return Forward(logits, beside.criterion(criterion), self.inputs.network)
        if self._distillation is not None:
            with self.learner.precision():
                criterion = self._distillation.criterion(criterion, clean, mixed)
        return Forward(logits, criterion, self.inputs.network)

    def meet_ranks(self, number: int, images: int) -> list[int]:
        """Before a step: save if it is time, stop if asked; return each rank's number of images."""
        wanted = self.control.order(self.checkpoints.is_due)
        images_of_ranks, order = self.ranks.meet(images, wanted)
        if order != Order.GO:
            self.totals.stop_clock()
            self.save(number)
            self.totals.start_clock()
        if order == Order.STOP:
            self.report_checkpoint()
            raise Stopped(f"after step {number} of epoch {self.epoch + 1}")
        return images_of_ranks

    def apply_schedules(self, step: int) -> None:
        """Unfreeze what is to be trained from `step` on; log where a phase of a staging begins."""
        if self.learner.unfreeze(self.schedules.unfreezings(step)):
            if self.ranks.leads:
                trained = self.learner.freezing.describe_trained()
                log.info("step %d: from here on trained: %s", step, trained)
            # Wrap anew: which gradients ranks share is decided when the network is wrapped.
            self.model = self.ranks.wrap(self.inputs.network)
        entered = self.schedules.entered(step)
        if entered and self.ranks.leads:
            log.info("step %d: %s", step, entered)

    def report(self, step: int) -> None:
        """Send a heartbeat with the progress after `step`."""
        self._progress = {
            "stage": "training",
            "epoch": self.epoch + (step % self.steps_per_epoch + 1) / self.steps_per_epoch,
            "epochs": self.config.epochs,
            "step": step + 1,
            "steps": self.steps,
            "saved": self.checkpoints.last_step,
            "images_per_second": self.totals.images_per_second(),
        }
        self.control.beat(self._progress)

    def report_checkpoint(self) -> None:
        """Send a heartbeat that says how far the attempt got."""
        self.control.beat({**self._progress, "saved": self.checkpoints.last_step}, force=True)

    def save(self, number: int) -> None:
        """Save the state before batch `number` of the epoch."""
        self.checkpoints.save(self.epoch, number, self._order_at_start)

    def pause_after(self, epoch: int | None) -> None:
        """Between two epochs: save the state and raise Paused, if so many are done."""
        if not self.ranks.share(epoch is not None and self.epoch >= epoch):
            return
        if self.position == 0 and self.checkpoints.last_step != self.epoch * self.steps_per_epoch:
            self.save_between_epochs()
        self.report_checkpoint()
        raise Paused(f"after epoch {self.epoch}, until poor settings are stopped")

    def save_between_epochs(self) -> None:
        """Save the state before the first batch of the epoch that comes next."""
        self.checkpoints.save(self.epoch, 0, self.streams.order.get_state())

    def next_epoch(self) -> None:
        """Start the next epoch, with a checkpoint if it is time or the training is over."""
        self.totals.clear()
        self.epoch, self.position = self.epoch + 1, 0
        done = self.epoch == self.config.epochs
        swa = self.learner.swa
        if swa is not None:
            swa.observe(self.learner.network, self.epoch)
        if swa is not None and done:
            swa.recompute_statistics(self.learner.freezing, self._clean_images())
        if done or self.ranks.share(self.checkpoints.is_due()):
            self.save_between_epochs()

    def _clean_images(self) -> Iterator[Tensor]:
        """All training images in order, as they are and normalised; the same on every rank."""
        dataset, channels_last = self._dataset, self.config.channels_last
        for raw, _ in dataset.train.batches(self.config.batch_size):
            self.control.beat(None)
            yield normalise(raw, dataset.mean, dataset.std, channels_last=channels_last)

    def finish(self) -> None:
        """Leave the network with the weights to measure, the same on all ranks."""
        averaging = self.learner.averaging
        if averaging is not None and self.config.measures_average:
            averaging.put_into(self.learner.network)
            self.ranks.align(self.learner.network)


def _check_ranks(ranks: int, images: int) -> None:
    if ranks > 1 and images < 2 * ranks:
        raise UserError(
            f"training.devices: got {ranks}, expected at most {images // 2}, for two of the "
            f"{images} training images on each"
        )


def _check_noise(training: TrainingConfig, images: int) -> None:
    if training.gradient_noise is not None and images < 2 * training.batch_size:
        raise UserError(
            f"training.gradient_noise: needs two batches of {training.batch_size} training images, "
            f"got {images} images"
        )


def _check_pairing(config: RunConfig, labels: Tensor) -> None:
    methods = methods_of(config.augmentation, config.phases)
    where = next((where for where, mix in methods if pairs_by(mix, "same_class")), None)
    if where is not None and len(labels.unique()) == len(labels):
        raise UserError(
            f"{where}: pairing: same_class needs two training images of a class, got "
            f"{len(labels)} images, each of another class"
        )
