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
    wanted = count.numpy().astype("int64")
    if values.shape[1] <= LONG:
        return torch.from_numpy(_short_rows(values.numpy(), wanted))
    keep, tied = _long_rows(values.numpy(), wanted)
    if tied:
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


def _short_rows(values: np.ndarray, count: np.ndarray) -> np.ndarray:
    """`largest` by two digits of each value: the rough one is sorted by counting.

    The values that share it with the count-th largest, some hundredths, are sorted by themselves.
    """
    import numpy as np

    size = values.shape[1]
    # Not their absolute value: two passes fewer.
    top = np.maximum(values.max(axis=1), -values.min(axis=1))
    step = 127 / np.maximum(top, np.float32(1e-30))
    rough = (values * step[:, None]).astype(np.int8)
    # "stable" is what numpy calls sorting by digits; the fastest is several times slower here.
    order = np.sort(rough, axis=1, kind="stable")
    digit = order[np.arange(len(order)), np.minimum(size - count, size - 1)][:, None]
    keep = (rough > digit).astype(np.float32)
    missing = count - keep.sum(axis=1).astype(np.int64)

    near = np.flatnonzero(rough == digit)
    row = near // size
    # By row as they are, and within one from the largest; of equal ones the first is first.
    near = near[np.lexsort((-values.reshape(-1)[near], row))]
    begin = np.searchsorted(row, np.arange(len(order)))
    keep.reshape(-1)[near[np.arange(len(near)) < (begin + missing)[row]]] = 1
    return keep


def _long_rows(values: np.ndarray, count: np.ndarray) -> tuple[Tensor, list[int]]:
    """The mask, without sorting all values; and the rows where equal values make it too large."""
    import numpy as np

    keep = np.empty_like(values)
    tied = []
    for row, (line, number) in enumerate(zip(values, count.tolist(), strict=True)):
        chosen = line >= _of_a_long_row(line, number)
        if np.count_nonzero(chosen) != number:
            tied.append(row)
        keep[row] = chosen
    return torch.from_numpy(keep), tied


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
