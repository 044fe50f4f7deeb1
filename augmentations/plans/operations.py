"""Plans that change each image by itself: turned, shifted, recoloured. Labels are kept."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mixbench.augmentations.checks import (
    check_features,
    check_images,
    check_masks,
    check_numbers,
    check_tensor,
    describe,
)
from mixbench.augmentations.pixels.operations import (
    OPERATIONS,
    apply_operation,
    changes,
    is_move,
    moved,
    sources_of_pixels,
)
from mixbench.augmentations.plans.base import Plan, expand_rows
from mixbench.augmentations.plans.moved_boxes import move_targets
from mixbench.augmentations.tensor_types import keeps_type


class ImageOperations(Plan):
    """Operations on each image alone: it is its own only source, and labels are kept.

    Attributes:
        operation: Places in `OPERATIONS`, one row per sample.
    """

    operation: Tensor

    @property
    def batch(self) -> int:
        return self.operation.shape[0]

    @property
    def device(self) -> torch.device:
        return self.operation.device

    @property
    def is_linear(self) -> bool:
        return False

    def sources(self) -> tuple[Tensor, Tensor]:
        samples = torch.arange(self.batch, device=self.device).unsqueeze(1)
        return samples, torch.ones(self.batch, 1, dtype=torch.float32, device=self.device)

    @property
    def _weights_are_checked(self) -> bool:
        return True


@dataclass(frozen=True)
class Operations(ImageOperations):
    """Operations on each image, one after another, as torchvision's on uint8: see `OPERATIONS`.

    Images are rounded to 256 levels for it; one without an operation comes back bit for bit. What
    a move brings in from outside is black, 0 in features; masks stay as they are there. Masks,
    features and boxes are moved, and know nothing of colours. Gradients go through moves, and
    straight through operations on values.

    Attributes:
        size: Height and width of the images.
        operation: (B, N) int64, places in `OPERATIONS`.
        strength: (B, N) float32, in the unit of each operation: see `apply_operation`.
        mean: (C,) or (1,) float32, what was subtracted from images in [0, 1], by channel.
        std: (C,) or (1,) float32, what they were then divided by.
    """

    size: tuple[int, int]
    operation: Tensor
    strength: Tensor
    mean: Tensor
    std: Tensor

    @keeps_type
    def mix_images(self, images: Tensor) -> Tensor:
        check_images(images, self.batch, self.size, self.device)
        check_channels(images, self.mean, self.std)
        with torch.no_grad():
            pixels = to_levels(images, self.mean, self.std)
            for operation, strength in self._steps():
                pixels = apply_operation(pixels, operation, strength)
            result = from_levels(pixels, self.mean, self.std)
            mixed = in_place_of(images, result, self.changed())
        if not (images.requires_grad and torch.is_grad_enabled()):
            return mixed
        through = self._moved(images)
        return through + (mixed - through).detach()

    def _steps(self) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.operation.unbind(dim=1), self.strength.unbind(dim=1), strict=True))

    def _moved(self, maps: Tensor) -> Tensor:
        """Move maps (B, C, h, w) of any resolution; 0 from outside."""
        exact = maps if maps.dtype == torch.float64 else maps.float()
        for operation, strength in self._steps():
            result = moved(exact, operation, strength, self.size)
            exact = torch.where(is_move(operation).view(-1, 1, 1, 1), result, exact)
        return exact.to(maps.dtype)

    @keeps_type
    def mix_masks(self, masks: Tensor) -> Tensor:
        check_masks(masks, self.batch, self.device)
        resolution = (masks.shape[-2], masks.shape[-1])
        values = masks.reshape(self.batch, -1, resolution[0] * resolution[1])
        for operation, strength in self._steps():
            source = sources_of_pixels(operation, strength, self.size, resolution)
            source = source.view(self.batch, 1, -1).expand_as(values)
            values = torch.where(source < 0, values, values.gather(2, source.clamp(min=0)))
        return values.reshape(masks.shape)

    def mix_features(self, features: Tensor) -> Tensor:
        check_features(features, self.batch, self.device)
        if features.dim() < 4:
            # Vectors have no places; and of (B, h, w) it is as of maps with one channel.
            flat = features if features.dim() == 2 else self._moved(features.unsqueeze(1))
            return flat.view(features.shape) if features.dim() == 3 else features.clone()
        maps = features.reshape(self.batch, -1, *features.shape[-2:])
        result = self._moved(maps).view(features.shape)
        if features.dim() == 4:
            return like(result, features)
        return result

    def mix_boxes(
        self,
        targets: Sequence[Mapping[str, Any]],
        *,
        visibility: float = 0.1,
        per_box: Collection[str] = (),
        min_weight: float = 0.0,
    ) -> list[dict[str, Any]]:
        moves = (self.operation, self.strength)
        return move_targets(moves, self.size, targets, visibility, per_box, min_weight)

    def changed(self) -> Tensor:
        return changes(self.operation, self.strength).any(dim=1)

    def check_fields(self) -> None:
        check_operations(self, 2)

    def only_where(self, apply: Tensor) -> Operations:
        operation = torch.where(apply.reshape(-1, 1), self.operation, 0)
        rows = len(operation)
        return replace(self, operation=operation, strength=self.strength.expand(rows, -1))

    def expand(self, batch: int) -> Operations:
        return expand_rows(self, batch, "operation", "strength")


def to_levels(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return normalised images as whole numbers from 0 to 255, float32."""
    scale, shift = _scale(mean, std)
    return ((images.float() + shift) / scale).round_().clamp_(0, 255)


def from_levels(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Normalise whole numbers from 0 to 255."""
    scale, shift = _scale(mean, std)
    return pixels * scale - shift


def _scale(mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """As a training normalises, so that pixels come back as they were."""
    return (1 / (255 * std)).view(-1, 1, 1), (mean / std).view(-1, 1, 1)


def in_place_of(images: Tensor, result: Tensor, changed: Tensor) -> Tensor:
    """Return `result` in the dtype and the layout of `images`, and these where nothing changed."""
    mixed = torch.where(changed.view(-1, 1, 1, 1), result.to(images.dtype), images)
    return like(mixed, images)


def like(tensor: Tensor, images: Tensor) -> Tensor:
    """Return a tensor (B, C, H, W) in the memory format of another."""
    channels_last = images.is_contiguous(memory_format=torch.channels_last)
    layout = torch.contiguous_format
    if channels_last and not images.is_contiguous():
        layout = torch.channels_last
    return tensor.contiguous(memory_format=layout)


def check_channels(images: Tensor, mean: Tensor, std: Tensor) -> None:
    """Raise ValueError unless the normalisation is for as many channels as the images have."""
    for name, tensor in (("mean", mean), ("std", std)):
        if tensor.numel() not in (1, images.shape[1]):
            raise ValueError(
                f"images: expected {tensor.numel()} channels, as the normalisation's {name} has, "
                f"got {images.shape[1]}"
            )


def check_operations(plan: Any, axes: int) -> None:
    """Raise ValueError unless operations, strengths and the normalisation are what they must be."""
    operation = plan.operation
    if not isinstance(operation, Tensor) or operation.dim() != axes:
        raise ValueError(f"operation: expected {axes} axes int64, got {describe(operation)}")
    check_tensor("operation", operation, operation.shape, torch.int64)
    check_numbers("operation", operation, 0, len(OPERATIONS) - 1)
    check_tensor("strength", plan.strength, operation.shape, torch.float32)
    check_numbers("strength", plan.strength, -1e6, 1e6)
    for name in ("mean", "std"):
        value = getattr(plan, name)
        if not isinstance(value, Tensor) or value.dim() != 1:
            raise ValueError(f"{name}: expected (C,) float32, got {describe(value)}")
        check_tensor(name, value, value.shape, torch.float32)
        check_numbers(name, value, *((-1e6, 1e6) if name == "mean" else (1e-6, 1e6)))
