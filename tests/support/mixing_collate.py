"""A collate function for spawned workers, which import this file and little else."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from mixbench import augmentations
from mixbench.augmentations.integrations.dropin import MixTransform, SoftTargets


class MixingCollate:
    """torchvision's recipe: a transform in the collate function, with a generator of its own.

    Args:
        classes: The number of classes.
        made_here: Whether the generator is made for each batch, in the worker.
    """

    def __init__(self, classes: int, made_here: bool = False) -> None:
        self.classes = classes
        self.made_here = made_here
        self.mix = augmentations.create("mixup", per_sample=True, pairing="derange")
        generator = torch.Generator().manual_seed(0)
        another = torch.Generator().manual_seed(0)
        self.transforms: list[Any] = [
            MixTransform(self.mix, classes, generator=generator),
            SoftTargets(self.mix, classes, generator=generator),  # shares it
            SoftTargets.like_timm(0.8, 1.0, num_classes=classes, generator=another),
        ]

    def __call__(self, samples: list[Any]) -> list[Tensor]:
        """Return the soft labels that each transform gives."""
        images, labels = default_collate(samples)
        transforms = self.transforms
        if self.made_here:
            generator = torch.Generator().manual_seed(7)
            transforms = [SoftTargets(self.mix, self.classes, generator=generator)]
        return [transform(images, labels)[1] for transform in transforms]
