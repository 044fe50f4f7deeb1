"""What a measurement is: one file with a `measure(subject, settings)`, which gives a `Found`.

    subject.pixels(split)      batches of images in [0,1] with labels, in their fixed order
    subject.placed(100, seed)  those of some test images, with their places in the split
    subject.network(subject.normalised(pixels))
    subject.logits("test")     logits and labels of a whole split, made once for all measurements

A measurement draws whatever is random from a seed of its own and each image's place in its split,
so that every model sees the same, whatever the batch size.
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
from mixbench.experiments.data.load import Dataset
from mixbench.experiments.data.split import Split
from mixbench.experiments.evaluation.predict import logits_of
from mixbench.experiments.evaluation.subset import places, some

Logits = tuple[NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True)
class Found:
    """What was measured on one run.

    metrics: one flat mapping, names with the measurement's own in front ("attack/fgsm/0.03"); None
    where there is no value. curves: JSON-like data that figures need. arrays: by name, for the
    run folder.
    """

    metrics: dict[str, float | None]
    curves: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)


class Subject:
    """One trained network, in evaluation mode, with the data that it is measured on.

    beat: called at every batch; says that the work goes on, and raises to end it.
    """

    def __init__(
        self,
        network: nn.Module,
        dataset: Dataset,
        config: RunConfig,
        device: torch.device,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self.network = network.eval()
        self.dataset = dataset
        self.config = config
        self.device = device
        self.beat = beat
        self._logits: dict[str, Logits] = {}

    def split(self, name: str) -> Split:
        """ "train", "validation" or "test"."""
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

    def placed(self, count: int | None, seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """`pixels` of some test images, the same for every model, and their places in the split.

        Only batches of which files could be read; one may have fewer images than it should, and
        its last places are then those left out. places: (B,) int64.
        """
        test, size = self.split("test"), self.config.evaluation.batch_size
        own = places(len(test), count, seed)
        for number, (pixels, labels) in enumerate(self.pixels(some(test, count, seed), size)):
            if len(labels):
                start = number * size
                yield pixels, labels, own[start : start + len(labels)].to(pixels.device)

    def normalised(self, pixels: Tensor) -> Tensor:
        """What the network takes: images in [0,1] with the data set's mean and deviation."""
        shape = (1, -1, 1, 1)
        images = (pixels - self.dataset.mean.view(shape)) / self.dataset.std.view(shape)
        if self.config.training.channels_last:
            return images.contiguous(memory_format=torch.channels_last)
        return images

    def logits(self, name: str) -> Logits:
        """Logits (N,K) float32 and labels (N,) of the clean images of a split, made once."""
        if name not in self._logits:
            self._logits[name] = logits_of(self.network, self.images(self.split(name)))
        return self._logits[name]

    def images(self, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
        """Images as the network takes them and labels, to the last digit those of training runs."""
        mean, std = self.dataset.mean, self.dataset.std
        for raw, labels in split.batches(self.config.evaluation.batch_size):
            self.beat()
            channels_last = self.config.training.channels_last
            yield normalise(raw, mean, std, channels_last=channels_last), labels
