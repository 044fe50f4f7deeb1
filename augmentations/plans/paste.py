"""Plans that copy rectangles of other samples, or fill them: CutMix, Cutout, RICAP, mosaics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mixbench.augmentations import pixels
from mixbench.augmentations.checks import (
    check_features,
    check_images,
    check_masks,
    check_paste,
    readable,
)
from mixbench.augmentations.pixels import host, resize
from mixbench.augmentations.plans import detection_boxes
from mixbench.augmentations.plans.base import Plan, expanded, first_alone, with_channel


@dataclass(frozen=True)
class Paste(Plan):
    """Rectangles copied from other samples, or filled, into each sample.

    target: (B, R, 4) int64, rows (top, left, bottom, right), half open, within `size`; the R
    rectangles of a sample must not overlap; an empty one does nothing.
    partner: (B, R) int64, the sample each rectangle is copied from; None for a fill.
    source: (B, R, 4) int64, where in the partner it is copied from; None when it is the same place.
    As large as the target, unless `resize`.
    fill: what a rectangle is filled with when there is no partner: a number, or "mean" for the
    batch's mean of each channel.
    tiles: the rectangles cover the whole image, so nothing of the sample itself is left under them.
    resize: the source is scaled to the target's size (needs partner and source).
    weights: (B, K) float32, the label weights in the order of `sources`, where a method has a rule
    of its own; None: the areas.
    """

    size: tuple[int, int]
    target: Tensor
    partner: Tensor | None = None
    source: Tensor | None = None
    fill: float | str = 0.0
    tiles: bool = False
    resize: bool = False
    weights: Tensor | None = None

    @property
    def batch(self) -> int:
        return self.target.shape[0]

    @property
    def device(self) -> torch.device:
        return self.target.device

    def mix_images(self, images: Tensor) -> Tensor:
        check_images(images, self.batch, self.size, self.device)
        return self._paste(images)

    def mix_masks(self, masks: Tensor) -> Tensor:
        check_masks(masks, self.batch, self.device)
        stacked = with_channel(masks)
        if self.partner is None:
            return masks.clone()
        return self._at(stacked.shape[-2:])._paste(stacked).reshape(masks.shape)

    def mix_features(self, features: Tensor) -> Tensor:
        check_features(features, self.batch, self.device)
        if features.dim() == 2:
            return self._mix_vectors(features)
        maps = with_channel(features)
        return self._at(maps.shape[-2:])._paste(maps).reshape(features.shape)

    def sources(self) -> tuple[Tensor, Tensor]:
        own = torch.arange(self.batch, device=self.target.device)
        return self._joined(own, self.partner), self._shares()

    def _classes(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        others = None if self.partner is None else labels.take(self.partner)
        return self._joined(labels, others), self._shares()

    def _joined(self, own: Tensor, others: Tensor | None) -> Tensor:
        if others is None:
            return own.unsqueeze(1).clone()
        return others if self.tiles else torch.cat([own.unsqueeze(1), others], dim=1)

    def _shares(self) -> Tensor:
        if self.partner is None:
            return torch.ones(self.batch, 1, dtype=torch.float32, device=self.device)
        if self.weights is not None:
            return self.weights
        if self._counted:
            return self._counted_row.expand(self.batch, -1)
        total = self.size[0] * self.size[1]
        area = self.area().float()
        if self.tiles:
            return area / total
        rest = total - area.sum(dim=1, keepdim=True)
        return torch.cat([rest, area], dim=1) / total

    @cached_property
    def _counted_row(self) -> Tensor:
        """The shares of all rows, which are the same memory: (1, K)."""
        total = self.size[0] * self.size[1]
        areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in self.target[0].tolist()]
        counts = areas if self.tiles else [total - sum(areas), *areas]
        if min(counts) < 0:
            raise ValueError(
                f"target: expected rectangles within {self.size[0]} x {self.size[1]}, apart "
                f"from each other, got {self.target[0].tolist()}"
            )
        return torch.tensor([[count / total for count in counts]], dtype=torch.float32)

    def prepare(self) -> None:
        if self.partner is not None and self._counted and self.weights is None:
            self._counted_row  # noqa: B018  (kept)

    @property
    def _counted(self) -> bool:
        if self.partner is None:
            return True
        return self.weights is None and readable(self.target) and host.one_row(self.target)

    def area(self) -> Tensor:
        """Pixels of each rectangle: (B, R) int64."""
        top, left, bottom, right = self.target.unbind(-1)
        return (bottom - top) * (right - left)

    def changed(self) -> Tensor:
        return self.moves().any(dim=1)

    def mix_boxes(
        self, targets: Sequence[Mapping[str, Any]], *, visibility: float = 0.1
    ) -> list[dict[str, Any]]:
        target = torch.where(self.moves().unsqueeze(-1), self.target, 0)
        return detection_boxes.paste(
            targets, self.size, target, self.partner, self.source, visibility
        )

    def check(self) -> None:
        check_paste(self)

    def only_where(self, apply: Tensor) -> Paste:
        rows = max(apply.shape[0], self.target.shape[0])
        choose = apply.reshape(-1, 1, 1)
        rest = self.target.new_zeros(rows, self.target.shape[1], 4)
        partner = self.partner
        if self.tiles and partner is not None:
            # Tiles leave nothing of the sample, so an unmixed sample is tiled with itself: the
            # first rectangle is the whole image, the others are empty.
            rest[:, 0, 2], rest[:, 0, 3] = self.size
            own = torch.arange(partner.shape[0], device=partner.device).unsqueeze(1)
            partner = torch.where(apply.reshape(-1, 1), partner, own)
        return replace(
            self,
            target=torch.where(choose, self.target, rest),
            source=None if self.source is None else torch.where(choose, self.source, rest),
            partner=partner,
            weights=first_alone(apply, self.weights),
        )

    def expand(self, batch: int) -> Paste:
        return expanded(self, batch, "target", "source", "weights")

    def moves(self) -> Tensor:
        """Which rectangles change their sample: (B, R) bool; not a sample's own at its place."""
        moves = self.area() > 0
        if self.partner is None:
            return moves
        own = torch.arange(self.partner.shape[0], device=self.partner.device).unsqueeze(1)
        same = self.partner == own
        if self.source is not None:
            same = same & (self.source == self.target).all(dim=-1)
        return moves & ~same

    def _paste(self, images: Tensor) -> Tensor:
        if self.resize and self.partner is not None and self.source is not None:
            nearest = not images.is_floating_point()
            return resize.paste(images, self.target, self.partner, self.source, nearest=nearest)
        return pixels.paste(images, self.target, self.partner, self.source, self.fill)

    def _at(self, size: torch.Size) -> Paste:
        """The plan at another resolution: edges scaled and rounded, so that tiles stay tiles."""
        if tuple(size) == self.size:
            return self
        height, width = int(size[0]), int(size[1])
        down, across = height / self.size[0], width / self.size[1]
        top, left, bottom, right = self.target.unbind(-1)
        target = torch.stack(
            [
                _scaled(top, down),
                _scaled(left, across),
                _scaled(bottom, down),
                _scaled(right, across),
            ],
            dim=-1,
        )
        source = self.source
        if source is not None and self.resize:
            ratios = (down, across, down, across)
            edges = zip(source.unbind(-1), ratios, strict=True)
            top, left, bottom, right = (_scaled(edge, ratio) for edge, ratio in edges)
            # Rounding must not leave a target without a pixel to be scaled from.
            top, left = top.clamp(max=height - 1), left.clamp(max=width - 1)
            bottom, right = torch.maximum(bottom, top + 1), torch.maximum(right, left + 1)
            source = torch.stack([top, left, bottom, right], dim=-1)
        elif source is not None:
            # Rounding both ends of the source by themselves could change its size: its corner is
            # scaled, its size is the target's, and it is pushed back inside where that overhangs.
            rows, columns = target[..., 2] - target[..., 0], target[..., 3] - target[..., 1]
            row = torch.minimum(_scaled(source[..., 0], down), height - rows)
            column = torch.minimum(_scaled(source[..., 1], across), width - columns)
            source = torch.stack([row, column, row + rows, column + columns], dim=-1)
        return replace(self, size=(height, width), target=target, source=source)


def _scaled(edge: Tensor, ratio: float) -> Tensor:
    return (edge.float() * ratio).round().to(torch.int64)
