"""The images of a stream, step by step: which come when depends on the seed and the step alone.

So a training that goes on from a checkpoint needs no state of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mixbench.experiments.data.crops import Scale
from mixbench.experiments.data.split import Part, Split
from mixbench.experiments.training.random_streams import stream_seed


class StreamBatches:
    """Batches of a stream for consecutive steps.

    The images pass by in an order of its own each time; of a pass, what is less than a batch at its
    end is left out.

    Args:
        name: Of the stream.
        split: Its images, at least a batch of them.
        per_step: Images of a step, of all ranks together.
        seed: Of the run.
        part: This rank's share of every batch.
        crops: The areas of random resized crops; None: none.
    """

    def __init__(
        self,
        name: str,
        split: Split,
        per_step: int,
        seed: int,
        part: Part,
        crops: Scale | None = None,
    ) -> None:
        self._name = name
        self._split = split
        self.per_step = per_step
        self._seed = seed
        self._part = part
        self._crops = crops
        self._steps_per_pass = len(split) // per_step
        self._next = -1
        self._batches: Iterator[Tensor] = iter(())

    def at(self, step: int) -> Tensor:
        """Return this rank's raw images of a step, from 0; fastest for one step after another."""
        if step != self._next:
            self._batches = self._from(step)
        self._next = step + 1
        return next(self._batches)

    def _from(self, step: int) -> Iterator[Tensor]:
        number, start = divmod(step, self._steps_per_pass)
        while True:
            seed = stream_seed(self._seed, f"order of {self._name} {number}")
            order = torch.Generator().manual_seed(seed)
            epoch = self._split.epoch(
                self.per_step, order, start=start, part=self._part, crops=self._crops
            )
            for _, (images, _) in zip(range(self._steps_per_pass - start), epoch, strict=False):
                yield images
            number, start = number + 1, 0
