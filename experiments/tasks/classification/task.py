"""Classification: weighted labels, cross-entropy, accuracy with calibration and occlusion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mixbench.augmentations.targets import Targets
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.design.tasks import TaskInfo
from mixbench.experiments.evaluation import after_training, metrics
from mixbench.experiments.evaluation.after_training import Measurements
from mixbench.experiments.evaluation.predict import Batches, score
from mixbench.experiments.models.loss import Loss
from mixbench.experiments.ranks import ALONE, Ranks
from mixbench.experiments.tasks.base import Task


class Classification(Task):
    """One class for an image."""

    def __init__(
        self, info: TaskInfo, config: RunConfig, dataset: Dataset, device: torch.device
    ) -> None:
        super().__init__(info, config, dataset, device)
        self._loss = Loss.of(config.training, dataset.train.labels, self.classes, device)

    def loss(self, targets: Targets, outputs: Tensor) -> Tensor:
        return self._loss(targets, outputs)

    def scores(self, outputs: NDArray[Any], targets: NDArray[Any]) -> dict[str, float | None]:
        return {**metrics.measure(outputs, targets, self.config.evaluation.ece_bins)[0]}

    def score(self, network: nn.Module, batches: Batches, ranks: Ranks = ALONE) -> dict[str, float]:
        return score(network, batches, ranks)

    def measure(
        self,
        network: nn.Module,
        dataset: Dataset,
        beat: Callable[[], None],
        ranks: Ranks = ALONE,
    ) -> Measurements:
        return after_training.measure(network, dataset, self.config, beat, ranks)

    def measure_average(
        self,
        network: nn.Module,
        dataset: Dataset,
        beat: Callable[[], None],
        ranks: Ranks,
        name: str,
    ) -> dict[str, float | None]:
        return after_training.measure_average(network, dataset, self.config, beat, ranks, name)


IMPLEMENTATION = Classification
