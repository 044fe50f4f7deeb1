# mypy: allow-untyped-defs, allow-incomplete-defs, disable-error-code="untyped-decorator"
"""The kernel that pastes rectangles at another size."""

from __future__ import annotations

import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]

from mixbench.augmentations.pixels.kernels.arithmetic import lerp


@triton.jit
def _taps(position, target_start, target_end, source_start, source_end, SIDE: tl.constexpr):
    """Return the two source pixels along one side, and the second's weight, as `resize.paste`."""
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
    """Paste rectangles of another size, bilinear: four pixels of the source for each one."""
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
            # A partner outside the batch must not be read: plans can be made by hand.
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
            scaled = lerp(lerp(d, c, down), lerp(b, a, down), across)
            value = tl.where(within, scaled.to(value.dtype), value)
        tl.store(mixed + sample * SIZE + offset + at, value, mask=valid)
