"""Masks, areas and keypoints of instances, against class masks mixed one instance at a time."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors

from mixbench.augmentations import Blend, Paste
from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.plans.composite import chain, select
from tests.support.oracles import seeded

BATCH, EACH, SIDE = 3, 2, 16
PARTNER = torch.tensor([1, 2, 0])


def pasted(seed: int, shift: int = 0) -> Paste:
    """Four rectangles per sample, from other places of their partners with `shift`."""
    corner = torch.tensor([[0, 0], [0, 8], [8, 0], [8, 8]]) + torch.tensor([1, 0])
    sides = torch.randint(2, 7, (BATCH, 4, 2), generator=seeded(seed))
    target = torch.cat([corner.expand(BATCH, -1, -1), corner + sides], dim=2)
    source = (target + torch.tensor([0, shift, 0, shift])).clamp(max=SIDE) if shift else None
    if source is not None:
        source[..., 1] = source[..., 3] - sides[..., 1]
    return Paste((SIDE, SIDE), target, PARTNER[:, None].expand(-1, 4), source)


def hard_blend(partner: Tensor | None = PARTNER) -> Blend:
    keep = torch.rand(BATCH, 1, SIDE, SIDE, generator=seeded(9)) > 0.4
    return Blend(keep.float(), partner)


TWICE = Paste(
    (SIDE, SIDE),
    torch.tensor([[[0, 0, 16, 8]]]).expand(BATCH, -1, -1),
    PARTNER[:, None],
    torch.tensor([[[4, 3, 12, 7]]]).expand(BATCH, -1, -1),
    resize=True,
)
PLANS: dict[str, Callable[[], Plan]] = {
    "rectangles": lambda: pasted(0),
    "moved": lambda: pasted(1, shift=2),
    "scaled": lambda: TWICE,
    "mask": hard_blend,
    "chain": lambda: chain([pasted(2, shift=1), hard_blend(), pasted(3)]),
    "chosen": lambda: select(torch.arange(3), [pasted(4), hard_blend(), TWICE]),
}


def blobs() -> Tensor:
    """(N, H, W): pixels at random in boxes at random, two instances of each image."""
    inside = torch.rand(BATCH * EACH, SIDE, SIDE, generator=seeded(5)) > 0.3
    for index, corner in enumerate(torch.randint(0, 8, (BATCH * EACH, 2), generator=seeded(6))):
        top, left = corner.tolist()
        hidden = torch.ones(SIDE, SIDE, dtype=torch.bool)
        hidden[top : top + 8, left : left + 6] = False
        inside[index] &= ~hidden
    return inside


def targets(masks: Tensor) -> list[dict[str, Any]]:
    """With two keypoints each, at centres of pixels of the instance; `ids` number all instances."""
    rows = []
    for index, mask in enumerate(masks):
        y, x = mask.nonzero().T
        points = torch.stack([x + 0.5, y + 0.5, torch.full_like(x, 2.0)], dim=1)[[0, len(x) // 2]]
        box = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1]).float()
        rows.append((box, points, torch.tensor(index)))
    boxes, points, ids = (torch.stack(column).split(EACH) for column in zip(*rows, strict=True))
    return [
        {
            "boxes": boxes[n],
            "labels": ids[n],
            "masks": masks.split(EACH)[n],
            "keypoints": points[n].float(),
            "area": masks.split(EACH)[n].flatten(1).sum(dim=1).float() + 0.25,
            "ids": ids[n],
        }
        for n in range(BATCH)
    ]


def shown(plan: Plan, one: Tensor, of: int) -> Tensor:
    """Mix a class mask in which only sample `of` has something: what each sample shows of it."""
    masks = torch.zeros(BATCH, SIDE, SIDE, dtype=torch.uint8)
    masks[of] = one
    return plan.mix_masks(masks).bool()


@pytest.mark.parametrize("name", PLANS)
def test_instances_are_what_the_mixed_images_show_of_them(name: str) -> None:
    plan, masks = PLANS[name](), blobs()
    given = targets(masks)
    mixed = plan.mix_boxes(given, visibility=0.0, per_box=["ids"])
    for index, mask in enumerate(masks):
        expected = shown(plan, mask, index // EACH)
        points = given[index // EACH]["keypoints"][index % EACH, :, :2].long()
        pixels = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
        pixels[torch.arange(2), points[:, 1], points[:, 0]] = True
        seen_points = [shown(plan, pixel, index // EACH) for pixel in pixels]
        for sample, target in enumerate(mixed):
            rows = (target["ids"] == index).nonzero().flatten()
            found = target["masks"][rows]
            assert torch.equal(found.any(dim=0), expected[sample]), (index, sample)
            for row, one in zip(rows.tolist(), found, strict=True):
                count = int(one.sum())
                assert count, "an instance of which nothing is seen is kept"
                unchanged = torch.equal(one, mask) and name != "chain"
                area = target["area"][row].item()
                assert area == count or (unchanged and area == count + 0.25)
            for point in range(2):
                where = target["keypoints"][rows, point]
                where = where[where[:, 2] > 0][:, :2].floor().long().unique(dim=0)
                pixel = seen_points[point][sample]
                assert len(where) <= pixel.sum() and (len(where) > 0) == bool(pixel.any())
                assert pixel[where[:, 1], where[:, 0]].all()


def test_a_fill_hides_and_what_it_hides_is_dropped() -> None:
    given = targets(blobs())
    plan = hard_blend(partner=None)
    for before, after in zip(given, plan.mix_boxes(given), strict=True):
        expected = before["masks"] & (plan.keep[int(before["ids"][0]) // EACH] == 1)
        assert torch.equal(after["masks"], expected)
    dot = {**given[0], "masks": torch.zeros(2, SIDE, SIDE, dtype=torch.uint8)}
    dot["masks"][:, 0, 0] = 1  # both boxes can be seen, but no pixel of theirs
    nothing = Paste((SIDE, SIDE), torch.tensor([[[0, 0, 1, 16]]]).expand(BATCH, -1, -1))
    dot["boxes"] = torch.tensor([[0.0, 0.0, 9.0, 9.0]] * 2)
    assert [len(t["boxes"]) for t in nothing.mix_boxes([dot] * 3)] == [0, 0, 0]


def test_the_area_without_masks_is_its_visible_part() -> None:
    """A rectangle in the middle of a box leaves a ring, whose smallest box is the box itself."""
    plan = Paste((8, 8), torch.tensor([[[2, 2, 6, 6]]]))
    target = {"boxes": torch.tensor([[0.0, 0.0, 8.0, 8.0]]), "labels": torch.tensor([0])}
    (mixed,) = plan.mix_boxes([{**target, "area": torch.tensor([32.0])}])
    assert mixed["boxes"].tolist() == [[0, 0, 8, 8]] and mixed["area"].tolist() == [24.0]


def test_boxes_to_which_a_blend_leaves_too_little_are_dropped() -> None:
    given = targets(blobs())
    keep = torch.tensor([0.9, 0.5, 0.05]).view(3, 1, 1, 1)
    plan = Blend(keep, PARTNER)
    for one in (plan, chain([plan, Blend(torch.ones(3, 1, 1, 1))])):
        mixed = one.mix_boxes(given, min_weight=0.1)
        weights = [[0.9] * 2 + [0.1] * 2, [0.5] * 4, [0.95] * 2]
        for target, expected in zip(mixed, weights, strict=True):
            torch.testing.assert_close(target["weights"], torch.tensor(expected))
        assert [len(t["boxes"]) for t in one.mix_boxes(given)] == [4, 4, 4]
    half = [{**t, "weights": torch.full((2,), 0.5)} for t in given]  # given weights don't count
    assert [len(t["boxes"]) for t in plan.mix_boxes(half, min_weight=0.1)] == [4, 4, 2]
    with pytest.raises(ValueError, match="min_weight: expected a number from 0 to 1, got 2"):
        plan.mix_boxes(given, min_weight=2)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "joints",
            tv_tensors.KeyPoints(torch.zeros(2, 3, 2), canvas_size=(SIDE, SIDE)),
            "joints of target 0: KeyPoints are moved under the key 'keypoints' alone",
        ),
        (
            "segments",
            tv_tensors.Mask(torch.zeros(2, SIDE, SIDE)),
            "segments of target 0: Mask are moved under the key 'masks' alone; rename it",
        ),
    ],
)
def test_what_lies_in_the_image_under_another_name_is_refused(
    key: str, value: Tensor, message: str
) -> None:
    given = [{**target, key: value} for target in targets(blobs())]
    with pytest.raises(ValueError, match=re.escape(message)):
        pasted(0).mix_boxes(given)
