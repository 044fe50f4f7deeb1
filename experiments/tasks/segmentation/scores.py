"""How well masks are predicted: IoU of classes, of their boundaries, and of small objects.

Whole-number counts are summed over batches, so that neither the batch size nor the number of ranks
changes a metric, and no output has to be kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = 255
SMALL = 0.05
"""Objects that cover less than this share of the image are small."""
BAND = 0.02
"""The width of boundaries as a share of the image's diagonal (Cheng et al. 2021); at least 1."""


@dataclass(frozen=True)
class Counts:
    """What is counted of a batch, on the CPU.

    Attributes:
        confusion: (K,K) int64, pixels by true and predicted class; ignored ones are left out.
        small: (K,K) int64, the same without the pixels of objects that are not small.
        boundary: (2,K) int64, pixels of boundaries in common, and in either.
        losses: (B,) float64, the sum of the cross-entropies of each image's pixels.
        pixels: (B,) int64, how many of them count.
    """

    confusion: Tensor
    small: Tensor
    boundary: Tensor
    losses: Tensor
    pixels: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        """Return its tensors in order, for another rank."""
        return self.confusion, self.small, self.boundary, self.losses, self.pixels


def count(logits: Tensor, masks: Tensor, instances: Tensor) -> Counts:
    """Count a batch.

    Args:
        logits: (B,K,H,W) float.
        masks: (B,H,W) int64: classes, or 255 for pixels that don't count.
        instances: (B,H,W): 0 for background, then a number for each object of the image.
    """
    classes = logits.shape[1]
    truth, predicted = masks.long(), logits.argmax(dim=1)
    losses = F.cross_entropy(logits.float(), truth, ignore_index=IGNORED, reduction="none")
    of_small = truth.masked_fill((instances > 0) & ~_is_small(instances), IGNORED)
    return Counts(
        confusion=_confusion(predicted, truth, classes).cpu(),
        small=_confusion(predicted, of_small, classes).cpu(),
        boundary=_boundaries(predicted, truth, classes).cpu(),
        losses=losses.double().sum((1, 2)).cpu(),
        pixels=(truth != IGNORED).sum((1, 2)).cpu(),
    )


def summarise(counts: Sequence[Counts]) -> dict[str, float | None]:
    """Return the metrics of all batches.

    Means are over the classes that are in the masks or predicted; None where there is nothing:

    - miou: intersection over union (Jaccard index) of each class over all pixels of the split, as
      torchmetrics' `MulticlassJaccardIndex`.
    - boundary_iou: the same of the pixels within a band along the inside of each class's contour
      (Cheng et al. 2021, "Boundary IoU").
    - miou_small: mIoU where the pixels of objects that are not small are ignored; of the classes
      but the background (0), as far as the masks have small objects of them.
    - pixel_accuracy, nll: over pixels.
    """
    confusion = sum_of([one.confusion for one in counts])
    small = sum_of([one.small for one in counts])
    common, either = sum_of([one.boundary for one in counts])
    pixels = int(sum_of([one.pixels.sum() for one in counts]))
    losses = torch.cat([one.losses for one in counts])
    there = small.sum(1) > 0
    there[0] = False
    return {
        "miou": _mean(*_overlaps(confusion)),
        "boundary_iou": _mean(common, either),
        "miou_small": _mean(*(part[there] for part in _overlaps(small))),
        "pixel_accuracy": _share(confusion.trace(), confusion.sum()),
        "nll": float(losses.sum()) / pixels if pixels else None,
    }


def sum_of(parts: Sequence[Tensor]) -> Tensor:
    """Return the sum of tensors of one shape."""
    return torch.stack(list(parts)).sum(0)


def band_width(height: int, width: int) -> int:
    """Return how many pixels wide a boundary is in an image of this size.

    Examples:
        >>> band_width(48, 48), band_width(512, 512)
        (1, 14)
    """
    return max(1, round(BAND * math.hypot(height, width)))


def _is_small(instances: Tensor) -> Tensor:
    """Whether each pixel (B,H,W) is of an object that covers less than `SMALL` of the image."""
    flat = instances.flatten(1).long()
    areas = torch.zeros(len(flat), int(flat.max()) + 1, dtype=torch.int64, device=flat.device)
    areas.scatter_add_(1, flat, torch.ones_like(flat))
    return (areas < SMALL * flat.shape[1]).gather(1, flat).view(instances.shape)


def _confusion(predicted: Tensor, truth: Tensor, classes: int) -> Tensor:
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    return multiclass_confusion_matrix(predicted, truth, classes, ignore_index=IGNORED).long()


def _boundaries(predicted: Tensor, truth: Tensor, classes: int) -> Tensor:
    """Pixels of the boundaries of each class, in common and in either: (2,K) int64."""
    width = band_width(*truth.shape[1:])
    ignored = truth == IGNORED
    pair = [F.one_hot(one.masked_fill(ignored, classes), classes + 1) for one in (truth, predicted)]
    of_truth, of_predicted = (_boundary(one[..., :classes].movedim(3, 1), width) for one in pair)
    both = [of_truth & of_predicted, of_truth | of_predicted]
    return torch.stack([one.sum((0, 2, 3)) for one in both])


def _boundary(shown: Tensor, width: int) -> Tensor:
    """Pixels of classes (B,K,H,W) with another class, or the border, within a square around."""
    # What is beyond the border is no class, as in the paper's code.
    outside = F.pad(1 - shown.float(), (width,) * 4, value=1.0)
    near = F.max_pool2d(outside, 2 * width + 1, stride=1)
    return (shown > 0) & (near > 0)


def _overlaps(confusion: Tensor) -> tuple[Tensor, Tensor]:
    common = confusion.diagonal()
    return common, confusion.sum(0) + confusion.sum(1) - common


def _mean(common: Tensor, either: Tensor) -> float | None:
    there = either > 0
    if not there.any():
        return None
    return float((common[there].double() / either[there].double()).mean())


def _share(part: Tensor, whole: Tensor) -> float | None:
    return float(part) / float(whole) if whole else None
