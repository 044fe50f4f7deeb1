"""The largest values of every row, as a mask: FMix's binary masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np

TINY = 1 << 10
"""So few values are sorted with their places just as fast."""
LONG = 1 << 12
"""Rows of more values are not sorted: the threshold is looked for where a sample says."""
SAMPLE = 1024
REACH = 32
"""How many places of the sorted sample the threshold may be away from its own."""


def largest(values: Tensor, count: Tensor | int) -> Tensor:
    """1 at the `count` largest values of each row, 0 elsewhere; equal values: the first ones.

    values: (rows, N) float32, finite. count: (rows,) whole numbers from 0 to N, of any dtype; or
    one for the one row of the CPU that there is. Returns (rows, N) float32. Nothing waits for
    another device.
    """
    if isinstance(count, int):
        return _largest_of_one(values, count)
    tiny = values.numel() <= TINY
    if tiny or values.device.type != "cpu" or torch.compiler.is_compiling():
        return _by_rank(values, count)
    keep = torch.empty_like(values)
    torch.ge(values, _thresholds(values, count).unsqueeze(1), out=keep)
    tied = (keep.sum(dim=1) != count).nonzero().squeeze(1)
    if len(tied):
        keep[tied] = _by_rank(values[tied], count[tied])
    return keep


def _largest_of_one(values: Tensor, count: int) -> Tensor:
    row = values.numpy()
    if count == 0:
        return torch.zeros_like(values)
    if row.size > LONG:
        threshold = _of_a_long_row(row[0], count)
    else:
        # Methods of arrays: numpy's functions go through Python first.
        order = row.copy()
        order.partition(row.size - count)
        threshold = order[0, row.size - count]
    keep = row >= threshold
    if keep.sum() != count:
        return _by_rank(values, torch.tensor([count]))
    return torch.from_numpy(keep.astype(row.dtype))


def _by_rank(values: Tensor, count: Tensor) -> Tensor:
    # Ranks, not a threshold: equal values must not change the count.
    order = values.argsort(dim=1, descending=True, stable=True)
    chosen = torch.arange(values.shape[1], device=values.device) < count.unsqueeze(1)
    return torch.zeros_like(values).scatter_(1, order, chosen.to(values.dtype))


def _thresholds(values: Tensor, count: Tensor) -> Tensor:
    """The count-th largest value of each row (rows,); infinity where none is wanted.

    numpy's sort of plain numbers is several times faster than torch's, which keeps their places.
    """
    import numpy as np

    size = values.shape[1]
    if size <= LONG:
        order = torch.from_numpy(np.sort(values.numpy(), axis=1))
        place = (size - count).clamp(max=size - 1).long().unsqueeze(1)
        found = order.gather(1, place).squeeze(1)
    else:
        rows = zip(values.numpy(), count.tolist(), strict=True)
        found = torch.tensor([_of_a_long_row(row, int(number)) for row, number in rows])
    return found.masked_fill_(count == 0, float("inf"))


def _of_a_long_row(row: np.ndarray, count: int) -> float:
    """The count-th largest value of `row`, from the few values that are near it."""
    import numpy as np

    if count == 0:
        return float("inf")
    # An odd step: it must not always meet the same columns of an image.
    sample = np.sort(row[:: len(row) // SAMPLE | 1])
    place = round((1 - count / len(row)) * len(sample))
    low = sample[place - REACH] if place >= REACH else -np.inf
    high = sample[place + REACH] if place + REACH < len(sample) else np.inf
    above = int(np.count_nonzero(row > high))
    near = row[(row >= low) & (row <= high)]
    if not above < count <= above + len(near):
        above, near = 0, row  # an unlucky sample
    place = len(near) - (count - above)
    return float(np.partition(near, place)[place])
