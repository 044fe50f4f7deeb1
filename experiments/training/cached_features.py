"""Cached features: the frozen part of a network runs over all images once, before the training.

Only where it is never unfrozen and its images never vary, so that every epoch would give the same
features. The trained part gets them in the order and with the mixing that images would have had.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from mixbench import augmentations
from mixbench.augmentations.bank import Bank
from mixbench.augmentations.plans.base import Batch
from mixbench.experiments.config.rules import why_not_cached
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.data.crops import normalise
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.data.split import WHOLE, ArraySplit, Part, Sampling
from mixbench.experiments.errors import UserError
from mixbench.experiments.tasks.base import task_of
from mixbench.experiments.text import first_line
from mixbench.experiments.training.control import Beat, Control
from mixbench.experiments.training.learner import Learner
from mixbench.experiments.training.mix_features import mix_features
from mixbench.experiments.training.random_streams import RandomStreams
from mixbench.experiments.transfer.layers import Layers, head_of
from mixbench.experiments.transfer.split_network import (
    Boundary,
    features_at,
    side_effects_undone,
    split,
    why_different,
)

log = logging.getLogger(__name__)
SHARE_OF_GPU = 0.5
"""The most of a GPU's free memory that features may take: the training needs some too."""
SHARE_OF_HOST = 0.25
"""The same of the host's, which several workers share."""
CHECKED = 8
"""How many images to compare the split network with the whole one on."""


def uses_clean(method: augmentations.Method) -> bool:
    """Whether a method's hooks see its batches, also before they are mixed."""
    return method.has_loss or "bank" in method.needs


def last_frozen(config: RunConfig, layers: Layers) -> Boundary | None:
    """The output of the last layer that is frozen at the start; None where there is none."""
    freeze = config.transfer.freeze if config.transfer else None
    if freeze == "all":
        return Boundary(layers.names[-1]) if layers.names else None
    if isinstance(freeze, int):
        return Boundary(layers.names[freeze - 1]) if 1 <= freeze <= len(layers.names) else None
    return None if freeze in (None, "none") else Boundary(freeze)


class CachedFeatures:
    """The inputs of a training behind the frozen part: see `inputs.Inputs`.

    network: the part behind the features. train, validation: their features.
    """

    def __init__(
        self,
        learner: Learner,
        dataset: Dataset,
        config: RunConfig,
        streams: RandomStreams,
        network: nn.Module,
        train: FeatureStore,
        validation: FeatureStore,
    ) -> None:
        self.network = network
        self._whole = learner.network
        self._dataset = dataset
        self._config = config
        self._task = task_of(config, dataset, train.device)
        self._streams = streams
        self._train = train
        self._validation = validation
        self._mixes_features = config.transfer is not None and config.transfer.mixing == "features"
        # Splits of image numbers: with the same draws, batches of the same images.
        self._numbers = _numbers(dataset.train.labels, train.device)
        self._numbers_of_validation = _numbers(dataset.validation.labels, train.device)

    def epoch(
        self, order: torch.Generator, *, start: int, part: Part
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """As for images, with their numbers (B,) instead of pixels."""
        training = self._config.training
        sampling = Sampling.of(training)
        return self._numbers.epoch(
            training.batch_size, order, start=start, part=part, sampling=sampling
        )

    def mix(
        self, method: augmentations.Method, raw: Tensor, labels: Tensor, bank: Bank
    ) -> tuple[Batch | None, Batch]:
        """As for images, with the same random numbers; raw: the images' numbers (B,)."""
        dataset = self._dataset
        images = None
        if "images" in method.needs and isinstance(dataset.train, ArraySplit):
            images = _normalised(dataset.train.images.index_select(0, raw), dataset, self._config)
        shape = (len(raw), *dataset.shape)
        plan, drawn = self._streams.draw_plan(
            method, shape, images=images, labels=self._task.seen(labels), bank=bank
        )
        targets = self._task.mix(plan, labels)
        features = self._train.take(raw)
        clean = None
        if uses_clean(method):
            clean = self._task.unmixed(features, labels)
        if self._mixes_features:
            features = mix_features(plan, features, self._whole)
        return clean, Batch(features, targets, plan, drawn)

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """As for images; the features of `batch` are mixed already."""
        return cast(Tensor, model(batch.images))

    def validation(self, beat: Beat, part: Part = WHOLE) -> Iterator[tuple[Tensor, Tensor]]:
        """The validation split's features, in order, with labels."""
        size = self._config.evaluation.batch_size
        for numbers, labels in self._numbers_of_validation.batches(size, part=part):
            beat(None)
            yield self._validation.take(numbers), labels


def cache_features(
    learner: Learner,
    dataset: Dataset,
    config: RunConfig,
    streams: RandomStreams,
    control: Control,
) -> CachedFeatures | None:
    """Run the frozen part of the network once; None if its features can't be cached.

    The log says which, and why. UserError if `cache: true` asked for what can't be. A stop that
    `control` asks for comes out as Stopped.
    """
    transfer, ranks = config.transfer, control.ranks
    if transfer is None or transfer.freeze in (None, "none") or transfer.cache is False:
        return None
    split_at = _split(learner, dataset, config)
    # All ranks or none: they train the same modules.
    refusals = ranks.meet(int(isinstance(split_at, str)), 0)[0]
    if isinstance(split_at, str) or any(refusals):
        reason = split_at if isinstance(split_at, str) else "another rank can't"
        if transfer.cache:
            raise UserError(f"transfer.cache: got true, but {reason}")
        log.info("features are not cached: %s", reason)
        return None
    boundary, behind = split_at
    started = time.monotonic()
    learner.freezing.train()
    beat = control.beat_or_stop
    with learner.precision():
        images = _training_images(dataset, config)
        train = _features(learner.network, boundary, images, len(dataset.train), beat)
    learner.network.eval()
    images = _validation_images(dataset, config)
    validation = _features(learner.network, boundary, images, len(dataset.validation), beat)
    log.info(
        "features of %d images at %s cached: %.2f GB, %.1f s",
        len(dataset.train) + len(dataset.validation),
        f"the input of {boundary.name}" if boundary.before else boundary.name,
        (train.nbytes + validation.nbytes) / 1e9,
        time.monotonic() - started,
    )
    return CachedFeatures(learner, dataset, config, streams, behind, train, validation)


def _split(
    learner: Learner, dataset: Dataset, config: RunConfig
) -> tuple[Boundary, nn.Module] | str:
    """Where the network is cut, and the part behind, checked to work alone; or why it can't be."""
    reason = why_not_cached(config)
    if reason is not None:
        return reason
    if not isinstance(dataset.train, ArraySplit) or not isinstance(dataset.validation, ArraySplit):
        return "the images don't fit in memory"
    network = learner.network
    boundary = last_frozen(config, learner.layers)
    transfer = config.transfer
    # All but the classifier is frozen, and nothing is mixed before it.
    if transfer is not None and transfer.freeze == "all" and transfer.mixing != "features":
        boundary = Boundary(head_of(network), before=True)
    if boundary is None:
        return "no whole layer is frozen"
    learner.freezing.train()
    images = _normalised(dataset.train.images[:CHECKED], dataset, config)
    try:
        with learner.precision(), side_effects_undone(network, images.device):
            features = features_at(network, boundary, images)
            if boundary.before:
                behind = network.get_submodule(boundary.name)
                reason = why_different(network, behind, boundary, images, features)
            if not boundary.before or reason is not None:
                behind = split(network, boundary, images)
                reason = why_different(network, behind, boundary, images, features)
    # A network that can't be split can still be trained whole.
    except Exception as error:
        reason = f"the network can't be cut at {boundary.name}: {first_line(error)}"
    if reason is not None:
        return reason
    count = len(dataset.train) + len(dataset.validation)
    needed = count * features[0].nbytes
    available = _available_bytes(features.device)
    if needed > available:
        return f"they take {needed / 1e9:.1f} GB, of {available / 1e9:.1f} GB that they may"
    return boundary, behind


class FeatureStore:
    """The features of the images of a split, by the images' numbers."""

    def __init__(self, count: int, like: Tensor) -> None:
        # Keep the type and the memory format: the rest of the network then computes the same.
        last = torch.channels_last
        self._channels_last = like.dim() == 4 and like.is_contiguous(memory_format=last)
        shape = like.shape[1:] if not self._channels_last else like.permute(0, 2, 3, 1).shape[1:]
        self._features = like.new_empty((count, *shape))

    @property
    def device(self) -> torch.device:
        return self._features.device

    @property
    def nbytes(self) -> int:
        return self._features.nbytes

    def put(self, first: int, features: Tensor) -> None:
        rows = features.permute(0, 2, 3, 1) if self._channels_last else features
        self._features[first : first + len(features)] = rows

    def take(self, numbers: Tensor) -> Tensor:
        """A copy of the features of these images: the network may overwrite it."""
        taken = self._features.index_select(0, numbers)
        return taken.permute(0, 3, 1, 2) if self._channels_last else taken


def _features(
    network: nn.Module, boundary: Boundary, batches: Iterator[Tensor], count: int, beat: Beat
) -> FeatureStore:
    """The features at `boundary` of the `count` images that come in `batches`."""
    store: FeatureStore | None = None
    first = 0
    for images in batches:
        beat(None)
        features = features_at(network, boundary, images)
        store = store or FeatureStore(count, features)
        store.put(first, features)
        first += len(features)
    if store is None:
        raise UserError("dataset: a split has no images")
    return store


def _training_images(dataset: Dataset, config: RunConfig) -> Iterator[Tensor]:
    """In batches of the training's size: sums may depend on the size of a batch."""
    for raw, _ in dataset.train.batches(config.training.batch_size):
        yield _normalised(raw, dataset, config)


def _validation_images(dataset: Dataset, config: RunConfig) -> Iterator[Tensor]:
    for raw, _ in dataset.validation.batches(config.evaluation.batch_size):
        yield _normalised(raw, dataset, config)


def _normalised(raw: Tensor, dataset: Dataset, config: RunConfig) -> Tensor:
    channels_last = config.training.channels_last
    return normalise(raw, dataset.mean, dataset.std, channels_last=channels_last)


def _numbers(labels: Tensor, device: torch.device) -> ArraySplit:
    return ArraySplit(torch.arange(len(labels), device=device), labels)


def _available_bytes(device: torch.device) -> float:
    """The most that features may take on `device`."""
    if device.type == "cuda":
        return SHARE_OF_GPU * torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            available = next(line for line in file if line.startswith("MemAvailable:"))
        return SHARE_OF_HOST * 1024 * int(available.split()[1])
    except (OSError, StopIteration):
        return SHARE_OF_HOST * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
