"""What plans share that change values and move nothing: exchanged moments, views."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor

from mixbench.augmentations.checks import check_masks
from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.plans.detection_boxes import mix_targets
from mixbench.augmentations.plans.fragments import Fragments
from mixbench.augmentations.tensor_types import keeps_type


class InPlace(Plan):
    """A plan that leaves shapes where they are: masks and boxes stay as they are."""

    @property
    def is_linear(self) -> bool:
        return False

    @keeps_type
    def mix_masks(self, masks: Tensor) -> Tensor:
        check_masks(masks, self.batch, self.device)
        return masks.clone()

    def mix_boxes(
        self,
        targets: Sequence[Mapping[str, Any]],
        *,
        visibility: float = 0.1,
        per_box: Collection[str] = (),
        min_weight: float = 0.0,
    ) -> list[dict[str, Any]]:
        return mix_targets([self], targets, visibility, per_box, min_weight)

    @property
    def traces_boxes(self) -> bool:
        return True

    def trace_boxes(self, fragments: Fragments) -> Fragments:
        return fragments
