"""Several labels for an image: binary cross-entropy on mixed labels, mAP and F1."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.targets import Targets
from mixbench.experiments.tasks.base import Task


class MultiLabel(Task):
    """K labels for an image, each there (1) or not (0)."""

    def seen(self, targets: Tensor) -> Tensor:
        return targets.float()

    def mix(self, plan: Plan, targets: Tensor) -> Targets:
        return plan.mix_labels(targets.float(), self.classes)

    def loss(self, targets: Targets, outputs: Tensor) -> Tensor:
        """Return the mean binary cross-entropy over images and labels."""
        return targets.binary_cross_entropy(outputs)

    def scores(self, outputs: NDArray[Any], targets: NDArray[Any]) -> dict[str, float | None]:
        """Return the metrics of logits (N,K) for labels (N,K) of 0 and 1.

        `map_labels` is the mean over labels of the average precision Σ (R_n - R_{n-1}) P_n, as in
        scikit-learn; labels that no image has are left out. F1 and `subset_accuracy`, the share
        of images with all labels right, are at a probability of 1/2. A label that is neither there
        nor predicted has no part in `macro_f1`.
        """
        from sklearn.metrics import average_precision_score

        wanted, logits = targets > 0.5, outputs.astype(np.float64)
        there = np.nonzero(wanted.any(axis=0))[0]
        precisions = [average_precision_score(wanted[:, k], logits[:, k]) for k in there]
        given = logits > 0
        hits = (wanted & given).sum(axis=0)
        total = wanted.sum(axis=0) + given.sum(axis=0)
        asked = total > 0
        losses = np.logaddexp(0, logits) - wanted * logits
        return {
            "map_labels": float(np.mean(precisions)) if precisions else None,
            "micro_f1": float(2 * hits.sum() / total.sum()) if total.any() else None,
            "macro_f1": float((2 * hits[asked] / total[asked]).mean()) if asked.any() else None,
            "subset_accuracy": float((wanted == given).all(axis=1).mean()),
            "bce": float(losses.mean()),
        }


IMPLEMENTATION = MultiLabel
