"""Mark the largest values of every row: FMix's binary masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

TINY = 1 << 10
"""Up to so many values in all, sorting with indices is just as fast."""
LONG = 1 << 12
"""Longer rows are not sorted: a sample tells where to search for the threshold."""
SAMPLE = 1024
REACH = 32
"""How far from its expected position in the sorted sample the threshold may be."""


def top_k_mask(values: Tensor, count: Tensor) -> Tensor:
    """Mark the largest values of each row; of equal values the first count as larger.

    Nothing waits for a device.

    Args:
        values: (rows, N) float32, finite.
        count: How many to mark in each row: (rows,) whole numbers from 0 to N, of any dtype.

    Returns:
        1 at the marked values, 0 elsewhere: (rows, N) float32.

    Examples:
        >>> top_k_mask(torch.tensor([[0.1, 0.9, 0.5], [2.0, 2.0, 1.0]]), torch.tensor([2, 1]))
        tensor([[0., 1., 1.],
                [1., 0., 0.]])
    """
    tiny = values.numel() <= TINY
    if tiny or values.device.type != "cpu" or torch.compiler.is_compiling():
        return _by_rank(values, count)
    wanted = count.numpy().astype("int64")
    if values.shape[1] <= LONG:
        return torch.from_numpy(_mask_short_rows(values.numpy(), wanted))
    mask, tied = _mask_long_rows(values.numpy(), wanted)
    if tied:
        mask[tied] = _by_rank(values[tied], count[tied])
    return mask


def _by_rank(values: Tensor, count: Tensor) -> Tensor:
    # Ranks, not a threshold: equal values must not change the count.
    order = values.argsort(dim=1, descending=True, stable=True)
    chosen = torch.arange(values.shape[1], device=values.device) < count.unsqueeze(1)
    return torch.zeros_like(values).scatter_(1, order, chosen.to(values.dtype))


def _mask_short_rows(
    values: npt.NDArray[np.float32], count: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Mark by two digits of each value: the first digit is sorted by counting.

    Only the values with the same first digit as the count-th largest, some hundredths, are sorted.
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
    mask: npt.NDArray[np.float32] = (rough > digit).astype(np.float32)
    missing = count - mask.sum(axis=1).astype(np.int64)

    near = np.flatnonzero(rough == digit)
    row = near // size
    # By row, and within a row from the largest; equal values keep their order.
    near = near[np.lexsort((-values.reshape(-1)[near], row))]
    begin = np.searchsorted(row, np.arange(len(order)))
    mask.reshape(-1)[near[np.arange(len(near)) < (begin + missing)[row]]] = 1
    return mask


def _mask_long_rows(
    values: npt.NDArray[np.float32], count: npt.NDArray[np.int64]
) -> tuple[Tensor, list[int]]:
    """Mark without sorting all values; also return the rows where equal values mark too many."""
    import numpy as np

    mask = np.empty_like(values)
    tied = []
    for row, (line, number) in enumerate(zip(values, count.tolist(), strict=True)):
        chosen = line >= _count_th_largest(line, number)
        if np.count_nonzero(chosen) != number:
            tied.append(row)
        mask[row] = chosen
    return torch.from_numpy(mask), tied


def _count_th_largest(row: npt.NDArray[np.float32], count: int) -> float:
    """Return the count-th largest value of `row`, searched among the few values near it."""
    import numpy as np

    if count == 0:
        return float("inf")
    # An odd step, so that it does not always hit the same columns of an image.
    sample = np.sort(row[:: len(row) // SAMPLE | 1])
    position = round((1 - count / len(row)) * len(sample))
    low = sample[position - REACH] if position >= REACH else -np.inf
    high = sample[position + REACH] if position + REACH < len(sample) else np.inf
    above = int(np.count_nonzero(row > high))
    near = row[(row >= low) & (row <= high)]
    if not above < count <= above + len(near):
        above, near = 0, row  # an unlucky sample
    position = len(near) - (count - above)
    return float(np.partition(near, position)[position])
