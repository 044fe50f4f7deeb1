"""Mix the pixels of a plan, by the code that is fastest on their device.

Images on a GPU are mixed by Triton kernels, those on a CPU by `host`, and what these don't support
by `eager`, the reference. Set `AUGMENTATIONS_EAGER=1` in the environment to use only the reference.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from mixbench.augmentations.pixels import eager, host

EAGER = os.environ.get("AUGMENTATIONS_EAGER", "") not in ("", "0")
"""Whether to use only the reference. May be set at any time."""
FLOATS = (torch.float32, torch.bfloat16, torch.float16)
MOST_RECTANGLES = 16
"""The most rectangles per sample that the kernels support; their loops are unrolled."""
MOST_SCALED = 4
"""The same for rectangles that are scaled."""


def blend(images: Tensor, keep: Tensor, partner: Tensor | None, fill: float | str = 0.0) -> Tensor:
    """Mix the pixels of a `Blend` plan; Args and Returns as of `eager.blend`."""
    if images.dtype in FLOATS and by_kernel(images, keep):
        from mixbench.augmentations.pixels import operators

        blended: Tensor = operators.blend(images, keep, partner, *_number(fill))
        return blended
    mix = host.blend if on_host(images) else eager.blend
    return mix(images, keep, partner, fill)


def paste(
    images: Tensor,
    target: Tensor,
    partner: Tensor | None,
    source: Tensor | None,
    fill: float | str,
) -> Tensor:
    """Mix the pixels of a `Paste` plan without `resize`; Args and Returns as of `eager.paste`."""
    taken = images.dtype in FLOATS or (partner is not None and not images.is_complex())
    if taken and 0 < target.shape[1] <= MOST_RECTANGLES and by_kernel(images):
        from mixbench.augmentations.pixels import operators

        pasted: Tensor = operators.paste(images, target, partner, source, *_number(fill))
        return pasted
    mix = host.paste if on_host(images) else eager.paste
    return mix(images, target, partner, source, fill)


def on_host(images: Tensor) -> bool:
    """Tell whether `host` mixes images."""
    return images.device.type == "cpu" and not EAGER


def by_kernel(images: Tensor, *others: Tensor) -> bool:
    """Tell whether the kernels can mix images; they can't where a gradient is needed.

    Args:
        images: (B, C, H, W).
        others: Further tensors that may need a gradient.
    """
    if EAGER or images.device.type != "cuda" or not _capable(images.get_device()):
        return False
    if torch.is_grad_enabled() and any(t.requires_grad for t in (images, *others)):
        return False
    return fits(images.shape)


def fits(shape: Sequence[int]) -> bool:
    """Tell whether a launch can cover images of `shape` (B, C, H, W).

    CUDA's grids and 32-bit indices allow 65,535 channels and 2**31 - 1 elements of an image.
    """
    batch, channels, height, width = shape
    return 0 < channels * height * width < 2**31 and channels < 2**16 and batch > 0


def _capable(device: int) -> bool:
    """Tell whether Triton can be used, on a GPU that it compiles bfloat16 for."""
    if device not in _CAPABLE:
        recent = torch.cuda.get_device_capability(device) >= (8, 0)
        _CAPABLE[device] = recent and _triton_works()
    return _CAPABLE[device]


# What `torch.compiler.assume_constant_result` does; calling it would import the whole compiler,
# which takes two seconds.
_capable._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _triton_works() -> bool:
    if importlib.util.find_spec("triton") is None:
        return False
    try:
        import triton.runtime  # type: ignore[import-untyped]

        # Builds a part of Triton at its first use.
        triton.runtime.driver.active  # noqa: B018
    except Exception as error:
        # Fails without a C compiler or Python's headers, as in small containers.
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
