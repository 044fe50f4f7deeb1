"""The loss of a training: from logits and mixed labels to a number for each batch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mixbench.augmentations.targets import Targets
from mixbench.experiments.config.training import TrainingConfig


@dataclass(frozen=True)
class Loss:
    """What `training.loss` names, with its label smoothing and threshold."""

    training: TrainingConfig

    def __call__(self, targets: Targets, logits: Tensor) -> Tensor:
        """Return the mean over the batch, and with bce over the classes, in float32."""
        training = self.training
        if training.loss == "bce":
            return targets.binary_cross_entropy(
                logits,
                label_smoothing=training.label_smoothing,
                threshold=training.bce_threshold,
            )
        return targets.cross_entropy(logits, training.label_smoothing)
