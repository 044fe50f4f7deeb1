"""The inputs of a training: batches of mixed images, or of cached features.

inputs.epoch(order)                           the batches of an epoch
inputs.mix(method, raw, labels, bank)         the batch before mixing, and the mixed one
inputs.logits(model, batch)                   a forward pass with either
inputs.validation(beat)                       the validation split, as inputs.network takes it
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixbench import augmentations
from mixbench.augmentations import NetworkView
from mixbench.augmentations.bank import Bank
from mixbench.augmentations.integrations.hooks import mixing_inside
from mixbench.augmentations.plans.base import Batch
from mixbench.experiments.config.rules import why_not_in_features
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.data.crops import Moves, draw_moves, normalise
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.data.object_masks import with_mask_channel
from mixbench.experiments.data.split import WHOLE, ArraySplit, Part, Sampling
from mixbench.experiments.design.tasks import BOXES, MASKS
from mixbench.experiments.errors import UserError
from mixbench.experiments.staging.methods import methods_of
from mixbench.experiments.tasks.base import task_of
from mixbench.experiments.training.cached_features import cache_features, last_frozen, uses_clean
from mixbench.experiments.training.control import Beat, Control
from mixbench.experiments.training.learner import Learner
from mixbench.experiments.training.mix_features import mix_features
from mixbench.experiments.training.random_streams import RandomStreams
from mixbench.experiments.transfer.split_network import Boundary, changed_at

_HALF = 128


class Inputs(Protocol):
    """Where a training gets its batches, and the network that it trains."""

    network: nn.Module
    """The network, or the part behind the features; to be wrapped for the ranks."""

    def epoch(
        self, order: torch.Generator, *, start: int, part: Part
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """As `Split.epoch` gives them, from batch `start` on: what `mix` takes, with labels."""

    def mix(
        self, method: augmentations.Method, raw: Tensor, labels: Tensor, bank: Bank
    ) -> tuple[Batch | None, Batch]:
        """Crop, flip and mix a batch, as far as its images are mixed and not its features.

        Returns the batch before mixing, None for a method whose hooks don't ask for it, and the
        mixed one.
        """

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """The logits of `model`, which is `network`, wrapped; features are mixed on the way."""

    def validation(self, beat: Beat, part: Part = WHOLE) -> Iterator[tuple[Tensor, Tensor]]:
        """The validation split, in order, as `network` takes it, with labels."""


class Pixels:
    """Images: cropped, flipped, normalised and mixed for every batch.

    mix_at: where in the network its features are mixed; None: the images are.
    """

    def __init__(
        self,
        learner: Learner,
        dataset: Dataset,
        config: RunConfig,
        streams: RandomStreams,
        mix_at: Boundary | None = None,
    ) -> None:
        self.network = learner.network
        self._view = NetworkView(learner.network)
        self._layers = learner.layers
        self._dataset = dataset
        self._config = config
        self._task = task_of(config, dataset, learner.device)
        self._keeps_clean = config.teacher is not None and config.teacher.sees == "clean"
        self._streams = streams
        self._mix_at = mix_at
        has_own = config.task_info.targets in (BOXES, MASKS)
        self._has_masks = not has_own and _needs_masks(config)
        self._train = _with_masks(dataset) if self._has_masks else dataset.train

    def epoch(
        self, order: torch.Generator, *, start: int, part: Part
    ) -> Iterator[tuple[Tensor, Tensor]]:
        training = self._config.training
        return self._train.epoch(
            training.batch_size,
            order,
            start=start,
            part=part,
            crops=training.random_crops,
            sampling=Sampling.of(training),
        )

    def mix(
        self, method: augmentations.Method, raw: Tensor, labels: Tensor, bank: Bank
    ) -> tuple[Batch | None, Batch]:
        method = self._task.paired(method)
        images, maps, moves = self._prepare(raw, self._task.maps(labels))
        labels = self._task.moved(labels, moves)
        masks = None if maps is None else maps[:, 0] >= _HALF
        if maps is not None and not self._has_masks:
            labels = self._task.with_maps(labels, maps)
            masks = self._task.masks(method, labels)
        given = {"images": images, "labels": self._task.seen(labels), "masks": masks}
        normalisation = (self._dataset.mean, self._dataset.std)
        plan, drawn = self._streams.draw_plan(
            method,
            images.shape,
            model=self._view,
            bank=bank,
            normalisation=normalisation,
            **given,
        )
        targets = self._task.mix(plan, labels)
        mixed = plan.mix_images(images) if self._mix_at is None else images
        needs_clean = self._keeps_clean or uses_clean(method)
        clean = self._task.unmixed(images, labels) if needs_clean else None
        return clean, Batch(mixed, targets, plan, drawn)

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        plan = batch.plan
        if self._mix_at is None:
            with mixing_inside(self.network, plan, self._layers.named):
                return cast(Tensor, model(*self._task.inputs(batch.images, batch.targets)))

        def mix(features: Tensor) -> Tensor:
            return mix_features(plan, features, self.network)

        with changed_at(self.network, self._mix_at, mix):
            return cast(Tensor, model(batch.images))

    def validation(self, beat: Beat, part: Part = WHOLE) -> Iterator[tuple[Tensor, Tensor]]:
        channels_last = self._config.training.channels_last
        size = self._config.evaluation.batch_size
        for raw, labels in self._dataset.validation.batches(size, part=part):
            beat(None)
            mean, std = self._dataset.mean, self._dataset.std
            yield normalise(raw, mean, std, channels_last=channels_last), labels

    def _prepare(self, raw: Tensor, maps: Tensor | None) -> tuple[Tensor, Tensor | None, Moves]:
        """Random crops and flips as the configuration has them, then normalisation.

        What moves with the images is returned beside them, (B, M, H, W) uint8: `maps`, or the masks
        that `raw` has as its last channel; then the crops and flips.
        """
        training = self._config.training
        mean, std, channels_last = self._dataset.mean, self._dataset.std, training.channels_last
        beside = int(self._has_masks)
        if maps is not None:
            raw, beside = torch.cat([raw, maps], dim=1), maps.shape[1]
        if beside:
            # Their channels become values from 0 to 1.
            mean, std = (F.pad(mean, (0, beside), value=0.0), F.pad(std, (0, beside), value=1.0))
        moves = draw_moves(
            raw,
            crop_padding=training.crop_padding or 0,
            flip=bool(training.flip),
            generator=self._streams.crops,
        )
        images = normalise(moves.apply(raw), mean, std, channels_last=channels_last)
        if not beside:
            return images, None, moves
        layout = torch.channels_last if channels_last else torch.contiguous_format
        moved = (images[:, -beside:] * 255).round_().to(torch.uint8)
        return images[:, :-beside].contiguous(memory_format=layout), moved, moves


def _needs_masks(config: RunConfig) -> bool:
    methods = methods_of(config.augmentation, config.phases)
    return any("masks" in mix.needs for _, mix in methods)


def _with_masks(dataset: Dataset) -> ArraySplit:
    if not isinstance(dataset.train, ArraySplit):
        raise UserError(f"{dataset.name}: expected images in memory for masks of their objects")
    return with_mask_channel(dataset.train)


def inputs_for(
    learner: Learner,
    dataset: Dataset,
    config: RunConfig,
    streams: RandomStreams,
    control: Control,
) -> Inputs:
    """The inputs of a training: cached features if the frozen part of the network need run once.

    A stop that `control` asks for while features are made comes out as Stopped. UserError if the
    configuration asks for what this network or these images can't do.
    """
    mix_at = None
    if config.transfer is not None and config.transfer.mixing == "features":
        mix_at = _features_to_mix(learner, dataset, config)
    cached = cache_features(learner, dataset, config, streams, control)
    return cached or Pixels(learner, dataset, config, streams, mix_at)


def _features_to_mix(learner: Learner, dataset: Dataset, config: RunConfig) -> Boundary:
    """Where features are mixed; UserError if they can't be."""
    network = learner.network
    boundary = last_frozen(config, learner.layers)
    reason = why_not_in_features(config)
    if boundary is None or reason is not None:
        reason = reason or "no whole layer is frozen"
        raise UserError(f"transfer.mixing: got features, but {reason}")
    shape = (2, *dataset.shape)
    device = dataset.mean.device
    cutmix = augmentations.create("cutmix")
    plan = cutmix.sample(shape, device=device, generator=torch.Generator(device).manual_seed(0))
    times = 0

    def mix(features: Tensor) -> Tensor:
        nonlocal times
        times += 1
        return mix_features(plan, features, network)

    network.eval()
    try:
        with torch.no_grad(), changed_at(network, boundary, mix):
            network(torch.zeros(shape, device=device))
    except ValueError as error:
        raise UserError(f"transfer.mixing: features of {boundary.name}: {error}") from None
    if times != 1:
        raise UserError(
            f"transfer.mixing: got features, but {boundary.name} runs {times} times for a batch"
        )
    return boundary
