"""Boxes through chains of any plans, against objects drawn on images and followed pixel by pixel.

Each image has a channel for each object at each place where it could be shown: the oracle knows
neither rectangles nor masks, only which pixels came from where.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations import Blend, Paste
from mixbench.augmentations.plans.at_depth import AtDepth
from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.plans.composite import chain, select
from tests.support.oracles import seeded

BATCH, SIDE = 4, 16
Shown = dict[tuple[int, float, float, float, float], np.ndarray]


def objects(seed: int, count: int = 3) -> list[dict[str, Tensor]]:
    """Boxes with whole edges; `number` says which is which."""
    numbers = torch.arange(BATCH * count).view(BATCH, count)
    low = torch.randint(0, SIDE - 1, (BATCH, count, 2), generator=seeded(seed))
    sides = 1 + (torch.rand(BATCH, count, 2, generator=seeded(seed + 1)) * (SIDE - low)).long()
    boxes = torch.cat([low, low + sides.clamp(max=SIDE - low)], dim=2).float()
    return [{"boxes": b, "labels": n % 3, "number": n} for b, n in zip(boxes, numbers, strict=True)]


class Pixels:
    """For each sample, object and place: how much of each pixel shows the object (float64)."""

    def __init__(self, targets: list[dict[str, Tensor]]) -> None:
        self.shown: list[Shown] = []
        for target in targets:
            here: Shown = {}
            for box, number in zip(
                target["boxes"].tolist(), target["number"].tolist(), strict=True
            ):
                x1, y1, x2, y2 = (int(edge) for edge in box)
                here[number, 1.0, 1.0, 0.0, 0.0] = drawn = np.zeros((SIDE, SIDE))
                drawn[y1:y2, x1:x2] = 1
            self.shown.append(here)

    def mix(self, plan: Plan) -> None:
        """Follow a plan; one that resizes has a scale that keeps whole edges whole."""
        if isinstance(plan, Paste):
            self.shown = [self._pasted(plan, sample) for sample in range(BATCH)]
        else:
            assert isinstance(plan, Blend)
            self.shown = [self._blended(plan, sample) for sample in range(BATCH)]

    def _pasted(self, plan: Paste, sample: int) -> Shown:
        free = np.ones((SIDE, SIDE))
        new: Shown = {}
        for rectangle in range(plan.target.shape[1]):
            top, left, bottom, right = plan.target[sample, rectangle].tolist()
            free[top:bottom, left:right] = 0
            if plan.partner is None or top == bottom or left == right:
                continue
            source = plan.target if plan.source is None else plan.source
            up, begin, low, end = source[sample, rectangle].tolist()
            sx, sy = (right - left) / (end - begin), (bottom - top) / (low - up)
            for key, pixels in self.shown[int(plan.partner[sample, rectangle])].items():
                grid = np.arange(SIDE)
                rows = (up + (grid[top:bottom] - top + 0.5) / sy).astype(int)
                columns = (begin + (grid[left:right] - left + 0.5) / sx).astype(int)
                moved = np.zeros((SIDE, SIDE))
                moved[top:bottom, left:right] = pixels[np.ix_(rows, columns)]
                name, fx, fy, dx, dy = key
                place = (fx * sx, fy * sy, (dx - begin) * sx + left, (dy - up) * sy + top)
                add(new, (name, *place), moved)
        for key, pixels in self.shown[sample].items():
            add(new, key, pixels * free)
        return new

    def _blended(self, plan: Blend, sample: int) -> Shown:
        new: Shown = {}
        keep = plan.keep[sample, 0].double().numpy() * np.ones((SIDE, SIDE))
        for key, pixels in self.shown[sample].items():
            add(new, key, pixels * keep)
        if plan.partner is not None:
            for key, pixels in self.shown[int(plan.partner[sample])].items():
                add(new, key, pixels * (1 - keep))
        return new

    def boxes(self, targets: list[dict[str, Tensor]], visibility: float) -> list[list[Any]]:
        areas = {
            number: float((box[2] - box[0]) * (box[3] - box[1]))
            for target in targets
            for box, number in zip(target["boxes"], target["number"].tolist(), strict=True)
        }
        found = []
        for here in self.shown:
            lines = []
            for (number, sx, sy, _, _), pixels in here.items():
                seen = pixels > 1e-9
                share = seen.sum() / (areas[number] * sx * sy)
                if seen.any() and share >= visibility - 1e-6:
                    down, across = seen.any(1).nonzero()[0], seen.any(0).nonzero()[0]
                    box = [across[0], down[0], across[-1] + 1, down[-1] + 1]
                    weight = pixels[seen].mean()
                    lines.append((number, [int(edge) for edge in box], round(float(weight), 4)))
            found.append(sorted(lines))
        return found


def add(shown: Shown, key: Any, pixels: np.ndarray) -> None:
    key = (key[0], *(round(float(number), 6) for number in key[1:]))
    shown[key] = shown.get(key, 0) + pixels


def mixup(seed: int) -> Plan:
    keep = torch.rand(BATCH, 1, 1, 1, generator=seeded(seed))
    return Blend(keep, torch.randint(0, BATCH, (BATCH,), generator=seeded(seed)))


def cells(seed: int) -> Plan:
    """A grid of cells with some holes, each the same place of a random sample."""
    edges = torch.tensor([0, 3, 8, 13, 16])
    grid = [[t, x, b, y] for t, b in pairwise(edges.tolist()) for x, y in pairwise(edges.tolist())]
    target = torch.tensor(grid).expand(BATCH, -1, -1)
    holes = torch.rand(BATCH, 16, 1, generator=seeded(seed)) < 0.4
    partner = torch.randint(0, BATCH, (BATCH, 16), generator=seeded(seed))
    return Paste((SIDE, SIDE), target.masked_fill(holes, 0), partner)


def doubled(seed: int) -> Plan:
    """A quarter of a random partner, twice as large."""
    corner = torch.randint(0, SIDE // 2 + 1, (BATCH, 1, 2), generator=seeded(seed))
    source = torch.cat([corner, corner + SIDE // 2], dim=2)
    target = torch.tensor([0, 0, SIDE, SIDE]).expand(BATCH, 1, -1).clone()
    target[::2] = 0
    partner = torch.randint(0, BATCH, (BATCH, 1), generator=seeded(seed))
    return Paste((SIDE, SIDE), target, partner, source, resize=True)


def method(name: str, **parameters: Any) -> Any:
    mix = augmentations.create(name, prob=0.9, per_sample=True, **parameters)
    return lambda seed: mix.sample((BATCH, 1, SIDE, SIDE), generator=seeded(seed))


PLANS = {
    "cutmix": method("cutmix"),
    "ricap": method("ricap"),
    "mosaic": method("mosaic", parts="crop"),
    "same_place": method("mosaic", parts="same_place", pairing="roll"),
    "cutout": method("cutout", size=7),
    "cells": cells,
    "doubled": doubled,
    "mixup": mixup,
}


@pytest.mark.parametrize("seed", range(36))
def test_boxes_are_those_of_the_pixels_that_are_seen(seed: int) -> None:
    generator = np.random.default_rng(seed)
    names = [str(name) for name in generator.choice(list(PLANS), size=1 + seed % 3)]
    stages = [PLANS[name](100 * seed + number) for number, name in enumerate(names)]
    targets = objects(seed)
    pixels = Pixels(targets)
    for stage in stages:
        pixels.mix(stage)
    plan = chain(stages)
    if "doubled" not in names:
        check_by_images(plan, targets)
    for visibility in (0.0, 0.1, 0.4, 1.0):
        mixed = plan.mix_boxes(targets, visibility=visibility, per_box=["number"])
        found = [
            sorted(
                (number, box, round(weight, 4))
                for number, box, weight in zip(
                    target["number"].tolist(),
                    target["boxes"].tolist(),
                    target["weights"].tolist(),
                    strict=True,
                )
            )
            for target in mixed
        ]
        for sample, (one, other) in enumerate(
            zip(found, pixels.boxes(targets, visibility), strict=True)
        ):
            assert [line[:2] for line in one] == [line[:2] for line in other], (names, sample)
            weights = [line[2] for line in one], [line[2] for line in other]
            assert weights[0] == pytest.approx(weights[1], abs=2e-4), (names, sample)


def check_by_images(plan: Plan, targets: list[dict[str, Tensor]]) -> None:
    """A channel for each object: what the mixed image has in it is what the boxes are around."""
    images = torch.zeros(BATCH, sum(len(target["boxes"]) for target in targets), SIDE, SIDE)
    for sample, target in enumerate(targets):
        for box, number in zip(target["boxes"].tolist(), target["number"].tolist(), strict=True):
            x1, y1, x2, y2 = (int(edge) for edge in box)
            images[sample, number, y1:y2, x1:x2] = 1
    seen = plan.mix_images(images) > 0
    mixed = plan.mix_boxes(targets, visibility=0, per_box=["number"])
    for shown, target in zip(seen, mixed, strict=True):
        assert (
            sorted(set(target["number"].tolist()))
            == shown.flatten(1).any(1).nonzero().flatten().tolist()
        )
        for number in set(target["number"].tolist()):
            boxes = target["boxes"][target["number"] == number]
            around = [*boxes[:, :2].amin(0).tolist(), *boxes[:, 2:].amax(0).tolist()]
            down, across = shown[number].nonzero().unbind(1)
            edges = [across.min(), down.min(), across.max() + 1, down.max() + 1]
            assert around == [float(edge) for edge in edges]


def masked(seed: int, soft: bool = False) -> Blend:
    keep = torch.rand(BATCH, 1, SIDE, SIDE, generator=seeded(seed))
    partner = torch.tensor([1, 2, 3, 0])
    return Blend(keep if soft else (keep > 0.4).float(), partner)


@pytest.mark.parametrize("first", ["mask", "paste"])
@pytest.mark.parametrize("soft", [False, True])
def test_masks_weigh_what_is_left_of_a_box(first: str, soft: bool) -> None:
    """A box of which pastes leave a region weighs the mean of the masks there."""
    boxes = torch.tensor([[2.0, 3.0, 12.0, 11.0]])
    targets = [{"boxes": boxes, "labels": torch.tensor([n])} for n in range(BATCH)]
    blend, hole = masked(1, soft), Paste((SIDE, SIDE), torch.tensor([[[0, 0, 16, 6]]] * BATCH))
    plan = chain([blend, hole] if first == "mask" else [hole, blend])
    for sample, target in enumerate(plan.mix_boxes(targets, visibility=0.0)):
        assert target["labels"].tolist() == [sample, (sample + 1) % BATCH]
        assert target["boxes"].tolist() == [[6.0, 3.0, 12.0, 11.0]] * 2
        mean = float(blend.keep[sample, 0, 3:11, 6:12].mean())
        assert target["weights"].tolist() == pytest.approx([mean, 1 - mean], abs=1e-5)
        # Of the 80 pixels of the box, 48 are left.
        for share in (mean, 1 - mean):
            for visibility, kept in ((0.6 * share - 0.01, True), (0.6 * share + 0.01, False)):
                (one,) = plan.mix_boxes(targets, visibility=visibility)[sample : sample + 1]
                index = sample if share == mean else (sample + 1) % BATCH
                assert (index in one["labels"].tolist()) == kept


def test_two_masks_multiply_pixel_by_pixel() -> None:
    blend, other = masked(1), masked(2, soft=True)
    boxes = torch.tensor([[2.0, 3.0, 12.0, 11.0]])
    targets = [{"boxes": boxes, "labels": torch.tensor([n])} for n in range(BATCH)]
    moved = Paste(
        (SIDE, SIDE),
        torch.tensor([[[0, 0, 16, 14]]] * BATCH),
        torch.arange(BATCH).view(-1, 1),
        torch.tensor([[[0, 2, 16, 16]]] * BATCH),
    )
    for target, one, two in zip(
        chain([blend, moved, other]).mix_boxes(targets, visibility=0.0),
        blend.keep[:, 0],
        other.keep[:, 0],
        strict=True,
    ):
        assert target["boxes"][0].tolist() == [0.0, 3.0, 10.0, 11.0]
        mean = float((one[3:11, 2:12] * two[3:11, 0:10]).mean())
        assert float(target["weights"][0]) == pytest.approx(mean, abs=1e-5)


def test_the_same_object_twice_at_one_place_is_one_box() -> None:
    """A batch of two mixed twice: each image holds each object twice, and its weights add up."""
    partner = torch.tensor([1, 0])
    stages = [Blend(torch.full((2, 1, 1, 1), keep), partner) for keep in (0.7, 0.6)]
    targets = [
        {"boxes": torch.tensor([[1.0, 1, 5, 5]]), "labels": torch.tensor([n])} for n in (0, 1)
    ]
    first, _ = chain(stages).mix_boxes(targets)
    assert first["labels"].tolist() == [0, 1]
    assert first["weights"].tolist() == pytest.approx([0.42 + 0.12, 0.18 + 0.28])


@pytest.mark.parametrize("visibility", [0.1, 0.3, 1.0])
def test_an_object_seen_whole_through_four_cells_is_one_box(visibility: float) -> None:
    cell = torch.tensor([[0, 0, 4, 4], [0, 4, 4, 8], [4, 0, 8, 4], [4, 4, 8, 8]])
    targets = [
        {"boxes": torch.empty(0, 4), "labels": torch.empty(0, dtype=torch.int64)},
        {"boxes": torch.tensor([[2.0, 2, 6, 6]]), "labels": torch.tensor([7])},
    ]
    plan = Paste((8, 8), cell.expand(2, -1, -1), torch.tensor([[1] * 4, [0] * 4]))
    first, second = plan.mix_boxes(targets, visibility=visibility)
    assert (first["boxes"].tolist(), first["labels"].tolist()) == ([[2, 2, 6, 6]], [7])
    assert second["boxes"].shape == (0, 4)


def test_a_box_that_cannot_be_seen_any_more_is_gone() -> None:
    """Its smallest box around what each stage leaves is never small."""

    def hide(*edges: int) -> Paste:
        return Paste((10, 10), torch.tensor([[edges]]))

    box = [{"boxes": torch.tensor([[0.0, 0, 10, 10]]), "labels": torch.tensor([1])}]
    plan = chain([hide(0, 0, 10, 4), hide(0, 0, 4, 10)])  # 36 % is left
    assert [len(plan.mix_boxes(box, visibility=v)[0]["boxes"]) for v in (0.35, 0.37)] == [1, 0]
    corner = [hide(0, 0, 9, 9), hide(9, 0, 10, 10)]  # 19 %, then 9 %
    assert len(chain(corner).mix_boxes(box, visibility=0.1)[0]["boxes"]) == 0
    assert chain(corner).mix_boxes(box, visibility=0.09)[0]["boxes"].tolist() == [[9, 0, 10, 9]]
    nothing = chain([*corner, hide(0, 9, 9, 10)])
    assert nothing.mix_boxes(box, visibility=0.0)[0]["boxes"].shape == (0, 4)


def test_choices_and_layers_of_a_network_are_followed_too() -> None:
    targets = objects(3)
    plans = [chain([cells(1), mixup(2)]), masked(3), method("ricap")(4), cells(5)]
    choice = torch.tensor([2, 0, 1, 3])
    last = AtDepth(cells(6), layer=1)
    chosen = select(choice, plans)
    found = chosen.mix_boxes(targets, visibility=0.2, per_box=["number"])
    for sample, which in enumerate(choice.tolist()):
        alone = plans[which].mix_boxes(targets, visibility=0.2, per_box=["number"])[sample]
        assert {k: v.tolist() for k, v in found[sample].items()} == {
            k: v.tolist() for k, v in alone.items()
        }
    # Judged once at the end: nothing that the choice alone would drop is missing.
    both = chain([chosen, last])
    assert both.traces_boxes
    pixels = Pixels(targets)
    for stage in (cells(1), cells(6)):
        pixels.mix(stage)
    plan = chain([select(torch.zeros(BATCH).long(), [cells(1), masked(3)]), last])
    mixed = plan.mix_boxes(targets, visibility=0.3, per_box=["number"])
    for target, lines in zip(mixed, pixels.boxes(targets, 0.3), strict=True):
        assert sorted(target["number"].tolist()) == [line[0] for line in lines]
