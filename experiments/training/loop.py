"""The training loop: one configuration, one device, from first weights to last.

Random numbers come in four streams made from the seed (initial weights, data order, crops and
flips, mixing), so that with the same seed every method starts from the same weights and sees the
same images in the same order, however much its mixing draws.

Where several ranks train together, the batch is theirs in parts, and rank 0 decides and writes.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mixbench.experiments.config.schema import RunConfig, TrainingConfig
from mixbench.experiments.data.load import Dataset
from mixbench.experiments.errors import UserError
from mixbench.experiments.evaluation.predict import score
from mixbench.experiments.ranks import ALONE, Ranks
from mixbench.experiments.staging.schedule import Schedule
from mixbench.experiments.stopping import Stopped
from mixbench.experiments.training.inputs import Inputs, inputs_for
from mixbench.experiments.training.optimiser import begin_momentum, optimiser_for
from mixbench.experiments.training.plan_prefetch import PlansAhead
from mixbench.experiments.training.schedules import Course
from mixbench.experiments.training.state import Beat, Book, History, Sums, staging_row
from mixbench.experiments.transfer.freeze import Freezing
from mixbench.experiments.transfer.layers import Layers

log = logging.getLogger(__name__)
GO, SAVE, STOP = 0, 1, 2


class Diverged(Exception):
    """The loss is no longer a number: the run failed, it has no score."""


def stream_seed(seed: int, stream: str) -> int:
    """A seed for one of a run's random streams: unrelated for neighbouring seeds."""
    return int.from_bytes(hashlib.sha256(f"{stream} {seed}".encode()).digest()[:7], "big")


def learning_rate(step: int, steps: int, config: TrainingConfig) -> float:
    """The rate of step `step` (from 0) of `steps`: a rise over `warmup`, then a half cosine to 0.

    "one_cycle" rises from 1/25 of the rate along a half cosine, as in Smith & Topin 2018
    (arXiv:1708.07120); "cosine" rises linearly, where it is given a warm-up.
    """
    rising = (config.warmup or 0.0) * steps
    if step < rising:
        share = (step + 1) / (rising + 1)
        if config.schedule == "one_cycle":
            share = 1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * share)) / 2
        return config.learning_rate * share
    done = (step - rising) / max(1.0, steps - rising)
    return config.learning_rate * (1 + math.cos(math.pi * done)) / 2


def train(
    network: nn.Module,
    dataset: Dataset,
    config: RunConfig,
    device: torch.device,
    folder: Path,
    beat: Beat,
    stopping: Callable[[], bool] = lambda: False,
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Train `network` in place to the last epoch, going on from the folder's checkpoint if any.

    Appends a row per epoch to `metrics.jsonl` and leaves the last state in `checkpoint.pt`, with
    the one before it in `checkpoint.previous.pt` on the way. `beat` is called at every step with
    the progress; what it raises ends the training. `stopping` is asked before every step: when it
    says so the state is saved and Stopped raised. Returns the seconds spent, the images per second
    and the best validation epoch; on rank 0 alone. Raises Diverged.
    """
    training = config.training
    if ranks.size > 1 and len(dataset.train) < 2 * ranks.size:
        raise UserError(
            f"training.devices: got {ranks.size}, expected at most {len(dataset.train) // 2}, for "
            f"two of the {len(dataset.train)} training images on each"
        )
    layers = Layers.of(network, config.model.name)
    try:
        layers.check(network, Schedule(config.augmentation, config.phases, 1, 1).deepest)
    except ValueError as error:
        raise UserError(f"augmentation: {config.model.name}: {error}") from None
    # The order is that of whole batches, the same for all ranks; the rest is about the own part.
    order = torch.Generator().manual_seed(stream_seed(config.seed, "order"))
    crops = torch.Generator(device).manual_seed(stream_seed(config.seed, ranks.stream("crops")))
    mixing = torch.Generator(device).manual_seed(stream_seed(config.seed, ranks.stream("mixing")))
    # Dropout and the like draw from the global generator.
    torch.manual_seed(stream_seed(config.seed, ranks.stream("network")))
    plans = PlansAhead(mixing)
    generators: dict[str, torch.Generator | PlansAhead] = {"crops": crops, "mixing": plans}

    memory_format = torch.channels_last if training.channels_last else torch.contiguous_format
    # Two calls: the types of `Module.to` know device and memory format only apart.
    network.to(device).to(memory_format=memory_format)
    freezing = Freezing(network, layers, config.transfer)
    optimiser = optimiser_for(freezing.groups(), training)
    amp = training.amp and device.type == "cuda"
    half = (
        torch.bfloat16
        if amp and torch.cuda.is_bf16_supported(including_emulation=False)
        else torch.float16
    )
    scaler = torch.amp.GradScaler(device.type, enabled=amp and half is torch.float16)

    def precision() -> torch.autocast:
        return torch.autocast(device.type, dtype=half, enabled=amp)

    steps_per_epoch = dataset.train.steps(training.batch_size, ranks.size)
    steps = training.epochs * steps_per_epoch
    course = Course(config, steps, steps_per_epoch, freezing.moments)
    history = History(folder / "metrics.jsonl")
    sums = Sums(device)
    book = Book(
        folder,
        device,
        network,
        optimiser,
        scaler,
        order,
        generators,
        history,
        course,
        sums,
        ranks,
        beat,
    )
    first, position = book.open()
    # As in the step that comes next, or was the last where a validation is what comes next.
    reached = first * steps_per_epoch + min(position, steps_per_epoch - 1)
    if freezing.thaw(course.unfreezings(reached)):
        begin_momentum(optimiser)
    inputs = inputs_for(
        network,
        dataset,
        config,
        layers,
        freezing,
        precision,
        crops=crops,
        plans=plans,
        beat=_or_stop(beat, stopping),
        ranks=ranks,
    )
    model = ranks.wrap(inputs.network)

    def due() -> int:
        return STOP if stopping() else SAVE if book.is_due() else GO

    progress: dict[str, Any] = {"stage": "training"}
    for epoch in range(first, training.epochs):
        started = time.monotonic() - sums.seconds
        order_state = order.get_state()
        freezing.train()
        batches = inputs.epoch(order, start=position, part=ranks.part)
        for number, (raw, labels) in enumerate(batches, start=position):
            images_of_ranks, wish = ranks.meet(len(labels), due() if ranks.leads else GO)
            if wish != GO:
                sums.seconds = time.monotonic() - started
                book.save(epoch, number, order_state, epoch * steps_per_epoch + number)
                started = time.monotonic() - sums.seconds
            if wish == STOP:
                # So that its attempt says how far it got.
                beat({**progress, "saved": book.saved}, force=True)
                raise Stopped(f"after step {number} of epoch {epoch + 1}")

            step = epoch * steps_per_epoch + number
            if freezing.thaw(course.unfreezings(step)):
                begin_momentum(optimiser)
                if ranks.leads:
                    log.info("step %d: from here on trained: %s", step, freezing.in_words())
                # What gradients are shared between ranks is settled when the network is wrapped.
                model = ranks.wrap(inputs.network)
            entered = course.entered(step)
            if entered and ranks.leads:
                log.info("step %d: %s", step, entered)
            rate = learning_rate(step, steps, training)
            # Unreadable files may leave a rank with one image, and then all pass over the batch.
            if min(images_of_ranks) > 1 or _single(training, dataset):
                for group in optimiser.param_groups:
                    group["lr"] = rate * group.get("scale", 1.0)
                mix = course.method(step)
                with precision():
                    logits, batch = inputs.forward(model, mix, raw, labels)
                loss = batch.targets.cross_entropy(logits, training.label_smoothing)

                optimiser.zero_grad(set_to_none=True)
                # The mean over ranks of these is the mean over all images of the batch.
                share = len(labels) * ranks.size / sum(images_of_ranks)
                scaler.scale(loss if share == 1 else loss * share).backward()
                scaler.step(optimiser)
                scaler.update()

                sums.add(loss.detach(), batch.plan.own_share().sum(), len(labels))
                if course.staged and mix.name != "none":
                    sums.mix(batch.plan)
                sums.of_all += sum(images_of_ranks)
            progress = {
                "stage": "training",
                "epoch": epoch + (number + 1) / steps_per_epoch,
                "epochs": training.epochs,
                "step": step + 1,
                "steps": steps,
                "saved": book.saved,
                "images_per_second": sums.of_all / max(1e-9, time.monotonic() - started),
            }
            beat(progress)

        loss_sum, own_sum, seen, *mixed_sums = ranks.total(sums.tensor()).tolist()
        spent = time.monotonic() - started
        mean_loss = loss_sum / max(1, seen)
        if not math.isfinite(mean_loss):
            raise Diverged(f"the training loss became {mean_loss} in epoch {epoch + 1}")
        ranks.align(network)
        try:
            # Before a validation that a group is in together, and does not leave before its end.
            _, wish = ranks.meet(0, STOP if ranks.leads and stopping() else GO)
            if wish == STOP:
                raise Stopped(f"after epoch {epoch + 1}")
            watched = _or_stop(beat, stopping) if ranks.size == 1 else beat
            validation = validate(inputs, watched, ranks)
        except Stopped:
            # A validation of minutes must not stand in the way of a stop.
            sums.seconds = spent
            book.save(epoch, steps_per_epoch, order_state, (epoch + 1) * steps_per_epoch)
            beat({**progress, "saved": book.saved}, force=True)
            raise
        if not math.isfinite(validation["nll"]):
            raise Diverged(f"the network's outputs are no longer numbers after epoch {epoch + 1}")
        staged = (
            staging_row(course.phase((epoch + 1) * steps_per_epoch - 1), seen, mixed_sums)
            if course.staged
            else {}
        )
        course.observe(validation["accuracy"])
        row = {
            "epoch": epoch + 1,
            "step": (epoch + 1) * steps_per_epoch,
            "time": time.time(),
            "train/loss": mean_loss,
            **{f"validation/{name}": value for name, value in validation.items()},
            "learning_rate": learning_rate((epoch + 1) * steps_per_epoch - 1, steps, training),
            "mix/own_weight": own_sum / max(1, seen),
            **staged,
            **freezing.row(),
            "images_per_second": seen / spent,
        }
        if ranks.leads:
            beat(None, force=True)  # overtaken since the last beat: write nothing more
            history.add(row, spent, round(seen))
            log.info(
                "epoch %d/%d: loss %.4f, validation accuracy %.4f, %.0f images/s",
                epoch + 1,
                training.epochs,
                mean_loss,
                validation["accuracy"],
                seen / spent,
            )
        sums.clear()
        position = 0
        if epoch + 1 == training.epochs or ranks.share(book.is_due()):
            book.save(epoch + 1, 0, order.get_state(), (epoch + 1) * steps_per_epoch)
    return history.summary() if ranks.leads else {}


def validate(inputs: Inputs, beat: Beat, ranks: Ranks = ALONE) -> dict[str, float]:
    """accuracy and nll on the validation split; the same on every rank."""
    return ranks.share(score(inputs.network, inputs.validation(beat, ranks.part), ranks))


def _or_stop(beat: Beat, stopping: Callable[[], bool]) -> Beat:
    """A beat that raises Stopped where the work is to stop."""

    def told(progress: dict[str, Any] | None, *, force: bool = False) -> None:
        beat(progress, force=force)
        if stopping():
            raise Stopped("between two epochs")

    return told


def _single(training: TrainingConfig, dataset: Dataset) -> bool:
    """Are batches of one image what was asked for?"""
    return training.batch_size == 1 or len(dataset.train) == 1
