"""Blend and Paste on a CPU: the same pixels as `eager`, chosen by size for speed.

On a CPU a comparison-driven `torch.where` takes 1 to 3 ns a value, a copy or a bitwise operation
a tenth of it; a rectangle that is copied by itself takes 1 us through numpy, some through torch,
which shares large ones among cores. Small images are therefore pasted with bit masks over whole
batches, others rectangle by rectangle. Where autograd or a compiler is looking, `eager` does the
work.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from mixbench.augmentations.pixels import eager

LARGE = 1 << 14
"""Values of an image from which torch's calls for each cost less than passes over all of them."""
MIDDLING = 1 << 12
"""Values of an image from which numpy's do."""

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def blend(images: Tensor, keep: Tensor, partner: Tensor | None, fill: float | str = 0.0) -> Tensor:
    """As `eager.blend`, bit for bit; for tensors of the CPU."""
    large = images.shape[1:].numel() >= LARGE
    if partner is None or not large or not images.is_floating_point() or _watched(images, keep):
        return eager.blend(images, keep, partner, fill)
    # Image by image both sources stay in the cache, and no gathered batch is written and read.
    out = torch.empty_like(images, memory_format=eager.layout(images))
    half = images.dtype in (torch.float16, torch.bfloat16)
    weights = keep if half else keep.to(images.dtype)
    own = images.unbind(0)
    parts = zip(out.unbind(0), own, weights.unbind(0), partner.tolist(), strict=True)
    for mixed, image, weight, other in parts:
        if half:
            mixed.copy_(own[other].float().lerp_(image.float(), weight))
        else:
            torch.lerp(own[other], image, weight, out=mixed)
    return out


def paste(
    images: Tensor,
    target: Tensor,
    partner: Tensor | None,
    source: Tensor | None,
    fill: float | str,
) -> Tensor:
    """As `eager.paste`, bit for bit; for tensors of the CPU."""
    if target.shape[1] == 0:
        return images
    if _watched(images):
        return eager.paste(images, target, partner, source, fill)
    planes, scale = _planes(images)
    value = None if partner is not None else _fill_bits(images, fill, scale)
    bits = planes.view(_BITS[planes.element_size()])
    columns = target.new_tensor((1, scale, 1, scale)) if scale > 1 else None
    if columns is not None:
        target = target * columns
        source = None if source is None else source * columns
    mix = _way(images, target, partner, source, value)
    mixed = mix(bits, target, partner, source, value)
    mixed = mixed.view(images.dtype)
    if scale == 1:
        return mixed
    batch, channels, height, width = images.shape
    return mixed.view(batch, height, width, channels).permute(0, 3, 1, 2)


def _way(
    images: Tensor,
    target: Tensor,
    partner: Tensor | None,
    source: Tensor | None,
    value: Tensor | None,
) -> Callable[..., Tensor]:
    """Which of the functions below is the fastest."""
    values = images.shape[1:].numel()
    shared = one_row(target) and (source is None or one_row(source))
    # One fill for all images is one call, which the cores share.
    if shared and (partner is None or values < LARGE):
        return _slices
    # Gathering for a source elsewhere takes more passes over masks, and filling with a value more
    # of torch's time for a rectangle.
    if value is None and values >= LARGE:
        return _one_by_one
    return _masked if source is None and value is None and values < MIDDLING else _in_turn


def _watched(*tensors: Tensor) -> bool:
    """Must every step be one that autograd or a compiler can follow?"""
    wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return wanted or torch.compiler.is_compiling()


def one_row(boxes: Tensor) -> bool:
    """Do all samples share the same rectangles?"""
    return boxes.shape[0] == 1 or boxes.stride(0) == 0


def _planes(images: Tensor) -> tuple[Tensor, int]:
    """The values as they lie in memory, (B, P, H, L) contiguous, and how many make a pixel.

    channels_last images are one plane whose rows hold all channels of their pixels, so that one
    code serves both formats.
    """
    if eager.layout(images) == torch.contiguous_format:
        return images.contiguous(), 1
    batch, channels, height, width = images.shape
    return images.permute(0, 2, 3, 1).view(batch, 1, height, width * channels), channels


def _fill_bits(images: Tensor, fill: float | str, scale: int) -> Tensor | None:
    """What is filled in, as bits that broadcast over planes; None where all of them are 0."""
    if fill == 0.0:
        return None
    value = eager.fill_value(images, fill)
    if scale > 1 and value.dim():
        value = value.view(-1).repeat(images.shape[3]).view(1, 1, 1, -1)
    return value.view(_BITS[value.element_size()])


def _slices(
    images: Tensor,
    target: Tensor,
    partner: Tensor | None,
    source: Tensor | None,
    value: Tensor | None,
) -> Tensor:
    """One set of rectangles for the whole batch: slices touch only the pixels that change."""
    boxes = target[0].tolist()
    if partner is None:
        return _blanked(images, boxes) if value is None else _filled(images, boxes, value)
    origins = boxes if source is None else source[0].tolist()
    out = _start(images, [boxes])
    for rectangle, (top, left, bottom, right) in enumerate(boxes):
        high, wide = bottom - top, right - left
        if high == 0 or wide == 0:
            continue
        # `narrow` takes a third of what the same slices take.
        place = out.narrow(2, top, high).narrow(3, left, wide)
        down, across = origins[rectangle][:2]
        # Whole rows are gathered in one piece each, and cut afterwards.
        rows = images.narrow(2, down, high).index_select(0, partner.select(1, rectangle))
        place.copy_(rows.narrow(3, across, wide))
    return out


def _blanked(images: Tensor, boxes: list[list[int]]) -> Tensor:
    """A copy that blanks on its way: one pass, and a mask that stays in the cache."""
    outside = np.full(images.shape[2:], -1, dtype=f"i{images.element_size()}")
    for top, left, bottom, right in boxes:
        outside[top:bottom, left:right] = 0
    return images & torch.from_numpy(outside)


def _filled(images: Tensor, boxes: list[list[int]], value: Tensor) -> Tensor:
    """A copy with `value`, a number's bits or those of every channel, in the rectangles."""
    value = value[0] if value.dim() else value
    # A pixel's channels lie side by side in a row: from the rectangle's left edge on.
    wide = value.dim() > 0 and value.shape[-1] > 1
    out = images.clone()
    for top, left, bottom, right in boxes:
        out[..., top:bottom, left:right] = value[..., left:right] if wide else value
    return out


def _in_turn(
    images: Tensor,
    target: Tensor,
    partner: Tensor | None,
    source: Tensor | None,
    value: Tensor | None,
) -> Tensor:
    """Every rectangle of every image copied or filled by itself, by numpy."""
    batch = images.shape[0]
    boxes = _rows(target, batch)
    out = images.clone()
    mixed, given = out.numpy(), images.numpy()
    if partner is None:
        fill = np.zeros((), given.dtype) if value is None else value.numpy()
        fill = fill[0] if fill.ndim else fill
        # Pixels of several values lie side by side in a row.
        wide = fill.ndim > 0 and fill.shape[-1] > 1
        for image, rectangles in zip(mixed, boxes, strict=True):
            for top, left, bottom, right in rectangles:
                if top < bottom and left < right:
                    image[:, top:bottom, left:right] = fill[..., left:right] if wide else fill
        return out
    origins = boxes if source is None else _rows(source, batch)
    for image, rectangles, places, others in zip(
        mixed, boxes, origins, partner.tolist(), strict=True
    ):
        for box, place, other in zip(rectangles, places, others, strict=True):
            top, left, bottom, right = box
            if top < bottom and left < right:
                first, start, last, end = place
                image[:, top:bottom, left:right] = given[other, :, first:last, start:end]
    return out


def _one_by_one(
    images: Tensor,
    target: Tensor,
    partner: Tensor | None,
    source: Tensor | None,
    _value: Tensor | None,
) -> Tensor:
    """Every rectangle of large images copied or blanked by itself, by torch: cores share it."""
    batch, planes, height, width = images.shape
    plane, image = height * width, planes * height * width
    boxes = _rows(target, batch)
    origins = boxes if source is None else _rows(source, batch)
    others = [()] * batch if partner is None else partner.tolist()
    out = images.clone() if partner is None else _start(images, boxes)
    strides = (plane, width, 1)
    begin = images.storage_offset()
    for sample in range(batch):
        for rectangle, (top, left, bottom, right) in enumerate(boxes[sample]):
            if top == bottom or left == right:
                continue
            size = (planes, bottom - top, right - left)
            # A fraction of the time of out[sample, :, top:bottom, left:right].
            place = out.as_strided(size, strides, sample * image + top * width + left)
            if partner is None:
                place.zero_()
                continue
            down, across = origins[sample][rectangle][:2]
            first = begin + others[sample][rectangle] * image + down * width + across
            place.copy_(images.as_strided(size, strides, first))
    return out


def _masked(
    images: Tensor,
    target: Tensor,
    partner: Tensor | None,
    _source: Tensor | None,
    _value: Tensor | None,
) -> Tensor:
    """Every image has its own rectangles, blanked or taken from the same place elsewhere.

    By bit masks over the whole batch: out ^= (out ^ other) & mask leaves what is outside the mask
    and takes `other` inside it.
    """
    height, width = images.shape[2:]
    if partner is None:
        return images & _masks(target, height, width, images.dtype, outside=True)
    masks = _masks(target, height, width, images.dtype)
    mixed = images
    for rectangle, index in enumerate(partner.unbind(1)):
        # Written over what was gathered: a new tensor less each time.
        other = images.index_select(0, index)
        other ^= mixed
        other &= masks[:, rectangle : rectangle + 1]
        mixed = other.bitwise_xor_(mixed)
    return mixed


def _masks(
    target: Tensor, height: int, width: int, dtype: torch.dtype, *, outside: bool = False
) -> Tensor:
    """(B, R, H, W), all bits set inside the rectangle; or (B, 1, H, W), set outside of all."""
    # Few calls, each over all edges: before the start or before the end, but not before both.
    before = torch.from_numpy(_positions(max(height, width))) < target.to(torch.int32).unsqueeze(-1)
    inside = (before[..., :2, :] ^ before[..., 2:, :]).to(dtype)
    sides = inside.sub_(1) if outside else inside.neg_()
    rows, columns = sides[..., 0, :height].unsqueeze(-1), sides[..., 1, :width].unsqueeze(-2)
    if not outside:
        return rows & columns
    masks = rows | columns
    for rectangle in range(1, masks.shape[1]):
        masks[:, 0] &= masks[:, rectangle]
    return masks[:, :1]


@lru_cache(maxsize=8)
def _positions(side: int) -> np.ndarray:
    # Not a tensor: one that is made while torch only pretends would be kept for good.
    return np.arange(side, dtype=np.int32)


def _rows(boxes: Tensor, batch: int) -> list[list[list[int]]]:
    """The rectangles of each image."""
    return boxes[:1].tolist() * batch if one_row(boxes) else boxes.tolist()


def _start(images: Tensor, boxes: list[list[list[int]]]) -> Tensor:
    """A copy of the images, or memory for one where the rectangles cover them anyway."""
    pixels = images.shape[2] * images.shape[3]
    covered = all(
        sum((bottom - top) * (right - left) for top, left, bottom, right in rectangles) == pixels
        for rectangles in boxes
    )
    return torch.empty_like(images) if covered else images.clone()
