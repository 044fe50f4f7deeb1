"""Plans that blend two images whose blocks were moved before: PuzzleMix."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mixbench.augmentations.checks import (
    check_features,
    check_images,
    check_masks,
    check_numbers,
    check_tensor,
    check_weights,
    describe,
)
from mixbench.augmentations.plans.base import Plan, expand_rows, with_channel
from mixbench.augmentations.plans.blend import Blend
from mixbench.augmentations.plans.fragments import Fragments
from mixbench.augmentations.tensor_types import keeps_type


@dataclass(frozen=True)
class Transport(Plan):
    """Blend of each sample and a partner, the blocks of both moved: out = keep x' + (1 - keep) y'.

    An image is n x n blocks, and a map says which block each place shows. Boxes are those of a
    blend, as if no block had moved; masks move with their pixels.

    Attributes:
        keep: (B, 1, H, W) float32 in [0, 1], the weight of the sample at every pixel.
        partner: (B,) int64, the sample that each is blended with.
        own_map: (B, n * n) int64, which block of the sample each place shows, in rows.
        partner_map: (B, n * n) int64, likewise of the partner.

    Examples:
        >>> import mixbench, torch
        >>> swapped = torch.tensor([[2, 3, 0, 1]])
        >>> plan = mixbench.Transport(
        ...     torch.ones(1, 1, 2, 2), torch.tensor([0]), swapped, torch.arange(4).view(1, 4)
        ... )
        >>> plan.mix_images(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))[0, 0]
        tensor([[3., 4.],
                [1., 2.]])
    """

    keep: Tensor
    partner: Tensor
    own_map: Tensor
    partner_map: Tensor

    @property
    def batch(self) -> int:
        return self.keep.shape[0]

    @property
    def device(self) -> torch.device:
        return self.keep.device

    @property
    def is_spatial(self) -> bool:
        return True

    @keeps_type
    def mix_images(self, images: Tensor) -> Tensor:
        check_images(images, self.batch, tuple(self.keep.shape[2:]), self.device)
        return self._mix(images)

    @keeps_type
    def mix_masks(self, masks: Tensor) -> Tensor:
        check_masks(masks, self.batch, self.device)
        stacked = with_channel(masks)
        if masks.is_floating_point():
            return self._mix(stacked).reshape(masks.shape)
        own, other = self._moved(stacked, stacked)
        mixed = torch.where(self._keep_at(stacked.shape[-2:]) >= 0.5, own, other)
        return mixed.reshape(masks.shape)

    def mix_features(self, features: Tensor) -> Tensor:
        check_features(features, self.batch, self.device)
        if features.dim() == 2:
            return self._mix_vectors(features)
        return self._mix(with_channel(features)).reshape(features.shape)

    def _mix(self, maps: Tensor) -> Tensor:
        check_weights("keep", self.keep)
        exact = maps if maps.dtype == torch.float64 else maps.float()
        own, other = self._moved(exact, exact)
        keep = self._keep_at(maps.shape[-2:]).to(exact.dtype)
        mixed = (keep * own + (1 - keep) * other).to(maps.dtype)
        last = maps.is_contiguous(memory_format=torch.channels_last) and not maps.is_contiguous()
        layout = torch.channels_last if last else torch.contiguous_format
        return mixed.contiguous(memory_format=layout)

    def _moved(self, own: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """Return maps (B, C, h, w) and those of the partners with their blocks moved."""
        moved = []
        for maps, places in ((own, self.own_map), (others[self.partner], self.partner_map)):
            index = _pixels(places, maps.shape[2], maps.shape[3]).unsqueeze(1)
            flat = maps.flatten(2)
            moved.append(flat.gather(2, index.expand_as(flat)).view(maps.shape))
        return moved[0], moved[1]

    def _keep_at(self, size: torch.Size) -> Tensor:
        if self.keep.shape[2:] == size:
            return self.keep
        return F.adaptive_avg_pool2d(self.keep, (size[0], size[1]))

    def sources(self) -> tuple[Tensor, Tensor]:
        samples = torch.arange(self.batch, device=self.device)
        share = self.keep.mean(dim=(1, 2, 3))
        index = torch.stack([samples, self.partner], dim=1)
        return index, torch.stack([share, 1 - share], dim=1)

    def changed(self) -> Tensor:
        return self.changed_pixels().flatten(1).any(dim=1)

    def changed_pixels(self) -> Tensor:
        keep = self.keep[:, 0]
        samples = torch.arange(self.batch, device=self.device)
        alone = ((self.partner == samples) & (self.own_map == self.partner_map).all(dim=1)).view(
            -1, 1, 1
        )
        height, width = keep.shape[1:]
        stays = torch.arange(height * width, device=self.device)
        moved = (_pixels(self.own_map, height, width) != stays).view(-1, height, width)
        return ((keep > 0) & moved) | ((keep < 1) & ~alone)

    def pixel_shares(self, before: Tensor) -> Tensor:
        size = self.keep.shape[2:]
        whole = before.expand(-1, -1, *size).contiguous() if before.shape[2:] == (1, 1) else before
        own, other = self._moved(whole, whole)
        keep = self._keep_at(whole.shape[-2:])
        return torch.stack([keep * own, (1 - keep) * other], dim=1)

    def mix_boxes(
        self,
        targets: Sequence[Mapping[str, Any]],
        *,
        visibility: float = 0.1,
        per_box: Collection[str] = (),
        min_weight: float = 0.0,
    ) -> list[dict[str, Any]]:
        return self._unmoved.mix_boxes(
            targets, visibility=visibility, per_box=per_box, min_weight=min_weight
        )

    @property
    def traces_boxes(self) -> bool:
        return True

    def trace_boxes(self, fragments: Fragments) -> Fragments:
        return self._unmoved.trace_boxes(fragments)

    @property
    def _unmoved(self) -> Blend:
        return Blend(self.keep, self.partner)

    def check_fields(self) -> None:
        keep = self.keep
        if not isinstance(keep, Tensor) or keep.dim() != 4 or keep.shape[1] != 1:
            raise ValueError(f"keep: expected (B, 1, H, W) float32, got {describe(keep)}")
        check_tensor("keep", keep, keep.shape, torch.float32)
        check_numbers("keep", keep, 0, 1)
        check_tensor("partner", self.partner, (self.batch,), torch.int64)
        check_numbers("partner", self.partner, 0, self.batch - 1)
        for name in ("own_map", "partner_map"):
            places = getattr(self, name)
            if not isinstance(places, Tensor) or places.dim() != 2 or _side(places) is None:
                raise ValueError(
                    f"{name}: expected (B, n * n) int64 of n x n blocks, got {describe(places)}"
                )
            check_tensor(name, places, (self.batch, places.shape[1]), torch.int64)
            check_numbers(name, places, 0, places.shape[1] - 1)

    def only_where(self, apply: Tensor) -> Transport:
        stays = torch.arange(self.own_map.shape[1], device=self.device)
        return replace(
            self,
            keep=torch.where(apply.reshape(-1, 1, 1, 1), self.keep, 1.0),
            own_map=torch.where(apply.reshape(-1, 1), self.own_map, stays),
        )

    def expand(self, batch: int) -> Transport:
        return expand_rows(self, batch, "keep", "own_map", "partner_map")


def _side(places: Tensor) -> int | None:
    side = round(places.shape[1] ** 0.5)
    return side if side > 0 and side**2 == places.shape[1] else None


def _pixels(places: Tensor, height: int, width: int) -> Tensor:
    """Return the source of each pixel of an image, in rows: (B, height * width) int64.

    A pixel keeps its position within its block; where blocks are no whole pixels, the nearest.
    """
    side = round(places.shape[1] ** 0.5)
    row, column = (torch.arange(length, device=places.device) for length in (height, width))
    # Twice the position of a pixel's centre, in units of 1 / (length * side), as whole numbers.
    down, across = (2 * row + 1) * side, (2 * column + 1) * side
    block_down = torch.div(down, 2 * height, rounding_mode="floor")
    block_across = torch.div(across, 2 * width, rounding_mode="floor")
    block = (block_down.unsqueeze(1) * side + block_across).flatten()
    source = places[:, block].view(-1, height, width)
    from_down = torch.div(source, side, rounding_mode="floor")
    moved_down = down.unsqueeze(1) + 2 * height * (from_down - block_down.unsqueeze(1))
    moved_across = across + 2 * width * (source % side - block_across)
    rows = torch.div(moved_down, 2 * side, rounding_mode="floor")
    columns = torch.div(moved_across, 2 * side, rounding_mode="floor")
    return (rows * width + columns).flatten(1)
