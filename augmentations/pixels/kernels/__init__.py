"""Blend and Paste as Triton kernels: every pixel is read once from memory and written once.

Memory is taken as rows of elements. Channels-last images (B, H, W, C) are one plane with rows of
W * C elements, in which a rectangle is C times as wide; contiguous ones are C planes with rows of
W. So one kernel serves both formats.

A row is cut into granules of up to 16 bytes. What depends on the place is worked out for each
granule, not for each element, and loads are masked by whole granules: that keeps them 16 bytes wide
although rectangles begin anywhere. The sample is the fastest index of the grid: programs that run
at the same time look at the same place of all samples, so a partner's pixels come from the cache.

Arithmetic is float32, as in `eager.py`, with the same fused multiply-add; results are rounded once.
A kernel's parameters are typed by what it is launched with: see `launches.py`.
"""

from mixbench.augmentations.pixels.kernels.blending import blend
from mixbench.augmentations.pixels.kernels.pasting import paste_many, paste_one
from mixbench.augmentations.pixels.kernels.scaling import paste_scaled
from mixbench.augmentations.pixels.kernels.summing import copy_and_sum

__all__ = ["blend", "copy_and_sum", "paste_many", "paste_one", "paste_scaled"]
