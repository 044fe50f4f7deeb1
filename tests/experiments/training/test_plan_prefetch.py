"""Plans drawn ahead are those of drawing each when it is needed, and leave no trace."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations.plans.base import Plan
from mixbench.experiments.training import plan_prefetch
from mixbench.experiments.training.plan_prefetch import PlansAhead

METHODS: list[dict[str, Any]] = [
    {"name": "cutmix", "prob": 0.5},
    {"name": "mixup", "alpha": 0.3, "per_sample": True},
    {"name": "fmix"},
    {"name": "fmix", "per_sample": True},
    {"name": "ricap"},
    {"name": "random_erasing"},
    {"name": "choice", "methods": ["cutmix", "mixup"]},
    {"name": "saliencymix"},
]
SHAPES = [(6, 1, 12, 12), (3, 1, 12, 12)]
IMAGES = torch.rand(6, 1, 12, 12, generator=torch.Generator().manual_seed(0))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def tensors(plan: Plan) -> list[Tensor]:
    found = []
    for field in fields(plan):  # type: ignore[arg-type]
        value = getattr(plan, field.name)
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, Plan):
            found += tensors(value)
        elif isinstance(value, tuple | list):
            found += [one for part in value if isinstance(part, Plan) for one in tensors(part)]
    return found


def assert_alike(one: Plan, other: Plan) -> None:
    pairs = zip(tensors(one), tensors(other), strict=True)
    assert all(torch.equal(mine, yours) for mine, yours in pairs)


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, len(METHODS) - 1), st.integers(0, 1), st.integers(1, 25)),
        min_size=1,
        max_size=6,
    )
)
def test_the_plans_and_the_states_are_those_of_one_by_one(
    steps: list[tuple[int, int, int]],
) -> None:
    plans, plain = PlansAhead(generator()), generator()
    for method, shape, count in steps:
        mix = augmentations.create(**METHODS[method])
        images = IMAGES[: SHAPES[shape][0]] if mix.needs_images else None
        for number in range(count):
            drawn = plans.next(mix, SHAPES[shape], images)
            assert_alike(drawn, mix.sample(SHAPES[shape], generator=plain, images=images))
            if number % 5 == 0:
                assert torch.equal(plans.get_state(), plain.get_state())
    assert torch.equal(plans.get_state(), plain.get_state())


@pytest.mark.parametrize("taken", [1, 2, 5, 9, 20])
def test_going_on_from_a_state(taken: int) -> None:
    mix = augmentations.create("ricap")
    plans, others = PlansAhead(generator()), PlansAhead(torch.Generator())
    for _ in range(taken):
        plans.next(mix, SHAPES[0])
    # One that has drawn ahead itself.
    for _ in range(4):
        others.next(mix, SHAPES[0])
    others.set_state(plans.get_state())
    for _ in range(12):
        assert_alike(others.next(mix, SHAPES[0]), plans.next(mix, SHAPES[0]))


def drawn(mix: augmentations.Method, count: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many plans are drawn for so many that are taken."""
    made = []
    sample = PlansAhead._sample
    monkeypatch.setattr(
        PlansAhead, "_sample", staticmethod(lambda *given: made.append(1) or sample(*given))
    )
    plans = PlansAhead(generator())
    for _ in range(count):
        plans.next(mix, SHAPES[0])
    return len(made)


def test_many_are_drawn_at_once_and_few_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 100 <= drawn(augmentations.create("cutmix"), 100, monkeypatch) < 100 + plan_prefetch.MOST


def test_large_plans_are_drawn_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_prefetch, "LARGEST", 100)
    assert drawn(augmentations.create("fmix", per_sample=True), 20, monkeypatch) == 20


def test_where_the_method_changes_at_every_step_nothing_is_drawn_in_vain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []
    sample = PlansAhead._sample
    monkeypatch.setattr(
        PlansAhead, "_sample", staticmethod(lambda *given: made.append(1) or sample(*given))
    )
    plans = PlansAhead(generator())
    for number in range(50):
        plans.next(augmentations.create("cutmix", prob=1 - number / 100), SHAPES[0])
    assert len(made) == 50
