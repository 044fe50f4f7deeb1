"""What each detector has: a loss for the boxes of mixed images, and detections of its answers."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image

from mixbench.augmentations.box_targets import BoxTargets

MOST = 100
"""The most detections of an image that count, as in COCO."""
LEAST_SCORE = 0.05
OVERLAP = 0.5
"""Detections of one class that overlap by more (IoU) are the same object."""


class Detector(ABC):
    """What the outputs of a network mean.

    Args:
        size: Height and width of the images.
        classes: How many there are.
    """

    def __init__(self, size: tuple[int, int], classes: int) -> None:
        self.size = size
        self.classes = classes

    @abstractmethod
    def parts(self, outputs: Tensor, targets: BoxTargets) -> tuple[Tensor, Tensor]:
        """Return the sum of a batch's losses, and the weight of what is found, to divide it by.

        Both are sums over the images that are mixed, each with its weight.
        """

    @abstractmethod
    def candidates(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the boxes (B,A,4) in pixels, and the scores of the classes (B,A,K)."""

    def loss(self, outputs: Tensor, targets: BoxTargets) -> Tensor:
        """Return the mean loss of a batch, float32."""
        total, weight = self.parts(outputs.float(), targets)
        return total / weight.clamp(min=1)

    def detections(self, outputs: Tensor) -> Tensor:
        """Return what is found in each image, the surest first.

        Returns:
            (B,100,6) float32: left, top, right, bottom, score, class; scores of 0 for none.
        """
        boxes, scores = self.candidates(outputs.float())
        found = outputs.new_zeros((len(boxes), MOST, 6), dtype=torch.float32)
        for number, (places, chances) in enumerate(zip(boxes, scores, strict=True)):
            flat = chances.flatten()
            top, which = flat.topk(min(len(flat), 4 * MOST))
            which = which[top > LEAST_SCORE]
            label = which % self.classes
            picked = clip_boxes_to_image(places[which // self.classes], self.size)
            score = flat[which]
            kept = batched_nms(picked, score, label, OVERLAP)[:MOST]
            rows = [picked[kept], score[kept, None], label[kept, None].float()]
            found[number, : len(kept)] = torch.cat(rows, dim=1)
        return found
