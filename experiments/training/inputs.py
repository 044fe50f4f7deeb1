"""What enters the part of a network that is trained: mixed images, or features made once.

inputs.epoch(order)                        the batches of an epoch
inputs.forward(model, mix, raw, labels)    logits and the mixed batch
inputs.validation(beat)                    the validation split, as inputs.network takes it
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from mixbench import augmentations
from mixbench.augmentations.integrations.hooks import mixing_inside
from mixbench.augmentations.pixels.fused import prepared_and_mixed
from mixbench.augmentations.pixels.preparation import Preparation
from mixbench.augmentations.plans.base import Batch
from mixbench.experiments.config.rules import why_not_in_features
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.data.crops import normalise
from mixbench.experiments.data.load import Dataset
from mixbench.experiments.data.split import WHOLE, Part
from mixbench.experiments.errors import UserError
from mixbench.experiments.ranks import ALONE, Ranks
from mixbench.experiments.training.cached_features import Precision, cached, last_frozen
from mixbench.experiments.training.mix_features import mixed
from mixbench.experiments.training.plan_prefetch import PlansAhead
from mixbench.experiments.training.state import Beat
from mixbench.experiments.transfer.freeze import Freezing
from mixbench.experiments.transfer.layers import Layers
from mixbench.experiments.transfer.split_network import Place, changed


class Inputs(Protocol):
    """Where a training gets its batches, and what it trains with them."""

    network: nn.Module
    """What takes them, to be wrapped for the ranks: the network, or the part behind features."""

    def epoch(
        self, order: torch.Generator, *, start: int, part: Part
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """As `Split.epoch` gives them, from batch `start` on: what `forward` takes, with labels."""

    def forward(
        self, model: nn.Module, mix: augmentations.Method, raw: Tensor, labels: Tensor
    ) -> tuple[Tensor, Batch]:
        """Mix a batch; its logits from `model`, which is `network`, wrapped, and the batch."""

    def validation(self, beat: Beat, part: Part = WHOLE) -> Iterator[tuple[Tensor, Tensor]]:
        """The validation split, in order, as `network` takes it, with labels."""


class Pixels:
    """Images: cropped, flipped, normalised and mixed for every batch.

    mixed_at: where in the network they are mixed, if not before it.
    """

    def __init__(
        self,
        network: nn.Module,
        dataset: Dataset,
        config: RunConfig,
        layers: Layers,
        crops: torch.Generator,
        plans: PlansAhead,
        mixed_at: Place | None = None,
    ) -> None:
        self.network = network
        self._mixed_at = mixed_at
        self._dataset = dataset
        self._config = config
        self._layers = layers
        self._crops = crops
        self._plans = plans

    def epoch(
        self, order: torch.Generator, *, start: int, part: Part
    ) -> Iterator[tuple[Tensor, Tensor]]:
        size = self._config.training.batch_size
        return self._dataset.train.epoch(size, order, start=start, part=part)

    def forward(
        self, model: nn.Module, mix: augmentations.Method, raw: Tensor, labels: Tensor
    ) -> tuple[Tensor, Batch]:
        training = self._config.training
        drawn = Preparation.draw(
            len(raw),
            self._dataset.mean,
            self._dataset.std,
            crop_padding=training.crop_padding or 0,
            flip=bool(training.flip),
            generator=self._crops,
            channels_last=training.channels_last,
        )
        inside = self._mixed_at is not None
        images = drawn(raw) if inside or mix.needs_images else None
        plan = self._plans.next(mix, raw.shape, images)
        targets = plan.mix_labels(labels, len(self._dataset.classes))
        if self._mixed_at is not None and images is not None:
            batch = Batch(images, targets, plan)
            with changed(
                self.network,
                self._mixed_at,
                lambda features: mixed(plan, features, self.network),
            ):
                return model(images), batch
        if images is None:
            batch = Batch(prepared_and_mixed(plan, raw, drawn), targets, plan)
        else:
            batch = Batch(plan.mix_images(images), targets, plan)
        with mixing_inside(self.network, batch.plan, self._layers.named):
            return model(batch.images), batch

    def validation(self, beat: Beat, part: Part = WHOLE) -> Iterator[tuple[Tensor, Tensor]]:
        channels_last = self._config.training.channels_last
        size = self._config.evaluation.batch_size
        for raw, labels in self._dataset.validation.batches(size, part=part):
            beat(None)
            mean, std = self._dataset.mean, self._dataset.std
            yield normalise(raw, mean, std, channels_last=channels_last), labels


def inputs_for(
    network: nn.Module,
    dataset: Dataset,
    config: RunConfig,
    layers: Layers,
    freezing: Freezing,
    precision: Precision,
    *,
    crops: torch.Generator,
    plans: PlansAhead,
    beat: Beat,
    ranks: Ranks = ALONE,
) -> Inputs:
    """The inputs of a training: features where the frozen part of the network need run only once.

    `beat` is called while features are made, and what it raises comes out. UserError where the
    configuration asks for what this network or these images can't do.
    """
    mixed_at = None
    if config.transfer is not None and config.transfer.mixing == "features":
        mixed_at = _checked(network, dataset, config, layers)
    made_once = cached(
        network,
        dataset,
        config,
        layers,
        freezing,
        precision,
        plans=plans,
        beat=beat,
        ranks=ranks,
    )
    if made_once is not None:
        return made_once
    return Pixels(network, dataset, config, layers, crops, plans, mixed_at)


def _checked(network: nn.Module, dataset: Dataset, config: RunConfig, layers: Layers) -> Place:
    """Where features are mixed; UserError where they can't be."""
    place = last_frozen(config, layers)
    reason = why_not_in_features(config)
    if place is None or reason is not None:
        reason = reason or "no whole layer is frozen"
        raise UserError(f"transfer.mixing: got features, but {reason}")
    shape = (2, *dataset.shape)
    device = dataset.mean.device
    mix = augmentations.create("cutmix")
    plan = mix.sample(shape, device=device, generator=torch.Generator(device).manual_seed(0))
    found: list[None] = []

    def tried(features: Tensor) -> Tensor:
        found.append(None)
        return mixed(plan, features, network)

    network.eval()
    try:
        with torch.no_grad(), changed(network, place, tried):
            network(torch.zeros(shape, device=device))
    except ValueError as error:
        raise UserError(f"transfer.mixing: features of {place.name}: {error}") from None
    if len(found) != 1:
        raise UserError(
            f"transfer.mixing: got features, but {place.name} runs {len(found)} times for a batch"
        )
    return place
