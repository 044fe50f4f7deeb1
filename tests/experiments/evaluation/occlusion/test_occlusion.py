"""Occlusion: what is hidden, from whom, and the numbers that come of it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data.crops import normalise
from mixbench.experiments.data.load import load
from mixbench.experiments.evaluation.occlusion import basic, masks

FRACTIONS = (0.1, 0.25, 0.5, 0.75)
BOTH = ("centre", "patches")


def batches(images: Tensor, labels: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    return iter(list(zip(images.split(size), labels.split(size), strict=True)))


def measured(
    predict: basic.Predict, images: Tensor, labels: Tensor, size: int = 7, **changes: Any
) -> tuple[dict[str, float | None], dict[str, Any]]:
    channels = images.shape[1]
    settings = {
        "shapes": BOTH,
        "fractions": FRACTIONS,
        "seed": 0,
        "batch_size": size,
        "colours": (torch.full((channels,), 0.3), torch.full((channels,), 0.2)),
        **changes,
    }
    return basic.measure(predict, batches(images, labels, size), count=len(labels), **settings)


def seen_masks(
    images: Tensor, size: int, classes: int = 3, **changes: Any
) -> dict[tuple[str, float], Tensor]:
    """What every image's hidden pixels were, and the noise there, by what reached the model."""
    shown: list[Tensor] = []

    def predict(batch: Tensor) -> Tensor:
        shown.append(batch.clone())
        return torch.zeros(len(batch), classes)

    measured(predict, images, torch.zeros(len(images), dtype=torch.int64), size, **changes)
    settings = [(shape, fraction) for shape in BOTH for fraction in FRACTIONS]
    passes = 1 + 2 * len(settings)
    found: dict[tuple[str, float], list[Tensor]] = defaultdict(list)
    for turn in range(len(shown) // passes):
        clean, *hidden = shown[turn * passes : (turn + 1) * passes]
        assert (clean != 0).all(), "the first look is at the whole image"
        for key, batch, noised in zip(settings, hidden[::2], hidden[1::2], strict=True):
            mask = batch == 0
            assert (mask == mask[:, :1]).all(), "all channels are hidden alike"
            assert torch.equal(batch[~mask], clean[~mask])
            assert torch.equal(noised[~mask], clean[~mask])
            found[key].append(mask[:, 0])
            found[f"{key[0]}/noise", key[1]].append(torch.where(mask, noised, 0.0))
    return {key: torch.cat(parts) for key, parts in found.items()}


IMAGES = torch.rand(23, 3, 32, 32) + 1


@pytest.mark.parametrize("size", [1, 5, 23, 100])
def test_the_same_pixels_whatever_the_batch_and_the_model(size: int) -> None:
    one = seen_masks(IMAGES, 7)
    other = seen_masks(IMAGES.flip(0) + 2, size, classes=8)
    for key, mask in one.items():
        assert torch.equal(mask, other[key]), key


def test_each_image_has_patches_of_its_own_and_the_seed_decides() -> None:
    one, other = seen_masks(IMAGES, 7), seen_masks(IMAGES, 7, seed=1)
    patches = one["patches", 0.5]
    assert len({bytes(mask.numpy()) for mask in patches}) > 20
    assert not torch.equal(patches, other["patches", 0.5])
    assert torch.equal(one["centre", 0.5], other["centre", 0.5])
    assert (one["centre", 0.5] == one["centre", 0.5][0]).all()


def test_noise_is_of_the_data_and_in_the_range() -> None:
    # Pixels of mean .3 and deviation .2: in [0, 1], that is [-1.5, 3.5] once they are normalised.
    noise = seen_masks(IMAGES, 7)["centre/noise", 0.75]
    values = noise[noise != 0]
    assert values.min() == pytest.approx(-1.5) and values.max() <= 3.5 + 1e-6
    # A normal one, cut at -1.5: 39,744 values, of which 6.7 % are at the edge.
    assert (values == values.min()).float().mean() == pytest.approx(0.0668, abs=0.006)
    assert values.median() == pytest.approx(0.0, abs=0.03)


def test_a_subset_of_fractions_hides_the_same() -> None:
    order = masks.patch_order(5, 49, seed=0)
    longer = masks.patch_order(9, 49, seed=0)
    assert torch.equal(order, longer[:5])


@given(
    side=st.integers(8, 40),
    other=st.integers(8, 40),
    fractions=st.lists(st.floats(0.01, 0.99), min_size=2, max_size=2).map(sorted),
    seed=st.integers(0, 1000),
)
def test_more_hidden_contains_less_hidden(
    side: int, other: int, fractions: list[float], seed: int
) -> None:
    _, rows, columns = masks.patch_grid(side, other)
    order = masks.patch_order(4, rows * columns, seed)
    less, more = (masks.random_patches(order, side, other, part) for part in fractions)
    assert less.shape == more.shape == (4, side, other)
    assert (more | ~less).all()
    less, more = (masks.centre_square(side, other, part) for part in fractions)
    assert (more | ~less).all()


@given(side=st.integers(8, 230), other=st.integers(8, 230), fraction=st.floats(0.02, 0.98))
def test_the_centre_has_its_area_and_its_place(side: int, other: int, fraction: float) -> None:
    hidden = masks.centre_square(side, other, fraction)
    rows, columns = hidden.any(1).nonzero().flatten(), hidden.any(0).nonzero().flatten()
    assert hidden.sum() == len(rows) * len(columns), "a full rectangle"
    for length, places in ((side, rows), (other, columns)):
        assert abs(len(places) - length * math.sqrt(fraction)) <= 0.5 + 1e-9
        assert places[-1] - places[0] + 1 == len(places)
        before, after = int(places[0]), length - 1 - int(places[-1])
        assert 0 <= after - before <= 1


@pytest.mark.parametrize(
    ("size", "expected"),
    [(8, (1, 8, 8)), (28, (4, 7, 7)), (32, (5, 7, 7)), (96, (14, 7, 7)), (224, (16, 14, 14))],
)
def test_patch_grids(size: int, expected: tuple[int, int, int]) -> None:
    assert masks.patch_grid(size, size) == expected


def test_the_realised_fraction_by_hand() -> None:
    # 28 x 28 in 49 patches of 16 pixels: round(4.9) = 5, round(12.25) = 12, and so on.
    images = torch.rand(11, 1, 28, 28) + 1
    _, curves = measured(lambda x: torch.zeros(len(x), 2), images, torch.zeros(11).long())
    expected = [0.0] + [count * 16 / 784 for count in (5, 12, 24, 37)]
    assert curves["patches"]["fraction"] == pytest.approx(expected)
    expected = [0.0] + [side**2 / 784 for side in (9, 14, 20, 24)]
    assert curves["centre"]["fraction"] == pytest.approx(expected)


def test_the_realised_fraction_is_what_was_hidden() -> None:
    _, curves = measured(lambda x: torch.zeros(len(x), 2), IMAGES, torch.zeros(23).long())
    masks = seen_masks(IMAGES, 23)
    for shape in BOTH:
        realised = [masks[shape, fraction].float().mean().item() for fraction in FRACTIONS]
        assert curves[shape]["fraction"] == pytest.approx([0.0, *realised], abs=1e-6)
        assert realised == pytest.approx(FRACTIONS, abs=0.04)


@given(right=st.integers(1, 20))
def test_one_who_looks_at_nothing_keeps_what_it_has(right: int) -> None:
    images, labels = torch.rand(20, 1, 9, 9), (torch.arange(20) >= right).long()
    metrics, curves = measured(
        lambda x: torch.tensor([[1.0, 0.0]]).repeat(len(x), 1), images, labels
    )
    for shape in BOTH:
        assert metrics[f"{shape}/area"] == pytest.approx(right / 20)
        for fraction in ("0.1", "0.25", "0.5", "0.75"):
            assert metrics[f"{shape}/{fraction}"] == right / 20
            assert metrics[f"{shape}/retention/{fraction}"] == 1.0
        assert curves[shape]["accuracy"] == [right / 20] * 5


def by_brightness(images: Tensor) -> Tensor:
    """Class 1 where the pixels add up to 50 or more."""
    bright = images.sum(dim=(1, 2, 3)) >= 50
    return torch.stack([~bright, bright], dim=1).float()


def test_a_curve_by_hand() -> None:
    # 64 pixels of 1, 1.5, 2 and 100. Hidden: a 4 x 4 square (16 pixels), then 6 x 6 (36), so that
    # 48 and 28 pixels are left: sums of 48, 72, 96, 4800, then 28, 42, 56, 2800.
    images = torch.tensor([1.0, 1.5, 2.0, 100.0]).view(4, 1, 1, 1).expand(4, 1, 8, 8)
    metrics, curves = measured(
        by_brightness, images, torch.ones(4).long(), 3, shapes=("centre",), fractions=(0.25, 0.5)
    )
    assert curves["centre"] == {"fraction": [0.0, 0.25, 0.5625], "accuracy": [1.0, 0.75, 0.5]}
    area = ((1 + 0.75) / 2 * 0.25 + (0.75 + 0.5) / 2 * 0.3125) / 0.5625
    by_hand = {
        "centre/area": pytest.approx(area),
        "centre/0.25": 0.75,
        "centre/0.5": 0.5,
        "centre/retention/0.25": 0.75,
        "centre/retention/0.5": 0.5,
    }
    assert {name: metrics[name] for name in by_hand} == by_hand
    metrics, curves = measured(
        by_brightness,
        images,
        torch.ones(4).long(),
        3,
        shapes=("centre",),
        fractions=(0.25, 0.5),
        colours=(torch.tensor([0.0]), torch.tensor([1e6])),
    )
    assert set(metrics) == {*by_hand, *(f"centre/noise/{n[7:]}" for n in by_hand)}
    assert list(curves) == ["centre", "centre/noise"]
    # Noise of 0 or 1, divided by a million: as good as the mean colour, which is 0.
    assert curves["centre/noise"] == curves["centre"]


def test_retention_of_nothing_is_not_a_number_but_none() -> None:
    images = torch.ones(4, 1, 8, 8)
    metrics, _ = measured(by_brightness, images, torch.zeros(4).long(), fractions=(0.1, 0.5))
    # Whole, all are taken for class 1 (64 pixels); half hidden, none is.
    assert metrics["patches/0.5"] == 1.0
    assert metrics["patches/retention/0.5"] is None and metrics["centre/retention/0.1"] is None


def test_real_images_give_the_same_in_batches_of_any_size() -> None:
    digits = load(DatasetConfig(name="digits", image_size=16))
    images = normalise(digits.test.images, digits.mean, digits.std)  # type: ignore[attr-defined]
    templates = torch.stack(
        [
            normalise(digits.train.images[digits.train.labels == k], digits.mean, digits.std).mean(
                0
            )  # type: ignore[attr-defined]
            for k in range(10)
        ]
    )

    def nearest(batch: Tensor) -> Tensor:
        return -((batch.unsqueeze(1) - templates) ** 2).sum(dim=(2, 3, 4))

    found = [measured(nearest, images, digits.test.labels, size) for size in (1, 64, 1000)]
    for metrics, curves in found[1:]:
        assert metrics == found[0][0]
        for shape in BOTH:
            assert curves[shape]["accuracy"] == found[0][1][shape]["accuracy"]
    metrics, curves = found[0]
    for shape in BOTH:
        accuracy = curves[shape]["accuracy"]
        assert accuracy[0] > 0.8 > accuracy[-1], "hiding most of a digit makes it hard to read"
        assert accuracy[-1] < metrics[f"{shape}/area"] < accuracy[0]
