"""The labels of a mixed batch: a few classes per sample, each with its weight."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Targets:
    """Weighted labels.

    labels: (B, K) int64. weights: (B, K) float32, rows sum to 1. K is 1 where no label is mixed,
    2 for pairs, 4 for RICAP, and num_classes when the labels were already soft.
    """

    labels: Tensor
    weights: Tensor

    def dense(self, num_classes: int) -> Tensor:
        """Soft labels (B, num_classes) float32; the weights of a class that occurs twice add up."""
        dense = self.weights.new_zeros(self.labels.shape[0], num_classes)
        return dense.scatter_add_(1, self.labels, self.weights)

    def cross_entropy(
        self, logits: Tensor, label_smoothing: float = 0.0, reduction: str = "mean"
    ) -> Tensor:
        """Cross-entropy of `logits` (B, num_classes) with the soft labels, in float32.

        Equal to `torch.nn.functional.cross_entropy` with `dense(num_classes)`, and to the weighted
        sum of index losses, in one pass over the log-probabilities. reduction: "mean" (a number),
        "sum" (a number) or "none" (B,).
        """
        log_prob = F.log_softmax(logits.float(), dim=1)
        loss = -(self.weights * log_prob.gather(1, self.labels)).sum(dim=1)
        if label_smoothing:
            loss = (1 - label_smoothing) * loss - label_smoothing * log_prob.mean(dim=1)
        if reduction == "mean":
            return loss.mean()
        if reduction == "sum":
            return loss.sum()
        if reduction == "none":
            return loss
        raise ValueError(f"reduction: got {reduction!r}, expected mean, sum or none")


def check_labels(labels: Tensor, batch: int, num_classes: int | None) -> None:
    """Raise ValueError unless `labels` is (batch,) int64 or (batch, num_classes) floating point."""
    if labels.dim() == 1 and labels.dtype == torch.int64 and labels.shape[0] == batch:
        # Reading values from another device would make the host wait for it.
        if num_classes is not None and labels.device.type == "cpu" and batch:
            low, high = (int(value) for value in labels.aminmax())
            if low < 0 or high >= num_classes:
                raise ValueError(
                    f"labels: expected classes from 0 to {num_classes - 1} (num_classes="
                    f"{num_classes}), got values from {low} to {high}"
                )
        return
    if labels.dim() == 2 and labels.is_floating_point() and labels.shape[0] == batch:
        if num_classes is None or labels.shape[1] == num_classes:
            return
    soft = "num_classes" if num_classes is None else num_classes
    raise ValueError(
        f"labels: expected ({batch},) int64 or ({batch}, {soft}) floating point, "
        f"got {tuple(labels.shape)} {labels.dtype}".replace("torch.", "")
    )


def weighted(labels: Tensor, sources: Tensor, shares: Tensor) -> Targets:
    """Targets of samples made of several sources.

    labels: (B,) int64 or (B, num_classes) float. sources: (B, K) index into the batch.
    shares: (B, K) float32, how much of sample b comes from each source, rows sum to 1.
    """
    if labels.dim() == 1:
        return Targets(labels[sources], shares)
    # Not a matrix product: autocast would take it to half precision.
    weights = (shares.unsqueeze(-1) * labels.float()[sources]).sum(dim=1)
    classes = torch.arange(labels.shape[1], device=labels.device).expand(labels.shape[0], -1)
    return Targets(classes, weights)
