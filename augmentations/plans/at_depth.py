"""A plan that is applied inside a network."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mixbench.augmentations.checks import check_images
from mixbench.augmentations.dense_targets import DenseTargets
from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.plans.detection_boxes import mix_boxes_of
from mixbench.augmentations.plans.fragments import Fragments
from mixbench.augmentations.tensor_types import keeps_type


@dataclass(frozen=True)
class AtDepth(Plan):
    """A plan that is applied to the output of a layer of a network, not to the images.

    `mix_images` returns the images unchanged; masks, boxes and labels, which are what the network
    must predict, are mixed. `mixbench.mixing_inside` mixes inside the network.

    Attributes:
        plan: The plan that is applied there, of depth 0.
        layer: The number of the layer, from 1.
    """

    plan: Plan
    layer: int

    @property
    def batch(self) -> int:
        return self.plan.batch

    @property
    def device(self) -> torch.device:
        return self.plan.device

    @property
    def depth(self) -> int:
        return self.layer

    @property
    def is_linear(self) -> bool:
        return self.plan.is_linear

    @property
    def has_free_weights(self) -> bool:
        return self.plan.has_free_weights

    def mix_images(self, images: Tensor) -> Tensor:
        check_images(images, self.batch, None, self.device)
        return images

    @keeps_type
    def mix_masks(self, masks: Tensor) -> Tensor:
        return self.plan.mix_masks(masks)

    def mix_dense(self, masks: Tensor | DenseTargets) -> DenseTargets:
        return self.plan.mix_dense(masks)

    def mix_features(self, features: Tensor) -> Tensor:
        return self.plan.mix_features(features)

    def mix_boxes(
        self,
        targets: Sequence[Mapping[str, Any]],
        *,
        visibility: float = 0.1,
        per_box: Collection[str] = (),
        min_weight: float = 0.0,
    ) -> list[dict[str, Any]]:
        return mix_boxes_of(self.plan, targets, visibility, per_box, min_weight)

    @property
    def traces_boxes(self) -> bool:
        return self.plan.traces_boxes

    def trace_boxes(self, fragments: Fragments) -> Fragments:
        return self.plan.trace_boxes(fragments)

    def sources(self) -> tuple[Tensor, Tensor]:
        return self.plan.sources()

    def changed(self) -> Tensor:
        return self.plan.changed()

    def changed_pixels(self) -> Tensor:
        return self.plan.changed_pixels()

    def changed_area(self) -> Tensor:
        return self.plan.changed_area()

    def only_where(self, apply: Tensor) -> AtDepth:
        return replace(self, plan=self.plan.only_where(apply))

    def expand(self, batch: int) -> AtDepth:
        return replace(self, plan=self.plan.expand(batch))

    def check_fields(self) -> None:
        if self.layer < 1:
            raise ValueError(f"layer: expected at least 1, got {self.layer}")
        if self.plan.depth:
            raise ValueError(f"plan: expected one of depth 0, got {self.plan.depth}")
        self.plan.check_fields()
