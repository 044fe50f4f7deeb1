"""Images of different sizes, padded to one size with what lies in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mixbench.augmentations.checks import describe
from mixbench.augmentations.tensor_types import plain, retyped


@dataclass(frozen=True)
class PaddedImages:
    """Images of one size, each in the upper left corner of its own.

    Attributes:
        images: (B, C, H, W).
        sizes: (B, 2) int64 on the CPU, the height and width that each image had.
        masks: (B, H, W), the segmentation masks, if there were any.
        targets: The detection targets, if there were any.
    """

    images: Tensor
    sizes: Tensor
    masks: Tensor | None = None
    targets: list[dict[str, Any]] | None = None

    def inside(self) -> Tensor:
        """Tell which pixels are of the image and not padded: (B, H, W) bool."""
        height, width = self.images.shape[2:]
        rows = torch.arange(height) < self.sizes[:, :1]
        columns = torch.arange(width) < self.sizes[:, 1:]
        return (rows[:, :, None] & columns[:, None]).to(self.images.device)


def pad_images(
    images: Sequence[Tensor],
    *,
    masks: Sequence[Tensor] | None = None,
    targets: Sequence[Mapping[str, Any]] | None = None,
    size: tuple[int, int] | None = None,
    multiple: int = 1,
    fill: float = 0.0,
    ignore_index: int = 255,
) -> PaddedImages:
    """Pad images of different sizes at the bottom and the right, so that a plan can mix them.

    Boxes and keypoints stay where they are, since the upper left corner does; the canvas size of
    torchvision's types becomes the new one.

    Args:
        images: B images (C, h, w) floating point, of one dtype and device.
        masks: Their segmentation masks (h, w), class indices; padded with `ignore_index`.
        targets: Their detection targets; `masks` (N, h, w) of instances are padded with 0.
        size: Height and width of the result; None for the largest height and width that come.
        multiple: Both sides of the result are rounded up to a multiple of this.
        fill: The value of padded pixels; 0 is the mean of normalised images.
        ignore_index: The class of padded pixels.

    Raises:
        ValueError: The images are not of one kind, an image is larger than `size`, masks or targets
            have another number or size than the images, or `multiple` is below 1.

    Examples:
        >>> import mixbench, torch
        >>> padded = mixbench.pad_images([torch.ones(3, 4, 6), torch.ones(3, 5, 2)])
        >>> padded.images.shape, padded.sizes.tolist()
        (torch.Size([2, 3, 5, 6]), [[4, 6], [5, 2]])
    """
    sizes = _sizes(images)
    height, width = _common_size(sizes, size, multiple)
    batch = torch.stack([_pad(plain(image), (height, width), fill) for image in images])
    return PaddedImages(
        batch,
        torch.tensor(sizes),
        None if masks is None else _padded_masks(masks, sizes, (height, width), ignore_index),
        None if targets is None else _padded_targets(targets, sizes, (height, width)),
    )


def _sizes(images: Sequence[Tensor]) -> list[tuple[int, int]]:
    if not isinstance(images, Sequence) or not images:
        raise ValueError(f"images: expected a list of at least one image, got {describe(images)}")
    first = images[0]
    for index, image in enumerate(images):
        right = isinstance(image, Tensor) and image.dim() == 3 and image.is_floating_point()
        if not right:
            raise ValueError(
                f"image {index}: expected (C, h, w) floating point, got {describe(image)}"
            )
        kind, wanted = ((i.shape[0], i.dtype, i.device) for i in (image, first))
        if kind != wanted:
            raise ValueError(
                f"image {index}: expected {first.shape[0]} channels of {first.dtype} on "
                f"{first.device}, as image 0 has, got {describe(image)} on {image.device}"
            )
    return [(int(image.shape[1]), int(image.shape[2])) for image in images]


def _common_size(
    sizes: Sequence[tuple[int, int]], size: tuple[int, int] | None, multiple: int
) -> tuple[int, int]:
    if type(multiple) is not int or multiple < 1:
        raise ValueError(f"multiple: expected a whole number at least 1, got {multiple!r}")
    height, width = (max(sides) for sides in zip(*sizes, strict=True))
    if size is not None:
        if height > size[0] or width > size[1]:
            index = next(i for i, (h, w) in enumerate(sizes) if h > size[0] or w > size[1])
            raise ValueError(
                f"size: expected at least {height} x {width}, for image {index} and all others, "
                f"got {size[0]} x {size[1]}"
            )
        height, width = size
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple


def _padded_masks(
    masks: Sequence[Tensor],
    sizes: Sequence[tuple[int, int]],
    padded: tuple[int, int],
    ignore_index: int,
) -> Tensor:
    _check_number("masks", masks, sizes)
    for index, (mask, size) in enumerate(zip(masks, sizes, strict=True)):
        classes = isinstance(mask, Tensor) and not mask.is_floating_point()
        if not classes or tuple(mask.shape) != size:
            raise ValueError(
                f"mask {index}: expected {size} of classes, as its image, got {describe(mask)}"
            )
        if mask.dtype == torch.bool or ignore_index not in _range(mask.dtype):
            raise ValueError(
                f"ignore_index: expected a number that masks of {mask.dtype} can hold, got "
                f"{ignore_index}"
            )
    return torch.stack([_pad(plain(mask), padded, ignore_index) for mask in masks])


def _range(dtype: torch.dtype) -> range:
    limits = torch.iinfo(dtype)
    return range(limits.min, limits.max + 1)


def _padded_targets(
    targets: Sequence[Mapping[str, Any]],
    sizes: Sequence[tuple[int, int]],
    padded: tuple[int, int],
) -> list[dict[str, Any]]:
    _check_number("targets", targets, sizes)
    return [
        {key: _padded(key, value, index, size, padded) for key, value in target.items()}
        for index, (target, size) in enumerate(zip(targets, sizes, strict=True))
    ]


def _check_number(name: str, values: Sequence[Any], sizes: Sequence[Any]) -> None:
    if len(values) != len(sizes):
        raise ValueError(f"{name}: expected {len(sizes)}, one per image, got {len(values)}")


def _pad(tensor: Tensor, size: tuple[int, int], fill: float) -> Tensor:
    below, right = size[0] - tensor.shape[-2], size[1] - tensor.shape[-1]
    return F.pad(tensor, (0, right, 0, below), value=fill)


def _padded(
    key: str, value: Any, index: int, size: tuple[int, int], padded: tuple[int, int]
) -> Any:
    """Return what a target holds under `key`, for the padded image."""
    if not isinstance(value, Tensor):
        return value
    if key == "masks":
        if value.dim() != 3 or tuple(value.shape[1:]) != size:
            raise ValueError(
                f"masks of target {index}: expected (N, {size[0]}, {size[1]}), as its image, got "
                f"{describe(value)}"
            )
        return retyped(_pad(plain(value), padded, 0), value)
    canvas = getattr(value, "canvas_size", None)
    if canvas is None:
        return value
    if tuple(canvas) != size:
        raise ValueError(
            f"{key} of target {index}: expected them for an image of {size[0]} x {size[1]}, got "
            f"{canvas[0]} x {canvas[1]}"
        )
    moved = retyped(plain(value).clone(), value)
    moved.canvas_size = padded  # type: ignore[attr-defined]
    return moved
