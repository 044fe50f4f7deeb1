"""Cross-domain: classes, with partners within or between domains; measured on the target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mixbench.augmentations.method import Method
from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.targets import Targets
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.design.tasks import TaskInfo
from mixbench.experiments.evaluation import metrics
from mixbench.experiments.evaluation.after_training import Measurements
from mixbench.experiments.models.loss import Loss
from mixbench.experiments.ranks import ALONE, Ranks
from mixbench.experiments.tasks.base import Task

_PAIRINGS = {"within": "same_class", "between": "other_class"}
_MEASURED = ("accuracy", "balanced_accuracy", "ece", "nll")


class CrossDomain(Task):
    """Targets are (B,2) int64: class and domain. The test split is the domain left out."""

    def __init__(
        self, info: TaskInfo, config: RunConfig, dataset: Dataset, device: torch.device
    ) -> None:
        super().__init__(info, config, dataset, device)
        self._loss = Loss.of(config.training, dataset.train.labels[:, 0], self.classes, device)
        mixing = None if config.task is None else config.task.mixing
        self._pairing = _PAIRINGS.get(str(mixing))

    def seen(self, targets: Tensor) -> Tensor:
        """Return the domains where partners are chosen by them, else the classes."""
        return targets[:, 0 if self._pairing is None else 1]

    def paired(self, method: Method) -> Method:
        return method if self._pairing is None else _paired(method, self._pairing)

    def mix(self, plan: Plan, targets: Tensor) -> Targets:
        return plan.mix_labels(targets[:, 0], self.classes)

    def loss(self, targets: Targets, outputs: Tensor) -> Tensor:
        return self._loss(targets, outputs)

    def scores(self, outputs: NDArray[Any], targets: NDArray[Any]) -> dict[str, float | None]:
        found = metrics.measure(outputs, targets[:, 0], self.config.evaluation.ece_bins)[0]
        return {name: found[name] for name in _MEASURED}

    def measure(
        self,
        network: nn.Module,
        dataset: Dataset,
        beat: Callable[[], None],
        ranks: Ranks = ALONE,
    ) -> Measurements:
        measured = super().measure(network, dataset, beat, ranks)
        named = {
            f"target/{name.removeprefix('test/')}" if name.startswith("test/") else name: value
            for name, value in measured.metrics.items()
        }
        return Measurements(named, measured.curves, measured.predictions)


@lru_cache(maxsize=64)
def _paired(method: Method, pairing: str) -> Method:
    """Return the method, with partners by the labels that it sees: those of domains."""
    if method.name == "none":
        return method
    inner: tuple[Method, ...] = getattr(method, "methods", ())
    changes: dict[str, Any] = {"pairing": pairing}
    if inner:
        changes = {"methods": tuple(_paired(one, pairing) for one in inner)}
    return replace(method, **changes)


IMPLEMENTATION = CrossDomain
