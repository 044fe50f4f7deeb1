"""Blend and Paste in plain torch: the reference on every device.

All functions take (B, C, H, W) of any dtype, return a new tensor in the same memory format, let
gradients through, and never make the host wait for a device.
"""

from __future__ import annotations

import torch
from torch import Tensor


def blend(images: Tensor, keep: Tensor, partner: Tensor | None, fill: float | str = 0.0) -> Tensor:
    """keep * images + (1 - keep) * images[partner]; keep (B, 1, 1, 1) or (B, 1, H, W) float32.

    Without a partner it is blended with `fill` (see `Blend`).
    Half precision is mixed in float32 and rounded once, so that image and label weight agree.
    `lerp` returns its end points exactly: a sample with keep 1 comes back bit for bit.
    """
    half = images.dtype in (torch.float16, torch.bfloat16)
    own, weight = (images.float(), keep) if half else (images, keep.to(images.dtype))
    if partner is None:
        mixed = torch.lerp(fill_value(images, fill).to(own.dtype), own, weight)
    else:
        other = _gather(images, partner)
        other = other.float() if half else other
        # Written over what was gathered, a tensor of the batch's size less; a gradient of the
        # weight would need what is overwritten.
        mixed = (torch.lerp if weight.requires_grad else Tensor.lerp_)(other, own, weight)
    return mixed.to(images.dtype).contiguous(memory_format=layout(images))


def paste(
    images: Tensor,
    target: Tensor,
    partner: Tensor | None,
    source: Tensor | None,
    fill: float | str,
) -> Tensor:
    """Copy (or fill) the rectangles of a `Paste` plan; see there for the arguments.

    A plan without rectangles gives back `images` itself: the baseline must not pay for a copy.
    """
    if target.shape[1] == 0:
        return images
    if partner is None or source is None:
        return _paste_in_place(images, target, partner, fill)
    return _paste_moved(images, target, partner, source)


def _paste_in_place(
    images: Tensor, target: Tensor, partner: Tensor | None, fill: float | str
) -> Tensor:
    """Rectangles of each sample's own, copied from the same place of the partner, or filled."""
    inside = rectangle_mask(target, images.shape[-2], images.shape[-1])
    if partner is None:
        return torch.where(inside.any(dim=1, keepdim=True), fill_value(images, fill), images)

    out = images
    for rectangle in range(target.shape[1]):
        other = _gather(images, partner[:, rectangle])
        out = torch.where(inside[:, rectangle].unsqueeze(1), other, out)
    return out.contiguous(memory_format=layout(images))


def _paste_moved(images: Tensor, target: Tensor, partner: Tensor, source: Tensor) -> Tensor:
    """Rectangles copied from another place: one gather, from where each pixel comes."""
    batch, channels, height, width = images.shape
    row = torch.arange(height, device=images.device).view(1, height, 1)
    column = torch.arange(width, device=images.device).view(1, 1, width)
    sample = torch.arange(batch, device=images.device).view(batch, 1, 1)
    inside = rectangle_mask(target, height, width)
    shift = source - target
    flat = (sample * height + row) * width + column
    for rectangle in range(target.shape[1]):
        down = shift[:, rectangle, 0].view(batch, 1, 1)
        across = shift[:, rectangle, 1].view(batch, 1, 1)
        other = partner[:, rectangle].view(batch, 1, 1)
        come = (other * height + row + down) * width + column + across
        flat = torch.where(inside[:, rectangle], come, flat)
    pixels = images.permute(0, 2, 3, 1).reshape(-1, channels)
    moved = pixels.index_select(0, flat.reshape(-1)).view(batch, height, width, channels)
    return moved.permute(0, 3, 1, 2).contiguous(memory_format=layout(images))


def rectangle_mask(target: Tensor, height: int, width: int) -> Tensor:
    """(B, R, H, W) bool: is the pixel in the rectangle?"""
    top, left, bottom, right = target.unsqueeze(-1).unbind(-2)
    row = torch.arange(height, device=target.device)
    column = torch.arange(width, device=target.device)
    rows = (row >= top) & (row < bottom)
    columns = (column >= left) & (column < right)
    return rows.unsqueeze(-1) & columns.unsqueeze(-2)


def fill_value(images: Tensor, fill: float | str) -> Tensor:
    """() or, for the mean of each channel, (1, C, 1, 1); of the images' dtype."""
    if fill == "mean":
        exact = torch.promote_types(images.dtype, torch.float32)
        return images.to(exact).mean(dim=(0, 2, 3), keepdim=True).to(images.dtype)
    return images.new_full((), float(fill))


def _gather(images: Tensor, partner: Tensor) -> Tensor:
    """images[partner] in the memory format of `images`."""
    if layout(images) == torch.channels_last:
        return images.permute(0, 2, 3, 1).index_select(0, partner).permute(0, 3, 1, 2)
    return images.index_select(0, partner)


def layout(images: Tensor) -> torch.memory_format:
    """The memory format that a result must have; one of neither format becomes contiguous."""
    if images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous():
        return torch.channels_last
    return torch.contiguous_format
