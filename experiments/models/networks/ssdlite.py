"""torchvision's SSDLite with MobileNetV3-Large, from random weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mixbench.experiments.config.models import ModelInfo
from mixbench.experiments.errors import UserError

INFO = ModelInfo(
    name="ssdlite",
    summary="torchvision's SSDLite with MobileNetV3-Large from random weights; for GPUs",
    default_width=16,
    stages=(),
    answers="boxes",
)


class SSDLite(nn.Module):
    """Six maps from a 16th of the image's size on (Sandler et al. 2018; Howard et al. 2019).

    The network of `torchvision.models.detection.ssdlite320_mobilenet_v3_large`, for images of any
    size; it has one width, 16 channels after the first layer. Grey images are shown to it thrice.
    """

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        if width != INFO.default_width:
            raise UserError(
                f"model.width: got {width}, but ssdlite has the width of torchvision's, "
                f"{INFO.default_width}; leave it out"
            )
        from torchvision.models.detection import ssdlite320_mobilenet_v3_large

        whole: Any = ssdlite320_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=classes + 1
        )
        self.backbone, self.head = whole.backbone, whole.head
        self._default_boxes = whole.anchor_generator
        self._repeats = 3 if channels == 1 else 1

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to (B, 8 + 1 + classes, A).

        For each of the A default boxes what the head says of the sides, the box itself, and logits
        of background and classes.
        """
        from torchvision.models.detection.image_list import ImageList

        batch, _, height, width = images.shape
        maps = list(self.backbone(images.repeat(1, self._repeats, 1, 1)).values())
        answers = self.head(maps)
        sizes = [(height, width)] * batch
        boxes = torch.stack(self._default_boxes(ImageList(images, sizes), maps)).to(images.dtype)
        parts = [answers["bbox_regression"], boxes, answers["cls_logits"]]
        return torch.cat(parts, dim=2).transpose(1, 2)


NETWORK = SSDLite
