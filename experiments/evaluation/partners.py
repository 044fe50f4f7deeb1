"""For each image of a split another one, of another class, whichever network is measured."""

from __future__ import annotations

import torch
from torch import Tensor

from mixbench.experiments.data.split import Split
from mixbench.experiments.evaluation.image_random import ImageRandom


def class_count(split: Split) -> int:
    """Of how many classes the images of a split are; partners need two."""
    return len(split.labels.unique())


def partners(labels: Tensor, indices: Tensor, seed: int) -> Tensor:
    """For each image one of another class, all equally likely.

    Args:
        labels: Of the whole split, (N,) int64.
        indices: The images, (n,) int64.
        seed: Which partners.

    Returns:
        (n,) int64, indices in the split.

    Raises:
        ValueError: There is a single class.
    """
    by_class = labels.argsort(stable=True)
    classes, counts = labels.unique(return_counts=True)
    if len(classes) < 2:
        raise ValueError("partners of another class need two classes")
    class_index = torch.searchsorted(classes, labels[indices])
    first, count = (counts.cumsum(dim=0) - counts)[class_index], counts[class_index]
    # The name of the measurement that had them first.
    share = ImageRandom(indices, seed, "hiding").uniform("image", 1).squeeze(1).double()
    rank = (share * (len(labels) - count)).long()
    # Its own class is skipped.
    return by_class[torch.where(rank >= first, rank + count, rank)]
