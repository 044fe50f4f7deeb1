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
from mixbench.augmentations.plans.fragments import Factor
from mixbench.augmentations.plans.patches import IN_PLACE, NEGLIGIBLE, Flags, Floats
from mixbench.augmentations.plans.visibility import Sightings, weight_at
from mixbench.augmentations.tensor_types import plain, retyped

KNOWN = ("area", "iscrowd", "masks", "keypoints")
"""The keys of torchvision's detection targets that have a row per box, besides boxes and labels."""

MOVED = {"BoundingBoxes": "boxes", "KeyPoints": "keypoints", "Mask": "masks"}
"""torchvision's types of what lies somewhere in the image, and the keys under which it moves."""

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
    for index, target in enumerate(targets):
        _check_types(target, index)
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


def _check_types(target: Mapping[str, Any], index: int) -> None:
    """Refuse torchvision's points, masks and boxes under a key whose values are not moved."""
    for key, value in target.items():
        needs = MOVED.get(type(value).__name__)
        if needs not in (None, key) and type(value).__module__.startswith("torchvision."):
            raise ValueError(
                f"{key} of target {index}: {type(value).__name__} are moved under the key "
                f"{needs!r} alone; rename it, or take it out of the target"
            )


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


def take_rows(targets: Targets, key: str, seen: Sightings, counts: Sequence[int]) -> list[Any]:
    """Return what `key` of each mixed target is.

    Args:
        targets: The targets as they were given.
        key: One of `per_box_keys`, but masks.
        seen: The boxes of the mixed targets.
        counts: How many of them each target has.
    """
    if not isinstance(targets[0][key], Tensor):
        flat = [value for target in targets for value in target[key]]
        ends = list(accumulate(counts, initial=0))
        rows = [flat[row] for row in seen.box.tolist()]
        return [
            type(target[key])(rows[low:high])
            for target, low, high in zip(targets, ends, ends[1:], strict=False)
        ]
    values = stacked(targets, key)
    taken = values[torch.from_numpy(seen.box).to(values.device)]
    if key in CHANGED and len(taken):
        taken = CHANGED[key](taken, seen)
    return split_rows(targets, key, taken, counts)


def stacked(targets: Targets, key: str) -> Tensor:
    """Return the rows of all targets in one plain tensor."""
    return torch.cat([plain(target[key]) for target in targets])


def split_rows(targets: Targets, key: str, rows: Tensor, counts: Sequence[int]) -> list[Tensor]:
    """Give each mixed target its rows of `key`, of the type and dtype that came."""
    return [
        retyped(part.to(target[key].dtype), target[key])
        for part, target in zip(torch.split(rows, list(counts)), targets, strict=True)
    ]


def _visible_area(area: Tensor, seen: Sightings) -> Tensor:
    """Return the visible part of areas (S,), scaled with their boxes."""
    part = np.where(seen.plain, 1.0, seen.visible * seen.place[:, 0] * seen.place[:, 1])
    factor = torch.from_numpy(part).to(torch.promote_types(torch.float32, area.dtype))
    scaled = area * factor.to(area.device).view(-1, *[1] * (area.dim() - 1))
    return scaled if area.is_floating_point() else scaled.round()


def counted_area(area: Tensor, pixels: Tensor, seen: Sightings) -> Tensor:
    """Return areas (S,): the pixels of the moved masks where mixing changed them.

    Args:
        area: (N, ...), as given, for all boxes.
        pixels: (S,), of `moved_masks`.
        seen: The boxes of the mixed targets.
    """
    taken = area[torch.from_numpy(seen.box).to(area.device)]
    counted = pixels.to(area.dtype).view(-1, *[1] * (area.dim() - 1))
    changed = torch.from_numpy(~seen.plain).to(area.device).view_as(counted)
    return torch.where(changed, counted, taken)


def moved_masks(masks: Tensor, seen: Sightings) -> tuple[Tensor, Tensor]:
    """Move masks (N, H, W) with their boxes.

    What the mixed image does not show is 0, also where a blend has weights per pixel.

    Returns:
        The moved masks (S, H, W); how many of their pixels are not 0, (S,), without those of
        `seen.plain`.
    """
    height, width = masks.shape[1:]
    moved = masks.new_zeros(len(seen.box), height, width)
    pixels = torch.zeros(len(seen.box), dtype=torch.int64, device=masks.device)
    (whole,) = seen.plain.nonzero()
    rows, from_rows = (torch.from_numpy(rows).to(masks.device) for rows in (whole, seen.box[whole]))
    moved[rows] = masks[from_rows]
    (others,) = (~seen.plain).nonzero()
    if not len(others):
        return moved, pixels
    pieces, sighting = seen.pieces_of(others)
    low = np.floor(seen.pieces[pieces, :2]).clip(0, (width, height))
    high = np.ceil(seen.pieces[pieces, 2:]).clip(0, (width, height))
    # What nothing clips has a mask that may reach out of its box.
    unclipped = seen.whole[sighting, None]
    low = np.where(unclipped, 0, low)
    high = np.where(unclipped, (width, height), high)
    of = zip(
        sighting.tolist(),
        seen.box[sighting].tolist(),
        np.concatenate([low, high], axis=1).astype(np.int64).tolist(),
        seen.place[sighting].tolist(),
        seen.factor[pieces].tolist(),
        strict=True,
    )
    for index, box, (x1, y1, x2, y2), place, factor in of:
        part = masks[box, _come_from(y1, y2, place[1], place[3], height)]
        part = part[:, _come_from(x1, x2, place[0], place[2], width)]
        into = moved[index, y1:y2, x1:x2]
        if factor:
            x, y = np.arange(x1, x2) + 0.5, np.arange(y1, y2)[:, None] + 0.5
            shown = torch.from_numpy(_is_shown(seen.factors[factor], x, y)).to(part.device)
            # Pieces of one box may overlap, and one may hide what another shows.
            part = torch.where(shown, part, into)
        into.copy_(part)
    start = np.flatnonzero(np.r_[True, sighting[1:] != sighting[:-1]])
    around = np.concatenate(
        [np.minimum.reduceat(low, start), np.maximum.reduceat(high, start)], axis=1
    )
    pixels[torch.from_numpy(others).to(pixels.device)] = torch.stack(
        [
            moved[index, y1:y2, x1:x2].count_nonzero()
            for index, (x1, y1, x2, y2) in zip(
                others.tolist(), around.astype(np.int64).tolist(), strict=True
            )
        ]
    )
    return moved, pixels


def _come_from(low: int, high: int, scale: float, shift: float, side: int) -> slice | Tensor:
    """Return the pixels of a side that pixels `low` to `high` of the mixed image come from."""
    if scale == 1 and shift.is_integer() and low - shift >= 0 and high - shift <= side:
        return slice(low - int(shift), high - int(shift))
    centres = np.arange(low, high) + 0.5
    at = np.floor((centres - shift) / scale).clip(0, side - 1)
    return torch.from_numpy(at.astype(np.int64))


def _is_shown(factors: Sequence[Factor], x: Floats, y: Floats) -> Flags:
    shown: Flags = np.ones(np.broadcast_shapes(x.shape, y.shape), dtype=bool)
    for factor in factors:
        shown &= weight_at(factor, x, y) > NEGLIGIBLE
    return shown


def _moved_keypoints(points: Tensor, seen: Sightings) -> Tensor:
    """Move points (S, K, 2 or 3) with their boxes; of three columns, hidden ones become 0, 0, 0."""
    before = points.detach().cpu()
    place = torch.from_numpy(seen.place)[:, None]
    at = before[..., :2].double() * place[..., :2] + place[..., 2:]
    moved = before.clone()
    # A point that stays is not rounded.
    stays = torch.from_numpy((seen.place == np.array(IN_PLACE)).all(axis=1))[:, None, None]
    moved[..., :2] = torch.where(stays, before[..., :2], at.to(points.dtype))
    (others,) = (~seen.plain).nonzero()
    if points.shape[2] == 3 and len(others):
        pieces, sighting = seen.pieces_of(others)
        x, y = at[sighting].numpy().transpose(2, 0, 1)
        x1, y1, x2, y2 = seen.pieces[pieces].T[..., None]
        shown = (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)
        shown |= seen.whole[sighting, None]
        factors = seen.factor[pieces]
        for factor in np.unique(factors[factors > 0]).tolist():
            of = factors == factor
            shown[of] &= _is_shown(seen.factors[factor], x[of], y[of])
        starts = np.flatnonzero(np.r_[True, sighting[1:] != sighting[:-1]])
        hidden = torch.from_numpy(~np.logical_or.reduceat(shown, starts, axis=0))
        rows = torch.from_numpy(others)
        moved[rows] = moved[rows].masked_fill(hidden.unsqueeze(-1), 0)
    return moved.to(points.device)


CHANGED = {"area": _visible_area, "keypoints": _moved_keypoints}
"""Keys whose values change with their boxes, besides masks."""
