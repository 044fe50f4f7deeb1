"""Segmentation: masks move and mix with their images; cross-entropy of each pixel."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mixbench.augmentations import Method
from mixbench.augmentations.dense_targets import DenseTargets
from mixbench.augmentations.plans.base import Plan
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.data.mask_pictures import masks_for
from mixbench.experiments.design.tasks import TaskInfo
from mixbench.experiments.errors import UserError
from mixbench.experiments.evaluation.predict import Batches
from mixbench.experiments.models.loss import class_weights
from mixbench.experiments.ranks import ALONE, Ranks
from mixbench.experiments.tasks.base import Arrays, Task
from mixbench.experiments.tasks.segmentation.scores import (
    IGNORED,
    Counts,
    count,
    sum_of,
    summarise,
)


class Segmentation(Task):
    """A class for every pixel. Targets are (B,2,H,W) uint8: classes, and objects of the image."""

    def __init__(
        self, info: TaskInfo, config: RunConfig, dataset: Dataset, device: torch.device
    ) -> None:
        super().__init__(info, config, dataset, device)
        pixels = dataset.train.labels[:, 0].flatten()
        weights = class_weights(config.training, pixels[pixels != IGNORED].long(), self.classes)
        self._class_weights = None if weights is None else weights.to(device)

    def seen(self, targets: Tensor) -> Tensor | None:  # noqa: ARG002
        return None

    def maps(self, targets: Tensor) -> Tensor:
        # 255 becomes 0 and so is what comes in from outside: ignored, whatever class 0 is.
        return torch.stack([targets[:, 0] + 1, targets[:, 1]], dim=1)

    def with_maps(self, targets: Tensor, maps: Tensor) -> Tensor:  # noqa: ARG002
        return torch.stack([maps[:, 0] - 1, maps[:, 1]], dim=1)

    def masks(self, method: Method, targets: Tensor) -> Tensor:
        return masks_for(method, targets)

    def mix(self, plan: Plan, targets: Tensor) -> DenseTargets:
        return plan.mix_dense(targets[:, 0])

    def loss(self, targets: DenseTargets, outputs: Tensor) -> Tensor:
        """Return the mean over the batch's pixels that count; with class weights too.

        So how much a pixel counts does not depend on the classes of the others.
        """
        weights = self._class_weights
        if weights is None:
            return targets.cross_entropy(outputs)
        losses = targets.cross_entropy(outputs, reduction="none", class_weights=weights)
        counted = (targets.weights * (targets.labels != IGNORED)).sum(1)
        return losses.sum() / counted.sum().clamp(min=1)

    def scores(self, outputs: NDArray[Any], targets: NDArray[Any]) -> dict[str, float | None]:
        return summarise([_count(torch.from_numpy(outputs), torch.from_numpy(targets))])

    @torch.inference_mode()
    def measure_split(
        self, network: nn.Module, batches: Batches, ranks: Ranks = ALONE
    ) -> tuple[dict[str, float | None], Arrays]:
        network.eval()
        here = [
            _count(network(images), targets).tensors() if len(targets) else None
            for images, targets in batches
        ]
        every = [Counts(*one) for one in ranks.interleave(here) if one is not None]
        if not ranks.leads:
            return {}, {}
        if not every:
            raise UserError("no image of the split could be read")
        return summarise(every), {"confusion": sum_of([one.confusion for one in every]).numpy()}


def _count(outputs: Tensor, targets: Tensor) -> Counts:
    return count(outputs, targets[:, 0], targets[:, 1])


IMPLEMENTATION = Segmentation
