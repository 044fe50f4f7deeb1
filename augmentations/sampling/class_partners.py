"""Pair samples by their classes, without host synchronisation; an ignored label is a class too."""

from __future__ import annotations

import torch
from torch import Tensor


def same_class(labels: Tensor, order: Tensor) -> Tensor:
    """Pair each sample with another one of its class; a sample alone in its class gets itself.

    Within a class it is a uniform cyclic permutation, as `derange` is of the batch.

    Args:
        labels: (B,) of whole numbers.
        order: (B,) int64, a random permutation.

    Returns:
        Each sample's partner, a permutation: (B,) int64.

    Examples:
        >>> import torch
        >>> same_class(torch.tensor([7, 5, 7, 5, 9]), torch.arange(5))
        tensor([2, 3, 0, 1, 4])
    """
    samples, start, size = _by_class(labels, order)
    place = torch.arange(len(samples), device=samples.device)
    after = start + (place - start + 1) % size
    return torch.empty_like(samples).scatter_(0, samples, samples[after])


def other_class(labels: Tensor, order: Tensor, draw: Tensor) -> Tensor:
    """Pair each sample with one of another class; with itself where there is only one class.

    It is a permutation where there is one, that is where no class has more than half of the
    samples; otherwise each partner is uniform over the samples of other classes, and some come more
    than once.

    Args:
        labels: (B,) of whole numbers.
        order: (B,) int64, a random permutation.
        draw: (3, B) uniform in [0, 1).

    Returns:
        Each sample's partner: (B,) int64.

    Examples:
        >>> import torch
        >>> other_class(torch.tensor([7, 5, 7, 5]), torch.arange(4), torch.zeros(3, 4))
        tensor([1, 0, 3, 2])
    """
    # Classes in random order, each in one piece.
    by_label = torch.argsort(labels[order], stable=True)
    ranked = order[by_label]
    new = torch.ones_like(ranked, dtype=torch.bool)
    new[1:] = labels[ranked][1:] != labels[ranked][:-1]
    number = new.cumsum(0) - 1
    samples = ranked[torch.argsort(draw[0][number], stable=True)]
    _, start, size = _by_class(labels, samples, sort=False)
    count = len(samples)
    place = torch.arange(count, device=samples.device)
    # A shift by as many as the largest class has, or more, leaves every class.
    largest = size.max()
    choices = (count - 2 * largest + 1).clamp(min=1)
    shift = largest + (draw[1][0] * choices).to(torch.int64)
    others = count - size
    repeated = start + size + (draw[2] * others).to(torch.int64)
    repeated = torch.where(others > 0, repeated, place)
    at = torch.where(2 * largest <= count, place + shift, repeated) % count
    return torch.empty_like(samples).scatter_(0, samples, samples[at])


def _by_class(labels: Tensor, order: Tensor, sort: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Return samples with each class in one piece; where its piece starts, and its size: (B,)."""
    samples = order[torch.argsort(labels[order], stable=True)] if sort else order
    found = labels[samples]
    place = torch.arange(len(samples), device=samples.device)
    new = torch.ones_like(samples, dtype=torch.bool)
    new[1:] = found[1:] != found[:-1]
    start = torch.where(new, place, 0).cummax(0).values
    number = new.cumsum(0) - 1
    sizes = torch.zeros_like(samples).scatter_add_(0, number, torch.ones_like(samples))
    return samples, start, sizes[number]
