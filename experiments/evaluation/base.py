"""What a measurement gets and gives: `measure(subject, settings) -> Measured`.

    subject.pixels(split)       batches of images in [0,1] with labels, in their fixed order
    subject.indexed(100, seed)  the same of some test images, with their indices in the split
    subject.network(subject.normalised(pixels))
    subject.logits("test")      logits and labels of a whole split, computed once

A measurement draws random numbers from its seed and each image's index in its split
(`image_random`), so that every model sees the same, whatever the batch size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.data.crops import normalise
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.data.split import Split
from mixbench.experiments.evaluation.predict import logits_of
from mixbench.experiments.store.run_folder import PlannedRun

Logits = tuple[NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True)
class Measured:
    """What was measured on one run. Numbers may be NumPy's or torch's; they are stored as Python's.

    Attributes:
        metrics: One flat mapping, each name beginning with the measurement's ("attack/fgsm/0.03");
            None if there is no value.
        curves: JSON-like data for figures.
        arrays: By name, for the run's folder.
    """

    metrics: dict[str, float | None]
    curves: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)


def subset(split: Split, count: int | None, seed: int) -> Split:
    """Some images of a split, the same for every model.

    Args:
        split: Where from.
        count: How many images; None, or more than there are: all.
        seed: Which ones.
    """
    if count is None or count >= len(split):
        return split
    return split.subset(subset_indices(len(split), count, seed))


def subset_indices(length: int, count: int | None, seed: int) -> Tensor:
    """The indices of the images that `subset` takes from a split of that length.

    Args:
        length: Images of the split.
        count: How many to take; None: all.
        seed: Which ones.

    Returns:
        (n,) int64, ascending.

    Examples:
        >>> len(subset_indices(10, 3, seed=0)), subset_indices(4, None, seed=0)
        (3, tensor([0, 1, 2, 3]))
    """
    if count is None or count >= length:
        return torch.arange(length)
    chosen = torch.randperm(length, generator=torch.Generator().manual_seed(seed))[:count]
    return chosen.sort().values


class Subject:
    """One trained network, in evaluation mode, with the data that it is measured on.

    Args:
        network: From normalised images (B,C,H,W) to logits (B,K).
        dataset: On `device`.
        config: Of the run.
        device: Where all of it is.
        beat: Called at every batch, to say that the work goes on; raises to end it.
        planned: The run in its sweep, for measurements that look at others of it.
    """

    def __init__(
        self,
        network: nn.Module,
        dataset: Dataset,
        config: RunConfig,
        device: torch.device,
        beat: Callable[[], None] = lambda: None,
        planned: PlannedRun | None = None,
    ) -> None:
        self.network = network.eval()
        self.dataset = dataset
        self.config = config
        self.device = device
        self.beat = beat
        self.planned = planned
        self._logits: dict[str, Logits] = {}

    def split(self, name: str) -> Split:
        """The split "train", "validation" or "test"."""
        splits = {
            "train": self.dataset.train,
            "validation": self.dataset.validation,
            "test": self.dataset.test,
        }
        return splits[name]

    def pixels(
        self, split: Split, batch_size: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (B,C,H,W) float32 in [0,1] and labels (B,), in the split's order."""
        for raw, labels in split.batches(batch_size or self.config.evaluation.batch_size):
            self.beat()
            yield raw.float() / 255, labels

    def indexed(self, count: int | None, seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Batches of some test images, the same for every model, with their indices in the split.

        Batches of which no file can be read are left out. One may have fewer images than it should,
        and lacks the last indices then.

        Args:
            count: How many images; None: all.
            seed: Which ones.

        Yields:
            Images (B,C,H,W) float32 in [0,1], labels (B,) and indices (B,), both int64.
        """
        test, size = self.split("test"), self.config.evaluation.batch_size
        indices = subset_indices(len(test), count, seed)
        for number, (pixels, labels) in enumerate(self.pixels(subset(test, count, seed), size)):
            if len(labels):
                start = number * size
                yield pixels, labels, indices[start : start + len(labels)].to(pixels.device)

    def normalised(self, pixels: Tensor) -> Tensor:
        """Images (B,C,H,W) in [0,1], as the network takes them."""
        shape = (1, -1, 1, 1)
        images = (pixels - self.dataset.mean.view(shape)) / self.dataset.std.view(shape)
        if self.config.training.channels_last:
            return images.contiguous(memory_format=torch.channels_last)
        return images

    def logits(self, name: str) -> Logits:
        """Logits (N,K) float32 and labels (N,) of a split's clean images, computed once."""
        if name not in self._logits:
            self._logits[name] = logits_of(self.network, self.images(self.split(name)))
        return self._logits[name]

    def images(self, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images and labels of a split, bit for bit those of training runs."""
        mean, std = self.dataset.mean, self.dataset.std
        for raw, labels in split.batches(self.config.evaluation.batch_size):
            self.beat()
            channels_last = self.config.training.channels_last
            yield normalise(raw, mean, std, channels_last=channels_last), labels
