"""Boxes follow the pixels: compared with pixels counted one by one, and with cases by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations import Blend, Paste
from mixbench.augmentations.plans.base import Plan
from tests.support.oracles import located_images, seeded

Target = dict[str, Any]
PASTING = ["cutmix", "ricap", "cutout", "random_erasing"]

each_mode = pytest.mark.parametrize("per_sample", [False, True], ids=["batch", "per_sample"])


def whole_boxes(batch: int, height: int, width: int, seed: int, most: int = 4) -> list[Target]:
    """Up to `most` boxes per image, with whole edges; `name` says which box it was."""
    generator = np.random.default_rng(seed)
    targets, given = [], 0
    for _ in range(batch):
        boxes = []
        for _ in range(generator.integers(0, most + 1)):
            left, top = generator.integers(0, width), generator.integers(0, height)
            boxes.append(
                [
                    left,
                    top,
                    generator.integers(left + 1, width + 1),
                    generator.integers(top + 1, height + 1),
                ]
            )
        names = torch.arange(given, given + len(boxes))
        given += len(boxes)
        targets.append(
            {
                "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                "labels": names % 3,
                "name": names,
            }
        )
    return targets


def rows(target: Target) -> list[tuple[int, list[float], float]]:
    """A target as (name, box, weight), in an order of its own."""
    found = zip(
        target["name"].tolist(), target["boxes"].tolist(), target["weights"].tolist(), strict=True
    )
    return sorted((name, [round(x, 4) for x in box], round(w, 4)) for name, box, w in found)


def rows_of(plan: Plan, targets: list[Target], visibility: float = 0.1) -> list[list[Any]]:
    return [rows(t) for t in plan.mix_boxes(targets, visibility=visibility, per_box=["name"])]


def around(pixels: np.ndarray) -> list[float]:
    down, across = pixels.any(1).nonzero()[0], pixels.any(0).nonzero()[0]
    return [across[0], down[0], across[-1] + 1, down[-1] + 1]


def by_counting(plan: Paste, targets: list[Target], visibility: float) -> list[list[Any]]:
    """Each box drawn on its image, the image mixed, what is left of it counted.

    The images hold where each pixel was; a pixel that the plan filled was nowhere.
    """
    height, width = plan.size
    origin = plan.mix_images(located_images(plan.batch, height, width) + 1).numpy() - 1
    came, row, column = origin[:, 0], origin[:, 1], origin[:, 2]
    if plan.partner is None:
        came = np.where(origin == plan.fill - 1, -1, origin).min(axis=1)
    grid = np.indices((height, width))
    expected = []
    for sample in range(plan.batch):
        own = came[sample] == sample
        still = own & (row[sample] == grid[0]) & (column[sample] == grid[1])
        if plan.partner is None:
            still = (origin[sample] == np.stack([grid[0] * 0 + sample, *grid])).all(0)
        parts = [(sample, still)]
        if plan.partner is not None:
            # What comes from one sample, moved equally far, is seen as one.
            keys = np.stack([came[sample], row[sample] - grid[0], column[sample] - grid[1]])
            moved = np.unique(keys[:, ~still], axis=1).T
            parts += [(int(key[0]), (keys == key[:, None, None]).all(0)) for key in moved]
        lines = []
        for owner, shown in parts:
            target = targets[owner]
            for name, (x1, y1, x2, y2) in zip(
                target["name"].tolist(), target["boxes"].long().tolist(), strict=True
            ):
                at = (row[sample] >= y1) & (row[sample] < y2)
                at &= (column[sample] >= x1) & (column[sample] < x2) & shown
                if at.sum() and at.sum() >= visibility * (x2 - x1) * (y2 - y1):
                    lines.append((name, around(at), 1.0))
        expected.append(sorted(lines))
    return expected


@each_mode
@pytest.mark.parametrize("name", PASTING)
@pytest.mark.parametrize("visibility", [0.0, 0.3, 1.0])
def test_boxes_of_pasted_images_are_where_their_pixels_are(
    name: str, per_sample: bool, visibility: float
) -> None:
    fill = {"fill": -9.0} if name in ("cutout", "random_erasing") else {}
    mix = augmentations.create(name, prob=0.8, per_sample=per_sample, **fill)
    for seed in range(6):
        plan = mix.sample((6, 1, 13, 17), generator=seeded(seed))
        assert isinstance(plan, Paste)
        targets = whole_boxes(6, 13, 17, seed)
        found = rows_of(plan, targets, visibility)
        assert found == by_counting(plan, targets, visibility)


@pytest.mark.parametrize("visibility", [0.0, 0.3])
def test_several_rectangles_leave_what_is_between_them(visibility: float) -> None:
    """Three disjoint rectangles at once: what is left of a box can be of any shape."""
    columns = torch.tensor([[0, 0, 9, 4], [2, 6, 5, 11], [6, 5, 13, 17]])
    for seed in range(12):
        partner = torch.randint(0, 5, (5, 3), generator=seeded(seed))
        plan = Paste((13, 17), columns.expand(5, -1, -1), partner)
        targets = whole_boxes(5, 13, 17, seed, most=6)
        found = rows_of(plan, targets, visibility)
        assert found == by_counting(plan, targets, visibility)


@pytest.mark.parametrize("name", PASTING)
def test_fractional_edges_are_as_exact_as_whole_ones(name: str) -> None:
    """At four times the size, quarters of a pixel are pixels."""
    for seed in range(4):
        plan = augmentations.create(name, per_sample=True).sample(
            (5, 1, 12, 16), generator=seeded(seed)
        )
        assert isinstance(plan, Paste)
        large = Paste(
            (48, 64),
            plan.target * 4,
            plan.partner,
            None if plan.source is None else plan.source * 4,
            fill=-1.0,
        )
        targets = whole_boxes(5, 48, 64, seed)
        small = [{**target, "boxes": target["boxes"] / 4} for target in targets]
        expected = rows_of(large, targets)
        found = rows_of(plan, small)
        found = [[(name, [4 * x for x in box], w) for name, box, w in row] for row in found]
        assert found == expected


def one(box: list[float], label: int = 0, **more: Tensor) -> Target:
    return {"boxes": torch.tensor([box]), "labels": torch.tensor([label]), **more}


@pytest.mark.parametrize(
    ("hole", "expected"),
    [
        ([0, 0, 5, 20], [4.0, 5.0, 12.0, 12.0]),  # a band over its top
        ([0, 8, 20, 20], [4.0, 2.0, 8.0, 12.0]),  # a band over its right
        ([0, 0, 7, 8], [4.0, 2.0, 12.0, 12.0]),  # a corner
        ([4, 5, 8, 9], [4.0, 2.0, 12.0, 12.0]),  # a hole inside
        ([4, 0, 8, 20], [4.0, 2.0, 12.0, 12.0]),  # a band through the middle
        ([2, 4, 12, 12], None),  # all of it
        ([2, 4, 12, 11], [11.0, 2.0, 12.0, 12.0]),  # all but an eighth
        ([2, 4, 11, 12], None),  # all but a tenth, of which nine tenths are not enough
    ],
)
def test_a_box_shrinks_to_what_can_be_seen_of_it(hole: list[int], expected: list | None) -> None:
    """The partner has no boxes, so what is left is the sample's own."""
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    pasted = Paste((20, 20), torch.tensor([[hole], [[0, 0, 0, 0]]]), torch.tensor([[1], [1]]))
    filled = Paste((20, 20), torch.tensor([[hole], [[0, 0, 0, 0]]]))
    for plan in (pasted, filled):
        (found, _) = plan.mix_boxes([one([4.0, 2.0, 12.0, 12.0]), empty], visibility=0.11)
        assert found["boxes"].tolist() == ([] if expected is None else [expected])
        assert found["weights"].tolist() == ([] if expected is None else [1.0])


def test_what_lies_outside_the_image_was_never_visible() -> None:
    """Clipped first; what can be seen is a share of what was in the image."""
    plan = Paste((8, 8), torch.tensor([[[0, 0, 8, 2]], [[0, 0, 8, 2]]]), torch.tensor([[1], [0]]))
    targets = [one([-6.0, 3.0, 4.0, 20.0]), one([20.0, 0.0, 30.0, 8.0])]
    for visibility in (0.1, 0.5):
        first, second = plan.mix_boxes(targets, visibility=visibility)
        assert first["boxes"].tolist() == [[2.0, 3.0, 4.0, 8.0]]
        assert second["boxes"].tolist() == [[0.0, 3.0, 2.0, 8.0]]
    assert plan.mix_boxes(targets, visibility=0.51)[0]["boxes"].tolist() == []


def test_what_does_not_move_and_is_whole_is_not_rounded() -> None:
    """Edges that no decimal fraction has; a box that no hole touches is all visible."""
    corner = torch.rand(400, 2, generator=seeded(0)) * torch.tensor([10.0, 29.0])
    boxes = torch.cat([corner, corner + torch.rand(400, 2, generator=seeded(1)) + 0.01], dim=1)
    left, right = boxes, boxes + torch.tensor([20.0, 0.0, 20.0, 0.0])
    hole = torch.tensor([[[0, 16, 31, 33]], [[0, 0, 0, 0]]])
    plan = Paste((31, 33), hole, torch.tensor([[1], [0]]))
    labels = torch.arange(400)
    targets = [{"boxes": left, "labels": labels}, {"boxes": right, "labels": labels + 400}]
    found, _ = plan.mix_boxes(targets, visibility=1.0)
    assert torch.equal(found["boxes"], torch.cat([left, right]))
    assert torch.equal(found["labels"], torch.arange(800))
    # Beside a hole, whose edges cut the box into parts that must add up to it.
    plan = Paste((31, 33), torch.tensor([[[10, 16, 20, 33]]] * 2), torch.tensor([[1], [0]]))
    targets[1] = {"boxes": left, "labels": labels}
    found, _ = plan.mix_boxes(targets, visibility=1.0)
    assert torch.equal(found["boxes"], left)


def test_a_resized_source_carries_its_boxes_with_it() -> None:
    """The partner whole, at half the height and a quarter of the width, at (4, 8)."""
    plan = Paste(
        (16, 32),
        torch.tensor([[[4, 8, 12, 16]], [[0, 0, 0, 0]]]),
        torch.tensor([[1], [0]]),
        torch.tensor([[[0, 0, 16, 32]], [[0, 0, 16, 32]]]),
        resize=True,
    )
    targets = [one([0.0, 0.0, 10.0, 4.0], 1), one([8.0, 2.0, 24.0, 10.0], 2)]
    first, second = plan.mix_boxes(targets)
    assert first["labels"].tolist() == [1, 2]
    assert first["boxes"].tolist() == [[0.0, 0.0, 10.0, 4.0], [10.0, 5.0, 14.0, 9.0]]
    assert second["boxes"].tolist() == [[8.0, 2.0, 24.0, 10.0]]


def test_a_crop_brings_what_lies_in_it() -> None:
    """Source (2, 4)-(10, 12) to target (8, 0)-(16, 8): 6 down, 4 to the left."""
    plan = Paste(
        (16, 16),
        torch.tensor([[[8, 0, 16, 8]], [[0, 0, 0, 0]]]),
        torch.tensor([[1], [0]]),
        torch.tensor([[[2, 4, 10, 12]], [[0, 0, 0, 0]]]),
    )
    inside, cut, outside = [5.0, 3.0, 9.5, 6.0], [0.0, 0.0, 8.0, 4.0], [12.0, 2.0, 16.0, 9.0]
    theirs = {"boxes": torch.tensor([inside, cut, outside]), "labels": torch.tensor([1, 2, 3])}
    # A quarter of the second can be seen: 4 x 2 of 8 x 4.
    found, _ = plan.mix_boxes([one([8.0, 0.0, 16.0, 8.0]), theirs], visibility=0.25)
    assert found["labels"].tolist() == [0, 1, 2]
    assert found["boxes"][1:].tolist() == [[1.0, 9.0, 5.5, 12.0], [0.0, 8.0, 4.0, 10.0]]
    found, _ = plan.mix_boxes([one([8.0, 0.0, 16.0, 8.0]), theirs], visibility=0.26)
    assert found["labels"].tolist() == [0, 1]


# --- blends -------------------------------------------------------------------------------------


def by_summing(plan: Blend, targets: list[Target], visibility: float) -> list[list[Any]]:
    """The mean of keep inside each box, from pixels cut into sixteen; both images' boxes."""
    expected = []
    for sample in range(plan.batch):
        assert plan.partner is not None
        fine = plan.keep[sample, 0].double().numpy().repeat(4, 0).repeat(4, 1)
        partner = int(plan.partner[sample])
        if partner == sample:
            expected.append(
                [
                    (n, b, 1.0)
                    for n, b, _ in rows(
                        {**targets[sample], "weights": torch.ones(len(targets[sample]["name"]))}
                    )
                ]
            )
            continue
        lines = []
        for owner, share in ((sample, fine), (partner, 1 - fine)):
            target = targets[owner]
            for name, box in zip(target["name"].tolist(), target["boxes"].tolist(), strict=True):
                x1, y1, x2, y2 = (int(4 * edge) for edge in box)
                weight = float(share[y1:y2, x1:x2].mean())
                if weight > 0 and weight >= visibility:
                    lines.append((name, box, round(weight, 4)))
        expected.append(sorted(lines))
    return expected


@each_mode
@pytest.mark.parametrize("soft", [False, True], ids=["binary", "soft"])
@pytest.mark.parametrize("visibility", [0.0, 0.4])
def test_boxes_of_a_mask_weigh_the_mean_inside(
    per_sample: bool, soft: bool, visibility: float
) -> None:
    for seed in range(4):
        if soft:
            keep = torch.rand(6 if per_sample else 1, 1, 12, 16, generator=seeded(seed))
            plan = Blend(keep, torch.randperm(6, generator=seeded(seed))).expand(6)
        else:
            made = augmentations.create("fmix", per_sample=per_sample).sample(
                (6, 1, 12, 16), generator=seeded(seed)
            )
            assert isinstance(made, Blend)
            plan = made
        targets = whole_boxes(6, 48, 64, seed)
        targets = [{**target, "boxes": target["boxes"] / 4} for target in targets]
        found = rows_of(plan, targets, visibility)
        for line, wanted in zip(found, by_summing(plan, targets, visibility), strict=True):
            assert [entry[:2] for entry in line] == [entry[:2] for entry in wanted]
            weights = [entry[2] for entry in line]
            assert weights == pytest.approx([entry[2] for entry in wanted], abs=2e-4)


def test_a_mean_of_two_images_shows_the_boxes_of_both() -> None:
    """Nothing is dropped for being faint, but what is not there at all is not listed."""
    keep = torch.tensor([0.75, 0.05, 1.0, 0.3]).view(4, 1, 1, 1)
    plan = Blend(keep, torch.tensor([1, 0, 1, 3]))
    targets = [one([0.0, 0.0, 4.0, 4.0], label) for label in range(4)]
    targets[1]["weights"] = torch.tensor([0.5])
    found = plan.mix_boxes(targets, visibility=0.9)
    assert [target["labels"].tolist() for target in found] == [[0, 1], [1, 0], [2], [3]]
    weights = [target["weights"].tolist() for target in found]
    assert weights[0] == pytest.approx([0.75, 0.125])
    assert weights[1] == pytest.approx([0.025, 0.95])
    assert weights[2:] == [[1.0], [1.0]]


def test_a_blend_with_a_fill_keeps_the_boxes_that_it_does_not_hide() -> None:
    keep = torch.ones(2, 1, 8, 8)
    keep[0, :, :, 3:] = 0
    targets = [one([0.0, 0.0, 4.0, 4.0]), one([0.0, 0.0, 4.0, 4.0])]
    targets[0] = {
        "boxes": torch.tensor([[0.0, 0.0, 4.0, 4.0], [2.0, 0.0, 8.0, 8.0]]),
        "labels": torch.tensor([1, 2]),
    }
    first, second = Blend(keep).mix_boxes(targets, visibility=0.2)
    assert (first["labels"].tolist(), first["weights"].tolist()) == ([1], [1.0])
    assert second["labels"].tolist() == [0]
    dimmed = Blend(torch.full((2, 1, 1, 1), 0.01)).mix_boxes(targets, visibility=0.2)
    assert [target["weights"].tolist() for target in dimmed] == [[1.0, 1.0], [1.0]]
    gone = Blend(torch.zeros(2, 1, 1, 1)).mix_boxes(targets, visibility=0.0)
    assert [target["weights"].tolist() for target in gone] == [[], []]
