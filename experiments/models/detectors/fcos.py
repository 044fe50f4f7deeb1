"""The loss of a detector without anchors: focal loss of classes, GIoU loss of boxes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

from mixbench.augmentations.box_targets import BoxTargets
from mixbench.experiments.models.detectors.base import Detector

STRIDE = 4
RADIUS = 1.5
"""Places within so many strides of an object's middle find it (Tian et al. 2019, "FCOS")."""
ALPHA, GAMMA = 0.25, 2.0
BOX_WEIGHT = 2.0


class FCOS(Detector):
    """Outputs (B, 4 + K, h, w): logarithms of the distances to the sides in strides, and logits.

    Among the objects of one image that a place could find, it finds the smallest. A mixed image has
    the targets of each of its sources with their weights: its loss, before it is divided, is the
    weighted sum of their losses.
    """

    def candidates(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        places = self._places(outputs)
        flat = outputs.flatten(2).transpose(1, 2)
        return _boxes(places, flat[..., :4]), flat[..., 4:].sigmoid()

    def parts(self, outputs: Tensor, targets: BoxTargets) -> tuple[Tensor, Tensor]:
        places = self._places(outputs)
        flat = outputs.flatten(2).transpose(1, 2)
        of_box, at = _assigned(places, targets)
        sample, label = targets.sample[of_box], targets.labels[of_box]
        weight = targets.weights[of_box]
        logits = flat[..., 4:]
        shares = torch.zeros_like(logits)
        shares.index_put_((sample, at, label), weight, accumulate=True)
        # Where two sources are shown whole, one over the other, both are there.
        shares = shares.clamp(max=1)
        chances = logits.sigmoid()
        there = ALPHA * (1 - chances) ** GAMMA * F.softplus(-logits)
        absent = (1 - ALPHA) * chances**GAMMA * F.softplus(logits)
        of_classes = (shares * there + (1 - shares) * absent).sum()
        found = _boxes(places[at], flat[sample, at, :4])
        of_boxes = generalized_box_iou_loss(found, targets.boxes[of_box], reduction="none")
        return of_classes + BOX_WEIGHT * (weight * of_boxes).sum(), weight.sum()

    def _places(self, outputs: Tensor) -> Tensor:
        """The middles (A,2) of the map's cells in pixels: x, y."""
        rows, columns = (
            (torch.arange(length, device=outputs.device) + 0.5) * STRIDE
            for length in outputs.shape[2:]
        )
        x, y = torch.meshgrid(columns, rows, indexing="xy")
        return torch.stack([x.flatten(), y.flatten()], dim=1)


def _boxes(places: Tensor, logarithms: Tensor) -> Tensor:
    sides = STRIDE * logarithms.clamp(max=6).exp()
    return torch.cat([places - sides[..., :2], places + sides[..., 2:]], dim=-1)


def _assigned(places: Tensor, targets: BoxTargets) -> tuple[Tensor, Tensor]:
    """Which box is found at which place: two (P,) int64."""
    boxes = targets.boxes
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    away = (places - middles.unsqueeze(1)).abs().amax(-1)
    inside = torch.cat([places - boxes[:, None, :2], boxes[:, None, 2:] - places], dim=-1)
    fits = (away <= RADIUS * STRIDE) & (inside.amin(-1) > 0)
    # The smallest object too has a place.
    fits |= F.one_hot(away.argmin(dim=1), len(places)).bool() if len(boxes) else fits
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    rank = areas.argsort(stable=True).argsort().unsqueeze(1).expand_as(fits)
    # Objects of one image in one mixed image compete.
    view = (targets.sample * targets.images + targets.source).unsqueeze(1).expand_as(fits)
    rank = torch.where(fits, rank, len(boxes))
    best = torch.full((targets.images**2, len(places)), len(boxes), device=boxes.device)
    best.scatter_reduce_(0, view, rank, "amin")
    of_box, at = (fits & (rank == best.gather(0, view))).nonzero(as_tuple=True)
    return of_box, at
