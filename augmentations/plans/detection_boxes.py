"""Detection targets of mixed images: boxes are clipped, dropped where hidden, and weighted.

Targets are mappings in torchvision's style, one per sample: `boxes` (N, 4) floating point (x1, y1,
x2, y2 in pixels, edges not centres, or tv_tensors of that or another format), `labels` (N,), and
what else the data set has. The rules:

- A pasted rectangle brings the partner's boxes: clipped to the source rectangle, then shifted (and
  scaled with it where the plan resizes). The sample's own boxes shrink to the smallest box around
  what is still visible of them. Weight 1. Filled rectangles hide as pasted ones do.
- A blend shows both images' boxes, unclipped. A box weighs the mean of `keep` inside it (the
  partner's: of 1 - `keep`); a blend with a fill has only one image's boxes, weight 1.
- What several rectangles, or several stages, show of one box at one place is one box: the smallest
  around all of it.
- A box is dropped when less than `visibility` of its area is visible (of a blend: its weight, where
  `keep` differs between pixels), or nothing at all, or when its weight is below `min_weight`. That
  is judged once, after the last stage, as a share of the box's area in its own image. What lies
  outside the image was never visible.
- A sample that the plan leaves as it is keeps its boxes.

What is in `per_box` has a row per box and goes along. Masks and keypoints are moved with their box,
and what the mixed image does not show of them is 0. `area` is counted in the moved mask or, without
masks, scaled with its box and multiplied by the visible share. A box of whose mask no pixel is left
is dropped. Anything else (`image_id`) stays with the sample.

The number of boxes that remain decides the shapes of the result, so here the host waits for the
device.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mixbench.augmentations.checks import box_format, check_detection_target
from mixbench.augmentations.plans.fragments import Fragments
from mixbench.augmentations.plans.patches import IN_PLACE, NEGLIGIBLE, Floats, Integers
from mixbench.augmentations.plans.per_box import (
    counted_area,
    moved_masks,
    per_box_keys,
    split_rows,
    stacked,
    take_rows,
)
from mixbench.augmentations.plans.visibility import Sightings, look
from mixbench.augmentations.tensor_types import plain, retyped

if TYPE_CHECKING:
    from mixbench.augmentations.plans.base import Plan


def mix_targets(
    stages: Sequence[Plan],
    targets: Sequence[Mapping[str, Any]],
    visibility: float,
    per_box: Collection[str],
    min_weight: float = 0.0,
) -> list[dict[str, Any]]:
    """Return the targets of the images that plans mix, one after another.

    Args:
        stages: Plans that trace boxes.
        targets: As `Plan.mix_boxes`, and the others.
        visibility: The share of a box that must be visible after the last stage.
        per_box: Further keys with one row per box.
        min_weight: The weight that mixing must leave to a box.
    """
    batch, device = max(stage.batch for stage in stages), stages[0].device
    for name, share in (("visibility", visibility), ("min_weight", min_weight)):
        if not isinstance(share, Real) or not 0 <= share <= 1:
            raise ValueError(f"{name}: expected a number from 0 to 1, got {share!r}")
    if len(targets) != batch:
        raise ValueError(f"targets: expected {batch}, one per sample, got {len(targets)}")
    for index, target in enumerate(targets):
        check_detection_target(target, index, device)
    keys = per_box_keys(targets, per_box, device)
    counts = [len(target["boxes"]) for target in targets]
    sample = np.repeat(np.arange(batch), counts)
    raw = _numbers([target["boxes"] for target in targets])
    boxes = to_xyxy(raw, [box_format(target["boxes"]) for target in targets], sample)
    _check_edges(boxes, raw, sample, targets)
    fragments = Fragments.of(boxes, sample, batch)
    for stage in stages:
        fragments = stage.trace_boxes(fragments)
    _check_sizes(targets, fragments.size)
    seen = look(fragments, boxes)
    kept = (seen.visible >= visibility - NEGLIGIBLE) & (seen.visible > NEGLIGIBLE)
    kept &= (seen.weight > NEGLIGIBLE) & (seen.weight >= min_weight - NEGLIGIBLE)
    return _targets(targets, keys, seen.only(kept), boxes, raw)


def mix_in_turn(
    stages: Sequence[Plan],
    targets: Sequence[Mapping[str, Any]],
    visibility: float,
    per_box: Collection[str],
    min_weight: float = 0.0,
) -> list[dict[str, Any]]:
    """Mix targets by plans of which some may not trace boxes; arguments as of `mix_targets`.

    Plans that trace them and follow each other are judged together, the others one by one.
    """
    mixed: Sequence[Mapping[str, Any]] = targets
    for traces, group in groupby(stages, key=lambda stage: stage.traces_boxes):
        if traces:
            mixed = mix_targets(list(group), mixed, visibility, per_box, min_weight)
        else:
            for stage in group:
                mixed = mix_boxes_of(stage, mixed, visibility, per_box, min_weight)
    return [dict(target) for target in mixed]


def mix_boxes_of(
    plan: Plan,
    targets: Sequence[Mapping[str, Any]],
    visibility: float,
    per_box: Collection[str],
    min_weight: float = 0.0,
) -> list[dict[str, Any]]:
    """Call `mix_boxes` of a plan that may be older than an option, as long as that is not used."""
    named: dict[str, Any] = {"per_box": per_box} if per_box else {}
    if min_weight:
        named["min_weight"] = min_weight
    return plan.mix_boxes(targets, visibility=visibility, **named)


def _targets(
    targets: Sequence[Mapping[str, Any]],
    keys: Sequence[str],
    seen: Sightings,
    boxes: Floats,
    raw: Floats,
) -> list[dict[str, Any]]:
    new = {}
    if "masks" in keys:
        masks, pixels = moved_masks(stacked(targets, "masks"), seen)
        left = torch.from_numpy(seen.plain).to(pixels.device) | (pixels > 0)
        if not left.all():
            seen, masks, pixels = seen.only(left.cpu().numpy()), masks[left], pixels[left]
    counts = np.bincount(seen.sample, minlength=len(targets)).tolist()
    for key in keys:
        if key == "masks":
            new[key] = split_rows(targets, key, masks, counts)
        elif key == "area" and "masks" in keys and isinstance(targets[0][key], Tensor):
            areas = counted_area(stacked(targets, key), pixels, seen)
            new[key] = split_rows(targets, key, areas, counts)
        else:
            new[key] = take_rows(targets, key, seen, counts)
    new["boxes"] = _boxes(targets, seen, counts, boxes, raw)
    new["weights"] = _weights(targets, seen, counts)
    return [
        {**target, **{key: values[index] for key, values in new.items()}}
        for index, target in enumerate(targets)
    ]


def _boxes(
    targets: Sequence[Mapping[str, Any]],
    seen: Sightings,
    counts: list[int],
    boxes: Floats,
    raw: Floats,
) -> list[Tensor]:
    formats = [box_format(target["boxes"]) for target in targets]
    edges = from_xyxy(seen.around, formats, seen.sample)
    # A box that did not change is returned bit for bit, whatever its format.
    same = (seen.around == boxes[seen.box]).all(axis=1) & (seen.place == IN_PLACE).all(axis=1)
    owner = np.repeat(np.arange(len(targets)), [len(target["boxes"]) for target in targets])
    kinds = np.array(formats)
    same &= kinds[owner[seen.box]] == kinds[seen.sample] if len(owner) else same
    edges = np.where(same[:, None], raw[seen.box], edges)
    split = torch.split(torch.from_numpy(edges), counts)
    return [
        retyped(rows.to(given["boxes"].dtype).to(given["boxes"].device), given["boxes"])
        for rows, given in zip(split, targets, strict=True)
    ]


def _weights(
    targets: Sequence[Mapping[str, Any]], seen: Sightings, counts: list[int]
) -> list[Tensor]:
    device = targets[0]["boxes"].device if targets else torch.device("cpu")
    given = [
        target.get("weights", torch.ones(len(target["boxes"]), device=device)) for target in targets
    ]
    row, weight = torch.from_numpy(seen.box), torch.from_numpy(seen.weight).float()
    weights = torch.cat([plain(one) for one in given])[row.to(device)] * weight.to(device)
    return list(torch.split(weights.float(), counts))


def _numbers(boxes: Sequence[Tensor]) -> Floats:
    """Return boxes of all samples on the host: (N, 4) float64."""
    if not boxes:
        return np.zeros((0, 4))
    dtypes = {one.dtype for one in boxes}
    exact = [plain(one).detach() for one in boxes]
    if len(dtypes) > 1:
        exact = [one.cpu().double() for one in exact]
    numbers: Floats = torch.cat(exact).cpu().double().numpy()
    return numbers


def to_xyxy(boxes: Floats, formats: Sequence[str], sample: Integers) -> Floats:
    """Return x1, y1, x2, y2 of boxes (N, 4), each in the format of its sample."""
    edges = boxes.copy()
    kinds = np.array(formats)[sample] if len(formats) else np.zeros(0)
    low, high = boxes[:, :2], boxes[:, 2:]
    corner, centre = (kinds == kind for kind in ("XYWH", "CXCYWH"))
    edges[corner, 2:] = (low + high)[corner]
    edges[centre, :2] = (low - high / 2)[centre]
    edges[centre, 2:] = (low + high / 2)[centre]
    return edges


def from_xyxy(edges: Floats, formats: Sequence[str], sample: Integers) -> Floats:
    """Return boxes in the formats of their samples, as `to_xyxy` took them."""
    boxes = edges.copy()
    kinds = np.array(formats)[sample] if len(formats) else np.zeros(0)
    corner, centre = (kinds == kind for kind in ("XYWH", "CXCYWH"))
    boxes[centre, :2] = ((edges[:, :2] + edges[:, 2:]) / 2)[centre]
    sides = corner | centre
    boxes[sides, 2:] = (edges[:, 2:] - edges[:, :2])[sides]
    return boxes


def _check_edges(
    edges: Floats,
    boxes: Floats,
    sample: Integers,
    targets: Sequence[Mapping[str, Any]],
) -> None:
    right = np.isfinite(edges).all(axis=1) & (edges[:, 2:] >= edges[:, :2]).all(axis=1)
    if not right.all():
        wrong = int((~right).argmax())
        index = int(sample[wrong])
        kind = box_format(targets[index]["boxes"])
        shown = ", ".join(f"{edge:g}" for edge in boxes[wrong])
        raise ValueError(
            f"boxes: expected x1 <= x2 and y1 <= y2, all finite, got {kind} [{shown}] in "
            f"target {index}"
        )


def _check_sizes(targets: Sequence[Mapping[str, Any]], size: tuple[int, int] | None) -> None:
    """Check that boxes and masks are of images of the plan's size, or all of one size."""
    for index, target in enumerate(targets):
        found = {}
        if hasattr(target["boxes"], "canvas_size"):
            found["boxes"] = tuple(target["boxes"].canvas_size)
        if "masks" in target:
            found["masks"] = tuple(target["masks"].shape[1:])
        for key, of in found.items():
            size = of if size is None else size
            if of != tuple(size):
                raise ValueError(
                    f"{key} of target {index}: expected them for images of {size[0]} x {size[1]} "
                    f"(height x width), which are mixed, got {of[0]} x {of[1]}"
                )
