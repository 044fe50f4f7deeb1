"""The loss of a training: from logits and mixed labels to a number for each batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mixbench.augmentations.targets import Targets
from mixbench.experiments.config.training import TrainingConfig


@dataclass(frozen=True)
class Loss:
    """What `training.loss` names, with its smoothing and threshold, and the weights of classes."""

    training: TrainingConfig
    class_weights: Tensor | None = None

    @classmethod
    def of(
        cls, training: TrainingConfig, labels: Tensor, classes: int, device: torch.device
    ) -> Loss:
        """Return the loss of a training on images with these labels (N,), on the CPU."""
        weights = class_weights(training, labels, classes)
        return cls(training, None if weights is None else weights.to(device))

    def __call__(self, targets: Targets, logits: Tensor) -> Tensor:
        """Return the mean over the batch, and with bce over the classes, in float32.

        With class weights too the sum is divided by the number of images: how much an image counts
        then depends neither on those that share its batch nor on how ranks divide that.
        """
        training = self.training
        reduction = "mean" if self.class_weights is None else "none"
        if training.loss == "bce":
            loss = targets.binary_cross_entropy(
                logits,
                reduction,
                label_smoothing=training.label_smoothing,
                threshold=training.bce_threshold,
                class_weights=self.class_weights,
            )
        else:
            loss = targets.cross_entropy(
                logits, training.label_smoothing, reduction, self.class_weights
            )
        return loss if self.class_weights is None else loss.mean()


def class_weights(training: TrainingConfig, labels: Tensor, classes: int) -> Tensor | None:
    """Return the weights of classes (K,), whose mean over the training images is 1; None for equal.

    A class without training images has the weight that was given, or 1.
    """
    if training.class_weights is None:
        return None
    counts = torch.bincount(labels, minlength=classes).double()
    if training.class_weights == "balanced":
        weights = torch.where(counts > 0, 1 / counts, 1)
        mean = (weights * counts).sum() / counts.sum()
        return torch.where(counts > 0, weights / mean, 1).float()
    weights = torch.tensor(training.class_weights, dtype=torch.float64)
    return (weights * counts.sum() / (weights * counts).sum()).float()
