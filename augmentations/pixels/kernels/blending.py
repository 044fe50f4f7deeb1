# mypy: allow-untyped-defs, allow-incomplete-defs, disable-error-code="untyped-decorator"
"""The kernel that blends images."""

from __future__ import annotations

import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]

from mixbench.augmentations.pixels.kernels.arithmetic import fill_value, lerp


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
    """Blend a part of one sample's planes with its partner's, or with a fill."""
    sample = tl.program_id(0).to(tl.int64)
    granule = tl.program_id(1) * GRANULES + tl.arange(0, GRANULES)
    at = granule[:, None] * VECTOR + tl.arange(0, VECTOR)[None, :]
    valid = (granule < PLANE // VECTOR)[:, None]
    sample_base = images + sample * SIZE
    out_base = mixed + sample * SIZE
    if SPATIAL:
        weight = tl.load(keep + sample * keep_stride + at // STEP, mask=valid, other=1.0)
    else:
        weight = tl.load(keep + sample * keep_stride)
    other_base = sample_base
    if PARTNER:
        met = tl.load(partner + sample)
        # A partner outside the batch must not be read: plans can be made by hand.
        other_base = images + tl.where((met >= 0) & (met < batch), met, sample) * SIZE
    for number in tl.static_range(PLANES):
        plane = tl.program_id(2) * PLANES + number
        offset = plane.to(tl.int64) * PLANE
        original = tl.load(sample_base + offset + at, mask=valid, other=0.0).to(tl.float32)
        if PARTNER:
            other = tl.load(other_base + offset + at, mask=valid, other=0.0).to(tl.float32)
        else:
            other = fill_value(colour, fill, plane, at, MEAN, STEP).to(tl.float32)
        result = lerp(original, other, weight)
        tl.store(out_base + offset + at, result.to(images.dtype.element_ty), mask=valid)
