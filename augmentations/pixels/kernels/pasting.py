# mypy: allow-untyped-defs, allow-incomplete-defs, disable-error-code="untyped-decorator"
"""The kernels that paste rectangles of their own size, or fill them."""

from __future__ import annotations

import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]

from mixbench.augmentations.pixels.kernels.arithmetic import fill_value


@triton.jit
def paste_one(
    images,
    target,
    partner,
    colour,
    mixed,
    target_stride,
    batch,
    fill,
    SIZE: tl.constexpr,
    PLANE: tl.constexpr,
    PLANES: tl.constexpr,
    STEP: tl.constexpr,
    COLUMNS: tl.constexpr,
    PARTNER: tl.constexpr,
    MEAN: tl.constexpr,
    IN_PLACE: tl.constexpr,
    GRANULES: tl.constexpr,
    VECTOR: tl.constexpr,
):
    """Paste one rectangle from the same position of the partner, or fill it."""
    sample = tl.program_id(0).to(tl.int64)
    granule = tl.program_id(1) * GRANULES + tl.arange(0, GRANULES)
    row = granule // (COLUMNS // VECTOR)
    first = granule % (COLUMNS // VECTOR) * VECTOR
    valid = granule < PLANE // VECTOR
    lane = tl.arange(0, VECTOR)
    at = granule[:, None] * VECTOR + lane[None, :]

    box = target + sample * target_stride
    top = tl.load(box).to(tl.int32)
    left = tl.load(box + 1).to(tl.int32) * STEP
    bottom = tl.load(box + 2).to(tl.int32)
    right = tl.load(box + 3).to(tl.int32) * STEP
    rows = valid & (row >= top) & (row < bottom)
    reached = rows & (first < right) & (first + VECTOR > left)
    covered = rows & (first >= left) & (first + VECTOR <= right)
    column = first[:, None] + lane[None, :]
    within = rows[:, None] & (column >= left) & (column < right)

    sample_base = images + sample * SIZE
    out_base = mixed + sample * SIZE
    other_base = sample_base
    if PARTNER:
        met = tl.load(partner + sample)
        # A partner outside the batch must not be read: plans can be made by hand.
        other_base = images + tl.where((met >= 0) & (met < batch), met, sample) * SIZE
    for number in tl.static_range(PLANES):
        plane = tl.program_id(2) * PLANES + number
        offset = plane.to(tl.int64) * PLANE
        if PARTNER:
            other = tl.load(other_base + offset + at, mask=reached[:, None], other=0)
        else:
            other = fill_value(colour, fill, plane, at, MEAN, STEP)
        # In place, only granules that the rectangle reaches are written.
        written = reached if IN_PLACE else valid
        original = tl.load(sample_base + offset + at, mask=(written & ~covered)[:, None], other=0)
        value = tl.where(within, other, original)
        tl.store(out_base + offset + at, value, mask=written[:, None])


@triton.jit
def paste_many(
    images,
    target,
    partner,
    source,
    colour,
    mixed,
    target_stride,
    source_stride,
    batch,
    fill,
    SIZE: tl.constexpr,
    PLANE: tl.constexpr,
    PLANES: tl.constexpr,
    STEP: tl.constexpr,
    COLUMNS: tl.constexpr,
    RECTANGLES: tl.constexpr,
    PARTNER: tl.constexpr,
    MOVED: tl.constexpr,
    MEAN: tl.constexpr,
    WIDE: tl.constexpr,
    GRANULES: tl.constexpr,
    VECTOR: tl.constexpr,
):
    """Paste several rectangles from any position, or fill them.

    The distance from each element to its source is computed once for all planes.
    """
    sample = tl.program_id(0).to(tl.int64)
    granule = tl.program_id(1) * GRANULES + tl.arange(0, GRANULES)
    row = (granule // (COLUMNS // VECTOR))[:, None]
    first = granule % (COLUMNS // VECTOR) * VECTOR
    valid = (granule < PLANE // VECTOR)[:, None]
    lane = tl.arange(0, VECTOR)
    at = granule[:, None] * VECTOR + lane[None, :]
    column = first[:, None] + lane[None, :]

    shift = tl.full((GRANULES, VECTOR), 0, tl.int64 if WIDE else tl.int32)
    filled = tl.full((GRANULES, VECTOR), 0, tl.int1)
    for number in tl.static_range(RECTANGLES):
        box = target + sample * target_stride + number * 4
        top = tl.load(box)
        left = tl.load(box + 1)
        bottom = tl.load(box + 2)
        right = tl.load(box + 3)
        within = (row >= top.to(tl.int32)) & (row < bottom.to(tl.int32))
        within &= (column >= left.to(tl.int32) * STEP) & (column < right.to(tl.int32) * STEP)
        if PARTNER:
            met = tl.load(partner + sample * RECTANGLES + number)
            readable = (met >= 0) & (met < batch)
            away = (met - sample) * SIZE
            if MOVED:
                come = source + sample * source_stride + number * 4
                down = tl.load(come)
                across = tl.load(come + 1)
                # A source outside the image must not be read: plans can be made by hand.
                readable &= (down >= 0) & (down + bottom - top <= PLANE // COLUMNS)
                readable &= (across >= 0) & (across + right - left <= COLUMNS // STEP)
                away += (down - top) * COLUMNS + (across - left) * STEP
            shift = tl.where(within & readable, away.to(shift.dtype), shift)
        else:
            filled |= within

    sample_base = images + sample * SIZE
    out_base = mixed + sample * SIZE
    for number in tl.static_range(PLANES):
        plane = tl.program_id(2) * PLANES + number
        offset = plane.to(tl.int64) * PLANE
        value = tl.load(sample_base + offset + (at + shift), mask=valid, other=0)
        if not PARTNER:
            other = fill_value(colour, fill, plane, at, MEAN, STEP)
            value = tl.where(filled, other, value)
        tl.store(out_base + offset + at, value, mask=valid)
