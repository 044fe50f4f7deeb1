"""The pixels of a plan: which code mixes them, by device.

Images on a GPU go through Triton kernels, those on the host through code chosen by size, and
whatever these don't take through the eager code, which is the reference.
`AUGMENTATIONS_EAGER=1` in the environment leaves the reference alone.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from mixbench.augmentations.pixels import eager, host

EAGER = os.environ.get("AUGMENTATIONS_EAGER", "") not in ("", "0")
"""Use the reference alone. May be set at any time."""
FLOATS = (torch.float32, torch.bfloat16, torch.float16)
MOST_RECTANGLES = 16
MOST_SCALED = 4
"""Rectangles of a plan that the kernels take; their loops over them are unrolled."""


def blend(images: Tensor, keep: Tensor, partner: Tensor | None, fill: float | str = 0.0) -> Tensor:
    """The pixels of a `Blend` plan; arguments and result as `eager.blend`."""
    if images.dtype in FLOATS and by_kernel(images, keep):
        from mixbench.augmentations.pixels import operators

        return operators.blend(images, keep, partner, *_number(fill))
    return _plain(images).blend(images, keep, partner, fill)


def paste(
    images: Tensor,
    target: Tensor,
    partner: Tensor | None,
    source: Tensor | None,
    fill: float | str,
) -> Tensor:
    """The pixels of a `Paste` plan without `resize`; arguments and result as `eager.paste`."""
    taken = images.dtype in FLOATS or (partner is not None and not images.is_complex())
    if taken and 0 < target.shape[1] <= MOST_RECTANGLES and by_kernel(images):
        from mixbench.augmentations.pixels import operators

        return operators.paste(images, target, partner, source, *_number(fill))
    return _plain(images).paste(images, target, partner, source, fill)


def _plain(images: Tensor) -> ModuleType:
    return host if images.device.type == "cpu" and not EAGER else eager


def by_kernel(images: Tensor, *others: Tensor) -> bool:
    """Do the kernels take these images (B, C, H, W)?  Not where a gradient is wanted."""
    if EAGER or images.device.type != "cuda" or not _capable(images.get_device()):
        return False
    if torch.is_grad_enabled() and any(t.requires_grad for t in (images, *others)):
        return False
    return fits(images.shape)


def fits(shape: Sequence[int]) -> bool:
    """Can one launch go over images of this shape?  65,535 channels and 2**31 - 1 elements each."""
    batch, channels, height, width = shape
    return 0 < channels * height * width < 2**31 and channels < 2**16 and batch > 0


def _capable(device: int) -> bool:
    """Can Triton be used, and is the GPU one that it compiles bfloat16 for?"""
    if device not in _CAPABLE:
        recent = torch.cuda.get_device_capability(device) >= (8, 0)
        _CAPABLE[device] = recent and _triton_works()
    return _CAPABLE[device]


# What `torch.compiler.assume_constant_result` does, which imports the whole compiler: two seconds
# for everybody who doesn't compile.
_capable._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _triton_works() -> bool:
    if importlib.util.find_spec("triton") is None:
        return False
    try:
        import triton.runtime  # type: ignore[import-untyped]

        # Builds a part of Triton, where it has not been yet.
        triton.runtime.driver.active  # noqa: B018
    except Exception as error:
        # No C compiler, no headers of Python: small containers have neither.
        reason = " ".join(str(error).split())
        warnings.warn(
            f"Triton can't be used, so images on a GPU are mixed by plain torch: {reason}",
            stacklevel=2,
        )
        return False
    return True


_CAPABLE: dict[int, bool] = {}


def _number(fill: float | str) -> tuple[float, bool]:
    return (0.0, True) if fill == "mean" else (float(fill), False)
