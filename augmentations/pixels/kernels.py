# mypy: allow-untyped-defs
"""Blend and Paste as Triton kernels: every pixel is read once from memory and written once.

Memory is taken as rows of elements. Channels-last images (B, H, W, C) are one plane with rows of
W * C elements, in which a rectangle is C times as wide; contiguous ones are C planes with rows of
W. So one kernel serves both formats.

A row is cut into granules of up to 16 bytes. What depends on the place is worked out for each
granule, not for each element, and loads are masked by whole granules: that keeps them 16 bytes wide
although rectangles begin anywhere. The sample is the fastest index of the grid: programs that run
at the same time look at the same place of all samples, so a partner's pixels come from the cache.

Arithmetic is float32, as in `eager.py`, with the same fused multiply-add; results are rounded once.
"""

# A kernel's parameters are typed by what it is launched with: `launches.py`.

from __future__ import annotations

import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]


@triton.jit
def _lerp(own, other, keep):
    # torch.lerp(other, own, keep): where keep is 1, own comes back exactly.
    small = tl.abs(keep) < 0.5
    coefficient = tl.where(small, keep, keep - 1.0)
    return tl.fma(coefficient, own - other, tl.where(small, other, own))


@triton.jit
def _fill(colour, fill, plane, at, MEAN: tl.constexpr, STEP: tl.constexpr):
    # What there is without a partner, in the images' type: one number, or one for each channel.
    if not MEAN:
        return (tl.full((1, 1), 0.0, tl.float32) + fill).to(colour.dtype.element_ty)
    elif STEP == 1:
        return tl.load(colour + plane + tl.full((1, 1), 0, tl.int32))
    else:
        return tl.load(colour + at % STEP)


@triton.jit
def blend(
    images,
    keep,
    partner,
    colour,
    mixed,
    keep_stride,
    batch,
    fill,
    SIZE: tl.constexpr,
    PLANE: tl.constexpr,
    PLANES: tl.constexpr,
    STEP: tl.constexpr,
    SPATIAL: tl.constexpr,
    PARTNER: tl.constexpr,
    MEAN: tl.constexpr,
    GRANULES: tl.constexpr,
    VECTOR: tl.constexpr,
):
    sample = tl.program_id(0).to(tl.int64)
    granule = tl.program_id(1) * GRANULES + tl.arange(0, GRANULES)
    at = granule[:, None] * VECTOR + tl.arange(0, VECTOR)[None, :]
    valid = (granule < PLANE // VECTOR)[:, None]
    own_base = images + sample * SIZE
    out_base = mixed + sample * SIZE
    if SPATIAL:
        kept = tl.load(keep + sample * keep_stride + at // STEP, mask=valid, other=1.0)
    else:
        kept = tl.load(keep + sample * keep_stride)
    other_base = own_base
    if PARTNER:
        met = tl.load(partner + sample)
        # A plan made by hand may point outside: nothing is read there.
        other_base = images + tl.where((met >= 0) & (met < batch), met, sample) * SIZE
    for number in tl.static_range(PLANES):
        plane = tl.program_id(2) * PLANES + number
        offset = plane.to(tl.int64) * PLANE
        own = tl.load(own_base + offset + at, mask=valid, other=0.0).to(tl.float32)
        if PARTNER:
            other = tl.load(other_base + offset + at, mask=valid, other=0.0).to(tl.float32)
        else:
            other = _fill(colour, fill, plane, at, MEAN, STEP).to(tl.float32)
        result = _lerp(own, other, kept)
        tl.store(out_base + offset + at, result.to(images.dtype.element_ty), mask=valid)


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
    # One rectangle, from the same place of the partner, or filled.
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
    touched = rows & (first < right) & (first + VECTOR > left)
    covered = rows & (first >= left) & (first + VECTOR <= right)
    column = first[:, None] + lane[None, :]
    within = rows[:, None] & (column >= left) & (column < right)

    own_base = images + sample * SIZE
    out_base = mixed + sample * SIZE
    other_base = own_base
    if PARTNER:
        met = tl.load(partner + sample)
        # A plan made by hand may point outside: nothing is read there.
        other_base = images + tl.where((met >= 0) & (met < batch), met, sample) * SIZE
    for number in tl.static_range(PLANES):
        plane = tl.program_id(2) * PLANES + number
        offset = plane.to(tl.int64) * PLANE
        if PARTNER:
            other = tl.load(other_base + offset + at, mask=touched[:, None], other=0)
        else:
            other = _fill(colour, fill, plane, at, MEAN, STEP)
        # In place only the granules that the rectangle touches are written.
        written = touched if IN_PLACE else valid
        own = tl.load(own_base + offset + at, mask=(written & ~covered)[:, None], other=0)
        value = tl.where(within, other, own)
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
    # Any rectangles: how far away each element comes from is found once for all planes.
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
                # A plan made by hand may point outside: nothing is read there.
                readable &= (down >= 0) & (down + bottom - top <= PLANE // COLUMNS)
                readable &= (across >= 0) & (across + right - left <= COLUMNS // STEP)
                away += (down - top) * COLUMNS + (across - left) * STEP
            shift = tl.where(within & readable, away.to(shift.dtype), shift)
        else:
            filled |= within

    own_base = images + sample * SIZE
    out_base = mixed + sample * SIZE
    for number in tl.static_range(PLANES):
        plane = tl.program_id(2) * PLANES + number
        offset = plane.to(tl.int64) * PLANE
        value = tl.load(own_base + offset + (at + shift), mask=valid, other=0)
        if not PARTNER:
            other = _fill(colour, fill, plane, at, MEAN, STEP)
            value = tl.where(filled, other, value)
        tl.store(out_base + offset + at, value, mask=valid)


@triton.jit
def _taps(position, target_start, target_end, source_start, source_end, SIDE: tl.constexpr):
    # As `resize.paste`: the two source pixels along one side, and the weight of the second.
    wanted = tl.maximum(target_end - target_start, 1)
    given = source_end - source_start
    last = tl.maximum(given - 1, 0)
    ratio = tl.div_rn(given.to(tl.float32), wanted.to(tl.float32))
    at = ((position - target_start).to(tl.float32) + 0.5) * ratio - 0.5
    at = tl.minimum(tl.maximum(at, 0.0), last.to(tl.float32))
    lower = tl.floor(at)
    first = lower.to(tl.int32)
    second = tl.minimum(first + 1, last)
    first = tl.minimum(tl.maximum(source_start + first, 0), SIDE - 1)
    second = tl.minimum(tl.maximum(source_start + second, 0), SIDE - 1)
    return first, second, at - lower


@triton.jit
def paste_scaled(
    images,
    target,
    partner,
    source,
    mixed,
    target_stride,
    source_stride,
    batch,
    SIZE: tl.constexpr,
    PLANE: tl.constexpr,
    PLANES: tl.constexpr,
    STEP: tl.constexpr,
    COLUMNS: tl.constexpr,
    RECTANGLES: tl.constexpr,
    GRANULES: tl.constexpr,
    VECTOR: tl.constexpr,
):
    # Rectangles of another size, bilinear: four pixels of the source for each of the target.
    sample = tl.program_id(0).to(tl.int64)
    granule = tl.program_id(1) * GRANULES + tl.arange(0, GRANULES)
    row = (granule // (COLUMNS // VECTOR))[:, None]
    first = granule % (COLUMNS // VECTOR) * VECTOR
    valid = (granule < PLANE // VECTOR)[:, None]
    at = granule[:, None] * VECTOR + tl.arange(0, VECTOR)[None, :]
    element = first[:, None] + tl.arange(0, VECTOR)[None, :]
    column = element // STEP
    channel = element % STEP
    for number in tl.static_range(PLANES):
        plane = tl.program_id(2) * PLANES + number
        offset = plane.to(tl.int64) * PLANE
        value = tl.load(images + sample * SIZE + offset + at, mask=valid, other=0.0)
        for rectangle in tl.static_range(RECTANGLES):
            box = target + sample * target_stride + rectangle * 4
            top = tl.load(box).to(tl.int32)
            left = tl.load(box + 1).to(tl.int32)
            bottom = tl.load(box + 2).to(tl.int32)
            right = tl.load(box + 3).to(tl.int32)
            come = source + sample * source_stride + rectangle * 4
            met = tl.load(partner + sample * RECTANGLES + rectangle)
            # A plan made by hand may point outside: nothing is read there.
            readable = (met >= 0) & (met < batch)
            end = tl.where(readable, bottom, top)
            within = (row >= top) & (row < end) & (column >= left) & (column < right)
            upper, lower, down = _taps(
                row,
                top,
                bottom,
                tl.load(come).to(tl.int32),
                tl.load(come + 2).to(tl.int32),
                PLANE // COLUMNS,
            )
            west, east, across = _taps(
                column,
                left,
                right,
                tl.load(come + 1).to(tl.int32),
                tl.load(come + 3).to(tl.int32),
                COLUMNS // STEP,
            )
            other = images + tl.where(readable, met, sample) * SIZE + offset
            west = west * STEP + channel
            east = east * STEP + channel
            inside = within & valid
            a = tl.load(other + upper * COLUMNS + west, mask=inside, other=0.0).to(tl.float32)
            b = tl.load(other + lower * COLUMNS + west, mask=inside, other=0.0).to(tl.float32)
            c = tl.load(other + upper * COLUMNS + east, mask=inside, other=0.0).to(tl.float32)
            d = tl.load(other + lower * COLUMNS + east, mask=inside, other=0.0).to(tl.float32)
            scaled = _lerp(_lerp(d, c, down), _lerp(b, a, down), across)
            value = tl.where(within, scaled.to(value.dtype), value)
        tl.store(mixed + sample * SIZE + offset + at, value, mask=valid)


@triton.jit
def copy_and_sum(
    images,
    mixed,
    sums,
    programs,
    SIZE: tl.constexpr,
    PLANE: tl.constexpr,
    PLANES: tl.constexpr,
    STEP: tl.constexpr,
    GRANULES: tl.constexpr,
    VECTOR: tl.constexpr,
):
    # sums (C, programs): what each program adds up, in an order that never changes.
    sample = tl.program_id(0).to(tl.int64)
    granule = tl.program_id(1) * GRANULES + tl.arange(0, GRANULES)
    valid = (granule < PLANE // VECTOR)[:, None]
    at = granule[:, None] * VECTOR + tl.arange(0, VECTOR)[None, :]
    program = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
    for number in tl.static_range(PLANES):
        plane = tl.program_id(2) * PLANES + number
        offset = sample * SIZE + plane.to(tl.int64) * PLANE
        value = tl.load(images + offset + at, mask=valid, other=0.0)
        tl.store(mixed + offset + at, value, mask=valid)
        value = value.to(tl.float32)
        if STEP == 1:
            tl.store(sums + plane * programs + program, tl.sum(tl.sum(value, axis=1), axis=0))
        else:
            for channel in tl.static_range(STEP):
                part = tl.where(at % STEP == channel, value, 0.0)
                total = tl.sum(tl.sum(part, axis=1), axis=0)
                tl.store(sums + channel * programs + program, total)
