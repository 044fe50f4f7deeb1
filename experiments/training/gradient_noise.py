"""Gradient noise by epoch: how much of a step's gradient is the chance of the mixing.

A diagnostic beside the training (`training.gradient_noise`): between two epochs the loss of a step
is taken several times, as the last step of the epoch had it, and no step is made. The training's
random numbers, statistics of batch normalisation and gradients are as before afterwards, so that it
ends with the same weights, bit by bit, with the diagnostic and without.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import torch
from torch import Tensor

from mixbench.augmentations.forward import step_loss
from mixbench.experiments.config.training import GradientNoiseConfig
from mixbench.experiments.data.split import WHOLE
from mixbench.experiments.evaluation.gradient_noise.components import components
from mixbench.experiments.training.history import NOISE
from mixbench.experiments.training.random_streams import RandomStreams, stream_seed
from mixbench.experiments.training.setup import Training
from mixbench.experiments.transfer.split_network import side_effects_undone


def measure_noise(run: Training) -> dict[str, float]:
    """Return the row of an epoch that has just been trained: empty where it is not measured.

    `train/gradient_noise/mix`, `batch` and `signal`: shares of the mean squared norm of the
    gradients, as the measurement `gradient_noise` has them; `norm`, its root. Empty too where
    gradients are 0, or no numbers.
    """
    settings = run.config.gradient_noise
    epoch = run.epoch + 1
    if settings is None or (epoch % settings.every and epoch != run.config.epochs):
        return {}
    kept = side_effects_undone(run.learner.network, run.device)
    with kept, _streams_kept(run.streams):
        run.learner.freezing.train()
        shares = components(_by_batch(run, settings)).shares()
    return {f"{NOISE}{name}": value for name, value in shares.items() if value is not None}


def _by_batch(run: Training, settings: GradientNoiseConfig) -> Iterator[Iterator[Tensor]]:
    """The gradients of each batch, by draws of the mixing."""
    order = torch.Generator().manual_seed(_seed(settings, run.epoch, "order"))
    whole = run.train_images // run.config.batch_size
    batches = run.inputs.epoch(order, start=0, part=WHOLE)
    for number, (raw, labels) in enumerate(islice(batches, min(settings.batches, whole))):
        yield _of_batch(run, settings, number, raw, labels)


def _of_batch(
    run: Training, settings: GradientNoiseConfig, number: int, raw: Tensor, labels: Tensor
) -> Iterator[Tensor]:
    step = (run.epoch + 1) * run.steps_per_epoch - 1
    method = run.schedules.method(step)
    trained = [one for one in run.learner.network.parameters() if one.requires_grad]
    for draw in range(settings.draws):
        run.control.beat(None)
        # The same crops, flips and dropout for all draws of a batch.
        torch.manual_seed(_seed(settings, run.epoch, f"{number} dropout"))
        run.streams.crops.manual_seed(_seed(settings, run.epoch, f"{number} crops"))
        run.streams.mixing.manual_seed(_seed(settings, run.epoch, f"{number} mixing {draw}"))
        with run.learner.precision():
            clean, batch = run.inputs.mix(method, raw, labels, run.bank)
        forward = run.forward(run.inputs.network, clean, batch)
        loss = step_loss(method, forward, clean, batch)
        gradients = torch.autograd.grad(loss, trained, allow_unused=True)
        yield torch.cat([one.flatten() for one in gradients if one is not None])


def _seed(settings: GradientNoiseConfig, epoch: int, what: str) -> int:
    return stream_seed(settings.seed, f"gradient noise {epoch} {what}")


@contextmanager
def _streams_kept(streams: RandomStreams) -> Iterator[None]:
    before = streams.states_of_rank()
    try:
        yield
    finally:
        streams.restore_states_of_rank(before)
