"""Detection targets of images that are turned, sheared or shifted.

A box becomes the smallest one around its moved corners, cut off at the image's border; masks and
keypoints move exactly. A box is dropped if less than `visibility` of it is inside, or no pixel of
its mask. What is inside of a box is not known: turned boxes are larger than their objects.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mixbench.augmentations.checks import box_format
from mixbench.augmentations.pixels.operations import (
    inverse_matrices,
    is_move,
    sources_of_pixels,
)
from mixbench.augmentations.plans.blend import Blend
from mixbench.augmentations.plans.detection_boxes import from_xyxy, mix_targets, to_xyxy
from mixbench.augmentations.plans.patches import NEGLIGIBLE
from mixbench.augmentations.plans.per_box import per_box_keys
from mixbench.augmentations.tensor_types import plain, retyped

Moves = tuple[Tensor, Tensor]
"""Operations and strengths, each (B, N), or (N,) of one image."""


def move_targets(
    moves: Moves,
    size: tuple[int, int],
    targets: Sequence[Mapping[str, Any]],
    visibility: float,
    per_box: Collection[str],
    min_weight: float,
) -> list[dict[str, Any]]:
    """Return the targets of images of `size` that are moved; the others as of `Plan.mix_boxes`."""
    operation, strength = moves
    keep = torch.ones(1, 1, 1, 1, device=operation.device, dtype=torch.float32)
    stays = Blend(keep.expand(len(operation), -1, -1, -1))
    checked = mix_targets([stays], targets, visibility, per_box, min_weight)
    keys = [*per_box_keys(checked, per_box, operation.device), "boxes", "weights"]
    does = (is_move(operation) & (strength != 0)).any(dim=1).tolist()
    return [
        _moved((operation[index], strength[index]), size, target, visibility, keys)
        if does[index]
        else target
        for index, target in enumerate(checked)
    ]


def _moved(
    moves: Moves,
    size: tuple[int, int],
    target: dict[str, Any],
    visibility: float,
    keys: Sequence[str],
) -> dict[str, Any]:
    there = _matrix(*moves, size)
    boxes, share = _around(target["boxes"], there, size)
    left = (share >= visibility - NEGLIGIBLE) & (share > NEGLIGIBLE)
    new: dict[str, Any] = {"boxes": boxes}
    if "masks" in keys:
        new["masks"] = _masks(plain(target["masks"]), *moves, size)
        pixels = new["masks"].flatten(1).count_nonzero(dim=1)
        left &= pixels > 0
    if "area" in keys and isinstance(target["area"], Tensor):
        area = plain(target["area"])
        seen = pixels if "masks" in keys else area.double() * share
        new["area"] = (seen if area.is_floating_point() else seen.round()).to(area.dtype)
    if "keypoints" in keys:
        new["keypoints"] = _keypoints(plain(target["keypoints"]), there, size)
    rows = left.nonzero().squeeze(1)
    return {**target, **{key: _take(new.get(key, target[key]), target[key], rows) for key in keys}}


def _take(values: Any, given: Any, rows: Tensor) -> Any:
    if isinstance(values, Tensor):
        return retyped(plain(values)[rows.to(values.device)], given)
    return type(given)(values[row] for row in rows.tolist())


def _matrix(operation: Tensor, strength: Tensor, size: tuple[int, int]) -> Tensor:
    """Return where points go, one move after another: (3, 3) float64, in pixels, on the CPU."""
    back = torch.eye(3, dtype=torch.float64)
    for step in inverse_matrices(operation.cpu(), strength.cpu(), size):
        # The first move is the last that a pixel's way back goes through.
        back = torch.cat([step, back.new_tensor([[0, 0, 1]])]) @ back
    centre = torch.eye(3, dtype=torch.float64)
    centre[0, 2], centre[1, 2] = size[1] / 2, size[0] / 2
    there: Tensor = centre @ torch.linalg.inv(back) @ torch.linalg.inv(centre)
    return there


def _points(points: Tensor, there: Tensor) -> Tensor:
    """Move points (..., 2)."""
    return points @ there[:2, :2].t() + there[:2, 2]


def _around(boxes: Tensor, there: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the boxes around moved ones, cut off at the border, and the shares that are left."""
    given = plain(boxes).detach().cpu().double().numpy()
    formats, sample = [box_format(boxes)], given[:, 0].astype("int64") * 0
    edges = torch.from_numpy(to_xyxy(given, formats, sample))
    corners = edges[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
    moved = _points(corners, there)
    around = torch.cat([moved.amin(dim=1), moved.amax(dim=1)], dim=1)
    limit = torch.tensor([size[1], size[0]] * 2, dtype=torch.float64)
    inside = torch.minimum(around.clamp(min=0), limit)
    share = _area(inside) / _area(around).clamp(min=1e-12)
    result = torch.from_numpy(from_xyxy(inside.numpy(), formats, sample))
    return result.to(boxes.dtype).to(boxes.device), share.to(boxes.device)


def _area(edges: Tensor) -> Tensor:
    return (edges[:, 2] - edges[:, 0]) * (edges[:, 3] - edges[:, 1])


def _masks(masks: Tensor, operation: Tensor, strength: Tensor, size: tuple[int, int]) -> Tensor:
    """Move masks (N, H, W); 0 from outside."""
    moved = masks.flatten(1)
    for place in range(len(operation)):
        one = slice(place, place + 1)
        source = sources_of_pixels(operation[one], strength[one], size, size).flatten()
        found = moved[:, source.clamp(min=0)]
        moved = torch.where(source < 0, torch.zeros_like(found), found)
    return moved.view(masks.shape)


def _keypoints(points: Tensor, there: Tensor, size: tuple[int, int]) -> Tensor:
    """Move points (N, K, 2 or 3); of three columns, those that leave the image become 0, 0, 0."""
    at = _points(points[..., :2].detach().cpu().double(), there).to(points.device)
    moved = points.clone()
    moved[..., :2] = at.to(points.dtype)
    if points.shape[2] == 3:
        limit = at.new_tensor([size[1], size[0]])
        outside = ((at < 0) | (at > limit)).any(dim=2) | (points[..., 2] == 0)
        moved = moved.masked_fill(outside.unsqueeze(2), 0)
    return moved
