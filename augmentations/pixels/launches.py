"""Launch the kernels: describe the memory layout of images, and split the work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mixbench.augmentations.pixels import kernels

MAX_SUMMED_CHANNELS = 4
"""With more channels, the mean of channels-last images takes a pass of its own."""
_GRANULE_BYTES = 16
_GRANULES = 512
_PLANES = 4
_WARP = 32
_MOST_PROGRAMS = 2**16 - 1
"""CUDA's limit for the second axis of a grid; only large images with odd sides come near it."""
_INT32 = 2**31 - 1
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class _Grid:
    """The memory layout of images, and the part of them that each program mixes."""

    launch: tuple[int, int, int]
    constants: dict[str, Any]
    options: dict[str, Any]

    @classmethod
    def over(
        cls,
        shape: torch.Size,
        last: bool,
        itemsize: int,
        *,
        flat: bool = False,
        planes_of_program: int = _PLANES,
    ) -> _Grid:
        """Split images (B, C, H, W) into programs of at most so many planes.

        flat: nothing depends on row, column or channel.
        """
        batch, channels, height, width = shape
        step = channels if last and not flat else 1
        planes = 1 if last or flat else channels
        columns = width * step if not flat else channels * height * width
        plane = channels * height * width // planes
        vector = _GRANULE_BYTES // itemsize
        while columns % vector:
            vector //= 2
        planes_of_program = max(n for n in range(1, planes_of_program + 1) if planes % n == 0)
        wanted = _GRANULES if planes_of_program == 1 else _GRANULES // 2
        granules = min(wanted, _power_of_two(plane // vector))
        while -(-plane // (granules * vector)) > _MOST_PROGRAMS:
            granules *= 2
        launch = (batch, -(-plane // (granules * vector)), planes // planes_of_program)
        constants = {
            "SIZE": channels * height * width,
            "PLANE": plane,
            "PLANES": planes_of_program,
            "STEP": step,
            "GRANULES": granules,
            "VECTOR": vector,
        }
        # Explicit, as Triton's default differs between versions: the kernels call fma themselves.
        options = {"num_warps": max(1, min(4, granules // _WARP)), "enable_fp_fusion": False}
        return cls(launch, constants, options)


def blend(images: Tensor, keep: Tensor, partner: Tensor | None, fill: float | str) -> Tensor:
    """Mix the pixels of a `Blend` plan as `eager.blend`; float32, bfloat16 or float16."""
    images, last = laid_out(images)
    mixed = torch.empty_like(images)
    spatial = keep.shape[2:] != (1, 1)
    mean = partner is None and fill == "mean"
    flat = not spatial and not mean
    grid = _Grid.over(images.shape, last, images.element_size(), flat=flat)
    keep = _rows(keep.float())
    kernels.blend[grid.launch](
        images,
        keep,
        _or(partner, images),
        _mean(images) if mean else images,
        mixed,
        _row_stride(keep),
        images.shape[0],
        0.0 if fill == "mean" else float(fill),
        SPATIAL=spatial,
        PARTNER=partner is not None,
        MEAN=mean,
        **grid.constants,
        **grid.options,
    )
    return mixed


def paste(
    images: Tensor,
    target: Tensor,
    partner: Tensor | None,
    source: Tensor | None,
    fill: float | str,
) -> Tensor:
    """Mix the pixels of a `Paste` plan without `resize`, as `eager.paste`.

    With partners, images may have any dtype. There must be at least one rectangle, and few: the
    loop over them is unrolled.
    """
    dtype = images.dtype
    if partner is not None:
        # Only copies: bits are moved without being interpreted.
        images = images.view(_BITS[images.element_size()])
    images, last = laid_out(images)
    rectangles = target.shape[1]
    grid = _Grid.over(images.shape, last, images.element_size())
    mean = partner is None and fill == "mean"
    one = rectangles == 1 and source is None
    # The mean takes a pass over the images, which also writes the copy.
    mixed, colour = _copied_with_mean(images, grid) if mean else (torch.empty_like(images), images)
    target = _rows(target)
    common = {
        "COLUMNS": images.shape[3] * grid.constants["STEP"],
        "PARTNER": partner is not None,
        "MEAN": mean,
        **grid.constants,
        **grid.options,
    }
    number = 0.0 if fill == "mean" else float(fill)
    if one:
        kernels.paste_one[grid.launch](
            images,
            target,
            _or(partner, target),
            colour,
            mixed,
            _row_stride(target),
            images.shape[0],
            number,
            IN_PLACE=mean,
            **common,
        )
    else:
        source = None if source is None else _rows(source)
        kernels.paste_many[grid.launch](
            images,
            target,
            _or(partner, target),
            _or_rows(source, target),
            colour,
            mixed,
            _row_stride(target),
            0 if source is None else _row_stride(source),
            images.shape[0],
            number,
            RECTANGLES=rectangles,
            MOVED=source is not None,
            WIDE=images.numel() > _INT32,
            **common,
        )
    return mixed.view(dtype)


def paste_scaled(images: Tensor, target: Tensor, partner: Tensor, source: Tensor) -> Tensor:
    """Mix the pixels of a `Paste` plan with `resize`, as `resize.paste`; float32 or half."""
    images, last = laid_out(images)
    mixed = torch.empty_like(images)
    grid = _Grid.over(images.shape, last, images.element_size(), planes_of_program=1)
    target, source = _rows(target), _rows(source)
    kernels.paste_scaled[grid.launch](
        images,
        target,
        partner.contiguous(),
        source,
        mixed,
        _row_stride(target),
        _row_stride(source),
        images.shape[0],
        RECTANGLES=target.shape[1],
        COLUMNS=images.shape[3] * grid.constants["STEP"],
        **grid.constants,
        **grid.options,
    )
    return mixed


def laid_out(images: Tensor) -> tuple[Tensor, bool]:
    """Return the images without gaps, and whether channels come last in memory."""
    if images.is_contiguous():
        return images, False
    if images.is_contiguous(memory_format=torch.channels_last):
        return images, True
    return images.contiguous(), False


def _power_of_two(number: int) -> int:
    """Return the smallest power of two that is at least `number`."""
    return 1 << (number - 1).bit_length()


def _copied_with_mean(images: Tensor, grid: _Grid) -> tuple[Tensor, Tensor]:
    """Return a copy of the images, and the mean of each channel (C,) in their dtype."""
    channels, step = images.shape[1], grid.constants["STEP"]
    if step > MAX_SUMMED_CHANNELS:
        return images.clone(), _mean(images)
    copy = torch.empty_like(images)
    programs = grid.launch[0] * grid.launch[1]
    sums = images.new_empty((channels, programs), dtype=torch.float32)
    kernels.copy_and_sum[grid.launch](
        images, copy, sums, programs, **grid.constants, **grid.options
    )
    mean = sums.sum(dim=1) / (images.numel() // channels)
    return copy, mean.to(images.dtype)


def _mean(images: Tensor) -> Tensor:
    return images.float().mean(dim=(0, 2, 3)).to(images.dtype)


def _rows(rows: Tensor) -> Tensor:
    """Return rows that are contiguous each; all rows may share memory."""
    return rows if rows[:1].is_contiguous() else rows.contiguous()


def _row_stride(rows: Tensor) -> int:
    return 0 if rows.shape[0] == 1 else rows.stride(0)


def _or(tensor: Tensor | None, stand_in: Tensor) -> Tensor:
    """Return the tensor or `stand_in`: a kernel needs a pointer even if it does not read it."""
    return stand_in if tensor is None else tensor.contiguous()


def _or_rows(rows: Tensor | None, stand_in: Tensor) -> Tensor:
    """Return the rows, with their stride, or `stand_in`."""
    return stand_in if rows is None else rows
