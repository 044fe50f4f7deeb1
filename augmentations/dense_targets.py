"""The labels of mixed segmentation masks: a few classes per pixel, each with its weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mixbench.augmentations.checks import IGNORED, check_classes, check_device, describe, readable
from mixbench.augmentations.targets import Targets
from mixbench.augmentations.tensor_types import plain

IGNORED_PIXEL = 255
"""The class of pixels that a loss ignores, as in Pascal VOC and Cityscapes."""


@dataclass(frozen=True)
class DenseTargets:
    """The weighted labels of every pixel of B mixed images, K for each.

    K is 1 where every pixel comes from one image, and 2 after a blend.

    Attributes:
        labels: (B, K, H, W) int64, classes, or a number that the loss is told to ignore.
        weights: (B, K, H, W) float32, which sum to 1 over K.

    Examples:
        >>> import mixbench, torch
        >>> plan = mixbench.Blend(torch.full((2, 1, 1, 1), 0.75), partner=torch.tensor([1, 0]))
        >>> targets = plan.mix_dense(torch.tensor([[[0]], [[1]]]))
        >>> targets.dense(2)[0].flatten()
        tensor([0.7500, 0.2500])
        >>> targets.cross_entropy(torch.zeros(2, 2, 1, 1))
        tensor(0.6931)
    """

    labels: Tensor
    weights: Tensor

    def dense(self, num_classes: int, ignore_index: int = IGNORED_PIXEL) -> Tensor:
        """Return soft masks.

        Args:
            num_classes: The number of classes.
            ignore_index: The label whose weight goes to no class.

        Returns:
            (B, num_classes, H, W) float32; where a label is ignored, a pixel sums to less than 1.

        Raises:
            ValueError: A label is neither a class nor ignored. Values are read only on the CPU.
        """
        check_classes(num_classes)
        soft = self._of_pixels(num_classes, ignore_index).dense(num_classes)
        batch, _, height, width = self.labels.shape
        return soft.view(batch, height, width, num_classes).permute(0, 3, 1, 2).contiguous()

    def cross_entropy(
        self,
        logits: Tensor,
        ignore_index: int = IGNORED_PIXEL,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
        class_weights: Tensor | None = None,
    ) -> Tensor:
        """Compute the cross-entropy of every pixel with its weighted labels, in float32.

        It is the weighted sum of the index losses of `torch.nn.functional.cross_entropy`. A label
        that is ignored has no loss; its weight is left out, not given to the pixel's other labels,
        and the mean divides by the weight that remains, as in `Targets.cross_entropy`.

        Args:
            logits: (B, num_classes, H, W), on the device of the labels.
            ignore_index: The label that has no loss.
            label_smoothing: The share of the loss that goes evenly to all classes, from 0 to 1.
            reduction: "mean", "sum" or "none".
            class_weights: (num_classes,), on the device of the labels; None for equal weights.

        Returns:
            The loss, float32: a number, or (B, H, W) with "none".

        Raises:
            ValueError: The logits have another shape or device, a label is neither a class nor
                ignored, or another argument is refused by `Targets.cross_entropy`.
        """
        batch, _, height, width = self.labels.shape
        fits = logits.dim() == 4 and logits.shape[0] == batch
        if not fits or logits.shape[2:] != (height, width) or logits.device != self.labels.device:
            raise ValueError(
                f"logits: expected ({batch}, num_classes, {height}, {width}) on "
                f"{self.labels.device}, got {tuple(logits.shape)} on {logits.device}"
            )
        pixels = self._of_pixels(logits.shape[1], ignore_index)
        rows = logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1])
        loss = pixels.cross_entropy(rows, label_smoothing, reduction, class_weights)
        return loss.view(batch, height, width) if reduction == "none" else loss

    def _of_pixels(self, num_classes: int, ignore_index: int) -> Targets:
        """Return the targets with a row per pixel."""
        ignored = self.labels == ignore_index
        classes = self.labels.masked_fill(ignored, 0)
        if readable(classes) and classes.numel():
            low, high = (int(value) for value in classes.aminmax())
            if low < 0 or high >= num_classes:
                raise ValueError(
                    f"masks: expected classes from 0 to {num_classes - 1}, or {ignore_index} "
                    f"(ignored), got values from {low} to {high}"
                )
        labels = classes.masked_fill(ignored, IGNORED).permute(0, 2, 3, 1).flatten(0, 2)
        return Targets(labels, self.weights.permute(0, 2, 3, 1).flatten(0, 2))


def dense_targets(masks: Tensor | DenseTargets, batch: int, device: torch.device) -> DenseTargets:
    """Return masks as targets of weight 1; what is mixed already is returned as it is.

    Args:
        masks: (B, H, W) of an integer dtype, or targets.
        batch: The B that they must have.
        device: Where they must be.

    Raises:
        ValueError: They are something else.
    """
    if isinstance(masks, DenseTargets):
        fits = masks.labels.shape == masks.weights.shape and masks.labels.shape[:1] == (batch,)
        if not fits or masks.labels.dim() != 4:
            raise ValueError(
                f"masks: expected labels and weights ({batch}, K, H, W), got "
                f"{tuple(masks.labels.shape)} and {tuple(masks.weights.shape)}"
            )
        check_device("masks", masks.labels, device)
        return masks
    whole = isinstance(masks, Tensor) and not masks.is_floating_point() and not masks.is_complex()
    if not whole or masks.dtype == torch.bool or masks.dim() != 3 or masks.shape[0] != batch:
        raise ValueError(f"masks: expected ({batch}, H, W) of classes, got {describe(masks)}")
    check_device("masks", masks, device)
    labels = plain(masks).long().unsqueeze(1)
    one = torch.ones(1, 1, 1, 1, dtype=torch.float32, device=device)
    return DenseTargets(labels, one.expand(labels.shape))


def by_soft_masks(given: DenseTargets, mix_masks: Callable[[Tensor], Tensor]) -> DenseTargets:
    """Mix targets by what a plan does to soft masks: right for every kind, if not fast.

    K becomes the number of classes that there are, for which the host waits.
    """
    classes = given.labels.unique()
    soft = [(given.weights * (given.labels == label)).sum(dim=1) for label in classes]
    mixed = mix_masks(torch.stack(soft, dim=1))
    return DenseTargets(classes.view(1, -1, 1, 1).expand(mixed.shape), mixed)


def together(results: list[DenseTargets]) -> tuple[list[Tensor], list[Tensor]]:
    """Return labels and weights of several targets, all with the largest K; the rest weighs 0."""
    most = max(one.labels.shape[1] for one in results)
    labels, weights = [], []
    for one in results:
        missing = most - one.labels.shape[1]
        labels.append(torch.cat([one.labels, one.labels[:, :1].expand(-1, missing, -1, -1)], dim=1))
        zeros = torch.zeros_like(one.weights[:, :1]).expand(-1, missing, -1, -1)
        weights.append(torch.cat([one.weights, zeros], dim=1))
    return labels, weights
