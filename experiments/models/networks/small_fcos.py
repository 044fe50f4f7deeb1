"""A compact detector: boxes of the objects in small images in seconds on a CPU."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixbench.experiments.config.models import ModelInfo

INFO = ModelInfo(
    name="small_fcos",
    summary="a compact detector without anchors (FCOS), quick on two CPU cores",
    default_width=12,
    stages=("stem", "middle", "bottom"),
    answers="boxes",
)

_RARE = 0.01
"""How likely an object is at a place before training (Lin et al. 2017, "Focal Loss")."""


class SmallFCOS(nn.Module):
    """One map at a quarter of the image's size, after FCOS (Tian et al. 2019).

    Each place of the map says how far the sides of its box are, and how likely each class is. The
    features of a 16th and an 8th of the size are added to it on the way up. At width 12 it has
    87,572 parameters, on grey images with four classes. Without centerness: only places near the
    middle of an object are trained to find it (`models.detectors.fcos`).
    """

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        fine, coarse = 2 * width, 4 * width
        self.stem = nn.Sequential(_block(channels, width, 2), _block(width, fine, 2))
        self.middle = nn.Sequential(_block(fine, coarse, 2), _block(coarse, coarse))
        self.bottom = nn.Sequential(_block(coarse, coarse, 2), _block(coarse, coarse))
        self.narrow = nn.Conv2d(coarse, fine, 1)
        self.head = nn.Sequential(_block(fine, fine), _block(fine, fine))
        self.sides = nn.Conv2d(fine, 4, 1)
        self.classifier = nn.Conv2d(fine, classes, 1)
        rare = torch.full((classes,), -math.log((1 - _RARE) / _RARE))
        self.classifier.bias = nn.Parameter(rare)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to (B, 4 + classes, H/4, W/4): logarithms of sides, then logits."""
        finest = self.stem(images)
        middle = self.middle(finest)
        bottom = self.bottom(middle)
        coarse = middle + F.interpolate(bottom, middle.shape[2:], mode="nearest")
        up = F.interpolate(self.narrow(coarse), finest.shape[2:], mode="nearest")
        features = self.head(finest + up)
        return torch.cat([self.sides(features), self.classifier(features)], dim=1)


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


NETWORK = SmallFCOS
