"""Gradient noise: how much of a training step's gradient is the chance of the mixing.

The gradient of a batch differs from step to step because other images are in it, and because they
are mixed in another way. At the weights that are saved, steps are computed as in training (the
mixing of the run, batch statistics, smoothed labels), several for each batch; none is made. With
sam they are those of its first pass, and repeated images come once.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mixbench import augmentations
from mixbench.augmentations import Bank, NetworkView
from mixbench.augmentations.integrations.training_loss import training_loss
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.data.crops import prepare as augment
from mixbench.experiments.errors import Impossible
from mixbench.experiments.evaluation.base import Measured, Subject
from mixbench.experiments.evaluation.gradient_noise import GradientNoiseSettings
from mixbench.experiments.evaluation.gradient_noise.components import components
from mixbench.experiments.models.loss import Loss
from mixbench.experiments.transfer.freeze import Freezing
from mixbench.experiments.transfer.layers import Layers

_OFFERED = ("images", "labels", "model", "bank", "normalisation")


def measure(subject: Subject, settings: GradientNoiseSettings) -> Measured:
    """Split the squared norm of a step's gradient at the saved weights.

    Metrics: `gradient_noise/mix`, the variance of a batch's gradient over draws of the mixing, over
    the mean squared norm of the gradients; `gradient_noise/batch`, the same of the variance over
    batches; `gradient_noise/signal`, what is left, the share of the mean gradient: the three add up
    to 1. `gradient_noise/norm`, the root of the mean squared norm. None where gradients are 0 or
    no numbers.

    Args:
        subject: The network and its data.
        settings: Batches and draws.

    Returns:
        Shares, of which `batch` and `signal` are estimates that may be below 0.

    Raises:
        Impossible: The training mixes features, or there are too few training images for two
            batches.
    """
    _check(subject.config)
    size = subject.config.training.batch_size
    batches = min(settings.batches, len(subject.split("train")) // size)
    if batches < 2:
        raise Impossible(f"needs two batches of {size} training images")
    device = subject.device
    with torch.inference_mode(False), torch.enable_grad(), _random_numbers_kept(device):
        step = _Step(subject, settings.seed)
        parts = components(step.gradients(batch, settings.draws) for batch in range(batches))
    return Measured(
        {f"gradient_noise/{name}": value for name, value in parts.shares().items()},
        {"batches": batches, "draws": settings.draws, "batch_size": size},
    )


class _Step:
    """The gradient of one step of a run's training, at its weights, on a copy of its network."""

    def __init__(self, subject: Subject, seed: int) -> None:
        config = subject.config
        self._subject, self._seed = subject, seed
        self._network: nn.Module = copy.deepcopy(subject.network)
        for parameter in self._network.parameters():
            parameter.grad = None
        self._layers = Layers.of(self._network, config.model.name)
        freezing = Freezing(self._network, self._layers, config.transfer)
        freezing.unfreeze(len(freezing.moments))
        freezing.train()
        self._method = augmentations.create(**config.augmentation)
        train = subject.split("train")
        generator = torch.Generator().manual_seed(seed)
        self._order = torch.randperm(len(train), generator=generator)
        self._last = len(train) // config.training.batch_size - 1
        labels, classes = subject.dataset.train.labels, len(subject.dataset.classes)
        self._loss = Loss.of(config.training, labels, classes, subject.device)
        self._trained = [one for one in self._network.parameters() if one.requires_grad]

    def gradients(self, batch: int, draws: int) -> Iterator[Tensor]:
        """The gradients of one batch, by draws of the mixing; crops, flips and dropout stay."""
        images, labels = self._batch(batch)
        earlier = self._bank_before(batch)
        for draw in range(draws):
            self._subject.beat()
            # The same dropout for all draws.
            torch.manual_seed(self._seed)
            # And the same earlier batch, for methods that need one.
            bank = dataclasses.replace(earlier)
            loss = self._loss_of(images, labels, self._generator(batch, 1 + draw), bank)
            gradients = torch.autograd.grad(loss, self._trained, allow_unused=True)
            yield torch.cat([one.flatten() for one in gradients if one is not None])

    def _bank_before(self, batch: int) -> Bank:
        # A step without a bank of its own leaves behind what a training's step would.
        bank = Bank()
        if "bank" in self._method.needs:
            images, labels = self._batch(batch - 1 if batch else self._last)
            with torch.no_grad():
                torch.manual_seed(self._seed)
                self._loss_of(images, labels, self._generator(batch, -1), bank)
        return bank

    def _batch(self, batch: int) -> tuple[Tensor, Tensor]:
        subject, training = self._subject, self._subject.config.training
        size = training.batch_size
        indices = self._order[batch * size : (batch + 1) * size].sort().values
        ((raw, labels),) = subject.split("train").subset(indices).batches(size)
        images = augment(
            raw,
            subject.dataset.mean,
            subject.dataset.std,
            crop_padding=training.crop_padding or 0,
            flip=bool(training.flip),
            generator=self._generator(batch, 0),
            channels_last=training.channels_last,
        )
        return images, labels

    def _loss_of(
        self, images: Tensor, labels: Tensor, generator: torch.Generator, bank: Bank
    ) -> Tensor:
        return training_loss(
            self._method,
            self._network,
            images,
            labels,
            len(self._subject.dataset.classes),
            generator=generator,
            criterion=self._loss,
            layers=self._layers.named,
            model=NetworkView(self._network),
            normalisation=(self._subject.dataset.mean, self._subject.dataset.std),
            bank=bank,
        )

    def _generator(self, batch: int, number: int) -> torch.Generator:
        seed = (self._seed * 1_000_003 + batch) * 1_000_003 + number
        return torch.Generator(self._subject.device).manual_seed(seed % 2**63)


def _check(config: RunConfig) -> None:
    if config.transfer is not None and config.transfer.mixing == "features":
        raise Impossible("is of mixed images; the run mixes features of a frozen network")
    beyond = augmentations.create(**config.augmentation).needs - set(_OFFERED)
    if beyond:
        raise Impossible(f"offers {', '.join(_OFFERED)}; the method needs {', '.join(beyond)}")


def _random_numbers_kept(device: torch.device) -> contextlib.AbstractContextManager[None]:
    devices = [device] if device.type == "cuda" else []
    return torch.random.fork_rng(devices=devices)
