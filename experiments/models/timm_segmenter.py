"""A network of timm with a light decoder: a class for every pixel."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from mixbench.experiments.errors import UserError
from mixbench.experiments.models.timm_model import shrink_stem

DECODER_WIDTH = 64


class TimmSegmenter(nn.Module):
    """The maps of an encoder's stages, summed from the coarsest to the finest, as logits.

    A feature pyramid (Lin et al. 2017) with 64 channels, whose finest map alone is classified and
    resized to the image: a light form of the head of Kirillov et al. 2019 ("Panoptic FPN").
    """

    def __init__(self, encoder: nn.Module, widths: list[int], classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.laterals = nn.ModuleList(nn.Conv2d(width, DECODER_WIDTH, 1) for width in widths)
        self.smooth = nn.Sequential(
            nn.Conv2d(DECODER_WIDTH, DECODER_WIDTH, 3, padding=1, bias=False),
            nn.BatchNorm2d(DECODER_WIDTH),
            nn.ReLU(inplace=True),
        )
        self.classifier = nn.Conv2d(DECODER_WIDTH, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, classes, H, W)."""
        maps = [
            lateral(features)
            for lateral, features in zip(self.laterals, self.encoder(images), strict=True)
        ]
        merged = maps.pop()
        while maps:
            finer = maps.pop()
            merged = finer + F.interpolate(merged, finer.shape[2:], mode="nearest")
        logits = self.classifier(self.smooth(merged))
        return F.interpolate(logits, images.shape[2:], mode="bilinear", align_corners=False)


def timm_segmenter(
    name: str, *, channels: int, classes: int, small_stem: bool, drop_path: float | None
) -> nn.Module:
    """timm's network `name`, untrained, with the decoder; arguments: `timm_model`.

    Raises UserError for a network that has no stages of maps, such as a vision transformer.
    """
    import timm

    options: dict[str, Any] = {} if drop_path is None else {"drop_path_rate": drop_path}
    try:
        encoder: Any = timm.create_model(
            name, pretrained=False, features_only=True, in_chans=channels, **options
        )
        reductions = encoder.feature_info.reduction()
    except (AttributeError, RuntimeError, TypeError, AssertionError, ValueError) as error:
        raise UserError(
            f"model.name: timm/{name} gives no maps of several sizes for segmentation "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); residual and "
            "convolutional networks do, such as timm/resnet18"
        ) from None
    if len(set(reductions)) < 2:
        raise UserError(
            f"model.name: timm/{name} gives maps of one size alone, and segmentation needs several;"
            " residual and convolutional networks give them, such as timm/resnet18"
        )
    if small_stem:
        shrink_stem(encoder, name)
    return TimmSegmenter(encoder, encoder.feature_info.channels(), classes)
