"""Plans that copy rectangles of other samples, or fill them: CutMix, Cutout, RICAP, mosaics."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mixbench.augmentations import pixels
from mixbench.augmentations.checks import (
    check_features,
    check_fill,
    check_images,
    check_label_weights,
    check_masks,
    check_numbers,
    check_rectangles,
    check_tensor,
    describe,
    distinct_rows,
    readable,
)
from mixbench.augmentations.dense_targets import DenseTargets, dense_targets
from mixbench.augmentations.pixels import eager, host, resize
from mixbench.augmentations.plans.base import Plan, expand_rows, weights_where, with_channel
from mixbench.augmentations.plans.detection_boxes import mix_targets
from mixbench.augmentations.plans.fragments import Fragments
from mixbench.augmentations.plans.patches import paste_patches
from mixbench.augmentations.tensor_types import keeps_type


@dataclass(frozen=True)
class Paste(Plan):
    """Rectangles copied from other samples, or filled, into each sample.

    A rectangle is a row (top, left, bottom, right) in pixels, half open, within `size`. The R
    rectangles of a sample must not overlap; an empty one does nothing.

    Attributes:
        size: Height and width of the images.
        target: (B, R, 4) int64, the rectangles that are copied into, or filled.
        partner: (B, R) int64, the sample that each rectangle is copied from; None for a fill.
        source: (B, R, 4) int64, where in the partner it is copied from, as large as the target
            unless `resize`; None for the same place.
        fill: What a rectangle is filled with when there is no partner: a number, or "mean" for the
            batch's mean of each channel.
        tiles: Whether the rectangles cover the whole image, so that nothing of the sample remains.
        resize: Whether the source is scaled to the target's size (needs partner and source).
        weights: (B, K) float32, the label weights in the order of `sources`, if a method declares
            them; None for the areas.
        free_weights: Whether rows of `weights` may sum to something else than 1.

    Examples:
        >>> import mixbench, torch
        >>> target = torch.tensor([[0, 0, 2, 1]]).expand(2, 1, 4)
        >>> plan = mixbench.Paste((2, 4), target, partner=torch.tensor([[1], [0]]))
        >>> plan.mix_images(torch.tensor([1.0, 7.0]).view(2, 1, 1, 1).expand(2, 1, 2, 4))[0, 0]
        tensor([[7., 1., 1., 1.],
                [7., 1., 1., 1.]])
        >>> plan.mix_labels(torch.tensor([3, 5])).weights[0]
        tensor([0.7500, 0.2500])
    """

    size: tuple[int, int]
    target: Tensor
    partner: Tensor | None = None
    source: Tensor | None = None
    fill: float | str = 0.0
    tiles: bool = False
    resize: bool = False
    weights: Tensor | None = None
    free_weights: bool = False

    @property
    def batch(self) -> int:
        return self.target.shape[0]

    @property
    def device(self) -> torch.device:
        return self.target.device

    @property
    def is_spatial(self) -> bool:
        return self.partner is not None and self.weights is None

    @property
    def has_free_weights(self) -> bool:
        return self.free_weights

    @property
    def is_small(self) -> bool:
        # A kind derived from this one may hold other tensors.
        return type(self) is Paste

    @keeps_type
    def mix_images(self, images: Tensor) -> Tensor:
        check_images(images, self.batch, self.size, self.device)
        return self._paste(images)

    def mix_in_place(self, images: Tensor) -> None:
        own = type(self).mix_images is Paste.mix_images and not self.resize
        if not (own and pixels.on_host(images)):
            super().mix_in_place(images)
            return
        check_images(images, self.batch, self.size, self.device)
        host.paste_in_place(images, self.target, self.partner, self.source, self.fill)

    @keeps_type
    def mix_masks(self, masks: Tensor) -> Tensor:
        check_masks(masks, self.batch, self.device)
        stacked = with_channel(masks)
        if self.partner is None:
            return masks.clone()
        return self._at(stacked.shape[-2:])._paste(stacked).reshape(masks.shape)

    def mix_dense(self, masks: Tensor | DenseTargets) -> DenseTargets:
        given = dense_targets(masks, self.batch, self.device)
        if self.partner is None:
            return given
        labels, weights = given.labels, given.weights
        plan = self._at(labels.shape[-2:])
        if labels.shape[1] > 1:
            # As whole numbers, weights come from the pixel that their label comes from.
            weights = plan._paste(weights.contiguous().view(torch.int32)).view(torch.float32)
        return DenseTargets(plan._paste(labels), weights)

    def mix_features(self, features: Tensor) -> Tensor:
        check_features(features, self.batch, self.device)
        if features.dim() == 2:
            return self._mix_vectors(features)
        maps = with_channel(features)
        return self._at(maps.shape[-2:])._paste(maps).reshape(features.shape)

    def sources(self) -> tuple[Tensor, Tensor]:
        samples = torch.arange(self.batch, device=self.target.device)
        return self._columns(samples, self.partner), self._shares()

    def _classes(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        others = None if self.partner is None else labels.take(self.partner)
        return self._columns(labels, others), self._shares()

    def _columns(self, first: Tensor, others: Tensor | None) -> Tensor:
        if others is None:
            return first.unsqueeze(1).clone()
        return others if self.tiles else torch.cat([first.unsqueeze(1), others], dim=1)

    def _shares(self) -> Tensor:
        if self.partner is None:
            return torch.ones(self.batch, 1, dtype=torch.float32, device=self.device)
        if self.weights is not None:
            return self.weights
        if self._weights_are_checked:
            return self._shares_on_host.expand(self.batch, -1)
        total = self.size[0] * self.size[1]
        area = self.area().float()
        if self.tiles:
            return area / total
        rest = total - area.sum(dim=1, keepdim=True)
        return torch.cat([rest, area], dim=1) / total

    @cached_property
    def _shares_on_host(self) -> Tensor:
        """The shares of all rows, which share memory: (1, K)."""
        total = self.size[0] * self.size[1]
        areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in self.target[0].tolist()]
        counts = areas if self.tiles else [total - sum(areas), *areas]
        if min(counts) < 0:
            raise ValueError(
                f"target: expected rectangles within {self.size[0]} x {self.size[1]} that don't "
                f"overlap, got {self.target[0].tolist()}"
            )
        return torch.tensor([[count / total for count in counts]], dtype=torch.float32)

    @property
    def _weights_are_checked(self) -> bool:
        if self.partner is None:
            return True
        return self.weights is None and readable(self.target) and host.one_row(self.target)

    def area(self) -> Tensor:
        """Return the number of pixels of each rectangle: (B, R) int64."""
        top, left, bottom, right = self.target.unbind(-1)
        return (bottom - top) * (right - left)

    def changed(self) -> Tensor:
        return self.moves().any(dim=1)

    def changed_pixels(self) -> Tensor:
        target = torch.where(self.moves().unsqueeze(-1), self.target, 0)
        return eager.rectangle_mask(target, *self.size).any(dim=1)

    def changed_area(self) -> Tensor:
        pixels = (self.area() * self.moves()).sum(dim=1)
        return pixels.float() / (self.size[0] * self.size[1])

    def pixel_shares(self, before: Tensor) -> Tensor:
        if not self.is_spatial:
            return super().pixel_shares(before)
        inside = eager.rectangle_mask(self.target, *self.size)
        if not self.tiles:
            inside = torch.cat([~inside.any(dim=1, keepdim=True), inside], dim=1)
        if self.source is None or before.shape[-2:] == (1, 1):
            index, _ = self.sources()
            brought = before[index]
        else:
            # Moved from its position in the partner; valid inside each rectangle only.
            whole = before.expand(-1, -1, *self.size).contiguous()
            brought = self.mix_images(whole).unsqueeze(1)
        return inside.float().unsqueeze(2) * brought

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
        return type(self).mix_boxes is Paste.mix_boxes

    def trace_boxes(self, fragments: Fragments) -> Fragments:
        target = torch.where(self.moves().unsqueeze(-1), self.target, 0)
        return fragments.through(paste_patches(self.size, target, self.partner, self.source))

    def check_fields(self) -> None:
        size = self.size
        if len(size) != 2 or not all(type(side) is int and side >= 1 for side in size):
            raise ValueError(f"size: expected a height and a width, at least 1, got {size}")
        target, partner, source = self.target, self.partner, self.source
        if not isinstance(target, Tensor) or target.dim() != 3 or target.shape[2] != 4:
            raise ValueError(f"target: expected (B, R, 4) int64, got {describe(target)}")
        check_rectangles("target", target, target.shape, size)
        batch, count, _ = target.shape
        if partner is not None:
            check_tensor("partner", partner, (batch, count), torch.int64)
            check_numbers("partner", partner, 0, batch - 1)
        if source is not None:
            check_rectangles("source", source, target.shape, size)
            if not self.resize and not _have_same_sides(source, target):
                raise ValueError(
                    "source: expected the size of its target without resize, got another"
                )
        if (partner is None and (self.resize or self.tiles)) or (source is None and self.resize):
            raise ValueError("partner, source: expected both with resize and a partner with tiles")
        if self.weights is not None:
            parts = 1 if partner is None else count if self.tiles else count + 1
            check_tensor("weights", self.weights, (batch, parts), torch.float32)
            check_label_weights(self.weights, free=self.free_weights)
        check_fill(self.fill)

    def only_where(self, apply: Tensor) -> Paste:
        rows = max(apply.shape[0], self.target.shape[0])
        choose = apply.reshape(-1, 1, 1)
        rest = self.target.new_zeros(rows, self.target.shape[1], 4)
        partner = self.partner
        if self.tiles and partner is not None:
            # Tiles cover the whole sample, so an unmixed sample is tiled with itself: the first
            # rectangle is the whole image, the others are empty.
            rest[:, 0, 2], rest[:, 0, 3] = self.size
            itself = torch.arange(partner.shape[0], device=partner.device).unsqueeze(1)
            partner = torch.where(apply.reshape(-1, 1), partner, itself)
        return replace(
            self,
            target=torch.where(choose, self.target, rest),
            source=None if self.source is None else torch.where(choose, self.source, rest),
            partner=partner,
            weights=weights_where(apply, self.weights),
        )

    def expand(self, batch: int) -> Paste:
        return expand_rows(self, batch, "target", "source", "weights")

    def moves(self) -> Tensor:
        """Tell which rectangles change their sample: (B, R) bool; not one pasted onto itself."""
        moves = self.area() > 0
        if self.partner is None:
            return moves
        itself = torch.arange(self.partner.shape[0], device=self.partner.device).unsqueeze(1)
        same = self.partner == itself
        if self.source is not None:
            same = same & (self.source == self.target).all(dim=-1)
        return moves & ~same

    def _paste(self, images: Tensor) -> Tensor:
        if self.resize and self.partner is not None and self.source is not None:
            nearest = not images.is_floating_point()
            return resize.paste(images, self.target, self.partner, self.source, nearest=nearest)
        return pixels.paste(images, self.target, self.partner, self.source, self.fill)

    def _at(self, size: torch.Size) -> Paste:
        """Return the plan at another resolution, edges scaled and rounded; tiles stay tiles."""
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
            # After rounding, each source must still have a pixel.
            top, left = top.clamp(max=height - 1), left.clamp(max=width - 1)
            bottom, right = torch.maximum(bottom, top + 1), torch.maximum(right, left + 1)
            source = torch.stack([top, left, bottom, right], dim=-1)
        elif source is not None:
            # Rounding both edges of the source independently could change its size. Instead its
            # corner is scaled, its size is the target's, and it is moved inside the image.
            rows, columns = target[..., 2] - target[..., 0], target[..., 3] - target[..., 1]
            row = torch.minimum(_scaled(source[..., 0], down), height - rows)
            column = torch.minimum(_scaled(source[..., 1], across), width - columns)
            source = torch.stack([row, column, row + rows, column + columns], dim=-1)
        return replace(self, size=(height, width), target=target, source=source)


def _have_same_sides(source: Tensor, target: Tensor) -> bool:
    first, second = (
        boxes[..., 2:] - boxes[..., :2] for boxes in (distinct_rows(source), distinct_rows(target))
    )
    return bool((first == second).all())


def _scaled(edge: Tensor, ratio: float) -> Tensor:
    return (edge.float() * ratio).round().to(torch.int64)
