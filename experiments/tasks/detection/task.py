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
        return self._summary(found, torch.from_numpy(targets))

    @torch.inference_mode()
    def measure_split(
        self, network: nn.Module, batches: Batches, ranks: Ranks = ALONE
    ) -> tuple[dict[str, float | None], Arrays]:
        network.eval()
        here = [
            (self._detector.detections(network(images)).cpu(), targets.cpu())
            if len(targets)
            else None
            for images, targets in batches
        ]
        every = [one for one in ranks.interleave(here) if one is not None]
        if not ranks.leads:
            return {}, {}
        if not every:
            raise UserError("no image of the split could be read")
        found, truth = (torch.cat(part) for part in zip(*every, strict=True))
        return self._summary(found, truth), {"detections": found.numpy()}

    def _summary(self, found: Tensor, truth: Tensor) -> dict[str, float | None]:
        return average_precisions(found, Objects.of(truth, self._size))


IMPLEMENTATION = Detection
