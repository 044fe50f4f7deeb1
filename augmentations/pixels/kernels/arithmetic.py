# mypy: allow-untyped-defs, allow-incomplete-defs, disable-error-code="untyped-decorator"
"""Interpolation and fills for the kernels."""

from __future__ import annotations

import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]


@triton.jit
def lerp(original, other, keep):
    """Compute torch.lerp(other, original, keep): with keep 1 exactly `original`."""
    small = tl.abs(keep) < 0.5
    coefficient = tl.where(small, keep, keep - 1.0)
    return tl.fma(coefficient, original - other, tl.where(small, other, original))


@triton.jit
def fill_value(colour, fill, plane, at, MEAN: tl.constexpr, STEP: tl.constexpr):
    """Return the fill in the images' type: one number, or one for each channel."""
    if not MEAN:
        return (tl.full((1, 1), 0.0, tl.float32) + fill).to(colour.dtype.element_ty)
    elif STEP == 1:
        return tl.load(colour + plane + tl.full((1, 1), 0, tl.int32))
    else:
        return tl.load(colour + at % STEP)
