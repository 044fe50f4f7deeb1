"""The two kinds of plan: a decision about a batch, drawn once, applied to as many things as needed.

A plan holds no randomness. `Blend` is a weighted mean with a partner; `Paste` copies rectangles.
Labels follow from the plan's pixels, so a label can't disagree with its image.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from augmentations import dense, pixels
from augmentations.checks import (
    check_blend,
    check_features,
    check_images,
    check_labels,
    check_masks,
    check_paste,
    check_weight,
    check_weights,
    readable,
)
from augmentations.pixels import host, resize
from augmentations.statistics import statistics
from augmentations.targets import Targets, weighted

P = TypeVar("P", bound="Plan")


class Plan(ABC):
    """What will be done to a batch, in tensors; rows are one per sample, or one for all."""

    @property
    @abstractmethod
    def batch(self) -> int:
        """How many samples the plan is for."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the plan's tensors are."""

    @property
    def depth(self) -> int:
        """At which layer of a network the plan applies: 0 is its input, the images."""
        return 0

    @abstractmethod
    def mix_images(self, images: Tensor) -> Tensor:
        """Mixed copy of `images` (B, C, H, W): same dtype, device and memory format."""

    @abstractmethod
    def mix_masks(self, masks: Tensor) -> Tensor:
        """Mixed copy of segmentation masks (B, H, W) or (B, C, H, W), at any resolution.

        Class indices (an integer dtype) can't be averaged: each pixel takes the class of the source
        that has the larger share of it. Floating-point masks (one-hot, soft) mix as images do.
        What is filled leaves masks as they are, as it leaves labels.
        """

    @abstractmethod
    def mix_features(self, features: Tensor) -> Tensor:
        """Mixed copy of `features`: (B, ..., h, w) at any resolution, or plain vectors (B, D).

        The geometry is scaled to h x w; vectors are averaged with the label weights.
        """

    @abstractmethod
    def sources(self) -> tuple[Tensor, Tensor]:
        """Who is in each sample, and how much: (B, K) int64 indices, (B, K) float32 shares."""

    @abstractmethod
    def changed(self) -> Tensor:
        """Which samples the plan changes: (B,) bool. A self-pair of a blend is not a change."""

    @abstractmethod
    def mix_boxes(
        self, targets: Sequence[Mapping[str, Any]], *, visibility: float = 0.1
    ) -> list[dict[str, Any]]:
        """Detection targets of the mixed images: see `augmentations/dense.py`.

        targets: one mapping per sample with `boxes` (N, 4) floating point, x1, y1, x2, y2 in pixels
        of the image, and `labels` (N,); any further tensor with a row per box goes along. Returns
        new dictionaries of the same keys and `weights` (N,) float32, multiplied by those that came.
        Boxes of which less than `visibility` can still be seen are dropped.
        Raises ValueError for another number of targets, other shapes or dtypes.
        """

    @abstractmethod
    def only_where(self, apply: Tensor) -> Plan:
        """The plan that mixes where `apply` ((B,) or (1,) bool) and leaves the rest as they are."""

    @abstractmethod
    def expand(self, batch: int) -> Plan:
        """The same plan with `batch` rows (a view: one shared row costs nothing)."""

    def own_share(self) -> Tensor:
        """How much of each sample is its own, by its label weights (the realised λ): (B,)."""
        index, share = self.sources()
        own = torch.arange(index.shape[0], device=index.device).unsqueeze(1)
        return (share * (index == own)).sum(dim=1)

    def statistics(self) -> dict[str, Tensor]:
        """What the plan realised, as float32 numbers on its device (nothing waits for it)."""
        return statistics(self)

    def check(self) -> None:  # noqa: B027  (optional hook)
        """Raise ValueError unless the plan's tensors fit each other and hold possible values.

        For plans that come from elsewhere (a file): it reads the tensors, so the host waits.
        """

    def mix_labels(self, labels: Tensor, num_classes: int | None = None) -> Targets:
        """Weighted labels of the mixed images.

        labels: (B,) int64, classes or -100 (ignored), or (B, num_classes) floating point, soft or
        multi-label. `num_classes` is used to check them.
        Raises ValueError for other shapes, dtypes, devices or classes, and for a weight that is
        NaN or outside [0, 1] (values are read only on the CPU: nothing waits for a device).
        """
        check_labels(labels, self.batch, num_classes, self.device)
        if labels.dim() == 1:
            classes, share = self._classes(labels)
            targets = Targets(classes, share)
        else:
            index, share = self.sources()
            targets = weighted(labels, index, share)
        if not self._counted:
            check_weights("weights", share)
        return targets

    def _classes(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The classes of each sample's sources, and their shares: both (B, K)."""
        index, share = self.sources()
        return labels.take(index), share

    @property
    def _counted(self) -> bool:
        """Are the label weights all 1, or counted, and checked, as numbers of the host?"""
        return False

    def _mix_vectors(self, features: Tensor) -> Tensor:
        index, share = self.sources()
        if not self._counted:
            check_weights("weights", share)
        # Not a matrix product: autocast would take it to half precision.
        exact = torch.promote_types(features.dtype, torch.float32)
        mixed = (share.unsqueeze(-1) * features[index].to(exact)).sum(dim=1)
        return mixed.to(features.dtype)


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
        stacked = _with_channel(masks)
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
        maps = _with_channel(features)
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
            # One row of it: the others are the same memory.
            row = self.keep[:1]
            own = (row.mean(dim=(1, 2, 3)) if self._spatial else row).item()
            check_weight("weights", own)
            return torch.tensor([own, 1 - own], dtype=torch.float32).expand(self.batch, 2)
        share = self.keep.mean(dim=(1, 2, 3)).expand(self.batch)
        return torch.stack([share, 1 - share], dim=1)

    @property
    def _counted(self) -> bool:
        if self.partner is None:
            return True
        return self.weights is None and readable(self.keep) and host.one_row(self.keep)

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
        return dense.blend(targets, self.keep, self.partner, visibility)

    def check(self) -> None:
        check_blend(self)

    def only_where(self, apply: Tensor) -> Blend:
        keep = torch.where(apply.reshape(-1, 1, 1, 1), self.keep, 1.0)
        return replace(self, keep=keep, weights=_first_alone(apply, self.weights))

    def expand(self, batch: int) -> Blend:
        return _expanded(self, batch, "keep", "weights")

    @property
    def _spatial(self) -> bool:
        return self.keep.shape[2:] != (1, 1)

    def _keep_at(self, size: torch.Size) -> Tensor:
        if not self._spatial or self.keep.shape[2:] == size:
            return self.keep
        return F.adaptive_avg_pool2d(self.keep, (size[0], size[1]))


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
        stacked = _with_channel(masks)
        if self.partner is None:
            return masks.clone()
        return self._at(stacked.shape[-2:])._paste(stacked).reshape(masks.shape)

    def mix_features(self, features: Tensor) -> Tensor:
        check_features(features, self.batch, self.device)
        if features.dim() == 2:
            return self._mix_vectors(features)
        maps = _with_channel(features)
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
        total = self.size[0] * self.size[1]
        if self._counted:
            areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in self.target[0].tolist()]
            counts = areas if self.tiles else [total - sum(areas), *areas]
            if min(counts) < 0:
                raise ValueError(
                    f"target: expected rectangles within {self.size[0]} x {self.size[1]}, apart "
                    f"from each other, got {self.target[0].tolist()}"
                )
            share = torch.tensor([count / total for count in counts], dtype=torch.float32)
            return share.expand(self.batch, -1)
        area = self.area().float()
        if self.tiles:
            return area / total
        rest = total - area.sum(dim=1, keepdim=True)
        return torch.cat([rest, area], dim=1) / total

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
        return dense.paste(targets, self.size, target, self.partner, self.source, visibility)

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
            weights=_first_alone(apply, self.weights),
        )

    def expand(self, batch: int) -> Paste:
        return _expanded(self, batch, "target", "source", "weights")

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


@dataclass(frozen=True)
class Batch:
    """A mixed batch: `images` (B, C, H, W), `targets`, and the `plan` that made them."""

    images: Tensor
    targets: Targets
    plan: Plan


def _expanded(plan: P, batch: int, *names: str) -> P:
    """The plan with `batch` rows in the tensors of these names, where there are any."""
    if plan.batch == batch:
        return plan
    # Every batch comes this way, and `dataclasses.replace` takes ten times as long.
    made = object.__new__(type(plan))
    made.__dict__.update(plan.__dict__)
    for name in names:
        rows = getattr(plan, name)
        if rows is not None:
            made.__dict__[name] = rows.expand(batch, *rows.shape[1:])
    return made


def _first_alone(apply: Tensor, weights: Tensor | None) -> Tensor | None:
    """The declared weights where the plan applies, and all of it the sample's own elsewhere."""
    if weights is None:
        return None
    alone = torch.zeros_like(weights)
    alone[:, 0] = 1
    return torch.where(apply.reshape(-1, 1), weights, alone)


def _scaled(edge: Tensor, ratio: float) -> Tensor:
    return (edge.float() * ratio).round().to(torch.int64)


def _with_channel(tensor: Tensor) -> Tensor:
    """(B, ..., H, W) as (B, C, H, W)."""
    if tensor.dim() == 4:
        return tensor
    return tensor.reshape(tensor.shape[0], -1, *tensor.shape[-2:])
