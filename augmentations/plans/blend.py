"""Plans that are a weighted mean of each sample and a partner, or a fill: MixUp, FMix, GridMask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mixbench.augmentations import pixels
from mixbench.augmentations.checks import (
    check_blend,
    check_features,
    check_images,
    check_masks,
    check_weight,
    check_weights,
    readable,
)
from mixbench.augmentations.pixels import host
from mixbench.augmentations.plans import detection_boxes
from mixbench.augmentations.plans.base import Plan, expanded, first_alone, with_channel


@dataclass(frozen=True)
class Blend(Plan):
    """out = keep * x + (1 - keep) * x[partner].

    keep: (B, 1, 1, 1), one weight per sample, or (B, 1, H, W), one per pixel; float32 in [0, 1].
    partner: (B,) int64; None to blend with `fill`: a number, or "mean" for the batch's mean of each
    channel. Where keep is 1 a finite image comes back bit for bit.
    weights: (B, 2) float32, the label weights of the sample and of its partner, where a method has
    a rule of its own; None: the mean of `keep`.
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

    def mix_images(self, images: Tensor) -> Tensor:
        size = tuple(self.keep.shape[2:]) if self._spatial else None
        check_images(images, self.batch, size, self.device)
        check_weights("keep", self.keep)
        return pixels.blend(images, self.keep, self.partner, self.fill)

    def mix_masks(self, masks: Tensor) -> Tensor:
        check_masks(masks, self.batch, self.device)
        stacked = with_channel(masks)
        if self.partner is None:
            return masks.clone()
        check_weights("keep", self.keep)
        if masks.is_floating_point():
            mixed = pixels.blend(stacked, self._keep_at(stacked.shape[-2:]), self.partner)
        else:
            own = self._keep_at(stacked.shape[-2:]) >= 0.5
            mixed = torch.where(own, stacked, stacked[self.partner])
        return mixed.reshape(masks.shape)

    def mix_features(self, features: Tensor) -> Tensor:
        check_features(features, self.batch, self.device)
        if features.dim() == 2:
            return self._mix_vectors(features)
        check_weights("keep", self.keep)
        maps = with_channel(features)
        mixed = pixels.blend(maps, self._keep_at(maps.shape[-2:]), self.partner, self.fill)
        return mixed.reshape(features.shape)

    def sources(self) -> tuple[Tensor, Tensor]:
        own = torch.arange(self.batch, device=self.keep.device)
        return self._joined(own, self.partner), self._shares()

    def _classes(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        others = None if self.partner is None else labels.take(self.partner)
        return self._joined(labels, others), self._shares()

    def _joined(self, own: Tensor, others: Tensor | None) -> Tensor:
        return own.unsqueeze(1).clone() if others is None else torch.stack([own, others], dim=1)

    def _shares(self) -> Tensor:
        if self.partner is None:
            return torch.ones(self.batch, 1, dtype=torch.float32, device=self.device)
        if self.weights is not None:
            return self.weights
        if self._counted:
            return self._counted_row.expand(self.batch, 2)
        share = self.keep.mean(dim=(1, 2, 3)).expand(self.batch)
        return torch.stack([share, 1 - share], dim=1)

    @property
    def _counted(self) -> bool:
        if self.partner is None:
            return True
        # A number has no gradient: a weight that is learned stays a tensor.
        plain = self.weights is None and not self.keep.requires_grad
        return plain and readable(self.keep) and host.one_row(self.keep)

    @cached_property
    def _counted_row(self) -> Tensor:
        """The shares of all rows, which are the same memory: (1, 2)."""
        row = self.keep[:1]
        own = (row.mean(dim=(1, 2, 3)) if self._spatial else row).item()
        check_weight("weights", own)
        return torch.tensor([[own, 1 - own]], dtype=torch.float32)

    def prepare(self) -> None:
        if self.partner is not None and self._counted:
            self._counted_row  # noqa: B018  (kept)

    def changed(self) -> Tensor:
        part = (self.keep < 1).flatten(1).any(dim=1)
        if self.partner is None:
            return part
        own = torch.arange(self.partner.shape[0], device=self.partner.device)
        return part & (self.partner != own)

    def mix_boxes(
        self, targets: Sequence[Mapping[str, Any]], *, visibility: float = 0.1
    ) -> list[dict[str, Any]]:
        check_weights("keep", self.keep)
        return detection_boxes.blend(targets, self.keep, self.partner, visibility)

    def check(self) -> None:
        check_blend(self)

    def only_where(self, apply: Tensor) -> Blend:
        keep = torch.where(apply.reshape(-1, 1, 1, 1), self.keep, 1.0)
        return replace(self, keep=keep, weights=first_alone(apply, self.weights))

    def expand(self, batch: int) -> Blend:
        return expanded(self, batch, "keep", "weights")

    @property
    def _spatial(self) -> bool:
        return self.keep.shape[2:] != (1, 1)

    def _keep_at(self, size: torch.Size) -> Tensor:
        if not self._spatial or self.keep.shape[2:] == size:
            return self.keep
        return F.adaptive_avg_pool2d(self.keep, (size[0], size[1]))
