"""A small U-Net: a class for every pixel of small images in seconds on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixbench.experiments.config.models import ModelInfo

INFO = ModelInfo(
    name="unet",
    summary="a small U-Net for segmentation, quick on two CPU cores",
    default_width=8,
    stages=("encoder.0", "encoder.1", "encoder.2", "bottom"),
    answers="map",
)


class UNet(nn.Module):
    """Three times down and up again (Ronneberger et al. 2015).

    It has 110,149 parameters at width 8, on grey images with five classes. Each step down doubles
    the channels. With batch norm and padded convolutions, so that the logits have the images' size,
    whatever that is; the way up has one convolution per step and resizes, where the paper has two
    and transposed convolutions.
    """

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width]
        inputs = [channels, *widths]
        self.encoder = nn.ModuleList(_twice(inputs[i], widths[i]) for i in range(3))
        self.bottom = _twice(widths[2], widths[3])
        self.decoder = nn.ModuleList(
            nn.Sequential(*_convolution(widths[i] + widths[i + 1], widths[i])) for i in (2, 1, 0)
        )
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, classes, H, W)."""
        skipped = []
        features = images
        for block in self.encoder:
            features = block(features)
            skipped.append(features)
            features = F.max_pool2d(features, 2, ceil_mode=True)
        features = self.bottom(features)
        for block, finer in zip(self.decoder, reversed(skipped), strict=True):
            resized = F.interpolate(features, finer.shape[2:], mode="nearest")
            features = block(torch.cat([finer, resized], dim=1))
        logits: Tensor = self.classifier(features)
        return logits


def _twice(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(*_convolution(inputs, outputs), *_convolution(outputs, outputs))


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


NETWORK = UNet
