# mypy: allow-untyped-defs, allow-incomplete-defs, disable-error-code="untyped-decorator"
"""The kernel that copies images and adds up their channels, for a mean colour."""

from __future__ import annotations

import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]


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
    """Copy the images and add up each channel, in an order that never changes.

    sums: (C, programs), what each program adds up.
    """
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
