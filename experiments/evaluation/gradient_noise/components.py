"""Split the mean square of gradients into the draw of the mixing, the batch, and what is common."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor


class Components(NamedTuple):
    """Parts of the mean squared norm of a gradient, unbiased; `batch` and `signal` may be below 0.

    Attributes:
        mix: The variance over draws of the mixing for the same batch.
        batch: The variance over batches of the mean over draws.
        signal: The squared norm of the mean.
    """

    mix: float
    batch: float
    signal: float

    @property
    def total(self) -> float:
        """The mean squared norm."""
        return self.mix + self.batch + self.signal

    def shares(self) -> dict[str, float | None]:
        """`mix`, `batch` and `signal` over the total, and its root, `norm`.

        None where gradients are 0 or no numbers.
        """
        total = self.total
        known = math.isfinite(total) and total > 0
        return {
            "mix": self.mix / total if known else None,
            "batch": self.batch / total if known else None,
            "signal": self.signal / total if known else None,
            "norm": math.sqrt(total) if known else None,
        }


def components(gradients: Iterable[Iterable[Tensor]]) -> Components:
    """A one-way analysis of variance with random effects, summed over the values of the vectors.

    Args:
        gradients: For each batch as many vectors (P,) as for all others: one per draw. At least two
            of both.

    Returns:
        The parts, which add up to the mean squared norm of all vectors.

    Examples:
        >>> import torch
        >>> a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
        >>> components([[a, a], [b, b]])
        Components(mix=0.0, batch=1.0, signal=0.0)
    """
    within = squares = 0.0
    total: Tensor | None = None
    batches = draws = 0
    for vectors in gradients:
        first, shift, shifted = None, None, 0.0
        draws = 0
        for vector in vectors:
            current = vector.double()
            first = current if first is None else first
            # From the first one, so that equal vectors have no variance at all.
            difference = current - first
            shift = difference if shift is None else shift + difference
            shifted += float(difference.square().sum())
            draws += 1
        if first is None or shift is None:
            raise ValueError("a batch has no gradient")
        within += (shifted - float(shift.square().sum()) / draws) / (draws - 1)
        mean = first + shift / draws
        squares += float(mean.square().sum())
        total = mean if total is None else total + mean
        batches += 1
    if total is None:
        raise ValueError("there is no batch")
    mix = max(0.0, within / batches)
    common = float(total.square().sum()) / batches**2
    between = max(0.0, squares - batches * common) / (batches - 1)
    return Components(mix, between - mix / draws, common - between / batches)
