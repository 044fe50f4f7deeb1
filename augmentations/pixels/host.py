"""Mix the pixels of a `Blend` or a `Paste` on a CPU: the same as `eager`, faster.

`eager` compares all pixels with the rectangles' edges, which takes ten times as long as a copy.
Here only the rectangles are copied: those that all samples share in one slice of the batch, others
one by one by numpy, whose calls take less time than torch's. Under autograd or a compiler, `eager`
does the work. What this gains in whole trainings is in results/benchmarks/paths.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from mixbench.augmentations.pixels import eager

LARGE = 1 << 14
"""Images of at least so many values are mixed one by one, as one image stays in the cache."""

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def blend(images: Tensor, keep: Tensor, partner: Tensor | None, fill: float | str = 0.0) -> Tensor:
    """Mix the pixels of a `Blend` plan, bit for bit as `eager.blend`.

    Args:
        images: (B, C, H, W) floating point, on the CPU.
        keep: Weights of the samples themselves: (B, 1, 1, 1) or (B, 1, H, W) float32.
        partner: Each sample's partner: (B,) int64; None to blend with `fill`.
        fill: A number, or "mean" for the batch's mean of each channel.

    Returns:
        A new tensor of the images' shape, dtype and memory format.
    """
    large = images.shape[1:].numel() >= LARGE
    if partner is None or not large or not images.is_floating_point() or _watched(images, keep):
        return eager.blend(images, keep, partner, fill)
    # Image by image, both sources stay in the cache, and no gathered batch is written and read.
    out = torch.empty_like(images, memory_format=eager.layout(images))
    half = images.dtype in (torch.float16, torch.bfloat16)
    weights = keep if half else keep.to(images.dtype)
    samples = images.unbind(0)
    parts = zip(out.unbind(0), samples, weights.unbind(0), partner.tolist(), strict=True)
    for mixed, image, weight, other in parts:
        if half:
            mixed.copy_(samples[other].float().lerp_(image.float(), weight))
        else:
            torch.lerp(samples[other], image, weight, out=mixed)
    return out


def blend_in_place(
    images: Tensor, keep: Tensor, partner: Tensor | None, fill: float | str = 0.0
) -> None:
    """Mix as `blend`, into the memory of `images`: for a batch that nobody else needs.

    A new tensor of the batch's size would be written for nothing, and the system would first have
    to find memory for it, which takes longer than mixing.
    """
    if partner is None or not _writable(images, keep) or images.dtype != torch.float32:
        images.copy_(blend(images, keep, partner, fill))
        return
    if images.shape[1:].numel() < LARGE:
        torch.lerp(images.index_select(0, partner), images, keep, out=images)
        return
    others = partner.tolist()
    if sorted(others) == list(range(len(others))):
        _blend_along_cycles(images.unbind(0), keep.unbind(0), others)
    else:
        images.copy_(blend(images, keep, partner, fill))


def _blend_along_cycles(
    images: Sequence[Tensor], weights: Sequence[Tensor], partner: Sequence[int]
) -> None:
    """Overwrite each image, then its partner, and so on: one copy serves a whole cycle.

    Each image is still in the cache when it is needed for the second time.
    """
    done = [False] * len(images)
    copy = torch.empty_like(images[0])
    for first in range(len(images)):
        sample = first
        if partner[first] != first and not done[first]:
            copy.copy_(images[first])
        while not done[sample]:
            done[sample] = True
            other = partner[sample]
            if other != sample:
                end = copy if other == first else images[other]
                torch.lerp(end, images[sample], weights[sample], out=images[sample])
            sample = other


def paste_in_place(
    images: Tensor,
    target: Tensor,
    partner: Tensor | None,
    source: Tensor | None,
    fill: float | str,
) -> None:
    """Mix as `paste`, into the memory of `images`; see `blend_in_place`."""
    if target.shape[1] == 0:
        return
    if not _writable(images):
        images.copy_(paste(images, target, partner, source, fill))
        return
    bits = images.view(_BITS[images.element_size()])
    if partner is None:
        _fill_each(bits, target, _fill_bits(images, fill, 1), bits)
    elif _is_shared(images, target, source):
        _paste_shared(bits, target[0], partner, None if source is None else source[0], bits)
    else:
        _paste_each(bits, target, partner, source, bits)


def _writable(images: Tensor, *others: Tensor) -> bool:
    return images.is_contiguous() and not _watched(images, *others)


def _is_shared(images: Tensor, target: Tensor, source: Tensor | None) -> bool:
    """Tell whether rectangles are copied for the whole batch at once."""
    shared = one_row(target) and (source is None or one_row(source))
    return shared and images.shape[1:].numel() < LARGE


def paste(
    images: Tensor,
    target: Tensor,
    partner: Tensor | None,
    source: Tensor | None,
    fill: float | str,
) -> Tensor:
    """Mix the pixels of a `Paste` plan without `resize`, bit for bit as `eager.paste`.

    Args:
        images: (B, C, H, W), on the CPU.
        target: Rectangles (top, left, bottom, right) in pixels: (B, R, 4) int64.
        partner: The sample that each is copied from: (B, R) int64; None to fill it.
        source: Where it is copied from: (B, R, 4) int64; None for the same place.
        fill: A number, or "mean" for the batch's mean of each channel.

    Returns:
        A new tensor of the images' shape, dtype and memory format; `images` where there are no
        rectangles.
    """
    if target.shape[1] == 0:
        return images
    if _watched(images):
        return eager.paste(images, target, partner, source, fill)
    planes, scale = _planes(images)
    bits = planes.view(_BITS[planes.element_size()])
    is_shared = _is_shared(images, target, source)
    if scale > 1:
        columns = target.new_tensor((1, scale, 1, scale))
        target = target * columns
        source = None if source is None else source * columns
    if partner is None:
        mixed = _fill_each(bits, target, _fill_bits(images, fill, scale))
    elif is_shared:
        mixed = _paste_shared(bits, target[0], partner, None if source is None else source[0])
    else:
        mixed = _paste_each(bits, target, partner, source)
    mixed = mixed.view(images.dtype)
    if scale == 1:
        return mixed
    batch, channels, height, width = images.shape
    return mixed.view(batch, height, width, channels).permute(0, 3, 1, 2)


def _watched(*tensors: Tensor) -> bool:
    """Tell whether autograd or a compiler must be able to follow every step."""
    wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return wanted or torch.compiler.is_compiling()


def one_row(boxes: Tensor) -> bool:
    """Tell whether all samples share the same rectangles: (B, R, 4), or another plan's rows."""
    return boxes.shape[0] == 1 or boxes.stride(0) == 0


def _planes(images: Tensor) -> tuple[Tensor, int]:
    """Return the values as they lie in memory, (B, P, H, L), and how many of a row are a pixel.

    channels_last images are one plane whose rows hold all channels of their pixels, so that one
    code serves both formats.
    """
    if eager.layout(images) == torch.contiguous_format:
        return images.contiguous(), 1
    batch, channels, height, width = images.shape
    return images.permute(0, 2, 3, 1).view(batch, 1, height, width * channels), channels


def _fill_bits(images: Tensor, fill: float | str, scale: int) -> Tensor:
    """Return the fill as bits that broadcast over the planes of an image."""
    value = eager.fill_value(images, fill)
    if value.dim():
        value = value.view(-1).repeat(images.shape[3]) if scale > 1 else value[0]
    return value.view(_BITS[value.element_size()])


def _paste_shared(
    images: Tensor,
    target: Tensor,
    partner: Tensor,
    source: Tensor | None,
    out: Tensor | None = None,
) -> Tensor:
    """Copy one set of rectangles for the whole batch, each as one slice; `out` may be `images`."""
    boxes = target.tolist()
    origins = boxes if source is None else source.tolist()
    mixed = _start(images, [boxes]) if out is None else out

    def pieces() -> Iterator[tuple[Tensor, Tensor]]:
        for rectangle, (top, left, bottom, right) in enumerate(boxes):
            high, wide = bottom - top, right - left
            if high == 0 or wide == 0:
                continue
            down, across = origins[rectangle][:2]
            # Whole rows are gathered in one piece each, and cut afterwards. `narrow` takes a third
            # of what the same slices take.
            rows = images.narrow(2, down, high).index_select(0, partner.select(1, rectangle))
            into = mixed.narrow(2, top, high).narrow(3, left, wide)
            yield into, rows.narrow(3, across, wide)

    # All are read before the first is written, if they lie in the same memory.
    for into, rows in pieces() if out is None else list(pieces()):
        into.copy_(rows)
    return mixed


def _paste_each(
    images: Tensor,
    target: Tensor,
    partner: Tensor,
    source: Tensor | None,
    out: Tensor | None = None,
) -> Tensor:
    """Copy the rectangles one by one with numpy; `out` may be `images`."""
    boxes = _rows(target)
    origins = boxes if source is None else _rows(source)
    mixed = _start(images, boxes) if out is None else out
    given = images.numpy()

    def pieces() -> Iterator[tuple[Any, Any]]:
        for image, *rectangles in zip(mixed.numpy(), boxes, origins, partner.tolist(), strict=True):
            for (top, left, bottom, right), origin, other in zip(*rectangles, strict=True):
                if top < bottom and left < right:
                    first, start, last, end = origin
                    come = given[other, :, first:last, start:end]
                    yield image[:, top:bottom, left:right], come if out is None else come.copy()

    # All are read before the first is written, if they lie in the same memory.
    for into, come in pieces() if out is None else list(pieces()):
        into[...] = come
    return mixed


def _fill_each(images: Tensor, target: Tensor, value: Tensor, out: Tensor | None = None) -> Tensor:
    """Fill the rectangles one by one with numpy; `out` may be `images`."""
    mixed = images.clone() if out is None else out
    fill = value.numpy()
    # Pixels of several values lie side by side in a row: from the rectangle's left edge on.
    is_wide = fill.ndim > 0 and fill.shape[-1] > 1
    for image, rectangles in zip(mixed.numpy(), _rows(target), strict=True):
        for top, left, bottom, right in rectangles:
            if top < bottom and left < right:
                image[:, top:bottom, left:right] = fill[..., left:right] if is_wide else fill
    return mixed


def _rows(boxes: Tensor) -> list[list[list[int]]]:
    """Return the rectangles of each image."""
    shared = one_row(boxes)
    rows: list[list[list[int]]] = boxes[:1].tolist() if shared else boxes.tolist()
    return rows * boxes.shape[0] if shared else rows


def _start(images: Tensor, boxes: list[list[list[int]]]) -> Tensor:
    """Copy the images, or only allocate memory where the rectangles cover all pixels."""
    pixels = images.shape[2] * images.shape[3]
    covered = all(
        sum((bottom - top) * (right - left) for top, left, bottom, right in rectangles) == pixels
        for rectangles in boxes
    )
    return torch.empty_like(images) if covered else images.clone()
