"""Plans made of other plans: one after another, one of several per sample.

They mix nothing themselves: images, labels and features go through the plans that they hold.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mixbench.augmentations.checks import check_features, check_images, describe
from mixbench.augmentations.dense_targets import DenseTargets, dense_targets, together
from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.plans.blend import Blend
from mixbench.augmentations.plans.detection_boxes import mix_boxes_of, mix_in_turn, mix_targets
from mixbench.augmentations.plans.fragments import Fragments
from mixbench.augmentations.tensor_types import keeps_type


@dataclass(frozen=True)
class Chain(Plan):
    """Plans applied one after another, each to the result of the one before it.

    A partner has the labels that the earlier stages gave it: K is the product of the stages' K.
    Shares are exact: if two stages differ between pixels (a box in a box), they are counted pixel
    by pixel. Shares of a stage with declared weights, and of one inside the network, are
    multiplied.

    Attributes:
        stages: At least one plan, all for the same batch, by depth: those for the images first
            (`chain` sorts them).
    """

    stages: tuple[Plan, ...]

    @property
    def batch(self) -> int:
        return max(stage.batch for stage in self.stages)

    @property
    def device(self) -> torch.device:
        return self.stages[0].device

    @property
    def depth(self) -> int:
        return max(stage.depth for stage in self.stages)

    @property
    def is_spatial(self) -> bool:
        return any(stage.is_spatial for stage in self.stages)

    @property
    def is_linear(self) -> bool:
        return all(stage.is_linear for stage in self.stages)

    @property
    def has_free_weights(self) -> bool:
        return any(stage.has_free_weights for stage in self.stages)

    @keeps_type
    def mix_images(self, images: Tensor) -> Tensor:
        for stage in self.stages:
            images = stage.mix_images(images)
        return images

    @keeps_type
    def mix_masks(self, masks: Tensor) -> Tensor:
        for stage in self.stages:
            masks = stage.mix_masks(masks)
        return masks

    def mix_dense(self, masks: Tensor | DenseTargets) -> DenseTargets:
        targets = dense_targets(masks, self.batch, self.device)
        for stage in self.stages:
            targets = stage.mix_dense(targets)
        return targets

    def mix_features(self, features: Tensor) -> Tensor:
        check_features(features, self.batch, self.device)
        if features.dim() == 2:
            # With the shares counted pixel by pixel, as for labels.
            return self._mix_vectors(features)
        for stage in self.stages:
            features = stage.mix_features(features)
        return features

    def mix_boxes(
        self,
        targets: Sequence[Mapping[str, Any]],
        *,
        visibility: float = 0.1,
        per_box: Collection[str] = (),
        min_weight: float = 0.0,
    ) -> list[dict[str, Any]]:
        return mix_in_turn(self.stages, targets, visibility, per_box, min_weight)

    @property
    def traces_boxes(self) -> bool:
        return all(stage.traces_boxes for stage in self.stages)

    def trace_boxes(self, fragments: Fragments) -> Fragments:
        for stage in self.stages:
            fragments = stage.trace_boxes(fragments)
        return fragments

    def sources(self) -> tuple[Tensor, Tensor]:
        index, share = self.stages[0].sources()
        for stage in self.stages[1:]:
            via, part = stage.sources()
            index = index[via].flatten(1)
            share = (part.unsqueeze(2) * share[via]).flatten(1)
        if sum(stage.is_spatial for stage in self.stages) > 1:
            whole = torch.ones(self.batch, 1, 1, 1, device=self.device, dtype=torch.float32)
            share = self.pixel_shares(whole).mean(dim=(-2, -1)).flatten(1)
        return index, share

    def pixel_shares(self, before: Tensor) -> Tensor:
        sources = 1
        for stage in self.stages:
            shares = stage.pixel_shares(before)
            sources *= shares.shape[1]
            before = shares.flatten(1, 2)
        return torch.unflatten(before, 1, (sources, -1))

    def changed(self) -> Tensor:
        changed = self.stages[0].changed()
        for stage in self.stages[1:]:
            changed = changed | stage.changed()
        return changed

    def changed_pixels(self) -> Tensor:
        changed = self.stages[0].changed_pixels()
        for stage in self.stages[1:]:
            changed = changed | stage.changed_pixels()
        return changed

    def only_where(self, apply: Tensor) -> Chain:
        return Chain(tuple(stage.only_where(apply) for stage in self.stages))

    def expand(self, batch: int) -> Chain:
        return Chain(tuple(stage.expand(batch) for stage in self.stages))

    def check_fields(self) -> None:
        if not self.stages:
            raise ValueError("stages: expected at least one plan, got none")
        batches = {stage.batch for stage in self.stages}
        depths = [stage.depth for stage in self.stages]
        if len(batches) > 1 or depths != sorted(depths):
            raise ValueError(
                "stages: expected plans for the same batch, by depth, got batches of "
                f"{sorted(batches)} at depths {depths}"
            )
        for stage in self.stages:
            stage.check_fields()


@dataclass(frozen=True)
class Select(Plan):
    """One of several plans for each sample; partners are the samples as they were in the batch.

    K is the largest K of the plans; the others are padded with weight 0.

    Attributes:
        choice: (B,) int64, which of `plans` each sample follows.
        plans: At least one, of the same depth, or of depth 0 where they do nothing.
    """

    choice: Tensor
    plans: tuple[Plan, ...]

    @property
    def batch(self) -> int:
        return self.choice.shape[0]

    @property
    def device(self) -> torch.device:
        return self.choice.device

    @property
    def depth(self) -> int:
        return max(plan.depth for plan in self.plans)

    @property
    def is_spatial(self) -> bool:
        return any(plan.is_spatial for plan in self.plans)

    @property
    def is_linear(self) -> bool:
        return all(plan.is_linear for plan in self.plans)

    @property
    def has_free_weights(self) -> bool:
        return any(plan.has_free_weights for plan in self.plans)

    @keeps_type
    def mix_images(self, images: Tensor) -> Tensor:
        if self.depth:
            check_images(images, self.batch, None, self.device)
            return images
        return self._picked([plan.mix_images(images) for plan in self.plans])

    @keeps_type
    def mix_masks(self, masks: Tensor) -> Tensor:
        return self._picked([plan.mix_masks(masks) for plan in self.plans])

    def mix_dense(self, masks: Tensor | DenseTargets) -> DenseTargets:
        labels, weights = together([plan.mix_dense(masks) for plan in self.plans])
        return DenseTargets(self._picked(labels), self._picked(weights))

    def mix_features(self, features: Tensor) -> Tensor:
        return self._picked([plan.mix_features(features) for plan in self.plans])

    def mix_boxes(
        self,
        targets: Sequence[Mapping[str, Any]],
        *,
        visibility: float = 0.1,
        per_box: Collection[str] = (),
        min_weight: float = 0.0,
    ) -> list[dict[str, Any]]:
        if self.traces_boxes:
            return mix_targets([self], targets, visibility, per_box, min_weight)
        mixed = [
            mix_boxes_of(plan, targets, visibility, per_box, min_weight) for plan in self.plans
        ]
        # The host waits anyway: the number of boxes decides the shapes.
        return [mixed[which][sample] for sample, which in enumerate(self.choice.tolist())]

    @property
    def traces_boxes(self) -> bool:
        return all(plan.traces_boxes for plan in self.plans)

    def trace_boxes(self, fragments: Fragments) -> Fragments:
        choice = self.choice.cpu().numpy()
        return Fragments.together(
            [
                plan.trace_boxes(fragments).shown_by(choice == which)
                for which, plan in enumerate(self.plans)
            ]
        )

    def sources(self) -> tuple[Tensor, Tensor]:
        of_each = [plan.sources() for plan in self.plans]
        most = max(share.shape[1] for _, share in of_each)
        itself = torch.arange(self.batch, device=self.device).unsqueeze(1)
        indices, shares = [], []
        for index, share in of_each:
            missing = most - share.shape[1]
            indices.append(torch.cat([index, itself.expand(-1, missing)], dim=1))
            shares.append(F.pad(share, (0, missing)))
        return self._picked(indices), self._picked(shares)

    def pixel_shares(self, before: Tensor) -> Tensor:
        of_each = [plan.pixel_shares(before) for plan in self.plans]
        most = max(shares.shape[1] for shares in of_each)
        return self._picked([_with_sources(shares, most) for shares in of_each])

    def changed(self) -> Tensor:
        return self._picked([plan.changed() for plan in self.plans])

    def changed_pixels(self) -> Tensor:
        return self._picked([plan.changed_pixels() for plan in self.plans])

    def only_where(self, apply: Tensor) -> Select:
        return replace(self, plans=tuple(plan.only_where(apply) for plan in self.plans))

    def expand(self, batch: int) -> Select:
        plans = tuple(plan.expand(batch) for plan in self.plans)
        return Select(self.choice.expand(batch), plans)

    def check_fields(self) -> None:
        if not self.plans or {plan.batch for plan in self.plans} != {self.batch}:
            raise ValueError(
                f"plans: expected at least one, all for a batch of {self.batch}, got batches of "
                f"{[plan.batch for plan in self.plans]}"
            )
        if len({plan.depth for plan in self.plans} - {0}) > 1:
            raise ValueError(
                "plans: expected one depth, or 0, got depths of "
                f"{[plan.depth for plan in self.plans]}"
            )
        if self.choice.dtype != torch.int64 or self.choice.dim() != 1:
            raise ValueError(f"choice: expected (B,) int64, got {describe(self.choice)}")
        low, high = (int(value) for value in self.choice.aminmax())
        if low < 0 or high >= len(self.plans):
            raise ValueError(
                f"choice: expected values from 0 to {len(self.plans) - 1}, got {low} to {high}"
            )
        for plan in self.plans:
            plan.check_fields()

    def _picked(self, results: Sequence[Tensor]) -> Tensor:
        """Return row b of `results[choice[b]]` for each sample b; results are broadcast."""
        picked = results[0]
        for which, result in enumerate(results[1:], start=1):
            follows = (self.choice == which).reshape(-1, *[1] * (result.dim() - 1))
            picked = torch.where(follows, result, picked)
        return picked


def chain(plans: Iterable[Plan]) -> Plan:
    """Apply plans one after another: sorted by depth, the images first, else in the order given.

    Args:
        plans: At least one, for the same batch; chains are split into their stages.

    Returns:
        A `Chain`, or the plan itself if there is only one.
    """
    stages = [stage for plan in plans for stage in stages_of(plan)]
    stages.sort(key=lambda stage: stage.depth)
    return stages[0] if len(stages) == 1 else Chain(tuple(stages))


def select(choice: Tensor, plans: Sequence[Plan]) -> Plan:
    """Apply one of the plans to each sample.

    Plans of several depths become a chain: a layer mixes the features of images to which their own
    plans for the images have been applied.

    Args:
        choice: (B,) int64, an index into `plans` for each sample.
        plans: At least one, all for a batch of B.
    """
    depths = sorted({stage.depth for plan in plans for stage in stages_of(plan)})
    return chain([Select(choice, tuple(_at(plan, depth) for plan in plans)) for depth in depths])


def stages_of(plan: Plan) -> tuple[Plan, ...]:
    """Return the plans that `plan` applies one after another, each at its own depth."""
    return plan.stages if isinstance(plan, Chain) else (plan,)


def _at(plan: Plan, depth: int) -> Plan:
    stages = [stage for stage in stages_of(plan) if stage.depth == depth]
    if stages:
        return chain(stages)
    # A blend with keep 1 changes nothing.
    keep = torch.ones(1, 1, 1, 1, device=plan.device, dtype=torch.float32)
    return Blend(keep.expand(plan.batch, -1, -1, -1))


def _with_sources(shares: Tensor, sources: int) -> Tensor:
    """Pad `shares` (B, K, M, h, w) with zeros to so many sources."""
    missing = shares.new_zeros(shares.shape[0], sources - shares.shape[1], *shares.shape[2:])
    return torch.cat([shares, missing], dim=1)
