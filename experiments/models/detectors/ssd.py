"""The loss of a detector with default boxes: SSD's (Liu et al. 2016), of mixed images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou

from mixbench.augmentations.box_targets import BoxTargets
from mixbench.experiments.models.detectors.base import Detector

OVERLAP = 0.5
"""A default box finds the object that it overlaps by at least so much (IoU)."""
SCALES = (10.0, 10.0, 5.0, 5.0)
"""How places and sizes are scaled, as torchvision's SSD does."""
NEGATIVES = 3
"""Boxes of background that count for each that finds an object: those with the largest loss."""


class SSD(Detector):
    """Outputs (B, 8 + 1 + K, A): sides, default boxes, logits of background and classes.

    A mixed image has the targets of each of its sources with their weights; its loss is the
    weighted sum of theirs but for which boxes of background count.
    """

    def candidates(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        sides, boxes, logits = _parts(outputs)
        return _decoded(sides, boxes), logits.softmax(-1)[..., 1:]

    def parts(self, outputs: Tensor, targets: BoxTargets) -> tuple[Tensor, Tensor]:
        sides, boxes, logits = _parts(outputs)
        of_box, at = _matched(boxes[0], targets)
        sample, weight = targets.sample[of_box], targets.weights[of_box]
        wanted = _encoded(targets.boxes[of_box], boxes[sample, at])
        of_sides = F.smooth_l1_loss(sides[sample, at], wanted, reduction="none").sum(1)
        costs = -logits.log_softmax(-1)
        of_classes = costs[sample, at, targets.labels[of_box] + 1]
        shares = logits.new_zeros(logits.shape[:2])
        shares.index_put_((sample, at), weight, accumulate=True)
        background = (1 - shares).clamp(min=0) * costs[..., 0]
        # Chosen among boxes that find nothing, as many as there is found weight in the image.
        found = (shares > 0).float()
        order = (background.detach() - found * 1e6).argsort(dim=1, descending=True).argsort(dim=1)
        counts = (order < NEGATIVES * shares.sum(1, keepdim=True)) | (found > 0)
        total = (weight * (of_sides + of_classes)).sum() + (counts * background).sum()
        return total, weight.sum()


def _parts(outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sides (B,A,4), default boxes (B,A,4) and logits (B,A,1+K)."""
    rows = outputs.transpose(1, 2)
    return rows[..., :4], rows[..., 4:8].detach(), rows[..., 8:]


def _matched(places: Tensor, targets: BoxTargets) -> tuple[Tensor, Tensor]:
    """Which object which default box finds: two (P,) int64.

    Of one image's objects the one that it overlaps most; and each object is found by the box that
    overlaps it most.
    """
    overlaps = box_iou(targets.boxes, places)
    best = torch.zeros_like(overlaps, dtype=torch.bool)
    if len(targets):
        best[torch.arange(len(targets), device=best.device), overlaps.argmax(dim=1)] = True
    score = torch.where(overlaps >= OVERLAP, overlaps, 0) + 2.0 * best
    view = (targets.sample * targets.images + targets.source).unsqueeze(1).expand_as(score)
    most = torch.zeros(targets.images**2, len(places), device=places.device)
    most.scatter_reduce_(0, view, score, "amax")
    # Of equals the first.
    number = torch.arange(len(targets), device=places.device).unsqueeze(1).expand_as(score)
    number = torch.where((score > 0) & (score == most.gather(0, view)), number, len(targets))
    first = torch.full(most.shape, len(targets), device=places.device)
    first.scatter_reduce_(0, view, number, "amin")
    is_found = (number < len(targets)) & (number == first.gather(0, view))
    of_box, at = is_found.nonzero(as_tuple=True)
    return of_box, at


def _encoded(boxes: Tensor, places: Tensor) -> Tensor:
    middles, sizes = _middles(boxes)
    own_middles, own_sizes = _middles(places)
    moved = (middles - own_middles) / own_sizes
    larger = (sizes.clamp(min=1e-3) / own_sizes).log()
    return torch.cat([moved, larger], dim=-1) * boxes.new_tensor(SCALES)


def _decoded(sides: Tensor, places: Tensor) -> Tensor:
    own_middles, own_sizes = _middles(places)
    moved, larger = (sides / sides.new_tensor(SCALES)).split(2, dim=-1)
    middles = own_middles + moved * own_sizes
    halves = own_sizes * larger.clamp(max=6).exp() / 2
    return torch.cat([middles - halves, middles + halves], dim=-1)


def _middles(boxes: Tensor) -> tuple[Tensor, Tensor]:
    low, high = boxes.split(2, dim=-1)
    return (low + high) / 2, (high - low).clamp(min=1e-3)
