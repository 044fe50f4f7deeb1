"""Compose: hand-computed chains, shares against the pixels, and what a stage gets to see."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations.plans.at_depth import AtDepth
from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.plans.blend import Blend
from mixbench.augmentations.plans.composite import Chain, chain
from mixbench.augmentations.plans.paste import Paste
from mixbench.augmentations.sampling.draws import Draws
from tests.support.oracles import one_hot_images, pixel_shares, seeded


def compose(*methods: Any, **parameters: Any) -> Any:
    return augmentations.create("compose", methods=methods, **parameters)


def box(*edges: int, partner: list[int] | None = None, size: tuple[int, int] = (4, 4)) -> Paste:
    """One rectangle (top, left, bottom, right) in every sample of a batch."""
    rows = 2 if partner is None else len(partner)
    target = torch.tensor(edges).view(1, 1, 4).expand(rows, -1, -1)
    who = None if partner is None else torch.tensor(partner).view(-1, 1)
    return Paste(size, target, who)


def uniform(keep: list[float], partner: list[int]) -> Blend:
    return Blend(torch.tensor(keep).view(-1, 1, 1, 1), torch.tensor(partner))


# By hand.


def test_a_box_and_then_a_hole() -> None:
    """CutMix of the right half, then a hole in the upper left quarter; labels are the halves'."""
    plan = chain([box(0, 2, 4, 4, partner=[1, 0]), box(0, 0, 2, 2)])
    images = torch.tensor([3.0, 5.0]).view(2, 1, 1, 1).expand(2, 1, 4, 4)
    mixed = plan.mix_images(images)
    assert mixed[:, 0].tolist() == [
        [[0, 0, 5, 5], [0, 0, 5, 5], [3, 3, 5, 5], [3, 3, 5, 5]],
        [[0, 0, 3, 3], [0, 0, 3, 3], [5, 5, 3, 3], [5, 5, 3, 3]],
    ]
    targets = plan.mix_labels(torch.tensor([7, 8]), 10)
    assert targets.labels.tolist() == [[7, 8], [8, 7]]
    assert targets.weights.tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_the_hole_of_a_partner_comes_along() -> None:
    plan = chain([box(0, 0, 2, 4), box(0, 2, 4, 4, partner=[1, 0])])
    images = torch.tensor([3.0, 5.0]).view(2, 1, 1, 1).expand(2, 1, 4, 4)
    assert plan.mix_images(images)[0, 0].tolist() == [[0, 0, 0, 0]] * 2 + [[3, 3, 5, 5]] * 2


def test_a_box_within_a_box_counts_pixels_not_products() -> None:
    """The left half of the partner is its own partner's: a box over it brings only that one.

    Three samples, each paired with the next. First the left half is the next one's. Then the left
    half of the next, all of it the one's after, comes over. Products would say 1/4 for each path.
    """
    left = box(0, 0, 4, 2, partner=[1, 2, 0])
    plan = chain([left, left])
    index, share = plan.sources()
    assert index.tolist() == [[0, 1, 1, 2], [1, 2, 2, 0], [2, 0, 0, 1]]
    assert share.tolist() == [[0.5, 0, 0, 0.5]] * 3
    mixed = plan.mix_images(one_hot_images(3, 4, 4))
    assert pixel_shares(mixed)[0].tolist() == [0.5, 0, 0.5]


def test_two_blends_multiply() -> None:
    plan = chain([uniform([0.75, 0.5], [1, 0]), uniform([0.5, 1.0], [1, 0])])
    index, share = plan.sources()
    assert index.tolist() == [[0, 1, 1, 0], [1, 0, 0, 1]]
    assert share.tolist() == [[0.375, 0.125, 0.25, 0.25], [0.5, 0.5, 0, 0]]


MASK = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(2, 1, 4, 4)


@pytest.mark.parametrize(
    "stage",
    [box(0, 0, 4, 2, partner=[1, 0]), Blend(MASK, torch.tensor([1, 0]))],
    ids=["box", "mask"],
)
def test_declared_weights_multiply(stage: Any) -> None:
    """A stage with a rule of its own keeps it, whatever its pixels."""
    declared = replace(stage, weights=torch.tensor([[0.9, 0.1], [0.2, 0.8]]))
    plan = chain([declared, box(0, 0, 4, 2, partner=[1, 0])])
    index, share = plan.sources()
    assert index.tolist() == [[0, 1, 1, 0], [1, 0, 0, 1]]
    expected = [[0.45, 0.05, 0.1, 0.4], [0.1, 0.4, 0.45, 0.05]]
    torch.testing.assert_close(share, torch.tensor(expected))


# Against the pixels.

METHODS: dict[str, Any] = {
    "mixup": "mixup",
    "cutmix": "cutmix",
    "fmix": "fmix",
    "ricap": {"name": "ricap", "beta": 1.0},
    "resizemix": "resizemix",
    "elements": {"name": "choice", "methods": ["ricap", "mixup", "cutmix"], "per_sample": True},
    "inner": {"name": "compose", "methods": ["fmix", "cutmix"], "prob": 0.5},
}


@pytest.mark.parametrize("per_sample", [False, True], ids=["batch", "per_sample"])
@pytest.mark.parametrize("names", list(itertools.product(METHODS, repeat=2)), ids="-".join)
def test_shares_are_pixel_shares(names: tuple[str, str], per_sample: bool) -> None:
    mix = compose(*(METHODS[name] for name in names), per_sample=per_sample, prob=0.9)
    assert mix.label_rule == "pixels"
    check_shares(mix, 5, (6, 9))


@pytest.mark.parametrize(
    "names",
    [("cutmix", "cutmix", "cutmix"), ("ricap", "fmix", "resizemix"), ("elements",) * 3],
    ids="-".join,
)
def test_shares_of_three_stages(names: tuple[str, ...]) -> None:
    check_shares(compose(*(METHODS[name] for name in names), per_sample=True), 4, (8, 8))


def check_shares(mix: Any, batch: int, size: tuple[int, int]) -> None:
    images = one_hot_images(batch, *size)
    for seed in range(4):
        mixed = mix(images, torch.arange(batch), batch, generator=seeded(seed))
        torch.testing.assert_close(
            mixed.targets.dense(batch).double(), pixel_shares(mixed.images), atol=2e-6, rtol=0
        )
        assert bool((mixed.targets.weights >= 0).all())


@pytest.mark.parametrize("name", ["mixup", "cutmix", "ricap"])
def test_blanking_leaves_labels_as_they_are(name: str) -> None:
    mix = compose(name, {"name": "cutout", "size": 3}, per_sample=True)
    assert mix.label_rule == "declared"
    batch = mix(torch.rand(9, 2, 8, 8), torch.arange(9), 9, generator=seeded(3))
    first, hole = batch.plan.stages
    alone = first.mix_labels(torch.arange(9), 9)
    assert torch.equal(batch.targets.labels, alone.labels)
    assert torch.equal(batch.targets.weights, alone.weights)
    blank = hole.mix_images(torch.ones(9, 1, 8, 8)) == 0
    assert bool((batch.images == 0)[blank.expand(-1, 2, -1, -1)].all())
    assert bool((batch.images != 0)[~blank.expand(-1, 2, -1, -1)].all())


# What the stages are.


def test_stages_follow_each_other_for_all_that_is_mixed() -> None:
    plan = compose("cutmix", "fmix", per_sample=True).sample((5, 3, 8, 8), generator=seeded(1))
    first, second = plan.stages
    images = torch.rand(5, 3, 8, 8, generator=seeded(2))
    masks = torch.randint(0, 9, (5, 8, 8), generator=seeded(3))
    vectors = torch.rand(5, 7, generator=seeded(4))
    assert torch.equal(plan.mix_images(images), second.mix_images(first.mix_images(images)))
    assert torch.equal(plan.mix_masks(masks), second.mix_masks(first.mix_masks(masks)))
    maps = torch.rand(5, 2, 4, 4, generator=seeded(5))
    assert torch.equal(plan.mix_features(maps), second.mix_features(first.mix_features(maps)))
    # Vectors have no pixels: they are averaged with the shares that the labels have.
    shares = plan.mix_labels(torch.arange(5), 5).dense(5)
    torch.testing.assert_close(plan.mix_features(vectors), shares @ vectors)
    targets = [
        {"boxes": torch.tensor([[1.0, 1.0, 7.0, 7.0]]), "labels": torch.tensor([n])}
        for n in range(5)
    ]
    # What can be seen of boxes is judged after the last stage (tests/.../test_traced_boxes.py).
    one = plan.mix_boxes(targets, visibility=0.3)
    two = second.mix_boxes(first.mix_boxes(targets, visibility=0.0), visibility=0.0)
    for left, right in zip(one, two, strict=True):
        assert set(left["labels"].tolist()) <= set(right["labels"].tolist())


def test_each_stage_draws_its_own_partners() -> None:
    plan = compose("mixup", "mixup").sample((64, 1, 2, 2), generator=seeded(1))
    first, second = plan.stages
    assert not torch.equal(first.partner, second.partner)
    assert not torch.equal(first.keep, second.keep)


def test_a_sample_that_is_left_out_is_left_out_by_all_stages() -> None:
    mix = compose("mixup", "cutmix", "cutout", per_sample=True, prob=0.5)
    images = torch.rand(200, 1, 4, 4, generator=seeded(1))
    batch = mix(images, torch.arange(200), 200, generator=seeded(2))
    same = (batch.images == images).flatten(1).all(dim=1)
    assert 60 < int(same.sum()) < 140
    own = batch.targets.dense(200).diagonal()
    assert torch.equal(own[same], torch.ones(int(same.sum())))
    assert torch.equal(batch.plan.changed(), ~same)


def test_what_any_stage_changes_is_changed() -> None:
    one, other = uniform([0.5, 1.0, 1.0], [1, 2, 0]), uniform([1.0, 0.5, 1.0], [1, 2, 0])
    assert chain([one, other]).changed().tolist() == [True, True, False]
    assert chain([one, AtDepth(other, 1)]).changed().tolist() == [True, True, False]


def test_stages_inside_the_network_come_last_and_are_not_in_the_images() -> None:
    mix = compose({"name": "manifold_mixup", "depths": [2]}, "cutmix", "cutout")
    plan = mix.sample((4, 1, 8, 8), generator=seeded(1))
    assert [stage.depth for stage in plan.stages] == [0, 0, 2]
    assert plan.depth == mix.deepest == 2
    images = torch.rand(4, 1, 8, 8)
    alone = chain(plan.stages[:2])
    assert torch.equal(plan.mix_images(images), alone.mix_images(images))
    index, share = plan.sources()
    assert index.shape == share.shape == (4, 4)


def test_one_method_is_that_method() -> None:
    plan = compose("cutmix").sample((4, 1, 8, 8), generator=seeded(5))
    alone = augmentations.create("cutmix").sample((4, 1, 8, 8), generator=seeded(5))
    assert isinstance(plan, Paste)
    assert isinstance(alone, Paste)
    assert torch.equal(plan.target, alone.target)


def test_chains_in_chains_are_one_chain() -> None:
    one = uniform([0.5, 0.5], [1, 0])
    plan = chain([chain([one, AtDepth(one, 3)]), chain([one, one])])
    assert isinstance(plan, Chain)
    assert [stage.depth for stage in plan.stages] == [0, 0, 0, 3]


@dataclass(frozen=True, kw_only=True)
class Watching(augmentations.Method):
    """Leaves the batch as it is and remembers the images that it was given."""

    name: ClassVar[str] = "watching"
    summary: ClassVar[str] = "for this test"
    needs_images: ClassVar[bool] = True
    seen: ClassVar[list[Tensor]] = []

    def draw(self, draws: Draws) -> Plan:
        assert draws.images is not None
        self.seen.append(draws.images)
        return Blend(torch.ones(1, 1, 1, 1))


def test_a_method_that_looks_at_images_sees_what_came_before() -> None:
    mix = compose(Watching(), "mixup", Watching())
    assert mix.needs_images
    images = torch.rand(3, 1, 4, 4, generator=seeded(1))
    Watching.seen.clear()
    batch = mix(images, torch.arange(3), 3, generator=seeded(2))
    first, last = Watching.seen
    assert torch.equal(first, images)
    assert torch.equal(last, batch.images)
    assert not torch.equal(last, images)
