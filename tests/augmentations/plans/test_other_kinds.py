"""A kind of plan that another package defines works wherever those of mixbench do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations.plans.at_depth import AtDepth
from mixbench.augmentations.plans.base import Plan, expand_rows
from mixbench.augmentations.plans.composite import chain, select
from mixbench.augmentations.plans.realised import UNIT, sum_realised
from tests.support.oracles import one_hot_images, pixel_shares, seeded

BATCH, HEIGHT, WIDTH = 6, 8, 12


@dataclass(frozen=True)
class Brighten(Plan):
    """x * factor; factor (B, 1, 1, 1). It defines what a plan must define, and nothing more."""

    factor: Tensor

    @property
    def batch(self) -> int:
        return self.factor.shape[0]

    @property
    def device(self) -> torch.device:
        return self.factor.device

    def mix_images(self, images: Tensor) -> Tensor:
        return images * self.factor.to(images.dtype)

    def mix_masks(self, masks: Tensor) -> Tensor:
        return masks.clone()

    def mix_features(self, features: Tensor) -> Tensor:
        return features * self.factor.view(-1, *[1] * (features.dim() - 1))

    def sources(self) -> tuple[Tensor, Tensor]:
        return torch.arange(self.batch).unsqueeze(1), torch.ones(self.batch, 1)

    def changed(self) -> Tensor:
        return self.factor.flatten() != 1

    def mix_boxes(
        self, targets: Sequence[Mapping[str, Any]], *, visibility: float = 0.1
    ) -> list[dict[str, Any]]:
        return [
            {**target, "weights": torch.ones(len(target["boxes"])) * (visibility <= 1)}
            for target in targets
        ]

    def only_where(self, apply: Tensor) -> Brighten:
        return replace(self, factor=torch.where(apply.view(-1, 1, 1, 1), self.factor, 1.0))

    def expand(self, batch: int) -> Plan:
        return expand_rows(self, batch, "factor")


@dataclass(frozen=True)
class LeftHalf(Brighten):
    """The left half of each sample comes from the next one: its shares differ between pixels."""

    @property
    def is_spatial(self) -> bool:
        return True

    def _is_left(self) -> Tensor:
        return (torch.arange(WIDTH) < WIDTH // 2).expand(HEIGHT, WIDTH)

    def mix_images(self, images: Tensor) -> Tensor:
        return torch.where(self._is_left(), images.roll(-1, dims=0), images)

    def sources(self) -> tuple[Tensor, Tensor]:
        samples = torch.arange(self.batch)
        return torch.stack([samples, samples.roll(-1)], dim=1), torch.full((self.batch, 2), 0.5)

    def changed(self) -> Tensor:
        return torch.ones(self.batch, dtype=torch.bool)

    def changed_pixels(self) -> Tensor:
        return self._is_left().expand(self.batch, -1, -1)

    def pixel_shares(self, before: Tensor) -> Tensor:
        index, _ = self.sources()
        left = self._is_left().float()
        return torch.stack([1 - left, left])[None, :, None] * before[index]


def brighten(*factors: float) -> Brighten:
    return Brighten(torch.tensor(factors).view(-1, 1, 1, 1))


def cutmix(seed: int = 0) -> Plan:
    mix = augmentations.create("cutmix", per_sample=True, pairing="derange", placement="inside")
    return mix.sample((BATCH, 1, HEIGHT, WIDTH), generator=seeded(seed))


def test_the_defaults_are_those_of_a_plan_that_treats_pixels_alike() -> None:
    plan = brighten(1, 2, 3, 1, 1, 1)
    assert not plan.is_spatial and not plan.is_small and plan.depth == 0
    assert plan.changed_pixels().shape == (BATCH, 1, 1)
    assert plan.changed_area().tolist() == [0, 1, 1, 0, 0, 0]
    assert plan.own_share().tolist() == [1] * BATCH
    assert float(plan.statistics()["changed"]) == pytest.approx(1 / 3)
    before = torch.rand(BATCH, 2, 4, 4, generator=seeded(0))
    torch.testing.assert_close(plan.pixel_shares(before).sum(dim=1), before)
    assert plan.mix_labels(torch.arange(BATCH), BATCH).dense(BATCH).equal(torch.eye(BATCH))
    assert (sum_realised([plan, plan]) / UNIT).tolist() == [4, 4, 4]


@pytest.mark.parametrize("first", [cutmix, lambda: LeftHalf(torch.ones(BATCH, 1, 1, 1))])
def test_a_chain_counts_its_pixels(first: Any) -> None:
    plan = chain([first(), LeftHalf(torch.ones(BATCH, 1, 1, 1)), cutmix(1)])
    assert plan.is_spatial
    images = one_hot_images(BATCH, HEIGHT, WIDTH)
    shown = pixel_shares(plan.mix_images(images))
    labels = plan.mix_labels(torch.arange(BATCH), BATCH).dense(BATCH)
    torch.testing.assert_close(labels.double(), shown.double(), atol=1e-6, rtol=0)
    noise = torch.rand(BATCH, 1, HEIGHT, WIDTH, generator=seeded(3))
    mixed = plan.mix_images(noise) != noise
    assert not (mixed[:, 0] & ~plan.changed_pixels()).any()


def test_it_is_chosen_per_sample_with_those_of_mixbench() -> None:
    choice = torch.tensor([0, 1, 2, 0, 1, 2])
    plans = [brighten(*[2.0] * BATCH), LeftHalf(torch.ones(BATCH, 1, 1, 1)), cutmix()]
    plan = select(choice, plans)
    images = torch.rand(BATCH, 1, HEIGHT, WIDTH, generator=seeded(4))
    expected = torch.stack([plans[which].mix_images(images)[b] for b, which in enumerate(choice)])
    assert plan.mix_images(images).equal(expected)
    areas = torch.stack([plans[which].changed_area()[b] for b, which in enumerate(choice)])
    torch.testing.assert_close(plan.changed_area(), areas)
    assert int(sum_realised([plan])[0]) == UNIT * int(plan.changed().sum())


def test_inside_a_network() -> None:
    plan = AtDepth(brighten(1, 2, 3, 1, 1, 1), layer=1)
    assert plan.depth == 1
    assert plan.changed_area().tolist() == [0, 1, 1, 0, 0, 0]
    assert chain([cutmix(), plan]).own_share().equal(cutmix().own_share())


def test_boxes_go_through_a_kind_that_does_not_trace_them() -> None:
    """Those before it and after it are judged for themselves; `per_box` is not forced on it."""
    targets = [
        {"boxes": torch.tensor([[1.0, 1.0, 11.0, 7.0]]), "labels": torch.tensor([n])}
        for n in range(BATCH)
    ]
    before, after = cutmix(), chain([cutmix(1), cutmix(2)])
    plan = chain([before, brighten(1, 2, 3, 1, 1, 1), after])
    expected = after.mix_boxes(
        brighten(1, 2, 3, 1, 1, 1).mix_boxes(before.mix_boxes(targets, visibility=0.4)),
        visibility=0.4,
    )
    found = plan.mix_boxes(targets, visibility=0.4)
    chosen = select(torch.zeros(BATCH).long(), [cutmix(), brighten(1, 2, 3, 1, 1, 1)])
    for pair in (
        zip(found, expected, strict=True),
        zip(chosen.mix_boxes(targets), cutmix().mix_boxes(targets), strict=True),
    ):
        for one, other in pair:
            assert {k: v.tolist() for k, v in one.items()} == {
                k: v.tolist() for k, v in other.items()
            }


def test_it_is_saved_and_loaded(tmp_path: Path) -> None:
    plan = chain([brighten(1, 2, 3, 1, 1, 1), cutmix()])
    augmentations.save_plan(plan, tmp_path / "plan.safetensors")
    loaded = augmentations.load_plan(tmp_path / "plan.safetensors")
    images = torch.rand(BATCH, 1, HEIGHT, WIDTH, generator=seeded(5))
    assert loaded.mix_images(images).equal(plan.mix_images(images))
