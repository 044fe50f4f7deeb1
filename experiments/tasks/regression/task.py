"""Regression: weighted sums of numbers, mean squared error, errors in the numbers' own unit."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.targets import Targets
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.data.dataset import Dataset, value_range
from mixbench.experiments.design.tasks import TaskInfo
from mixbench.experiments.tasks.base import Task


class Regression(Task):
    """K numbers for an image.

    The network predicts them scaled to [0, 1] over the training images, as c_mixup asks and as the
    usual learning rates suit; metrics are in the numbers' own unit.
    """

    def __init__(
        self, info: TaskInfo, config: RunConfig, dataset: Dataset, device: torch.device
    ) -> None:
        super().__init__(info, config, dataset, device)
        low, high = value_range(dataset.train.labels)
        self._low, self._span = low.to(device), (high - low).to(device)

    def seen(self, targets: Tensor) -> Tensor:
        return (targets.float() - self._low) / self._span

    def mix(self, plan: Plan, targets: Tensor) -> Targets:
        return plan.mix_labels(self.seen(targets), self.classes)

    def loss(self, targets: Targets, outputs: Tensor) -> Tensor:
        """Return the mean squared error of the weighted sums of numbers, over images and numbers.

        It differs from the weighted sum of the errors by what does not depend on the outputs, so
        that the gradient is the same.
        """
        return F.mse_loss(outputs.float(), targets.dense(self.classes))

    def scores(self, outputs: NDArray[Any], targets: NDArray[Any]) -> dict[str, float | None]:
        """Return rmse and mae in the numbers' own unit, over all of them, and the mean R².

        R² of a number is 1 - Σ(y - f)² / Σ(y - ȳ)², as in scikit-learn; None where a number is the
        same for all images.
        """
        span, low = self._span.cpu().numpy(), self._low.cpu().numpy()
        predicted = outputs.astype(np.float64) * span + low
        wanted = targets.astype(np.float64)
        errors = predicted - wanted
        spread = ((wanted - wanted.mean(axis=0)) ** 2).sum(axis=0)
        shares = (errors**2).sum(axis=0) / np.where(spread > 0, spread, 1)
        return {
            "rmse": float(np.sqrt((errors**2).mean())),
            "mae": float(np.abs(errors).mean()),
            "r2": float(1 - shares.mean()) if (spread > 0).all() else None,
        }


IMPLEMENTATION = Regression
