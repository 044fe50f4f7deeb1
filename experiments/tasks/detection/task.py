"""Detection: boxes move and mix with their images, and weigh what mixing leaves of them."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mixbench.augmentations import Method
from mixbench.augmentations.box_targets import BoxTargets
from mixbench.augmentations.plans.base import Plan
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.data.crops import Moves
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.data.mixed_objects import mixed_boxes
from mixbench.experiments.data.object_rows import Objects
from mixbench.experiments.design.tasks import TaskInfo
from mixbench.experiments.errors import UserError
from mixbench.experiments.evaluation.predict import Batches
from mixbench.experiments.models.detectors.registry import detector
from mixbench.experiments.ranks import ALONE, Ranks
from mixbench.experiments.tasks.base import Arrays, Task
from mixbench.experiments.tasks.detection.scores import average_precisions


class Detection(Task):
    """Boxes of objects. Targets are rows of `data.object_rows`."""

    def __init__(
        self, info: TaskInfo, config: RunConfig, dataset: Dataset, device: torch.device
    ) -> None:
        super().__init__(info, config, dataset, device)
        self._size = dataset.shape[1:]
        self._detector = detector(config.model.name, self._size, self.classes)

    def seen(self, targets: Tensor) -> Tensor | None:  # noqa: ARG002
        return None

    def moved(self, targets: Tensor, moves: Moves) -> Tensor:
        return Objects.of(targets, self._size).moved(moves, self._size).rows()

    def maps(self, targets: Tensor) -> Tensor | None:
        maps = Objects.of(targets, self._size).maps
        return None if maps is None else maps.unsqueeze(1)

    def with_maps(self, targets: Tensor, maps: Tensor) -> Tensor:
        return Objects.of(targets, self._size).with_maps(maps[:, 0]).rows()

    def masks(self, method: Method, targets: Tensor) -> Tensor | None:  # noqa: ARG002
        return Objects.of(targets, self._size).maps

    def mix(self, plan: Plan, targets: Tensor) -> BoxTargets:
        return mixed_boxes(plan, Objects.of(targets, self._size))

    def loss(self, targets: BoxTargets, outputs: Tensor) -> Tensor:
        """Return the sum of the losses of all places, divided by the weight of those that find."""
        return self._detector.loss(outputs, targets)

    def scores(self, outputs: NDArray[Any], targets: NDArray[Any]) -> dict[str, float | None]:
        found = self._detector.detections(torch.from_numpy(outputs))
        return average_precisions(found, Objects.of(torch.from_numpy(targets), self._size))

    def score(self, network: nn.Module, batches: Batches, ranks: Ranks = ALONE) -> dict[str, float]:
        parts = self._found(network, batches, ranks)
        if not ranks.leads:
            return {}
        metrics = self._precisions(*parts, hidden=False)
        # Where there is nothing to be found, nothing is wrong.
        return {name: metrics[name] or 0.0 for name, _ in self.info.validation}

    def measure_split(
        self, network: nn.Module, batches: Batches, ranks: Ranks = ALONE
    ) -> tuple[dict[str, float | None], Arrays]:
        parts = self._found(network, batches, ranks)
        if not ranks.leads:
            return {}, {}
        return self._precisions(*parts, hidden=True), {"detections": parts[0].numpy()}

    @torch.inference_mode()
    def _found(self, network: nn.Module, batches: Batches, ranks: Ranks) -> tuple[Tensor, Tensor]:
        """What is found in a split, and its targets; nothing on other ranks than 0."""
        network.eval()
        here = [
            (self._detector.detections(network(images)).cpu(), targets.cpu())
            if len(targets)
            else None
            for images, targets in batches
        ]
        every = [one for one in ranks.interleave(here) if one is not None]
        if not ranks.leads:
            return torch.empty(0), torch.empty(0)
        if not every:
            raise UserError("no image of the split could be read")
        found, targets = zip(*every, strict=True)
        return torch.cat(found), torch.cat(targets)

    def _precisions(
        self, found: Tensor, targets: Tensor, *, hidden: bool
    ) -> dict[str, float | None]:
        return average_precisions(found, Objects.of(targets, self._size), hidden=hidden)


IMPLEMENTATION = Detection
