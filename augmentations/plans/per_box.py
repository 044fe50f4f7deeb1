"""What a detection target holds for each of its boxes: read, and moved with the boxes.

Every function here knows the keys of torchvision's targets; no key is guessed from its shape.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixbench.augmentations.checks import check_device, describe
from mixbench.augmentations.parameters import nearest
from mixbench.augmentations.plans.patches import IN_PLACE, Floats
from mixbench.augmentations.plans.visibility import Sightings
from mixbench.augmentations.tensor_types import plain, retyped

KNOWN = ("area", "iscrowd", "masks", "keypoints")
"""The keys of torchvision's detection targets that have a row per box, besides boxes and labels."""

Targets = Sequence[Mapping[str, Any]]


def per_box_keys(targets: Targets, named: Collection[str], device: torch.device) -> list[str]:
    """Return the keys with a row per box, besides boxes and weights, after checking them.

    Args:
        targets: One mapping per sample, with `boxes`.
        named: Further keys with a row per box; those of `KNOWN` are, where they are there.
        device: Where their tensors must be.

    Raises:
        ValueError: A named key is in no target, one is in some targets only, or a value has another
            number of rows than there are boxes.
    """
    if isinstance(named, str) or not all(isinstance(key, str) for key in named):
        raise ValueError(f"per_box: expected names of keys, such as ['scores'], got {named!r}")
    own = ("boxes", "weights")
    keys = [key for key in dict.fromkeys(("labels", *KNOWN, *named)) if key not in own]
    present = {str(key) for target in targets for key in target}
    for key in named:
        if key not in present and targets and key not in own:
            raise ValueError(
                f"per_box: no target has the key {key!r}{nearest(key, present)} "
                f"Keys: {', '.join(sorted(present))}"
            )
    for target in targets:
        if any((key in target) != (key in targets[0]) for key in keys):
            raise ValueError(
                f"targets: expected the same keys in all, got {sorted(map(str, targets[0]))} and "
                f"{sorted(map(str, target))}"
            )
    keys = [key for key in keys if targets and key in targets[0]]
    for key in keys:
        for index, target in enumerate(targets):
            _check_rows(key, target[key], len(target["boxes"]), index, device)
        _check_alike(key, targets)
    return keys


def _check_rows(key: str, values: Any, count: int, index: int, device: torch.device) -> None:
    name = f"{key} of target {index}"
    if isinstance(values, Tensor):
        right = values.dim() > 0 and len(values) == count
        check_device(name, values, device)
    else:
        right = isinstance(values, (list, tuple)) and len(values) == count
    if key == "masks" and right and not (isinstance(values, Tensor) and values.dim() == 3):
        raise ValueError(f"{name}: expected ({count}, H, W), got {describe(values)}")
    if key == "keypoints" and right:
        if not isinstance(values, Tensor) or values.dim() != 3 or values.shape[2] not in (2, 3):
            raise ValueError(
                f"{name}: expected ({count}, K, 3), x, y and visibility, or ({count}, K, 2), "
                f"got {describe(values)}"
            )
    if not right:
        got = (
            f"a {type(values).__name__} of {len(values)}"
            if isinstance(values, (list, tuple))
            else (describe(values))
        )
        raise ValueError(
            f"{name}: expected a tensor or list with {count} rows, one per box, got {got}"
        )


def _check_alike(key: str, targets: Targets) -> None:
    first = targets[0][key]
    for index, target in enumerate(targets):
        values = target[key]
        if not isinstance(first, Tensor):
            if isinstance(values, Tensor):
                raise ValueError(
                    f"{key} of target {index}: expected a list, as target 0 has, got a tensor"
                )
        elif not isinstance(values, Tensor) or values.shape[1:] != first.shape[1:]:
            raise ValueError(
                f"{key} of target {index}: expected rows of the shape that target 0 has, "
                f"{tuple(first.shape[1:])}, got {describe(values)}"
            )


def take_rows(
    targets: Targets, key: str, seen: Sightings, counts: Sequence[int], given: Floats
) -> list[Any]:
    """Return what `key` of each mixed target is.

    Args:
        targets: The targets as they were given.
        key: One of `per_box_keys`.
        seen: The boxes of the mixed targets.
        counts: How many of them each target has.
        given: (N, 4), all boxes that were given, x1, y1, x2, y2.
    """
    if not isinstance(targets[0][key], Tensor):
        flat = [value for target in targets for value in target[key]]
        ends = list(accumulate(counts, initial=0))
        rows = [flat[row] for row in seen.box.tolist()]
        return [
            type(target[key])(rows[low:high])
            for target, low, high in zip(targets, ends, ends[1:], strict=False)
        ]
    values = torch.cat([plain(target[key]) for target in targets])
    taken = values[torch.from_numpy(seen.box).to(values.device)]
    if key in CHANGED and len(taken):
        taken = CHANGED[key](taken, seen, given)
    split = torch.split(taken, list(counts))
    return [
        retyped(rows.to(target[key].dtype), target[key])
        for rows, target in zip(split, targets, strict=True)
    ]


def _scaled_area(area: Tensor, seen: Sightings, given: Floats) -> Tensor:
    """Scale areas (S,) as the areas of their boxes."""
    new, old = (
        (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        for boxes in (seen.around, given[seen.box])
    )
    ratio = np.divide(new, old, out=np.ones_like(new), where=(old > 0) & ~seen.whole)
    factor = torch.from_numpy(ratio).to(torch.promote_types(torch.float32, area.dtype))
    scaled = area * factor.to(area.device).view(-1, *[1] * (area.dim() - 1))
    return scaled if area.is_floating_point() else scaled.round()


def _moved_masks(masks: Tensor, seen: Sightings, _given: Floats) -> Tensor:
    """Move masks (S, H, W) with their boxes; what the mixed image does not show is 0."""
    height, width = masks.shape[1:]
    moved = masks.clone()
    for index in (~seen.whole).nonzero()[0].tolist():
        source, place = masks[index], seen.place[index]
        moved[index] = 0
        for piece in seen.pieces_of(index):
            x1, y1 = (int(edge) for edge in np.floor(piece[:2]))
            x2, y2 = (int(edge) for edge in np.ceil(piece[2:]))
            rows, columns = (
                torch.from_numpy(
                    np.floor((np.arange(low, high) + 0.5 - place[2 + axis]) / place[axis])
                    .astype(np.int64)
                    .clip(0, side - 1)
                ).to(masks.device)
                for axis, low, high, side in ((1, y1, y2, height), (0, x1, x2, width))
            )
            moved[index, y1:y2, x1:x2] = source[rows][:, columns]
    return moved


def _moved_keypoints(points: Tensor, seen: Sightings, _given: Floats) -> Tensor:
    """Move points (S, K, 2 or 3) with their boxes; hidden ones become 0, 0, 0."""
    before = points.detach().cpu()
    place = torch.from_numpy(seen.place)[:, None]
    at = before[..., :2].double() * place[..., :2] + place[..., 2:]
    moved = before.clone()
    # A point that stays is not rounded.
    stays = torch.from_numpy((seen.place == np.array(IN_PLACE)).all(axis=1))[:, None, None]
    moved[..., :2] = torch.where(stays, before[..., :2], at.to(points.dtype))
    if points.shape[2] == 3:
        for index in (~seen.whole).nonzero()[0].tolist():
            x, y = at[index, :, :1], at[index, :, 1:]
            x1, y1, x2, y2 = torch.from_numpy(seen.pieces_of(index)).unbind(1)
            shown = ((x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)).any(dim=1)
            moved[index, ~shown] = 0
    return moved.to(points.device)


CHANGED = {"area": _scaled_area, "masks": _moved_masks, "keypoints": _moved_keypoints}
"""Keys whose values change with their boxes."""
