"""ResNet-20 with pre-activation, for images of 28 x 28 and 32 x 32 pixels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mixbench.experiments.config.models import ModelInfo

INFO = ModelInfo(
    name="resnet20",
    summary="ResNet-20 with pre-activation, for 28 x 28 and 32 x 32 images",
    default_width=16,
    stages=("blocks.2", "blocks.5", "blocks.8"),
)


class PreActResNet20(nn.Module):
    """Three stages of three blocks, two convolutions each: 272,000 parameters at width 16.

    Source: He et al. 2016, Identity Mappings in Deep Residual Networks (arXiv:1603.05027), with the
    CIFAR layout of He et al. 2015, section 4.2. Where a stage changes the shape, the shortcut is a
    1 x 1 convolution of the activated input.
    """

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        blocks = []
        inputs = width
        for stage in range(3):
            outputs = width * 2**stage
            for block in range(3):
                stride = 2 if stage and not block else 1
                blocks.append(_Block(inputs, outputs, stride))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(inputs)
        self.classifier = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, classes)."""
        features = F.relu(self.norm(self.blocks(self.stem(images))))
        logits: Tensor = self.classifier(features.mean(dim=(2, 3)))
        return logits


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        same = stride == 1 and inputs == outputs
        self.stride = stride
        self.shortcut = None if same else nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.norm1(x))
        # A 1 x 1 convolution with a stride, taken apart: in channels_last and below 16 channels the
        # gradient of the whole writes past its memory (oneDNN on AVX-512, seen with torch 2.15).
        thinned = active[:, :, :: self.stride, :: self.stride]
        shortcut = x if self.shortcut is None else self.shortcut(thinned)
        output: Tensor = self.conv2(F.relu(self.norm2(self.conv1(active)))) + shortcut
        return output


NETWORK = PreActResNet20
