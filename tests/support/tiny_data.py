"""Data of noise for every kind of targets, in a moment: for tests of what surrounds a training."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixbench.experiments.config import datasets
from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data.dataset import Dataset, statistics
from mixbench.experiments.data.object_rows import object_rows
from mixbench.experiments.data.split import ArraySplit
from mixbench.experiments.worker import execute

SIZES = {"train": 24, "validation": 9, "test": 17}


def tiny(config: DatasetConfig, *_: Any, **__: Any) -> Dataset:
    """A data set of `SIZES` images with the classes and the kind of targets of the configured one.

    Images tell a little about their targets: they are brighter with the first number of these.
    """
    facts = datasets.info(config.name)
    kind = config.targets or facts.targets[0]
    draws = torch.Generator().manual_seed(config.split_seed)
    splits = {
        name: _split(size, config.sides[0], kind, facts, draws) for name, size in SIZES.items()
    }
    mean, std = statistics(splits["train"].images)
    classes = tuple(map(str, range(facts.classes)))
    return Dataset(
        "tiny", classes, **splits, mean=mean, std=std, source="", digest="", targets=kind
    )


def use_tiny_data() -> None:
    """Let the worker of this process have it in place of any data set."""
    execute.load_once = tiny  # type: ignore[assignment]


def _split(
    size: int, side: int, kind: str, facts: datasets.DatasetInfo, draws: torch.Generator
) -> ArraySplit:
    channels, classes = facts.channels, facts.classes
    targets = _targets(size, side, kind, classes, draws)
    pixels = torch.randint(128, (size, channels, side, side), generator=draws)
    first = targets.flatten(1)[:, :1] if targets.dim() > 1 else targets.unsqueeze(1)
    brighter = (100 * first / max(1, classes)).long().clamp(0, 127)
    return ArraySplit((pixels + brighter.view(-1, 1, 1, 1)).byte(), targets)


def _targets(size: int, side: int, kind: str, classes: int, draws: torch.Generator) -> Tensor:
    if kind == "labels":
        return torch.arange(size) % classes
    if kind == "domains":
        return torch.stack([torch.arange(size) % classes, torch.arange(size) % 2], dim=1)
    if kind == "multi_label":
        return torch.randint(2, (size, classes), generator=draws).float()
    if kind == "regression":
        return torch.rand(size, classes, generator=draws)
    if kind == "pairs":
        return torch.randint(3, (size, 24), generator=draws).float()
    if kind == "boxes":
        return _objects(size, side, classes, draws)
    blocks = torch.randint(classes, (size, 4, 4), generator=draws, dtype=torch.uint8)
    labels = blocks.repeat_interleave(side // 4, 1).repeat_interleave(side // 4, 2)
    return torch.stack([labels, (labels > 0).byte()], dim=1)


def _objects(size: int, side: int, classes: int, draws: torch.Generator) -> Tensor:
    """Two objects side by side in each image: those on the left are higher."""
    half = side // 2
    boxes = torch.tensor([[1, 1, half - 1, side - 1], [half, 2, side, half + 2]])
    labels = torch.randint(classes, (size, 2), generator=draws)
    maps = torch.zeros(size, side, side, dtype=torch.uint8)
    for number, (left, top, right, bottom) in enumerate(boxes.tolist()):
        maps[:, top:bottom, left:right] = number + 1
    rows = object_rows(
        boxes.expand(size, -1, -1).numpy(),
        labels.numpy(),
        np.ones((size, 2), dtype=np.float32),
        maps.numpy(),
    )
    return torch.from_numpy(rows)
