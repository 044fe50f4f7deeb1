"""What tensors a plan takes and holds: anything else is a ValueError that says so in one line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from mixbench.augmentations.plans.blend import Blend
    from mixbench.augmentations.plans.paste import Paste

IGNORED = -100
"""The label that a loss leaves out: `torch.nn.functional.cross_entropy`'s default."""


def check_images(
    images: Tensor,
    batch: int | None = None,
    size: tuple[int, ...] | None = None,
    device: torch.device | None = None,
) -> None:
    """Raise ValueError unless `images` is a floating-point tensor (B, C, H, W).

    With `batch`, `size` (H, W) and `device`, these are checked too.
    """
    fits = (
        isinstance(images, Tensor)
        and images.dim() == 4
        and images.is_floating_point()
        and (batch is None or images.shape[0] == batch)
        and (size is None or tuple(images.shape[2:]) == size)
    )
    if not fits:
        expected = ", ".join(map(str, (batch or "B", "C", *(size or ("H", "W")))))
        hint = ""
        if isinstance(images, Tensor) and images.dtype == torch.uint8:
            hint = " (divide by 255 and normalise first)"
        raise ValueError(f"images: expected ({expected}) floating point, got {_kind(images)}{hint}")
    _check_device("images", images, device)


def check_features(features: Tensor, batch: int, device: torch.device) -> None:
    """Raise ValueError unless `features` is floating point (batch, D) or (batch, ..., h, w)."""
    fits = (
        isinstance(features, Tensor)
        and features.dim() >= 2
        and features.is_floating_point()
        and features.shape[0] == batch
    )
    if not fits:
        raise ValueError(
            f"features: expected ({batch}, D) or ({batch}, ..., h, w) floating point, "
            f"got {_kind(features)}"
        )
    _check_device("features", features, device)


def check_masks(masks: Tensor, batch: int, device: torch.device) -> None:
    """Raise ValueError unless `masks` is (batch, H, W) or (batch, C, H, W)."""
    if not isinstance(masks, Tensor) or masks.dim() not in (3, 4) or masks.shape[0] != batch:
        raise ValueError(
            f"masks: expected ({batch}, H, W) or ({batch}, C, H, W), got {_kind(masks)}"
        )
    _check_device("masks", masks, device)


def check_labels(
    labels: Tensor, batch: int, num_classes: int | None, device: torch.device | None = None
) -> None:
    """Raise ValueError unless `labels` is (batch,) int64 or (batch, num_classes) floating point.

    Classes are from 0 to num_classes - 1, or `IGNORED`. Their values are read only on the CPU:
    reading them from another device would make the host wait for it.
    """
    if num_classes is not None:
        check_classes(num_classes)
    hard = soft = False
    if isinstance(labels, Tensor) and labels.shape[:1] == (batch,):
        hard = labels.dim() == 1 and labels.dtype == torch.int64
        soft = labels.dim() == 2 and labels.is_floating_point()
        if soft and num_classes is not None:
            soft = labels.shape[1] == num_classes
    if not hard and not soft:
        classes = "num_classes" if num_classes is None else num_classes
        raise ValueError(
            f"labels: expected ({batch},) int64 or ({batch}, {classes}) floating point, "
            f"got {_kind(labels)}"
        )
    _check_device("labels", labels, device)
    if hard and batch and readable(labels):
        low, high = _range(labels)
        if low == IGNORED:
            low, high = _range(labels.masked_fill(labels == IGNORED, 0))
        if low < 0 or (num_classes is not None and high >= num_classes):
            last = "num_classes - 1" if num_classes is None else num_classes - 1
            raise ValueError(
                f"labels: expected classes from 0 to {last}, or {IGNORED} (ignored), "
                f"got values from {low:g} to {high:g}"
            )


def check_classes(num_classes: int) -> None:
    """Raise ValueError unless it is a whole number at least 1."""
    if not hasattr(num_classes, "__index__") or num_classes < 1:
        raise ValueError(f"num_classes: expected a whole number at least 1, got {num_classes!r}")


def check_weights(name: str, weights: Tensor) -> None:
    """Raise ValueError for weights outside [0, 1] or NaN; they are read only on the CPU."""
    if not readable(weights) or weights.numel() == 0:
        return
    # Rows that are views of one row need be read once.
    low, high = _range(weights[:1] if weights.stride(0) == 0 else weights)
    _check_weights_between(name, low, high)


def check_weight(name: str, weight: float) -> None:
    """Raise ValueError for a weight outside [0, 1] or NaN."""
    _check_weights_between(name, weight, weight)


def _check_weights_between(name: str, low: float, high: float) -> None:
    # A mean of ones may be a rounding above one.
    if not (low >= 0 and high <= 1 + 1e-5):
        got = "NaN" if math.isnan(low) else f"values from {low:g} to {high:g}"
        raise ValueError(f"{name}: expected weights from 0 to 1, got {got}")


def check_blend(plan: Blend) -> None:
    """Raise ValueError unless the fields of a `Blend` are what its docstring says."""
    keep = plan.keep
    if not isinstance(keep, Tensor) or keep.dim() != 4 or keep.shape[1] != 1:
        raise ValueError(f"keep: expected (B, 1, 1, 1) or (B, 1, H, W) float32, got {_kind(keep)}")
    _check_tensor("keep", keep, keep.shape, torch.float32)
    _check_numbers("keep", keep, 0, 1)
    if plan.partner is not None:
        _check_tensor("partner", plan.partner, (plan.batch,), torch.int64)
        _check_numbers("partner", plan.partner, 0, plan.batch - 1)
    if plan.weights is not None:
        _check_tensor("weights", plan.weights, (plan.batch, 2), torch.float32)
        _check_shares(plan.weights)
    _check_fill(plan.fill)


def check_paste(plan: Paste) -> None:
    """Raise ValueError unless the fields of a `Paste` are what its docstring says."""
    size = plan.size
    if len(size) != 2 or not all(type(side) is int and side >= 1 for side in size):
        raise ValueError(f"size: expected a height and a width, at least 1, got {size}")
    target, partner, source = plan.target, plan.partner, plan.source
    if not isinstance(target, Tensor) or target.dim() != 3 or target.shape[2] != 4:
        raise ValueError(f"target: expected (B, R, 4) int64, got {_kind(target)}")
    _check_rectangles("target", target, target.shape, size)
    batch, count, _ = target.shape
    if partner is not None:
        _check_tensor("partner", partner, (batch, count), torch.int64)
        _check_numbers("partner", partner, 0, batch - 1)
    if source is not None:
        _check_rectangles("source", source, target.shape, size)
        corners = [_distinct(boxes) for boxes in (source, target)]
        moved, still = (boxes[..., 2:] - boxes[..., :2] for boxes in corners)
        if not plan.resize and not bool((moved == still).all()):
            raise ValueError("source: expected the size of its target without resize, got another")
    if (partner is None and (plan.resize or plan.tiles)) or (source is None and plan.resize):
        raise ValueError("partner, source: expected both with resize and a partner with tiles")
    if plan.weights is not None:
        parts = 1 if partner is None else count if plan.tiles else count + 1
        _check_tensor("weights", plan.weights, (batch, parts), torch.float32)
        _check_shares(plan.weights)
    _check_fill(plan.fill)


def check_boxes(target: Any, index: int, device: torch.device) -> None:
    """Raise ValueError unless the detection target of sample `index` is as `mix_boxes` says."""
    if not isinstance(target, Mapping) or not {"boxes", "labels"} <= target.keys():
        got = sorted(target) if isinstance(target, Mapping) else _kind(target)
        raise ValueError(f"target {index}: expected a mapping with boxes and labels, got {got}")
    boxes = target["boxes"]
    fits = isinstance(boxes, Tensor) and boxes.is_floating_point()
    if not fits or boxes.dim() != 2 or boxes.shape[1] != 4:
        raise ValueError(
            f"boxes of target {index}: expected (N, 4) floating point, got {_kind(boxes)}"
        )
    _check_device(f"boxes of target {index}", boxes, device)
    for name in ("labels", "weights"):
        values = target.get(name, boxes[:, 0])
        if not isinstance(values, Tensor) or values.shape != boxes.shape[:1]:
            raise ValueError(
                f"{name} of target {index}: expected ({boxes.shape[0]},), one per box, "
                f"got {_kind(values)}"
            )
        _check_device(f"{name} of target {index}", values, device)


def _kind(value: Any) -> str:
    if not isinstance(value, Tensor):
        return "None" if value is None else type(value).__name__
    return f"{tuple(value.shape)} {value.dtype}".replace("torch.", "")


def _check_device(name: str, tensor: Tensor, device: torch.device | None) -> None:
    if device is not None and tensor.device != device:
        raise ValueError(
            f"{name}: expected them on {device}, where the plan is, got {tensor.device}"
        )


def readable(tensor: Tensor) -> bool:
    """Whether values can be read without waiting, or breaking a graph that is being compiled."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def _range(tensor: Tensor) -> tuple[float, float]:
    if tensor.numel() == 1:
        return (tensor.item(),) * 2
    low, high = tensor.aminmax()
    return low.item(), high.item()


def _check_tensor(name: str, tensor: Any, shape: Sequence[int], dtype: torch.dtype) -> None:
    if not isinstance(tensor, Tensor) or tensor.shape != tuple(shape) or tensor.dtype != dtype:
        expected = f"{tuple(shape)} {dtype}".replace("torch.", "")
        raise ValueError(f"{name}: expected {expected}, got {_kind(tensor)}")


def _check_numbers(name: str, tensor: Tensor, low: float, high: float) -> None:
    if tensor.numel() == 0:
        return
    least, most = _range(_distinct(tensor))
    if not (least >= low and most <= high):
        got = "NaN" if math.isnan(least) else f"values from {least:g} to {most:g}"
        raise ValueError(f"{name}: expected values from {low:g} to {high:g}, got {got}")


def _check_rectangles(name: str, tensor: Any, shape: Sequence[int], size: tuple[int, int]) -> None:
    _check_tensor(name, tensor, shape, torch.int64)
    height, width = size
    tensor = _distinct(tensor)
    top, left, bottom, right = tensor.unbind(-1)
    inside = (top >= 0) & (top <= bottom) & (bottom <= height)
    inside &= (left >= 0) & (left <= right) & (right <= width)
    if not bool(inside.all()):
        wrong = tensor[~inside][0].tolist()
        raise ValueError(
            f"{name}: expected rectangles (top, left, bottom, right) within {height} x {width}, "
            f"got {wrong}"
        )


def _distinct(tensor: Tensor) -> Tensor:
    """One row where all rows are the same memory: a file may claim any number of them."""
    return tensor[:1] if tensor.dim() and tensor.shape[0] > 1 and tensor.stride(0) == 0 else tensor


def _check_shares(weights: Tensor) -> None:
    _check_numbers("weights", weights, 0, 1)
    sums = _distinct(weights).sum(dim=1)
    if bool(((sums - 1).abs() > 1e-4).any()):
        low, high = _range(sums)
        raise ValueError(f"weights: expected rows that sum to 1, got {low:g} to {high:g}")


def _check_fill(fill: Any) -> None:
    number = isinstance(fill, (int, float)) and not isinstance(fill, bool) and math.isfinite(fill)
    if not number and fill != "mean":
        raise ValueError(f"fill: expected a number or 'mean', got {fill!r}")
