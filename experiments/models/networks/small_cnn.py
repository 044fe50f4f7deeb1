"""The demo's network: small enough that a run takes seconds on one CPU core."""

from __future__ import annotations

from torch import Tensor, nn

from mixbench.experiments.config.models import ModelInfo

INFO = ModelInfo(
    name="small_cnn",
    summary="three convolutions; the demo's, quick on two CPU cores",
    default_width=16,
    stages=("features.2", "features.6", "features.10"),
)


class SmallCNN(nn.Module):
    """Three convolutions with batch norm, 26,000 parameters at width 16 on grey images.

    The first convolution halves the resolution: on a CPU, time goes where the pixels are. The
    last features are averaged over quarters of the image, not over all of it: with so few layers,
    where a feature is says much about what it belongs to.
    """

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_convolution(channels, width, kernel=5, stride=2),
            *_convolution(width, 2 * width),
            nn.MaxPool2d(2),
            *_convolution(2 * width, 4 * width),
            nn.AdaptiveAvgPool2d(2),
        )
        self.classifier = nn.Linear(4 * 4 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, classes)."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


NETWORK = SmallCNN
