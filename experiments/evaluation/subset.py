"""A part of a split, for measurements that would take long on all of it."""

from __future__ import annotations

import torch
from torch import Tensor

from mixbench.experiments.data.split import Split


def some(split: Split, count: int | None, seed: int) -> Split:
    """`count` images of the split, the same for every model; all of them where it has no more."""
    if count is None or count >= len(split):
        return split
    return split.subset(places(len(split), count, seed))


def places(length: int, count: int | None, seed: int) -> Tensor:
    """Where in a split of that `length` the images of `some` are, ascending: int64 (n,)."""
    if count is None or count >= length:
        return torch.arange(length)
    chosen = torch.randperm(length, generator=torch.Generator().manual_seed(seed))[:count]
    return chosen.sort().values
