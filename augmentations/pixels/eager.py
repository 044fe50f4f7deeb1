"""Mix the pixels of a `Blend` or a `Paste` in plain torch: the reference on every device.

Nothing here makes the host wait for a device, and gradients go through.
"""

from __future__ import annotations

import torch
from torch import Tensor


def blend(images: Tensor, keep: Tensor, partner: Tensor | None, fill: float | str = 0.0) -> Tensor:
    """Compute keep * images + (1 - keep) * images[partner].

    Half precision is mixed in float32 and rounded once, so that image and label weight agree. A
    sample with `keep` 1 is returned bit for bit, as `lerp` returns its end points exactly.

    Args:
        images: (B, C, H, W) floating point.
        keep: Weights of the samples themselves: (B, 1, 1, 1) or (B, 1, H, W) float32.
        partner: Each sample's partner: (B,) int64; None to blend with `fill`.
        fill: A number, or "mean" for the batch's mean of each channel.

    Returns:
        A new tensor of the images' shape, dtype and memory format.

    Examples:
        >>> images = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
        >>> keep = torch.tensor([0.75, 1.0]).view(2, 1, 1, 1)
        >>> blend(images, keep, torch.tensor([1, 0])).flatten()
        tensor([0.2500, 1.0000])
    """
    half = images.dtype in (torch.float16, torch.bfloat16)
    sample, weight = (images.float(), keep) if half else (images, keep.to(images.dtype))
    if partner is None:
        mixed = torch.lerp(fill_value(images, fill).to(sample.dtype), sample, weight)
    else:
        other = _gather(images, partner)
        other = other.float() if half else other
        # In place, which saves a tensor of the batch's size; a gradient of the weight would need
        # what is overwritten.
        mixed = (torch.lerp if weight.requires_grad else Tensor.lerp_)(other, sample, weight)
    return mixed.to(images.dtype).contiguous(memory_format=layout(images))


def paste(
    images: Tensor,
    target: Tensor,
    partner: Tensor | None,
    source: Tensor | None,
    fill: float | str,
) -> Tensor:
    """Copy or fill rectangles that keep their size.

    Args:
        images: (B, C, H, W) of any dtype.
        target: Rectangles (top, left, bottom, right) in pixels, half open: (B, R, 4) int64. Those
            of a sample must not overlap; an empty one does nothing.
        partner: The sample that each is copied from: (B, R) int64; None to fill it.
        source: Where it is copied from: (B, R, 4) int64; None for the same place.
        fill: A number, or "mean" for the batch's mean of each channel.

    Returns:
        A new tensor of the images' shape, dtype and memory format; without rectangles `images`
        itself, so that the baseline needs no copy.
    """
    if target.shape[1] == 0:
        return images
    if partner is None or source is None:
        return _paste_same_place(images, target, partner, fill)
    return _paste_moved(images, target, partner, source)


def _paste_same_place(
    images: Tensor, target: Tensor, partner: Tensor | None, fill: float | str
) -> Tensor:
    """Copy each sample's rectangles from the same place of the partner, or fill them."""
    inside = rectangle_mask(target, images.shape[-2], images.shape[-1])
    if partner is None:
        return torch.where(inside.any(dim=1, keepdim=True), fill_value(images, fill), images)

    out = images
    for rectangle in range(target.shape[1]):
        other = _gather(images, partner[:, rectangle])
        out = torch.where(inside[:, rectangle].unsqueeze(1), other, out)
    return out.contiguous(memory_format=layout(images))


def _paste_moved(images: Tensor, target: Tensor, partner: Tensor, source: Tensor) -> Tensor:
    """Copy rectangles from another position: one gather with the source index of each pixel."""
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
    """Tell which pixels are in which rectangle: (B, R, H, W) bool."""
    top, left, bottom, right = target.unsqueeze(-1).unbind(-2)
    row = torch.arange(height, device=target.device)
    column = torch.arange(width, device=target.device)
    rows = (row >= top) & (row < bottom)
    columns = (column >= left) & (column < right)
    return rows.unsqueeze(-1) & columns.unsqueeze(-2)


def fill_value(images: Tensor, fill: float | str) -> Tensor:
    """Return the fill in the images' dtype: (), or (1, C, 1, 1) for the mean colour."""
    if fill == "mean":
        exact = torch.promote_types(images.dtype, torch.float32)
        return images.to(exact).mean(dim=(0, 2, 3), keepdim=True).to(images.dtype)
    return images.new_full((), float(fill))


def _gather(images: Tensor, partner: Tensor) -> Tensor:
    """Return images[partner] in the memory format of `images`."""
    if layout(images) == torch.channels_last:
        return images.permute(0, 2, 3, 1).index_select(0, partner).permute(0, 3, 1, 2)
    return images.index_select(0, partner)


def layout(images: Tensor) -> torch.memory_format:
    """Return the memory format of a result: channels-last for such images, else contiguous."""
    if images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous():
        return torch.channels_last
    return torch.contiguous_format
