"""The labels of a mixed batch: a few classes per sample, each with its weight, and their losses.

The loss of a mixed sample is the weighted sum of the losses of its source labels; every rule
follows from that. A source whose label is ignored (-100) has no loss: its weight is left out, not
given to the other labels, and the mean divides by the weight that remains.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mixbench.augmentations.checks import IGNORED

REDUCTIONS = ("mean", "sum", "none")


@dataclass(frozen=True)
class Targets:
    """The weighted labels of B samples, K for each.

    K is 1 where no label is mixed, 2 for pairs, 4 for RICAP, and num_classes where the labels were
    already soft or multi-label.

    Attributes:
        labels: (B, K) int64, classes, or -100 for a source that has no label.
        weights: (B, K) float32, rows sum to 1 (multi-label: to what the mixed rows sum to).
        free: Whether rows may sum to something else: a sample then counts as much as they do.

    Examples:
        >>> import mixbench, torch
        >>> targets = mixbench.Targets(torch.tensor([[2, 0]]), torch.tensor([[0.75, 0.25]]))
        >>> targets.dense(3)
        tensor([[0.2500, 0.0000, 0.7500]])
        >>> targets.cross_entropy(torch.zeros(1, 3))
        tensor(1.0986)
    """

    labels: Tensor
    weights: Tensor
    free: bool = False

    def dense(self, num_classes: int) -> Tensor:
        """Return the soft labels.

        Args:
            num_classes: The number of classes, larger than every label.

        Returns:
            (B, num_classes) float32. The weights of a class that occurs twice add up; the weight of
            an ignored label goes to no class, so that the row sums to less.
        """
        ignored = self.labels == IGNORED
        classes = self.labels.masked_fill(ignored, 0)
        weights = self.weights.masked_fill(ignored, 0)
        dense = weights.new_zeros(classes.shape[0], num_classes)
        return dense.scatter_add_(1, classes, weights)

    def cross_entropy(
        self,
        logits: Tensor,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
        class_weights: Tensor | None = None,
    ) -> Tensor:
        """Compute the cross-entropy with the weighted labels, in float32.

        It is the weighted sum of the index losses of `torch.nn.functional.cross_entropy`, label
        smoothing, class weights and the ignored label -100 included, in one pass over the
        log-probabilities: loss[b] = sum over k of weights[b, k] * loss(logits[b], labels[b, k]).

        The mean is torch's for index labels: the sum divided by the sum of every label's weight
        times its class weight, without ignored labels. That is B where there are neither class
        weights nor ignored labels; with ignored labels alone it is NaN, as in torch. With class
        weights it differs from torch's mean for soft labels, which divides by B.

        Args:
            logits: (B, num_classes), on the device of the labels.
            label_smoothing: The share of the loss that goes evenly to all classes, from 0 to 1.
            reduction: "mean", "sum" or "none".
            class_weights: (num_classes,), on the device of the labels; None for equal weights.

        Returns:
            The loss, float32: a number, or (B,) with "none".

        Raises:
            ValueError: Logits or class weights have another shape or device, or there is no such
                reduction.
        """
        self._check_loss(logits, reduction, "class_weights", class_weights)
        log_prob = F.log_softmax(logits.float(), dim=1)
        classes, weights, ignored = self._without_ignored()
        even = log_prob
        if class_weights is not None:
            class_weights = class_weights.float()
            weights = weights * class_weights[classes]
            even = log_prob * class_weights
        # A label without weight has no loss, even where its probability is 0: not 0 times infinity.
        picked = log_prob.gather(1, classes).masked_fill(weights == 0, 0)
        loss = -(weights * picked).sum(dim=1)
        if label_smoothing:
            even_loss = self._counted(ignored) * even.mean(dim=1)
            loss = (1 - label_smoothing) * loss - label_smoothing * even_loss
        if reduction == "mean":
            # The sum of the weights is B only up to rounding, and the mean must divide by B.
            plain = loss.shape[0] - ignored.sum()
            return loss.sum() / (plain if class_weights is None else weights.sum())
        return loss.sum() if reduction == "sum" else loss

    def binary_cross_entropy(
        self,
        logits: Tensor,
        reduction: str = "mean",
        pos_weight: Tensor | None = None,
        *,
        label_smoothing: float = 0.0,
        threshold: float | None = None,
        class_weights: Tensor | None = None,
    ) -> Tensor:
        """Compute a binary cross-entropy per class, in float32.

        It is the weighted sum of the losses that
        `torch.nn.functional.binary_cross_entropy_with_logits` gives for the labels of each source;
        an index label stands for its one-hot row. With smoothing or a threshold it is that of
        timm's `BinaryCrossEntropy` for timm's mixed labels.

        Args:
            logits: (B, num_classes), on the device of the labels.
            reduction: "mean", "sum" or "none". The mean divides the sum by num_classes and by the
                weight of the labels that are not ignored, which is B where none is, each times
                its class weight.
            pos_weight: (num_classes,), the weight of a class where it is present; None for 1.
            label_smoothing: The share of each label that goes evenly to all classes, from 0 to 1.
            threshold: Classes with more than this weight, smoothed, count as present, the others
                as absent; None for the weights themselves.
            class_weights: (num_classes,), how much a label's loss, of all classes, counts; None for
                equal weights. Not for multi-label targets.

        Returns:
            The loss, float32: a number, or (B, num_classes) with "none".

        Raises:
            ValueError: Logits or pos_weight have another shape or device, or there is no such
                reduction.
        """
        self._check_loss(logits, reduction, "pos_weight", pos_weight)
        self._check_loss(logits, reduction, "class_weights", class_weights)
        logits = logits.float()
        present = self.dense(logits.shape[1])
        classes, weights, ignored = self._without_ignored()
        whole = self._counted(ignored).unsqueeze(1)

        def smoothed(present: Tensor, whole: Tensor) -> Tensor:
            even = label_smoothing / logits.shape[1] * whole
            return (1 - label_smoothing) * present + even if label_smoothing else present

        is_present = None if threshold is None else smoothed(present, whole) > threshold
        if class_weights is not None:
            weights = weights * class_weights.float()[classes]
            whole = weights.sum(dim=1, keepdim=True)
            present = torch.zeros_like(present).scatter_add_(1, classes, weights)
        present = smoothed(present, whole) if is_present is None else is_present * whole
        absent = whole - present
        if pos_weight is not None:
            present = present * pos_weight.float()
        loss = present * F.softplus(-logits) + absent * F.softplus(logits)
        if reduction == "mean":
            labels = loss.shape[0] - ignored.sum() if class_weights is None else whole.sum()
            return loss.sum() / (labels * loss.shape[1])
        return loss.sum() if reduction == "sum" else loss

    def _counted(self, ignored: Tensor) -> Tensor:
        """Return each sample's weight that is not ignored: (B,)."""
        return self.weights.sum(dim=1) - ignored if self.free else 1 - ignored

    def _without_ignored(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return classes and weights, 0 where ignored, and each sample's ignored weight (B,)."""
        ignored = self.labels == IGNORED
        weights = self.weights.masked_fill(ignored, 0)
        return self.labels.masked_fill(ignored, 0), weights, (self.weights * ignored).sum(dim=1)

    def _check_loss(
        self, logits: Tensor, reduction: str, name: str, class_weights: Tensor | None
    ) -> None:
        batch = self.labels.shape[0]
        if logits.dim() != 2 or logits.shape[0] != batch or logits.device != self.labels.device:
            raise ValueError(
                f"logits: expected ({batch}, num_classes) on {self.labels.device}, "
                f"got {tuple(logits.shape)} on {logits.device}"
            )
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction: got {reduction!r}, expected mean, sum or none")
        if class_weights is None:
            return
        if class_weights.shape != logits.shape[1:] or class_weights.device != logits.device:
            raise ValueError(
                f"{name}: expected ({logits.shape[1]},) on {logits.device}, "
                f"got {tuple(class_weights.shape)} on {class_weights.device}"
            )


def weighted(labels: Tensor, sources: Tensor, shares: Tensor, *, free: bool = False) -> Targets:
    """Mix soft labels of samples that have several sources.

    Args:
        labels: (B, num_classes) floating point.
        sources: (B, K) int64, indices into the batch.
        shares: (B, K) float32, how much of each sample comes from each source; rows sum to 1.
        free: Whether the rows of `shares` may sum to something else.

    Returns:
        Targets with K = num_classes.
    """
    # Not a matrix product: autocast would take it to half precision.
    weights = (shares.unsqueeze(-1) * labels.float()[sources]).sum(dim=1)
    classes = torch.arange(labels.shape[1], device=labels.device).expand(labels.shape[0], -1)
    return Targets(classes, weights, free=free)
