"""The labels of a mixed batch: a few classes per sample, each with its weight, and their losses.

A loss of a mixed sample is the weighted sum of the losses that its source labels would have. Every
rule follows from that. A source whose label is ignored (-100) has no loss: its weight is left out,
not given to the other labels, and the mean divides by the weight that is left.
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
    """Weighted labels.

    labels: (B, K) int64, classes, or -100 for a source that has no label. weights: (B, K) float32,
    rows sum to 1 (multi-label: to what the mixed rows sum to). K is 1 where no label is mixed, 2
    for pairs, 4 for RICAP, and num_classes when the labels were already soft or multi-label.
    """

    labels: Tensor
    weights: Tensor

    def dense(self, num_classes: int) -> Tensor:
        """Soft labels (B, num_classes) float32; the weights of a class that occurs twice add up.

        The weight of an ignored label goes to no class: the row sums to what is left.
        """
        classes, weights, _ = self._without_ignored()
        dense = weights.new_zeros(classes.shape[0], num_classes)
        return dense.scatter_add_(1, classes, weights)

    def cross_entropy(
        self,
        logits: Tensor,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
        class_weights: Tensor | None = None,
    ) -> Tensor:
        """Cross-entropy of `logits` (B, num_classes) with the weighted labels, in float32.

        The weighted sum of `torch.nn.functional.cross_entropy`'s index losses, in one pass over the
        log-probabilities; so with label smoothing, class weights (num_classes,) and the ignored
        label -100. reduction: "none" (B,), "sum" (a number) or "mean" (a number).

        The mean is torch's for index labels: the sum divided by the weight that counts, which is
        every label's weight times its class weight, without ignored labels. That is B where there
        are neither class weights nor ignored labels; with only ignored labels it is NaN, as there.
        With class weights it differs from torch's own for soft labels, which divides by B.
        Raises ValueError for logits, class weights or a reduction of another kind.
        """
        self._check(logits, reduction, "class_weights", class_weights)
        log_prob = F.log_softmax(logits.float(), dim=1)
        classes, weights, ignored = self._without_ignored()
        even = log_prob
        if class_weights is not None:
            class_weights = class_weights.float()
            weights = weights * class_weights[classes]
            even = log_prob * class_weights
        # What weighs nothing has no loss, also where its probability is 0: not 0 times infinity.
        picked = log_prob.gather(1, classes).masked_fill(weights == 0, 0)
        loss = -(weights * picked).sum(dim=1)
        if label_smoothing:
            even_loss = (1 - ignored) * even.mean(dim=1)
            loss = (1 - label_smoothing) * loss - label_smoothing * even_loss
        if reduction == "mean":
            # Not the sum of the weights where that is B but for rounding: it must be B.
            plain = loss.shape[0] - ignored.sum()
            return loss.sum() / (plain if class_weights is None else weights.sum())
        return loss.sum() if reduction == "sum" else loss

    def binary_cross_entropy(
        self, logits: Tensor, reduction: str = "mean", pos_weight: Tensor | None = None
    ) -> Tensor:
        """One binary cross-entropy per class, for multi-label targets, in float32.

        logits: (B, num_classes). The weighted sum of the losses that
        `torch.nn.functional.binary_cross_entropy_with_logits` has for each source's labels,
        `pos_weight` (num_classes,) included; an index label stands for its one-hot row. reduction:
        "none" (B, num_classes), "sum" (a number) or "mean" (a number: the sum divided by
        num_classes and by the weight of the labels that are not ignored, which is B without any).
        Raises ValueError for logits, pos_weight or a reduction of another kind.
        """
        self._check(logits, reduction, "pos_weight", pos_weight)
        logits = logits.float()
        present = self.dense(logits.shape[1])
        _, _, ignored = self._without_ignored()
        absent = (1 - ignored).unsqueeze(1) - present
        if pos_weight is not None:
            present = present * pos_weight.float()
        loss = present * F.softplus(-logits) + absent * F.softplus(logits)
        if reduction == "mean":
            return loss.sum() / ((loss.shape[0] - ignored.sum()) * loss.shape[1])
        return loss.sum() if reduction == "sum" else loss

    def _without_ignored(self) -> tuple[Tensor, Tensor, Tensor]:
        """Classes and weights, 0 where ignored; and how much of each sample is ignored: (B,)."""
        ignored = self.labels == IGNORED
        weights = self.weights.masked_fill(ignored, 0)
        return self.labels.masked_fill(ignored, 0), weights, (self.weights * ignored).sum(dim=1)

    def _check(
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


def weighted(labels: Tensor, sources: Tensor, shares: Tensor) -> Targets:
    """Targets of samples made of several sources, from soft labels.

    labels: (B, num_classes) float. sources: (B, K) index into the batch. shares: (B, K) float32,
    how much of sample b comes from each source, rows sum to 1.
    """
    # Not a matrix product: autocast would take it to half precision.
    weights = (shares.unsqueeze(-1) * labels.float()[sources]).sum(dim=1)
    classes = torch.arange(labels.shape[1], device=labels.device).expand(labels.shape[0], -1)
    return Targets(classes, weights)
