"""Bounds of the box's area: what is drawn lies within them, and without them nothing changes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations.registry import identifying
from mixbench.augmentations.sampling.draws import Draws
from tests.support.oracles import assert_mean, chosen, seeded

BOXED = ("cutmix", "saliencymix")


def boxes(name: str, images: Tensor, seed: int = 0, **parameters: Any) -> Tensor:
    mix = augmentations.create(name, placement="inside", per_sample=True, **parameters)
    plan: Any = mix.sample(images.shape, generator=seeded(seed), images=images)
    return plan.target[:, 0]


@pytest.mark.parametrize("name", BOXED)
@given(
    bounds=st.tuples(st.floats(0, 1), st.floats(0.001, 1)).filter(lambda two: two[0] <= two[1]),
    alpha=st.sampled_from([0.1, 1.0, 4.0]),
    seed=st.integers(0, 1000),
)
def test_every_box_is_within_the_bounds(
    name: str, bounds: tuple[float, float], alpha: float, seed: int
) -> None:
    low, high = bounds
    images = torch.rand(64, 1, 30, 20, generator=seeded(seed))
    drawn = boxes(name, images, seed, alpha=alpha, min_area=low, max_area=high)
    sides = drawn[:, 2:] - drawn[:, :2]
    for axis, side in enumerate((30, 20)):
        # Cut off to whole pixels; 1e-9 for roots at the edge of one.
        assert int(sides[:, axis].min()) >= int(side * math.sqrt(low) - 1e-9)
        assert int(sides[:, axis].max()) <= int(side * math.sqrt(high) + 1e-9)


@pytest.mark.parametrize("name", BOXED)
def test_the_area_is_lambda_scaled_to_the_bounds(name: str) -> None:
    cut = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)
    images = torch.rand(4, 1, 1000, 1000, generator=seeded(0))
    draws = chosen(4, 1000, 1000, lam=1 - cut, images=images)
    mix = augmentations.create(
        name, placement="inside", per_sample=True, min_area=0.2, max_area=0.6
    )
    plan: Any = mix.decide(draws)
    area = plan.area()[:, 0] / 1e6
    torch.testing.assert_close(area.double(), 0.2 + 0.4 * cut, atol=3e-3, rtol=0)


def test_the_mean_area_is_in_the_middle_of_the_bounds() -> None:
    plan: Any = augmentations.create(
        "cutmix", placement="inside", per_sample=True, min_area=0.3, max_area=0.5
    ).sample((4000, 1, 500, 500), generator=seeded(1))
    # Less half a pixel of each side.
    middle = 0.4 - 2 * 0.5 / 500 * 0.63
    assert_mean(plan.area()[:, 0] / 500**2, middle)


@pytest.mark.parametrize("name", BOXED)
def test_without_bounds_it_is_the_authors_box(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit the drawn sides, as many random numbers, and no step more."""
    calls: list[str] = []
    beta = Draws.beta

    class Watched(torch.Tensor):
        @classmethod
        def __torch_function__(
            cls, function: Any, types: Any, arguments: Any = (), more: Any = None
        ) -> Any:
            calls.append(function.__name__)
            return super().__torch_function__(function, types, arguments, more or {})

    def watched(self: Draws, alpha: float) -> Tensor:
        return beta(self, alpha).as_subclass(Watched)

    images = torch.rand(9, 1, 24, 24, generator=seeded(3))
    plain = boxes(name, images)
    assert torch.equal(boxes(name, images, min_area=0.0, max_area=1.0), plain)
    before, after = seeded(5), seeded(5)
    for generator, bounds in ((before, {}), (after, {"min_area": 0.2, "max_area": 0.4})):
        mix = augmentations.create(name, per_sample=True, **bounds)
        mix.sample(images.shape, generator=generator, images=images)
    assert torch.equal(before.get_state(), after.get_state())
    monkeypatch.setattr(Draws, "beta", watched)
    boxes(name, images)
    assert calls[:2] in (["rsub", "sqrt"], ["__rsub__", "sqrt"])


@pytest.mark.parametrize("name", BOXED)
def test_unset_bounds_are_no_part_of_what_identifies_a_run(name: str) -> None:
    section = {"name": name, **augmentations.resolve(name, {})}
    assert {"min_area", "max_area"} <= section.keys()
    assert not {"min_area", "max_area"} & identifying(section).keys()
    assert identifying({**section, "max_area": 0.5})["max_area"] == 0.5


@pytest.mark.parametrize("name", [*BOXED, "random_erasing"])
def test_bounds_in_the_wrong_order_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}.min_area: got 0.5, expected at most max_area"):
        augmentations.create(name, min_area=0.5, max_area=0.4)
    with pytest.raises(ValueError, match=rf"{name}.max_area: got 0, expected a number above 0"):
        augmentations.create(name, max_area=0)
