"""Detection targets of mixed images: boxes are clipped, dropped where hidden, and weighted.

Targets are mappings in torchvision's style, one per sample: `boxes` (N, 4) floating point (x1, y1,
x2, y2 in pixels, edges not centres), `labels` (N,), and what else the data set has. The rules:

- A pasted rectangle brings the partner's boxes: clipped to the source rectangle, then shifted (and
  scaled with it where the plan resizes). The sample's own boxes shrink to the smallest box around
  what is still visible of them. Weight 1. Filled rectangles hide as pasted ones do.
- A blend shows both images' boxes, unclipped. A box weighs the mean of `keep` inside it (the
  partner's: of 1 - `keep`); a blend with a fill has only one image's boxes, weight 1.
- A box is dropped when less than `visibility` of its area is visible (of a blend: its weight, where
  `keep` differs between pixels), or nothing at all. What lies outside the image was never visible.
- A sample that the plan leaves as it is keeps its boxes.

Every tensor with one row per box, in all samples, is carried along with its boxes, unchanged: an
`area` or a mask per box is not computed anew. Anything else (`image_id`) stays with the sample.

The number of boxes that remain decides the shapes of the result, so here the host waits for the
device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mixbench.augmentations.checks import check_detection_target

NEGLIGIBLE = 1e-6
"""A share of a box that is due to rounding."""


class Boxes(NamedTuple):
    """Boxes of a batch, padded to the same number N per sample.

    Attributes:
        xyxy: (B, N, 4), in pixels.
        row: (B, N) int64, the index of the box among all boxes of the batch.
        visible: (B, N), the visible share of its area, from 0 to 1; 0 for padding.
        weight: (B, N), from 0 to 1.
    """

    xyxy: Tensor
    row: Tensor
    visible: Tensor
    weight: Tensor

    def of(self, partner: Tensor) -> Boxes:
        """Return the boxes of each sample's partner (B,)."""
        return Boxes(*(field[partner] for field in self))

    def weighted(self, weight: Tensor) -> Boxes:
        """Multiply visibility and weight by `weight` (B, N) or (B, 1)."""
        return self._replace(visible=self.visible * weight, weight=self.weight * weight)

    def and_then(self, others: Boxes) -> Boxes:
        """Append the boxes of `others` to each sample."""
        return Boxes(*(torch.cat(pair, dim=1) for pair in zip(self, others, strict=True)))


def blend(
    targets: Sequence[Mapping[str, Any]],
    keep: Tensor,
    partner: Tensor | None,
    visibility: float,
) -> list[dict[str, Any]]:
    """Mix the targets of a `Blend` plan; arguments as its fields, result as `Plan.mix_boxes`."""
    first = _pack(targets, keep.shape[0], keep.device, visibility)
    second = first if partner is None else first.of(partner)
    if keep.shape[2:] != (1, 1):
        # A box without area in the image has no mean; in an unchanged sample it stays.
        whole = (keep == 1).flatten(1).all(dim=1, keepdim=True)
        keep_of_first, keep_of_second = (
            torch.where(whole, 1.0, _mean_inside(keep, boxes.xyxy)) for boxes in (first, second)
        )
    else:
        keep_of_first = keep_of_second = keep.reshape(-1, 1)
        visibility = 0.0
    if partner is None:
        return _unpack(targets, first._replace(visible=first.visible * keep_of_first), visibility)
    # An image blended with itself does not change.
    self_pair = (partner == torch.arange(len(targets), device=keep.device)).unsqueeze(1)
    first = first.weighted(torch.where(self_pair, 1.0, keep_of_first))
    second = second.weighted(torch.where(self_pair, 0.0, 1 - keep_of_second))
    return _unpack(targets, first.and_then(second), visibility)


def paste(
    targets: Sequence[Mapping[str, Any]],
    size: tuple[int, int],
    target: Tensor,
    partner: Tensor | None,
    source: Tensor | None,
    visibility: float,
) -> list[dict[str, Any]]:
    """Mix the targets of a `Paste` plan; arguments as its fields, result as `Plan.mix_boxes`.

    Rectangles that change nothing (a sample pasted onto itself) must be empty.
    """
    packed = _pack(targets, target.shape[0], target.device, visibility)
    height, width = size
    limits = packed.xyxy.new_tensor([width, height, width, height])
    inside = packed._replace(xyxy=packed.xyxy.clamp(min=0).minimum(limits))
    into = _xyxy(target, inside.xyxy)
    around, visible_area = _around_holes(inside.xyxy, into)
    share = _share(visible_area, _area(inside.xyxy))
    mixed = (_area(into) > 0).any(dim=1).view(-1, 1)
    result = inside._replace(
        xyxy=torch.where(mixed.unsqueeze(-1), around, packed.xyxy),
        visible=inside.visible * torch.where(mixed, share, 1.0),
    )
    if partner is None:
        return _unpack(targets, result, visibility)
    start = into if source is None else _xyxy(source, inside.xyxy)
    for rectangle in range(target.shape[1]):
        moved = _move(
            inside.of(partner[:, rectangle]),
            start[:, rectangle].unsqueeze(1),
            into[:, rectangle].unsqueeze(1),
        )
        result = result.and_then(moved)
    return _unpack(targets, result, visibility)


def _move(boxes: Boxes, source: Tensor, target: Tensor) -> Boxes:
    """Clip the boxes to `source` and move them with it to `target`; both (B, 1, 4)."""
    clipped = torch.minimum(
        torch.maximum(boxes.xyxy, source[..., [0, 1, 0, 1]]), source[..., [2, 3, 2, 3]]
    )
    share = _share(_area(clipped), _area(boxes.xyxy))
    sides = source[..., 2:] - source[..., :2]
    scale = ((target[..., 2:] - target[..., :2]) / sides.clamp(min=1)).repeat(1, 1, 2)
    corner, to = source[..., [0, 1, 0, 1]], target[..., [0, 1, 0, 1]]
    moved = (clipped - corner) * scale + to
    shown = _area(target) > 0
    return boxes._replace(xyxy=moved, visible=boxes.visible * share * shown)


def _around_holes(boxes: Tensor, holes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smallest boxes around what `holes` (B, R, 4) leave of `boxes`, and its area.

    boxes: (B, N, 4). The edges of the holes cut a box into (2R + 1)² cells, each inside a hole or
    outside of all.
    """
    across, in_columns = _cut(boxes[..., 0], boxes[..., 2], holes[..., 0], holes[..., 2])
    down, in_rows = _cut(boxes[..., 1], boxes[..., 3], holes[..., 1], holes[..., 3])
    hidden = (in_rows.unsqueeze(-2) & in_columns.unsqueeze(-3)).any(dim=-1)  # (B, N, rows, columns)
    cell = down.diff(dim=-1).unsqueeze(-1) * across.diff(dim=-1).unsqueeze(-2)
    area = (cell * ~hidden).sum(dim=(-2, -1))
    edges = []
    for line, is_open in ((across, (~hidden).any(dim=-2)), (down, (~hidden).any(dim=-1))):
        first = torch.where(is_open, line[..., :-1], torch.inf).amin(dim=-1)
        last = torch.where(is_open, line[..., 1:], -torch.inf).amax(dim=-1)
        edges.append((first, last))
    (left, right), (top, bottom) = edges
    return torch.stack([left, top, right, bottom], dim=-1), area


def _cut(low: Tensor, high: Tensor, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Cut sides (B, N) where holes (B, R) start and end.

    Returns the edges (B, N, E) in order, and which of the E - 1 pieces lie in which hole:
    (B, N, E - 1, R) bool.
    """
    start, end = start.unsqueeze(1), end.unsqueeze(1)
    ends = torch.stack([low, high], dim=-1)
    cuts = torch.cat([start, end], dim=-1).expand(*low.shape, -1)
    cuts = torch.minimum(torch.maximum(cuts, ends[..., :1]), ends[..., 1:])
    edges = torch.cat([ends, cuts], dim=-1).sort(dim=-1).values
    after = edges[..., :-1].unsqueeze(-1) >= start.unsqueeze(-2)
    before = edges[..., 1:].unsqueeze(-1) <= end.unsqueeze(-2)
    return edges, after & before


def _mean_inside(keep: Tensor, boxes: Tensor) -> Tensor:
    """Return the mean of `keep` (B, 1, H, W) in boxes (B, N, 4): (B, N), 0 for boxes without area.

    Edges may lie between pixels: sums are interpolated in a table of the sums over all pixels above
    and to the left.
    """
    _, _, height, width = keep.shape
    rows = keep[:1, 0] if keep.stride(0) == 0 else keep[:, 0]
    exact = torch.float32 if keep.device.type == "mps" else torch.float64
    table = torch.nn.functional.pad(rows.to(exact), (1, 0, 1, 0)).cumsum(1).cumsum(2)
    table = table.flatten(1).expand(boxes.shape[0], -1)
    limits = boxes.new_tensor([width, height, width, height])
    clipped = boxes.clamp(min=0).minimum(limits).to(exact)

    def total(x: Tensor, y: Tensor) -> Tensor:
        column, row = x.long().clamp(max=width - 1), y.long().clamp(max=height - 1)
        at = row * (width + 1) + column
        above = torch.lerp(table.gather(1, at), table.gather(1, at + 1), x - column)
        at = at + width + 1
        below = torch.lerp(table.gather(1, at), table.gather(1, at + 1), x - column)
        return torch.lerp(above, below, y - row)

    left, top, right, bottom = clipped.unbind(-1)
    inside = total(right, bottom) - total(left, bottom) - total(right, top) + total(left, top)
    return _share(inside, _area(clipped)).clamp(0, 1).to(boxes.dtype)


def _area(boxes: Tensor) -> Tensor:
    left, top, right, bottom = boxes.unbind(-1)
    return (right - left).clamp(min=0) * (bottom - top).clamp(min=0)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part / whole, 0.0)


def _xyxy(rectangles: Tensor, like: Tensor) -> Tensor:
    """Convert (top, left, bottom, right) to (x1, y1, x2, y2) in the dtype of boxes: (..., 4)."""
    return rectangles[..., [1, 0, 3, 2]].to(like.dtype)


def _pack(
    targets: Sequence[Mapping[str, Any]], batch: int, device: torch.device, visibility: float
) -> Boxes:
    if not 0 <= visibility <= 1:
        raise ValueError(f"visibility: expected a number from 0 to 1, got {visibility!r}")
    if len(targets) != batch:
        raise ValueError(f"targets: expected {batch}, one per sample, got {len(targets)}")
    for index, target in enumerate(targets):
        check_detection_target(target, index, device)
        if target.keys() - {"weights"} != targets[0].keys() - {"weights"}:
            raise ValueError(
                f"targets: expected the same keys in all, got {sorted(targets[0])} and "
                f"{sorted(target)}"
            )
    counts = [len(target["boxes"]) for target in targets]
    flat = torch.cat([target["boxes"] for target in targets]).as_subclass(Tensor)
    flat = flat.to(torch.promote_types(flat.dtype, torch.float32))
    if not bool((flat[:, 2:] >= flat[:, :2]).all()):
        raise ValueError("boxes: expected x1 <= x2 and y1 <= y2, got boxes for which that is false")
    count = torch.tensor(counts, device=device).unsqueeze(1)
    number = torch.arange(max(counts, default=0), device=device)
    present = number < count
    row = torch.where(present, count.cumsum(0) - count + number, 0)
    xyxy = flat[row] if sum(counts) else flat.new_zeros(batch, 0, 4)
    visible = present.to(flat.dtype)
    return Boxes(xyxy, row, visible, visible)


def _unpack(
    targets: Sequence[Mapping[str, Any]], boxes: Boxes, visibility: float
) -> list[dict[str, Any]]:
    keep = (boxes.visible >= visibility - NEGLIGIBLE) & (boxes.visible > NEGLIGIBLE)
    row, counts = boxes.row[keep], keep.sum(dim=1).tolist()
    ones = boxes.weight.new_ones
    given = [target.get("weights", ones(len(target["boxes"]))) for target in targets]
    new = {
        "boxes": boxes.xyxy[keep].to(targets[0]["boxes"].dtype),
        "weights": (torch.cat(given)[row] * boxes.weight[keep]).float(),
    }
    for key in targets[0]:
        if key not in new and _per_box(targets, key):
            new[key] = torch.cat([target[key] for target in targets])[row]
    split = {key: torch.split(values, counts) for key, values in new.items()}
    return [
        {**target, **{key: values[index] for key, values in split.items()}}
        for index, target in enumerate(targets)
    ]


def _per_box(targets: Sequence[Mapping[str, Any]], key: str) -> bool:
    return all(
        isinstance(target[key], Tensor) and target[key].shape[:1] == target["boxes"].shape[:1]
        for target in targets
    )
