"""The training loop: train one run from its first step, or a checkpoint, to the last epoch.

`setup` builds what it trains with. Where several ranks train together, each gets a part of every
batch, and rank 0 decides and writes.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mixbench.augmentations.forward import step_loss
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.ranks import ALONE, Ranks
from mixbench.experiments.signals import Stopped
from mixbench.experiments.tasks.base import Task
from mixbench.experiments.training.control import Beat, Control, Order
from mixbench.experiments.training.epoch_totals import EpochMeans, staging_row
from mixbench.experiments.training.gradient_noise import measure_noise
from mixbench.experiments.training.inputs import Inputs
from mixbench.experiments.training.schedules import learning_rate
from mixbench.experiments.training.setup import Training

log = logging.getLogger(__name__)


class Diverged(Exception):
    """The loss is no longer a number: the run failed and has no score."""


def train(
    network: nn.Module,
    dataset: Dataset,
    config: RunConfig,
    device: torch.device,
    folder: Path,
    beat: Beat,
    stopping: Callable[[], bool] = lambda: False,
    ranks: Ranks = ALONE,
    until: int | None = None,
) -> dict[str, Any]:
    """Train `network` in place to the last epoch, from the folder's checkpoint if there is one.

    Writes a row per epoch to `metrics.jsonl` and leaves the last state in `checkpoint.pt`. The
    network ends with the weights to measure: the last ones, or their average (`training.ema`).

    Args:
        beat: Called at every step with the progress; what it raises ends the training.
        stopping: Asked before every step; once true, the state is saved and Stopped raised.
        until: The epoch after which the state is saved and Paused raised; rank 0's counts.

    Returns:
        Seconds spent, images per second and the best validation epoch; on rank 0 alone.

    Raises:
        Diverged: The loss or the validation's outputs are no longer numbers.
    """
    run = Training(network, dataset, config, device, folder, Control(beat, stopping, ranks))
    while run.epoch < run.config.epochs:
        run.pause_after(until)
        means = train_epoch(run)
        noise = measure_noise(run)
        validation = validate_epoch(run) if run.config.validates(run.epoch + 1) else {}
        record_epoch(run, means, validation, noise)
        run.next_epoch()
    run.finish()
    return run.history.summary() if ranks.leads else {}


def train_epoch(run: Training) -> EpochMeans:
    """Train on every training image once, or on those that an interrupted epoch has left."""
    for number, raw, labels in run.batches():
        images_of_ranks = run.meet_ranks(number, len(labels))
        step = run.epoch * run.steps_per_epoch + number
        run.apply_schedules(step)
        # Unreadable files may leave a rank with one image: then all ranks skip the batch.
        if min(images_of_ranks) > 1 or run.batches_of_one:
            train_step(run, step, raw, labels, sum(images_of_ranks))
        run.report(step)
    means = run.totals.means(run.ranks)
    # Stop the clock only now: reading the means waits for the GPU.
    run.totals.stop_clock()
    if not math.isfinite(means.loss):
        raise Diverged(f"the training loss became {means.loss} in epoch {run.epoch + 1}")
    return means


def train_step(
    run: Training, step: int, raw: Tensor, labels: Tensor, images_of_all_ranks: int
) -> None:
    """Mix a batch and make a step with it; raw: as `Inputs.epoch` gives it."""
    run.learner.set_rate(learning_rate(step, run.steps, run.config))
    method = run.schedules.method(step)

    with run.learner.precision():
        clean, batch = run.inputs.mix(method, raw, labels, run.bank)
    # The mean over ranks of the losses times this is the mean over all images of the batch.
    share = len(labels) * run.ranks.size / images_of_all_ranks
    beside = run.beside(step, batch, share)
    batch = batch if beside is None else beside.labelled
    forward = run.forward(run.model, clean, batch, beside)

    def compute_loss() -> Tensor:
        return step_loss(method, forward, clean, batch)

    loss = run.learner.step(compute_loss, share, step)

    run.bank.clear()
    if clean is not None:
        method.remember(run.bank, clean, batch, forward.seen(batch))
    run.totals.add(loss, batch.plan, len(labels), images_of_all_ranks)
    if beside is not None:
        run.totals.add_unlabelled(beside.seen, beside.confident, len(beside.images))
    if run.schedules.staged and method.name != "none":
        run.totals.add_mixing(batch.plan)


def validate_epoch(run: Training) -> dict[str, float]:
    """Score the validation split; a stop during it saves the state after training."""
    control = run.control
    try:
        # All ranks validate together: stop only at its end.
        wanted = control.order(lambda: False)
        if run.ranks.meet(0, wanted)[1] == Order.STOP:
            raise Stopped(f"after epoch {run.epoch + 1}")
        beat = control.beat_or_stop if run.ranks.size == 1 else control.beat
        with run.learner.evaluated():
            run.ranks.align(run.learner.network)
            validation = validate(run.task, run.inputs, beat, run.ranks)
    except Stopped:
        run.save(run.steps_per_epoch)
        run.report_checkpoint()
        raise
    if not all(map(math.isfinite, validation.values())):
        raise Diverged(f"the network's outputs are no longer numbers after epoch {run.epoch + 1}")
    return validation


def validate(task: Task, inputs: Inputs, beat: Beat, ranks: Ranks = ALONE) -> dict[str, float]:
    """Return what the task measures on the validation split; the same on every rank."""
    return ranks.share(task.score(inputs.network, inputs.validation(beat, ranks.part), ranks))


def record_epoch(
    run: Training, means: EpochMeans, validation: dict[str, float], noise: dict[str, float]
) -> None:
    """Write the epoch's row to `metrics.jsonl`, and let the schedules know how good it is.

    Args:
        validation: What the task measures, such as accuracy and nll; empty after an epoch without
            validation.
    """
    steps = (run.epoch + 1) * run.steps_per_epoch
    staging = staging_row(run.schedules.phase(steps - 1), means) if run.schedules.staged else {}
    metric, better = run.task.info.validation[0]
    if validation:
        run.schedules.observe(better * validation[metric])
    if not run.ranks.leads:
        return
    speed = means.images / run.totals.seconds
    row = {
        "epoch": run.epoch + 1,
        "step": steps,
        "time": time.time(),
        "train/loss": means.loss,
        **{f"validation/{name}": value for name, value in validation.items()},
        "learning_rate": learning_rate(steps - 1, run.steps, run.config),
        "mix/own_weight": means.own_weight,
        **means.unlabelled,
        **staging,
        **noise,
        **run.learner.freezing.metrics(),
        "images_per_second": speed,
    }
    run.control.beat(None, force=True)  # Overtaken since the last heartbeat: write nothing more.
    run.history.add(row, run.totals.seconds, round(means.images))
    log.info(
        "epoch %d/%d: loss %.4f, %s%.0f images/s",
        run.epoch + 1,
        run.config.epochs,
        means.loss,
        f"validation {metric} {validation[metric]:.4f}, " if validation else "",
        speed,
    )
