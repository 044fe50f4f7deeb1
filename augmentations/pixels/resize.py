"""Paste rectangles at another size: ResizeMix's small image, a mosaic's parts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mixbench.augmentations import pixels
from mixbench.augmentations.pixels import eager

_LARGE = 25_000
"""For images of at least so many values, a loop over samples that computes only the rectangles
is faster."""


class _Taps(NamedTuple):
    """The two source pixels along one side that make each target pixel, and the second's weight."""

    first: Tensor
    second: Tensor
    weight: Tensor | None


def paste(
    images: Tensor, target: Tensor, partner: Tensor, source: Tensor, *, nearest: bool
) -> Tensor:
    """Copy rectangles, scaled to the size of their targets.

    The centre of each target pixel is mapped to the source rectangle. Its value is interpolated
    between the four pixels around that point (bilinear, without antialiasing, with the edge pixels
    repeated beyond the edge), or, with `nearest`, is that of the pixel that contains the point.
    `torch.nn.functional.interpolate` does the same to a crop of the source in its modes "bilinear"
    (align_corners=False) and "nearest-exact". A source without pixels, which rounding to a coarser
    map can produce, counts as the pixel at its corner. Half precision is interpolated in float32
    and rounded once.

    Args:
        images: (B, C, H, W), of any dtype with `nearest`, floating point without.
        target: Rectangles (top, left, bottom, right) in pixels, half open: (B, R, 4) int64.
        partner: The sample that each is copied from: (B, R) int64.
        source: The rectangle that is copied: (B, R, 4) int64.
        nearest: Take the nearest pixel instead of interpolating: for class indices.

    Returns:
        A new tensor of the images' shape, dtype and memory format; without rectangles `images`
        itself.
    """
    few = 0 < target.shape[1] <= pixels.MOST_SCALED
    if few and not nearest and images.dtype in pixels.FLOATS and pixels.by_kernel(images):
        from mixbench.augmentations.pixels import operators

        mixed: Tensor = operators.paste_scaled(images, target, partner, source)
        return mixed
    on_host = target.device.type == "cpu" and images.device.type == "cpu"
    if on_host and not torch.compiler.is_compiling():
        shared = target.shape[0] == 1 or (target.stride(0) == 0 and source.stride(0) == 0)
        if shared or images[0].numel() >= _LARGE:
            return _paste_slices(images, target, partner, source, nearest, shared)
    height, width = images.shape[-2:]
    down = torch.arange(height, device=target.device)
    across = torch.arange(width, device=target.device)
    out = images
    for index in range(target.shape[1]):
        box, come = target[:, index], source[:, index]
        top, left, bottom, right = box.unsqueeze(-1).unbind(1)
        rows = _taps(down - top, box[:, 0::2], come[:, 0::2], height, nearest)
        columns = _taps(across - left, box[:, 1::2], come[:, 1::2], width, nearest)
        scaled = _scaled(images.index_select(0, partner[:, index]), rows, columns)
        inside = ((down >= top) & (down < bottom)).unsqueeze(2) & (
            (across >= left) & (across < right)
        ).unsqueeze(1)
        out = torch.where(inside.unsqueeze(1), scaled, out)
    return out if out is images else out.contiguous(memory_format=eager.layout(images))


def _paste_slices(
    images: Tensor,
    target: Tensor,
    partner: Tensor,
    source: Tensor,
    nearest: bool,
    shared: bool,
) -> Tensor:
    """Scale rectangles on the CPU, computing only their pixels."""
    out = images.clone(memory_format=eager.layout(images))
    height, width = images.shape[-2:]
    if shared:
        target, source = target[:1], source[:1]
    for number, edges in enumerate(target.tolist()):
        sample = slice(None) if shared else slice(number, number + 1)
        for index, (top, left, bottom, right) in enumerate(edges):
            if top == bottom or left == right:
                continue
            box, come = target[number : number + 1, index], source[number : number + 1, index]
            down = torch.arange(bottom - top, device=target.device).unsqueeze(0)
            across = torch.arange(right - left, device=target.device).unsqueeze(0)
            rows = _taps(down, box[:, 0::2], come[:, 0::2], height, nearest)
            columns = _taps(across, box[:, 1::2], come[:, 1::2], width, nearest)
            other = images.index_select(0, partner[sample, index])
            out[sample, :, top:bottom, left:right] = _scaled(other, rows, columns)
    return out


def _taps(position: Tensor, target: Tensor, source: Tensor, side: int, nearest: bool) -> _Taps:
    """Return the source pixels along one side of each target pixel.

    position (rows, N) int64: pixels counted from the target's start; those outside it get some
    source pixel. target, source (rows, 2) int64: start and end on this side. side: the image's.
    """
    start = source[:, :1]
    wanted = (target[:, 1:] - target[:, :1]).clamp(min=1)
    given = source[:, 1:] - start
    last = (given - 1).clamp(min=0)
    if nearest:
        # In whole numbers, so that a centre on the edge of two pixels does not depend on rounding.
        offset = (2 * position + 1) * given // (2 * wanted)
        only = (start + offset.clamp(min=0).minimum(last)).clamp(max=side - 1)
        return _Taps(only, only, None)
    at = (position.float() + 0.5) * (given.float() / wanted.float()) - 0.5
    at = at.clamp(min=0.0).minimum(last.float())
    lower = at.floor()
    first = lower.to(torch.int64)
    second = (first + 1).minimum(last)
    return _Taps(
        (start + first).clamp(max=side - 1), (start + second).clamp(max=side - 1), at - lower
    )


def _scaled(images: Tensor, rows: _Taps, columns: _Taps) -> Tensor:
    """Interpolate at the taps, in the images' dtype: (B, C, number of rows, of columns)."""
    half = images.dtype in (torch.float16, torch.bfloat16)
    out = images.float() if half and rows.weight is not None else images
    for taps, axis in ((rows, 2), (columns, 3)):
        first = _take(out, taps.first, axis)
        if taps.weight is None:
            out = first
        else:
            weight = taps.weight.to(out.dtype)
            weight = weight[:, None, :, None] if axis == 2 else weight[:, None, None, :]
            # lerp returns equal values exactly: an area of one colour does not change.
            out = torch.lerp(first, _take(out, taps.second, axis), weight)
    return out.to(images.dtype)


def _take(images: Tensor, index: Tensor, axis: int) -> Tensor:
    """Select rows (axis 2) or columns (axis 3) of each image; index (B, N), or (1, N) for all."""
    if index.shape[0] == 1:
        return images.index_select(axis, index[0])
    shape = list(images.shape)
    shape[axis] = index.shape[1]
    index = index[:, None, :, None] if axis == 2 else index[:, None, None, :]
    return images.gather(axis, index.expand(shape))
