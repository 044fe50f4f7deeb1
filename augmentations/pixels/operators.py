"""Register the kernels as operators of torch, which `torch.compile` takes without a graph break.

They have no backward: where a gradient is needed, the package uses `eager`. Importing this module
needs Triton.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mixbench.augmentations.pixels import launches


@torch.library.custom_op("augmentations::blend", mutates_args=())
def blend(images: Tensor, keep: Tensor, partner: Tensor | None, fill: float, mean: bool) -> Tensor:
    """Mix the pixels of a `Blend` plan; with `mean` the fill is the mean of each channel."""
    with _on(images):
        return launches.blend(images, keep, partner, "mean" if mean else fill)


@torch.library.custom_op("augmentations::paste", mutates_args=())
def paste(
    images: Tensor,
    target: Tensor,
    partner: Tensor | None,
    source: Tensor | None,
    fill: float,
    mean: bool,
) -> Tensor:
    """Mix the pixels of a `Paste` plan; with `mean` the fill is the mean of each channel."""
    with _on(images):
        return launches.paste(images, target, partner, source, "mean" if mean else fill)


@torch.library.custom_op("augmentations::paste_scaled", mutates_args=())
def paste_scaled(images: Tensor, target: Tensor, partner: Tensor, source: Tensor) -> Tensor:
    """Mix the pixels of a `Paste` plan with `resize`."""
    with _on(images):
        return launches.paste_scaled(images, target, partner, source)


@blend.register_fake
@paste.register_fake
@paste_scaled.register_fake
def _(images: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(launches.laid_out(images)[0])


def _on(images: Tensor) -> torch.cuda.device:
    """Make the images' device the current one, on which Triton launches."""
    # -1, for images that are not on a GPU (the interpreter's), changes nothing.
    return torch.cuda.device(images.get_device())
