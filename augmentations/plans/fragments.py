"""Boxes followed through any number of plans: which parts of them are seen, where, how strongly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from mixbench.augmentations.plans.patches import (
    IN_PLACE,
    Flags,
    Floats,
    Integers,
    Mask,
    Patches,
)

AT_ONCE = 2**20
"""How many pairs of a fragment and a patch are compared at once; more would take memory."""


class Factor(NamedTuple):
    """A weight per pixel that a fragment has.

    Attributes:
        mask: (H, W), from 0 to 1.
        rest: Whether the weight is 1 - mask.
        place: Where in the mixed image a point of the mask is, as `Patches.place`.
        weighs: Whether it counts as a weight of labels; otherwise it only hides.
    """

    mask: Mask
    rest: bool
    place: tuple[float, ...]
    weighs: bool


@dataclass(frozen=True)
class Fragments:
    """F visible pieces of the boxes of a batch, sorted by the sample that shows them.

    Attributes:
        batch: The number of samples.
        size: Height and width of the images in pixels; None as long as no plan says.
        sample: (F,), the sample that shows the piece.
        box: (F,), the index of the box that it is a piece of.
        place: (F, 4), where a point of the image that the box was given for is now, as
            `Patches.place`.
        piece: (F, 4), x1, y1, x2, y2 in pixels.
        whole: (F,) bool, whether nothing clipped the box so far.
        weight: (F,), its weight where no factor differs between pixels.
        factor: (F,), an index into `factors`.
        layer: (F,), pieces of a box at one place that are in the same layer don't overlap.
        order: (F,), the order of boxes in the result; one box at one place may have several.
        factors: Weights per pixel, which are multiplied; the first entry is none.
    """

    batch: int
    size: tuple[int, int] | None
    sample: Integers
    box: Integers
    place: Floats
    piece: Floats
    whole: Flags
    weight: Floats
    factor: Integers
    layer: Integers
    order: Integers
    factors: tuple[tuple[Factor, ...], ...] = ((),)

    @classmethod
    def of(cls, boxes: Floats, sample: Integers, batch: int) -> Fragments:
        """Return whole boxes (N, 4), x1, y1, x2, y2, of the samples (N,), which are sorted."""
        count = len(boxes)
        zeros = np.zeros(count, dtype=np.int64)
        return cls(
            batch,
            None,
            sample,
            np.arange(count),
            place=np.tile(np.array(IN_PLACE), (count, 1)),
            piece=boxes,
            whole=np.ones(count, dtype=bool),
            weight=np.ones(count),
            factor=zeros,
            layer=zeros,
            order=np.arange(count),
        )

    def through(self, patches: Patches) -> Fragments:
        """Return what the patches of a plan show of these fragments."""
        patch, old, piece = self._pairs(patches)
        ranked = np.lexsort((self.order[old], patches.order[patch], patches.sample[patch]))
        patch, old, piece = patch[ranked], old[ranked], piece[ranked]
        sample = patches.sample[patch]
        keys = (sample, patches.order[patch], self.order[old])
        new = np.zeros(len(patch), dtype=bool)
        for key in keys:
            new[1:] |= key[1:] != key[:-1]
        scale, shift = patches.place[patch, :2], patches.place[patch, 2:]
        place = self.place[old]
        factor, factors = self._multiplied(patches, patch, old)
        return Fragments(
            self.batch,
            patches.size or self.size,
            sample,
            self.box[old],
            place=np.concatenate([place[:, :2] * scale, place[:, 2:] * scale + shift], axis=1),
            piece=piece,
            whole=self.whole[old] & _is_whole(patches.region)[patch],
            weight=self.weight[old] * patches.weight[patch],
            factor=factor,
            layer=2 * self.layer[old] + patches.over[patch],
            order=np.cumsum(new),
            factors=factors,
        )

    def shown_by(self, samples: Flags) -> Fragments:
        """Return the fragments that some samples (B,) show."""
        kept = samples[self.sample]
        columns = ("sample", "box", "place", "piece", "whole", "weight", "factor", "layer", "order")
        return replace(self, **{name: getattr(self, name)[kept] for name in columns})

    @staticmethod
    def together(parts: Sequence[Fragments]) -> Fragments:
        """Join fragments that different samples show."""
        size = next((part.size for part in parts if part.size is not None), None)
        ranked = np.argsort(np.concatenate([part.sample for part in parts]), kind="stable")
        before = np.cumsum([0, *(len(part.factors) - 1 for part in parts)])
        columns = {
            name: np.concatenate([getattr(part, name) for part in parts])[ranked]
            for name in ("sample", "box", "place", "piece", "whole", "weight", "layer", "order")
        }
        factor = [
            np.where(part.factor > 0, part.factor + start, 0)
            for part, start in zip(parts, before, strict=False)
        ]
        columns["factor"] = np.concatenate(factor)[ranked]
        # Orders of different parts may be equal, but only in different samples.
        return Fragments(
            parts[0].batch,
            size,
            **columns,
            factors=((), *(entry for part in parts for entry in part.factors[1:])),
        )

    def _pairs(self, patches: Patches) -> tuple[Integers, Integers, Floats]:
        """Return the patches and fragments that overlap, and where: (Q,), (Q,), (Q, 4)."""
        counts = np.bincount(self.sample, minlength=self.batch)
        first = np.cumsum(counts) - counts
        pairs = counts[patches.source]
        total = np.cumsum(pairs)
        found = []
        begin = 0
        while begin < len(pairs):
            done = total[begin] - pairs[begin]
            end = max(begin + 1, int(np.searchsorted(total, done + AT_ONCE, side="right")))
            number = pairs[begin:end]
            patch = np.repeat(np.arange(begin, end), number)
            within = np.arange(len(patch)) - np.repeat(total[begin:end] - number - done, number)
            old = first[patches.source[patch]] + within
            found.append(self._overlap(patches, patch, old))
            begin = end
        if not found:
            none = np.zeros(0, dtype=np.int64)
            return none, none, np.zeros((0, 4))
        patch, old, piece = (np.concatenate(column) for column in zip(*found, strict=True))
        return patch, old, piece

    def _overlap(
        self, patches: Patches, patch: Integers, old: Integers
    ) -> tuple[Integers, Integers, Floats]:
        # A box that nothing clips stays, also one without area.
        whole = self.whole[old] & _is_whole(patches.region)[patch]
        edges: list[Floats] = []
        # What does not overlap in x is not compared in y.
        for axis in (0, 1):
            scale, shift = patches.place[patch, axis], patches.place[patch, axis + 2]
            low = self.piece[old, axis] * scale + shift
            high = self.piece[old, axis + 2] * scale + shift
            low = np.maximum(low, patches.region[patch, axis])
            high = np.minimum(high, patches.region[patch, axis + 2])
            seen = (high > low) | whole
            patch, old, whole = patch[seen], old[seen], whole[seen]
            edges = [edge[seen] for edge in (*edges, low, high)]
        x1, x2, y1, y2 = edges
        return patch, old, np.stack([x1, y1, x2, y2], axis=1)

    def _multiplied(
        self, patches: Patches, patch: Integers, old: Integers
    ) -> tuple[Integers, tuple[tuple[Factor, ...], ...]]:
        """Return the factors of each pair, moved with the patch, with the patch's own mask."""
        before = self.factor[old]
        some = (before > 0) | (patches.mask[patch] >= 0)
        result = np.zeros(len(patch), dtype=np.int64)
        factors: list[tuple[Factor, ...]] = [()]
        pairs, which = np.unique(
            np.stack([before[some], patch[some]], axis=1), axis=0, return_inverse=True
        )
        for given, by in pairs.tolist():
            place = patches.place[by].tolist()
            moved = [
                factor._replace(place=_then(factor.place, place)) for factor in self.factors[given]
            ]
            mask = int(patches.mask[by])
            if mask >= 0:
                moved.append(
                    Factor(
                        patches.masks[mask], bool(patches.rest[by]), IN_PLACE, patches.mask_weighs
                    )
                )
            factors.append(tuple(moved))
        result[some] = which.reshape(-1) + 1
        return result, tuple(factors)


def _is_whole(region: Floats) -> Flags:
    is_whole: Flags = np.logical_and.reduce(np.isinf(region), axis=1)
    return is_whole


def _then(first: Sequence[float], second: Sequence[float]) -> tuple[float, ...]:
    """Return the place of what is put at `first`, and that at `second`."""
    return (
        first[0] * second[0],
        first[1] * second[1],
        first[2] * second[0] + second[2],
        first[3] * second[1] + second[3],
    )
