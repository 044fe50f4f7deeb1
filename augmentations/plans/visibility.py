"""How much of a box can be seen, in which place, and with which weight."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from mixbench.augmentations.plans.fragments import Factor, Fragments
from mixbench.augmentations.plans.patches import Flags, Floats, Integers, Mask


@dataclass(frozen=True)
class Sightings:
    """S boxes at the places where mixed images show them, by sample.

    One box at one place is one sighting, however many fragments of it are seen.

    Attributes:
        sample: (S,), the sample that shows it.
        box: (S,), the index of the given box.
        place: (S, 4), where a point of the given image is now, as `Patches.place`.
        around: (S, 4), x1, y1, x2, y2 of the smallest box around the fragments.
        whole: (S,) bool, whether nothing clipped it.
        visible: (S,), the visible share of the box's area in its image, from 0 to 1.
        weight: (S,), from 0 to 1.
        plain: (S,) bool, whether nothing clipped it and no weight differs between its pixels.
        pieces: (F, 4), the fragments of all sightings.
        factor: (F,), an index into `factors`, as in `Fragments`.
        factors: Weights per pixel, which are multiplied.
        start: (S,), the first of each sighting's fragments.
        end: (S,), the one after its last.
    """

    sample: Integers
    box: Integers
    place: Floats
    around: Floats
    whole: Flags
    visible: Floats
    weight: Floats
    plain: Flags
    pieces: Floats
    factor: Integers
    factors: tuple[tuple[Factor, ...], ...]
    start: Integers
    end: Integers

    def only(self, kept: Flags) -> Sightings:
        """Return the sightings for which `kept` (S,) is true."""
        rows = {
            field.name: getattr(self, field.name)[kept]
            for field in fields(self)
            if field.name not in ("pieces", "factor", "factors")
        }
        return replace(self, **rows)

    def pieces_of(self, sightings: Integers) -> tuple[Integers, Integers]:
        """Return the fragments of some sightings, and the sighting of each: (F,) both."""
        length = (self.end - self.start)[sightings]
        within = np.arange(int(length.sum())) - np.repeat(np.cumsum(length) - length, length)
        return np.repeat(self.start[sightings], length) + within, np.repeat(sightings, length)


def look(fragments: Fragments, boxes: Floats) -> Sightings:
    """Put the fragments of each box at each place together.

    Args:
        fragments: What the mixed images show.
        boxes: (N, 4), the boxes that were given.
    """
    key = np.rint(fragments.place * 1e6)
    columns = (fragments.sample, fragments.box, *key.T)
    ranked = np.lexsort((fragments.order, *columns[::-1]))
    new = np.zeros(len(ranked), dtype=bool)
    new[:1] = True
    for column in columns:
        new[1:] |= column[ranked][1:] != column[ranked][:-1]
    start = new.nonzero()[0]
    # Back to the order of the boxes: own ones first, then those of the first rectangle, ...
    first = ranked[start]
    by_order = np.lexsort((fragments.order[first], fragments.sample[first]))
    end = np.append(start[1:], len(ranked))
    start, end, first = start[by_order], end[by_order], first[by_order]
    length = end - start
    within = np.arange(len(ranked)) - np.repeat(np.cumsum(length) - length, length)
    ranked = ranked[np.repeat(start, length) + within]
    start = np.cumsum(length) - length
    sighting = np.repeat(np.arange(len(start)), length)
    return _measure(fragments, boxes, ranked, start, sighting)


def _measure(
    fragments: Fragments, boxes: Floats, ranked: Integers, start: Integers, sighting: Integers
) -> Sightings:
    first = ranked[start]
    place, box = fragments.place[first], fragments.box[first]
    pieces = fragments.piece[ranked]
    # What lies outside the image was never visible.
    inside = _in_image(pieces, fragments.size)
    given = _in_image(boxes[box], fragments.size)
    area = _area(inside)
    factor = fragments.factor[ranked]
    seen, weighed = area.copy(), area * fragments.weight[ranked]
    tables: dict[int, Floats] = {}
    for index in np.unique(factor[factor > 0]).tolist():
        if len(fragments.factors[index]) == 1:
            one = fragments.factors[index][0]
            (at,) = (factor == index).nonzero()
            seen[at] = _sum_inside(one, inside[at], tables)
            if one.weighs:
                weighed[at] = seen[at] * fragments.weight[ranked[at]]

    def total(values: Floats) -> Floats:
        sums: Floats = np.add.reduceat(values, start) if len(start) else np.zeros(0)
        return sums

    covered, visible, weight = total(area), total(seen), total(weighed)
    for index in _to_count(fragments, ranked, start, sighting):
        members = sighting == index
        covered[index], visible[index], weight[index] = _count(
            fragments, ranked[members], inside[members]
        )
    whole = np.logical_and.reduceat(fragments.whole[ranked], start) if len(start) else start > 0
    base = _area(given) * place[:, 0] * place[:, 1]
    plain = whole & (np.maximum.reduceat(factor, start) == 0 if len(start) else start > 0)
    summed = total(fragments.weight[ranked])
    return Sightings(
        fragments.sample[first],
        box,
        place,
        _around(pieces, start),
        whole,
        # A box that nothing hides is visible, also one without area.
        visible=np.where(plain, 1.0, _share(visible, base)),
        weight=np.where(plain, summed, _share(weight, covered)).clip(0, 1),
        plain=plain,
        pieces=pieces,
        factor=factor,
        factors=fragments.factors,
        start=start,
        end=np.append(start[1:], len(pieces)),
    )


def _to_count(
    fragments: Fragments, ranked: Integers, start: Integers, sighting: Integers
) -> list[int]:
    """Return the sightings whose fragments may overlap, or have several factors."""
    if not len(start):
        return []
    layer = fragments.layer[ranked]
    several = np.minimum.reduceat(layer, start) != np.maximum.reduceat(layer, start)
    many = np.array([len(factors) > 1 for factors in fragments.factors])
    several[sighting[many[fragments.factor[ranked]]]] = True
    found: list[int] = several.nonzero()[0].tolist()
    return found


def _count(fragments: Fragments, members: Integers, pieces: Floats) -> tuple[float, float, float]:
    """Count cell by cell: the area covered, the area seen, the sum of the weights.

    Cells end where a fragment does, and at pixels where a factor differs between them.
    """
    x1, y1 = pieces[:, :2].min(axis=0)
    x2, y2 = pieces[:, 2:].max(axis=0)
    across, down = np.unique(pieces[:, [0, 2]]), np.unique(pieces[:, [1, 3]])
    if fragments.factor[members].any():
        across = np.union1d(across, np.arange(np.ceil(x1), np.floor(x2) + 1))
        down = np.union1d(down, np.arange(np.ceil(y1), np.floor(y2) + 1))
    x, y = (across[1:] + across[:-1]) / 2, (down[1:] + down[:-1]) / 2
    cell = np.diff(down)[:, None] * np.diff(across)
    seen, weight = np.zeros_like(cell), np.zeros_like(cell)
    under = np.zeros(cell.shape, dtype=bool)
    for member, piece in zip(members, pieces, strict=True):
        rows = (y > piece[1]) & (y < piece[3])
        columns = (x > piece[0]) & (x < piece[2])
        covers = rows[:, None] & columns
        shown, weighs = covers.astype(np.float64), covers * fragments.weight[member]
        for factor in fragments.factors[fragments.factor[member]]:
            value = weight_at(factor, x, y[:, None])
            shown = shown * value
            weighs = weighs * value if factor.weighs else weighs
        seen, weight, under = seen + shown, weight + weighs, under | covers
    # Two layers may both show a point, of which there is no more than one.
    seen = np.minimum(seen, 1)
    return float(cell[under].sum()), float((seen * cell).sum()), float((weight * cell).sum())


def weight_at(factor: Factor, x: Floats, y: Floats) -> Floats:
    """Return the weights at points of the mixed image, whose coordinates are broadcast."""
    height, width = factor.mask.shape
    column = np.floor((x - factor.place[2]) / factor.place[0]).astype(np.int64)
    row = np.floor((y - factor.place[3]) / factor.place[1]).astype(np.int64)
    values = factor.mask[row.clip(0, height - 1), column.clip(0, width - 1)]
    found: Floats = values.astype(np.float64)
    return 1 - found if factor.rest else found


def _sum_inside(factor: Factor, pieces: Floats, tables: dict[int, Floats]) -> Floats:
    """Integrate the weights over pieces (F, 4): (F,).

    Edges may lie between pixels: sums are interpolated in a table of the sums over all pixels above
    and to the left.
    """
    table = tables.get(id(factor.mask))
    if table is None:
        table = _table(factor.mask)
        tables[id(factor.mask)] = table
    height, width = factor.mask.shape
    scale, shift = np.array(factor.place[:2]), np.array(factor.place[2:])
    limit = np.array([width, height])
    low = ((pieces[:, :2] - shift) / scale).clip(0, limit)
    high = ((pieces[:, 2:] - shift) / scale).clip(0, limit)

    def total(x: Floats, y: Floats) -> Floats:
        column = np.minimum(x.astype(np.int64), width - 1)
        row = np.minimum(y.astype(np.int64), height - 1)
        across, down = x - column, y - row
        above = table[row, column] * (1 - across) + table[row, column + 1] * across
        below = table[row + 1, column] * (1 - across) + table[row + 1, column + 1] * across
        result: Floats = above * (1 - down) + below * down
        return result

    (left, top), (right, bottom) = low.T, high.T
    inside = total(right, bottom) - total(left, bottom) - total(right, top) + total(left, top)
    area = np.maximum(right - left, 0) * np.maximum(bottom - top, 0)
    mean = (area - inside if factor.rest else inside).clip(0, area)
    result: Floats = mean * scale[0] * scale[1]
    return result


def _table(mask: Mask) -> Floats:
    height, width = mask.shape
    table = np.zeros((height + 1, width + 1))
    np.cumsum(mask, axis=0, out=table[1:, 1:], dtype=np.float64)
    np.cumsum(table[1:, 1:], axis=1, out=table[1:, 1:])
    return table


def _around(pieces: Floats, start: Integers) -> Floats:
    if not len(start):
        return np.zeros((0, 4))
    low = np.minimum.reduceat(pieces[:, :2], start)
    return np.concatenate([low, np.maximum.reduceat(pieces[:, 2:], start)], axis=1)


def _in_image(boxes: Floats, size: tuple[int, int] | None) -> Floats:
    if size is None:
        return boxes
    height, width = size
    clipped: Floats = boxes.clip(0, [width, height, width, height])
    return clipped


def _area(boxes: Floats) -> Floats:
    sides: Floats = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    area: Floats = sides[:, 0] * sides[:, 1]
    return area


def _share(part: Floats, of: Floats) -> Floats:
    share: Floats = np.divide(part, of, out=np.zeros_like(part), where=of > 0)
    return share
