"""Check the tensors given to a plan; anything else is a ValueError with a message of one line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

IGNORED = -100
"""The label that a loss ignores, the default of `torch.nn.functional.cross_entropy`."""
BOX_FORMATS = ("XYXY", "XYWH", "CXCYWH")
"""The formats of boxes that are read."""


def check_images(
    images: Tensor,
    batch: int | None = None,
    size: tuple[int, ...] | None = None,
    device: torch.device | None = None,
) -> None:
    """Check that `images` is a floating-point tensor (B, C, H, W).

    Args:
        images: The value to check.
        batch: The B that it must have; None for any.
        size: The (H, W) that it must have; None for any.
        device: Where it must be; None for anywhere.

    Raises:
        ValueError: It is something else; the message names what was expected and what was given.
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
        raise ValueError(
            f"images: expected ({expected}) floating point, got {describe(images)}{hint}"
        )
    check_device("images", images, device)


def check_features(features: Tensor, batch: int, device: torch.device) -> None:
    """Raise ValueError unless `features` is floating point, (batch, D) or (batch, ..., h, w)."""
    fits = (
        isinstance(features, Tensor)
        and features.dim() >= 2
        and features.is_floating_point()
        and features.shape[0] == batch
    )
    if not fits:
        raise ValueError(
            f"features: expected ({batch}, D) or ({batch}, ..., h, w) floating point, "
            f"got {describe(features)}"
        )
    check_device("features", features, device)


def check_masks(masks: Tensor, batch: int, device: torch.device) -> None:
    """Raise ValueError unless `masks` is (batch, H, W) or (batch, C, H, W)."""
    if not isinstance(masks, Tensor) or masks.dim() not in (3, 4) or masks.shape[0] != batch:
        raise ValueError(
            f"masks: expected ({batch}, H, W) or ({batch}, C, H, W), got {describe(masks)}"
        )
    check_device("masks", masks, device)


def check_labels(
    labels: Tensor, batch: int, num_classes: int | None, device: torch.device | None = None
) -> None:
    """Check that `labels` is (batch,) int64 or (batch, num_classes) floating point.

    Classes are from 0 to num_classes - 1, or `IGNORED`. Their values are read only on the CPU:
    reading them from another device would make the host wait for it.

    Args:
        labels: The value to check.
        batch: How many samples there are.
        num_classes: How many classes there are; None where that is not known.
        device: Where the labels must be; None for anywhere.

    Raises:
        ValueError: They are something else, or `num_classes` is no whole number at least 1.
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
            f"got {describe(labels)}"
        )
    check_device("labels", labels, device)
    if hard and batch and readable(labels):
        low, high = _limits(labels)
        if low == IGNORED:
            low, high = _limits(labels.masked_fill(labels == IGNORED, 0))
        if low < 0 or (num_classes is not None and high >= num_classes):
            last = "num_classes - 1" if num_classes is None else num_classes - 1
            raise ValueError(
                f"labels: expected classes from 0 to {last}, or {IGNORED} (ignored), "
                f"got values from {low:g} to {high:g}"
            )


def check_classes(num_classes: int) -> None:
    """Raise ValueError unless `num_classes` is a whole number at least 1."""
    if not hasattr(num_classes, "__index__") or num_classes < 1:
        raise ValueError(f"num_classes: expected a whole number at least 1, got {num_classes!r}")


def check_weights(name: str, weights: Tensor) -> None:
    """Raise ValueError for weights outside [0, 1] or NaN; they are read only on the CPU."""
    if not readable(weights) or weights.numel() == 0:
        return
    # Rows that are views of one row are read once.
    low, high = _limits(weights[:1] if weights.stride(0) == 0 else weights)
    _check_weights_between(name, low, high)


def check_weight(name: str, weight: float) -> None:
    """Raise ValueError for a weight outside [0, 1] or NaN."""
    _check_weights_between(name, weight, weight)


def _check_weights_between(name: str, low: float, high: float) -> None:
    # Rounding can put a mean of ones just above one.
    if not (low >= 0 and high <= 1 + 1e-5):
        got = "NaN" if math.isnan(low) else f"values from {low:g} to {high:g}"
        raise ValueError(f"{name}: expected weights from 0 to 1, got {got}")


def check_detection_target(target: Any, index: int, device: torch.device) -> None:
    """Raise ValueError unless the detection target of sample `index` is what `mix_boxes` takes."""
    if not isinstance(target, Mapping) or not {"boxes", "labels"} <= target.keys():
        got = sorted(target) if isinstance(target, Mapping) else describe(target)
        raise ValueError(f"target {index}: expected a mapping with boxes and labels, got {got}")
    boxes = target["boxes"]
    kind = box_format(boxes)
    if kind not in BOX_FORMATS:
        rotated = " (rotated)" if "R" in kind or kind == "XYXYXYXY" else ""
        raise ValueError(
            f"boxes of target {index}: expected the format {', '.join(BOX_FORMATS[:-1])} or "
            f"{BOX_FORMATS[-1]}, got {kind}{rotated}"
        )
    fits = isinstance(boxes, Tensor) and boxes.is_floating_point()
    if not fits or boxes.dim() != 2 or boxes.shape[1] != 4:
        hint = ""
        if isinstance(boxes, Tensor) and boxes.dim() == 2 and not boxes.is_floating_point():
            hint = " (mixed edges lie between pixels: convert them to float first)"
        raise ValueError(
            f"boxes of target {index}: expected (N, 4) floating point, got {describe(boxes)}{hint}"
        )
    check_device(f"boxes of target {index}", boxes, device)
    for name in ("labels", "weights"):
        values = target.get(name, boxes[:, 0])
        if not isinstance(values, Tensor) or values.shape != boxes.shape[:1]:
            raise ValueError(
                f"{name} of target {index}: expected ({boxes.shape[0]},), one per box, "
                f"got {describe(values)}"
            )
        check_device(f"{name} of target {index}", values, device)


def box_format(boxes: Any) -> str:
    """Return the format of `tv_tensors.BoundingBoxes`; XYXY of a plain tensor."""
    kind = getattr(boxes, "format", "XYXY")
    return str(getattr(kind, "value", kind)) if isinstance(boxes, Tensor) else "XYXY"


def check_device(name: str, tensor: Tensor, device: torch.device | None) -> None:
    """Raise ValueError unless `tensor` is on `device`; None for anywhere."""
    if device is not None and tensor.device != device:
        raise ValueError(
            f"{name}: expected them on {device}, where the plan is, got {tensor.device}"
        )


def check_tensor(name: str, tensor: Any, shape: Sequence[int], dtype: torch.dtype) -> None:
    """Raise ValueError unless `tensor` is a tensor of this shape and dtype."""
    if not isinstance(tensor, Tensor) or tensor.shape != tuple(shape) or tensor.dtype != dtype:
        expected = f"{tuple(shape)} {dtype}".replace("torch.", "")
        raise ValueError(f"{name}: expected {expected}, got {describe(tensor)}")


def check_numbers(name: str, tensor: Tensor, low: float, high: float) -> None:
    """Raise ValueError for a value of `tensor` outside [low, high], or NaN; reads the tensor."""
    if tensor.numel() == 0:
        return
    least, most = _limits(distinct_rows(tensor))
    if not (least >= low and most <= high):
        got = "NaN" if math.isnan(least) else f"values from {least:g} to {most:g}"
        raise ValueError(f"{name}: expected values from {low:g} to {high:g}, got {got}")


def check_rectangles(name: str, tensor: Any, shape: Sequence[int], size: tuple[int, int]) -> None:
    """Check rectangles (..., 4) int64, rows (top, left, bottom, right); reads the tensor.

    Raises:
        ValueError: They have another shape or dtype, or one reaches out of an image of `size`
            (height, width).
    """
    check_tensor(name, tensor, shape, torch.int64)
    height, width = size
    tensor = distinct_rows(tensor)
    top, left, bottom, right = tensor.unbind(-1)
    inside = (top >= 0) & (top <= bottom) & (bottom <= height)
    inside &= (left >= 0) & (left <= right) & (right <= width)
    if not bool(inside.all()):
        wrong = tensor[~inside][0].tolist()
        raise ValueError(
            f"{name}: expected rectangles (top, left, bottom, right) within {height} x {width}, "
            f"got {wrong}"
        )


def check_label_weights(weights: Tensor, *, free: bool = False) -> None:
    """Raise ValueError unless each row of `weights` (B, K) sums to 1, or is free; reads them."""
    check_numbers("weights", weights, 0, 1)
    if free:
        return
    sums = distinct_rows(weights).sum(dim=1)
    if bool(((sums - 1).abs() > 1e-4).any()):
        low, high = _limits(sums)
        raise ValueError(f"weights: expected rows that sum to 1, got {low:g} to {high:g}")


def check_fill(fill: Any) -> None:
    """Raise ValueError unless `fill` is a finite number or "mean"."""
    number = isinstance(fill, (int, float)) and not isinstance(fill, bool) and math.isfinite(fill)
    if not number and fill != "mean":
        raise ValueError(f"fill: expected a number or 'mean', got {fill!r}")


def readable(tensor: Tensor) -> bool:
    """Tell whether values can be read without waiting or breaking a graph being compiled."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def distinct_rows(tensor: Tensor) -> Tensor:
    """Return the first row where all rows share memory (a file may claim many), else all rows."""
    return tensor[:1] if tensor.dim() and tensor.shape[0] > 1 and tensor.stride(0) == 0 else tensor


def describe(value: Any) -> str:
    """Describe `value` for a message: shape and dtype of a tensor, else the type."""
    if not isinstance(value, Tensor):
        return "None" if value is None else type(value).__name__
    return f"{tuple(value.shape)} {value.dtype}".replace("torch.", "")


def _limits(tensor: Tensor) -> tuple[float, float]:
    if tensor.numel() == 1:
        return (tensor.item(),) * 2
    low, high = tensor.aminmax()
    return low.item(), high.item()
