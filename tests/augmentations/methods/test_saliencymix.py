"""SaliencyMix: the authors' box around the partner's peak; labels by area, or by what is seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations import Paste
from mixbench.augmentations.sampling import saliency
from mixbench.augmentations.sampling.draws import Draws
from mixbench.augmentations.sampling.saliency import fine_grained
from tests.support.oracles import chosen, seeded


@pytest.fixture
def brightness_is_salient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first channel stands for the saliency, so that a test can say where the peak is."""
    monkeypatch.setattr(saliency, "fine_grained", lambda images: images[:, 0].float())


def spotted(places: list[tuple[int, int]], height: int, width: int) -> Tensor:
    """(B, 1, H, W): a bright spot of one pixel in each image."""
    images = torch.zeros(len(places), 1, height, width)
    for index, (row, column) in enumerate(places):
        images[index, 0, row, column] = 1
    return images


def authors_box(
    peak: tuple[int, int], lam: float, height: int, width: int
) -> tuple[int, int, int, int]:
    """afm-shahab-uddin/SaliencyMix, `saliency_bbox`: top, left, bottom, right."""
    ratio = np.sqrt(1.0 - lam)
    rows, columns = int(height * ratio), int(width * ratio)
    return (
        int(np.clip(peak[0] - rows // 2, 0, height)),
        int(np.clip(peak[1] - columns // 2, 0, width)),
        int(np.clip(peak[0] + rows // 2, 0, height)),
        int(np.clip(peak[1] + columns // 2, 0, width)),
    )


def with_images(images: Tensor, lam: Tensor | None = None, per_sample: bool = True) -> Draws:
    batch, _, height, width = images.shape
    return chosen(batch if per_sample else 1, height, width, lam=lam, images=images)


@pytest.mark.usefixtures("brightness_is_salient")
def test_the_box_is_the_authors_for_every_peak() -> None:
    height, width = 9, 13
    places = [(row, column) for row in range(height) for column in range(width)]
    images = spotted(places, height, width)
    lam = torch.rand(len(places), dtype=torch.float64, generator=seeded(1))
    mix = augmentations.create("saliencymix", pairing="roll")
    plan = mix.draw(with_images(images, lam))
    assert isinstance(plan, Paste)
    mixed = plan.mix_images(images)
    for index in range(len(places)):
        partner = (index + 1) % len(places)
        box = authors_box(places[partner], float(lam[index]), height, width)
        assert tuple(plan.target[index, 0].tolist()) == box
        expected = images[index].clone()
        inside = slice(box[0], box[2]), slice(box[1], box[3])
        expected[0, inside[0], inside[1]] = images[partner, 0, inside[0], inside[1]]
        assert torch.equal(mixed[index], expected)
        share = (box[2] - box[0]) * (box[3] - box[1]) / (height * width)
        weights = plan.mix_labels(torch.arange(len(places))).weights[index].tolist()
        assert weights == pytest.approx([1 - share, share], abs=1e-6)


@pytest.mark.usefixtures("brightness_is_salient")
def test_the_box_moved_inside_is_whole() -> None:
    height, width = 9, 13
    places = [(row, column) for row in range(height) for column in range(width)]
    images = spotted(places, height, width)
    lam = torch.rand(len(places), dtype=torch.float64, generator=seeded(2))
    mix = augmentations.create("saliencymix", pairing="roll", placement="inside")
    plan = mix.draw(with_images(images, lam))
    assert isinstance(plan, Paste)
    cut = (1 - lam).sqrt()
    top, left, bottom, right = plan.target[:, 0].unbind(1)
    assert torch.equal(bottom - top, (height * cut).long())
    assert torch.equal(right - left, (width * cut).long())
    assert int(top.min()) == int(left.min()) == 0
    assert int(bottom.max()) == height
    assert int(right.max()) == width
    for index in range(len(places)):
        row, column = places[(index + 1) % len(places)]
        box = plan.target[index, 0].tolist()
        if box[2] - box[0] > 1 and box[3] - box[1] > 1:
            assert box[0] <= row < box[2]
            assert box[1] <= column < box[3]


@pytest.mark.usefixtures("brightness_is_salient")
def test_by_hand() -> None:
    """8 x 8, λ = 3/4: a box of 4 x 4 around the partner's spot at (5, 3); weight 1/4."""
    images = spotted([(0, 0), (5, 3)], 8, 8) + torch.tensor([0.0, 0.5]).view(2, 1, 1, 1)
    lam = torch.full((2,), 0.75, dtype=torch.float64)
    plan = augmentations.create("saliencymix", pairing="roll").draw(with_images(images, lam))
    mixed = plan.mix_images(images)
    expected = torch.zeros(8, 8)
    expected[0, 0] = 1
    expected[3:7, 1:5] = 0.5
    expected[5, 3] = 1.5
    assert torch.equal(mixed[0, 0], expected)
    assert plan.mix_labels(torch.arange(2)).weights[0].tolist() == [0.75, 0.25]


@pytest.mark.usefixtures("brightness_is_salient")
def test_per_batch_the_first_samples_partner_decides() -> None:
    images = spotted([(2, 3), (7, 8), (4, 9), (1, 1)], 12, 12)
    lam = torch.full((1,), 0.8, dtype=torch.float64)
    mix = augmentations.create("saliencymix", pairing="roll", per_sample=False)
    draws = replace(with_images(images, lam, per_sample=False), batch=4)
    plan = mix.draw(draws)
    assert isinstance(plan, Paste)
    assert plan.target.tolist() == [[list(authors_box((7, 8), 0.8, 12, 12))]]


@pytest.mark.parametrize("per_sample", [False, True])
def test_the_peak_is_that_of_the_fine_grained_saliency(per_sample: bool) -> None:
    images = torch.rand(8, 3, 20, 24, generator=seeded(9))
    lam = torch.full((8 if per_sample else 1,), 0.9, dtype=torch.float64)
    mix = augmentations.create("saliencymix", pairing="roll", per_sample=per_sample)
    plan = mix.draw(replace(with_images(images, lam, per_sample), batch=8))
    assert isinstance(plan, Paste)
    maps = fine_grained(images).numpy()
    for index, box in enumerate(plan.target[:, 0].tolist()):
        place = np.unravel_index(maps[(index + 1) % 8].argmax(), (20, 24))
        assert tuple(box) == authors_box((int(place[0]), int(place[1])), 0.9, 20, 24)


def test_labels_by_saliency() -> None:
    """Each image's share of its own saliency that is seen, from its map, one pixel at a time."""
    images = torch.rand(6, 3, 14, 18, generator=seeded(3))
    for per_sample in (True, False):
        mix = augmentations.create("saliencymix", labels="saliency", per_sample=per_sample)
        area = augmentations.create("saliencymix", per_sample=per_sample)
        for seed in range(5):
            plan = mix.sample(images.shape, generator=seeded(seed), images=images)
            assert isinstance(plan, Paste)
            other = area.sample(images.shape, generator=seeded(seed), images=images)
            # The rule changes the labels only.
            assert torch.equal(plan.mix_images(images), other.mix_images(images))
            targets = plan.mix_labels(torch.arange(6))
            maps = fine_grained(images).double().numpy()
            for sample in range(6):
                top, left, bottom, right = plan.target[sample, 0].tolist()
                own, pasted = maps[sample], maps[int(targets.labels[sample, 1])]
                inside = np.zeros((14, 18))
                inside[top:bottom, left:right] = 1
                kept = (own * (1 - inside)).sum() / own.sum()
                shown = (pasted * inside).sum() / pasted.sum()
                expected = [kept / (kept + shown), shown / (kept + shown)]
                assert targets.weights[sample].tolist() == pytest.approx(expected, abs=1e-5)


def test_labels_by_saliency_without_any_are_the_areas() -> None:
    images = torch.full((5, 3, 10, 10), 0.3)
    plans = [
        augmentations.create("saliencymix", labels=labels).sample(
            images.shape, generator=seeded(4), images=images
        )
        for labels in ("saliency", "area")
    ]
    weights = [plan.mix_labels(torch.arange(5)).weights for plan in plans]
    torch.testing.assert_close(weights[0], weights[1])
    assert float(weights[0][:, 1].max()) > 0.05


def test_an_even_image_counts_by_area_beside_one_that_is_not() -> None:
    images = torch.full((2, 1, 12, 12), 0.3)
    images[1] = torch.rand(1, 12, 12, generator=seeded(7))
    lam = torch.full((2,), 0.6, dtype=torch.float64)
    mix = augmentations.create("saliencymix", pairing="roll", labels="saliency")
    plan = mix.draw(with_images(images, lam))
    assert isinstance(plan, Paste)
    top, left, bottom, right = plan.target[0, 0].tolist()
    pasted = fine_grained(images)[1].double()
    shown = float(pasted[top:bottom, left:right].sum() / pasted.sum())
    kept = 1 - (bottom - top) * (right - left) / 144
    weights = plan.mix_labels(torch.arange(2)).weights[0].tolist()
    assert weights == pytest.approx([kept / (kept + shown), shown / (kept + shown)], abs=1e-5)
    assert 0 < shown < 1
    assert 0 < kept < 1


def test_the_rule_of_the_labels_is_declared() -> None:
    assert augmentations.create("saliencymix").label_rule == "pixels"
    assert augmentations.create("saliencymix", labels="saliency").label_rule == "declared"
    assert augmentations.create("saliencymix").label_rule == "pixels"


@pytest.mark.parametrize("labels", ["area", "saliency"])
@pytest.mark.parametrize("per_sample", [False, True])
def test_an_unmixed_sample_has_its_own_label(labels: str, per_sample: bool) -> None:
    images = torch.rand(40, 3, 8, 8, generator=seeded(5))
    mix = augmentations.create(
        "saliencymix", labels=labels, per_sample=per_sample, prob=0.5, pairing="derange"
    )
    kept = 0
    for seed in range(6):
        batch = mix(images, torch.arange(40), generator=seeded(seed))
        same = (batch.images == images).flatten(1).all(dim=1)
        own = batch.targets.dense(40).diagonal()
        assert bool((own[same] == 1).all())
        assert bool((own[~same] < 1).all())
        kept += int(same.sum())
    assert 0 < kept < 240


def test_the_input_is_looked_at_only() -> None:
    images = torch.rand(4, 3, 8, 8, generator=seeded(6), requires_grad=True)
    batch = augmentations.create("saliencymix")(images, torch.arange(4), generator=seeded(0))
    (gradient,) = torch.autograd.grad(batch.images.sum(), images)
    # Every pixel of the mixed batch comes from one of the batch: no more, no less.
    assert float(gradient.sum()) == images.numel()
    assert bool((gradient == gradient.round()).all())


def test_images_are_asked_for() -> None:
    with pytest.raises(ValueError, match="saliencymix: expected images="):
        augmentations.create("saliencymix").sample((4, 3, 8, 8))
