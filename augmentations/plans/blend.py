"""Plans that are a weighted mean of each sample and a partner, or a fill: MixUp, FMix, GridMask."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mixbench.augmentations import pixels
from mixbench.augmentations.checks import (
    check_features,
    check_fill,
    check_images,
    check_label_weights,
    check_masks,
    check_numbers,
    check_tensor,
    check_weight,
    check_weights,
    describe,
    readable,
)
from mixbench.augmentations.dense_targets import DenseTargets, dense_targets
from mixbench.augmentations.pixels import host
from mixbench.augmentations.plans.base import Plan, expand_rows, weights_where, with_channel
from mixbench.augmentations.plans.detection_boxes import mix_targets
from mixbench.augmentations.plans.fragments import Fragments
from mixbench.augmentations.plans.patches import blend_patches
from mixbench.augmentations.tensor_types import keeps_type


@dataclass(frozen=True)
class Blend(Plan):
    """Weighted mean of each sample and a partner: out = keep * x + (1 - keep) * x[partner].

    Where `keep` is 1, a finite image is returned bit for bit.

    Attributes:
        keep: (B, 1, 1, 1), one weight per sample, or (B, 1, H, W), one per pixel; float32 in
            [0, 1].
        partner: (B,) int64, the sample that each is blended with; None to blend with `fill`.
        fill: A number, or "mean" for the batch's mean of each channel.
        weights: (B, 2) float32, the label weights of the sample and of its partner, if a method
            declares them; None for the mean of `keep`.

    Examples:
        >>> import mixbench, torch
        >>> left_half = torch.tensor([1.0, 0.0]).expand(2, 1, 2, 2)
        >>> plan = mixbench.Blend(left_half, partner=torch.tensor([1, 0]))
        >>> plan.mix_images(torch.tensor([1.0, 7.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2))[0, 0]
        tensor([[1., 7.],
                [1., 7.]])
        >>> plan.mix_labels(torch.tensor([3, 5])).weights[0]
        tensor([0.5000, 0.5000])
    """

    keep: Tensor
    partner: Tensor | None = None
    fill: float | str = 0.0
    weights: Tensor | None = None

    @property
    def batch(self) -> int:
        return self.keep.shape[0]

    @property
    def device(self) -> torch.device:
        return self.keep.device

    @property
    def is_spatial(self) -> bool:
        return self.partner is not None and self.weights is None and self._has_mask

    @property
    def is_small(self) -> bool:
        # A kind derived from this one may hold other tensors.
        return type(self) is Blend and not self._has_mask

    @keeps_type
    def mix_images(self, images: Tensor) -> Tensor:
        size = tuple(self.keep.shape[2:]) if self._has_mask else None
        check_images(images, self.batch, size, self.device)
        check_weights("keep", self.keep)
        return pixels.blend(images, self.keep, self.partner, self.fill)

    def mix_in_place(self, images: Tensor) -> None:
        own = type(self).mix_images is Blend.mix_images
        if not (own and pixels.on_host(images)):
            super().mix_in_place(images)
            return
        size = tuple(self.keep.shape[2:]) if self._has_mask else None
        check_images(images, self.batch, size, self.device)
        check_weights("keep", self.keep)
        host.blend_in_place(images, self.keep, self.partner, self.fill)

    @keeps_type
    def mix_masks(self, masks: Tensor) -> Tensor:
        check_masks(masks, self.batch, self.device)
        stacked = with_channel(masks)
        if self.partner is None:
            return masks.clone()
        check_weights("keep", self.keep)
        if masks.is_floating_point():
            mixed = pixels.blend(stacked, self._keep_at(stacked.shape[-2:]), self.partner)
        else:
            keeps = self._keep_at(stacked.shape[-2:]) >= 0.5
            mixed = torch.where(keeps, stacked, stacked[self.partner])
        return mixed.reshape(masks.shape)

    def mix_dense(self, masks: Tensor | DenseTargets) -> DenseTargets:
        given = dense_targets(masks, self.batch, self.device)
        if self.partner is None:
            return given
        check_weights("keep", self.keep)
        labels, weights = given.labels, given.weights
        keep = self._keep_at(labels.shape[-2:])
        return DenseTargets(
            torch.cat([labels, labels[self.partner]], dim=1),
            torch.cat([keep * weights, (1 - keep) * weights[self.partner]], dim=1),
        )

    def mix_features(self, features: Tensor) -> Tensor:
        check_features(features, self.batch, self.device)
        if features.dim() == 2:
            return self._mix_vectors(features)
        check_weights("keep", self.keep)
        maps = with_channel(features)
        mixed = pixels.blend(maps, self._keep_at(maps.shape[-2:]), self.partner, self.fill)
        return mixed.reshape(features.shape)

    def sources(self) -> tuple[Tensor, Tensor]:
        samples = torch.arange(self.batch, device=self.keep.device)
        return self._columns(samples, self.partner), self._shares()

    def _classes(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        others = None if self.partner is None else labels.take(self.partner)
        return self._columns(labels, others), self._shares()

    def _columns(self, first: Tensor, second: Tensor | None) -> Tensor:
        return first.unsqueeze(1).clone() if second is None else torch.stack([first, second], dim=1)

    def _shares(self) -> Tensor:
        if self.partner is None:
            return torch.ones(self.batch, 1, dtype=torch.float32, device=self.device)
        if self.weights is not None:
            return self.weights
        if self._weights_are_checked:
            return self._shares_on_host.expand(self.batch, 2)
        share = self.keep.mean(dim=(1, 2, 3)).expand(self.batch)
        return torch.stack([share, 1 - share], dim=1)

    @property
    def _weights_are_checked(self) -> bool:
        if self.partner is None:
            return True
        # A number has no gradient, so a learned weight must stay a tensor.
        plain = self.weights is None and not self.keep.requires_grad
        return plain and readable(self.keep) and host.one_row(self.keep)

    @cached_property
    def _shares_on_host(self) -> Tensor:
        """The shares of all rows, which share memory: (1, 2)."""
        row = self.keep[:1]
        share = (row.mean(dim=(1, 2, 3)) if self._has_mask else row).item()
        check_weight("weights", share)
        return torch.tensor([[share, 1 - share]], dtype=torch.float32)

    def changed(self) -> Tensor:
        part = (self.keep < 1).flatten(1).any(dim=1)
        if self.partner is None:
            return part
        samples = torch.arange(self.partner.shape[0], device=self.partner.device)
        return part & (self.partner != samples)

    def changed_pixels(self) -> Tensor:
        part = (self.keep < 1).any(dim=1).expand(self.batch, -1, -1)
        return part & self.changed().view(-1, 1, 1)

    def pixel_shares(self, before: Tensor) -> Tensor:
        if not self.is_spatial:
            return super().pixel_shares(before)
        index, _ = self.sources()
        keep = self.keep.expand(self.batch, -1, -1, -1)
        return torch.stack([keep, 1 - keep], dim=1) * before[index]

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
        return type(self).mix_boxes is Blend.mix_boxes

    def trace_boxes(self, fragments: Fragments) -> Fragments:
        check_weights("keep", self.keep)
        return fragments.through(blend_patches(self.keep, self.partner))

    def check_fields(self) -> None:
        keep = self.keep
        if not isinstance(keep, Tensor) or keep.dim() != 4 or keep.shape[1] != 1:
            raise ValueError(
                f"keep: expected (B, 1, 1, 1) or (B, 1, H, W) float32, got {describe(keep)}"
            )
        check_tensor("keep", keep, keep.shape, torch.float32)
        check_numbers("keep", keep, 0, 1)
        if self.partner is not None:
            check_tensor("partner", self.partner, (self.batch,), torch.int64)
            check_numbers("partner", self.partner, 0, self.batch - 1)
        if self.weights is not None:
            check_tensor("weights", self.weights, (self.batch, 2), torch.float32)
            check_label_weights(self.weights)
        check_fill(self.fill)

    def only_where(self, apply: Tensor) -> Blend:
        keep = torch.where(apply.reshape(-1, 1, 1, 1), self.keep, 1.0)
        return replace(self, keep=keep, weights=weights_where(apply, self.weights))

    def expand(self, batch: int) -> Blend:
        return expand_rows(self, batch, "keep", "weights")

    @property
    def _has_mask(self) -> bool:
        return self.keep.shape[2:] != (1, 1)

    def _keep_at(self, size: torch.Size) -> Tensor:
        if not self._has_mask or self.keep.shape[2:] == size:
            return self.keep
        return F.adaptive_avg_pool2d(self.keep, (size[0], size[1]))
