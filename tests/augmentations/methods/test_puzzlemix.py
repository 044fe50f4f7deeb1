"""PuzzleMix: costs, masks and transport against the authors' formulas, on small grids."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linprog
from torch import Tensor, nn

from mixbench import augmentations
from mixbench.augmentations import NetworkView
from mixbench.augmentations.sampling import ordered_labels
from mixbench.augmentations.sampling.block_transport import transport_blocks
from mixbench.augmentations.sampling.ordered_labels import STEPS, cost_of, least_cost_labels
from tests.support.oracles import located_images, seeded

LABELS = torch.tensor([2, 0, 1])


@pytest.fixture(scope="module")
def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 4))


def noise() -> Tensor:
    return torch.randn(3, 3, 8, 8, generator=seeded(1))


def costs(batch: int, side: int, levels: int) -> tuple[Tensor, Tensor, Tensor]:
    """As PuzzleMix has them: saliency, a prior, and penalties of about their size."""
    generator = seeded(side + levels)
    first, second = torch.rand(2, batch, side, side, generator=generator).pow(4) / side**2 * 5
    unary = []
    for label in range(levels):
        share = label / (levels - 1)
        chance = math.comb(levels - 1, label) * 0.4 ** (levels - 1 - label) * 0.6**label
        unary.append((1 - share) * first + share * second - 0.2 * math.log(chance) / side**2)
    down = torch.rand(batch, side - 1, side, generator=generator) / side / 4 / (levels - 1) ** 2
    across = torch.rand(batch, side, side - 1, generator=generator) / side / 4 / (levels - 1) ** 2
    return torch.stack(unary, dim=1), down, across


@pytest.mark.parametrize(("side", "levels"), [(2, 3), (2, 4), (3, 2)])
def test_masks_cost_the_least_of_all(side: int, levels: int) -> None:
    unary, down, across = costs(6, side, levels)
    found, quick = (
        cost_of(unary, down, across, least_cost_labels(unary, down, across, steps))
        for steps in (400, STEPS)
    )
    assert bool((quick <= 1.01 * found).all())
    every = torch.tensor(list(itertools.product(range(levels), repeat=side**2)))
    every = every.view(-1, side, side)
    for sample in range(6):
        one = [
            part[sample : sample + 1].expand(len(every), *[-1] * (part.dim() - 1))
            for part in (unary, down, across)
        ]
        torch.testing.assert_close(found[sample], cost_of(*one, every).min())


def test_masks_of_large_grids_cost_as_little_as_a_linear_programme_says() -> None:
    side, levels = 12, 3
    unary, down, across = costs(2, side, levels)
    found = cost_of(unary, down, across, least_cost_labels(unary, down, across))
    number = np.arange(side**2).reshape(side, side)
    pairs = np.concatenate(
        [
            np.stack([number[:-1], number[1:]], -1).reshape(-1, 2),
            np.stack([number[:, :-1], number[:, 1:]], -1).reshape(-1, 2),
        ]
    )
    edges, cells = len(pairs), side**2
    difference = np.zeros((edges, 2 * cells))
    for piece in (0, cells):
        difference[np.arange(edges), piece + pairs[:, 0]] = 1
        difference[np.arange(edges), piece + pairs[:, 1]] = -1
    pieces = np.tile(np.eye(edges), 2)
    limits = np.block([[difference, -pieces], [-difference, -pieces]])
    for sample in range(2):
        weight = torch.cat([down[sample].flatten(), across[sample].flatten()]).double().numpy()
        slopes = unary[sample].double().diff(dim=0).flatten().numpy()
        solved = linprog(
            np.concatenate([slopes, weight, 3 * weight]),
            A_ub=limits,
            b_ub=np.zeros(2 * edges),
            bounds=(0, 1),
        )
        least = solved.fun + float(unary[sample, 0].double().sum())
        assert float(found[sample]) == pytest.approx(least, rel=1e-4)


def test_the_costs_are_the_authors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Written as in the paper: of each block, and of each pair of neighbours, for all masks."""
    given: list[Tensor] = []

    def keep(*costs: Tensor) -> Tensor:
        given.extend(costs)
        return least_cost_labels(*costs)

    monkeypatch.setattr(ordered_labels, "least_cost_labels", keep)
    mix = augmentations.create("puzzlemix", levels=3)
    images, partner = torch.rand(3, 3, 8, 8, generator=seeded(1)), torch.tensor([1, 2, 0])
    saliency = torch.rand(3, 2, 2, generator=seeded(2))
    chosen = mix._mask(images, saliency, partner, torch.full((3,), 0.7))
    patches = F.avg_pool2d(images, 4)  # a patch is a block
    beta, prior = 1.2 / 2 / 16, {1: -0.2 * math.log(0.7**2) / 4, 0: -0.2 * math.log(0.3**2) / 4}
    masks = [torch.tensor(z).view(2, 2) for z in itertools.product((0, 1), repeat=4)]
    edges = [((0, 0), (1, 0)), ((0, 1), (1, 1)), ((0, 0), (0, 1)), ((1, 0), (1, 1))]
    for sample in range(3):
        shown = {0: int(partner[sample]), 1: sample}
        ours, theirs = [], []
        for mask in masks:
            own = [costs[sample : sample + 1] for costs in given]
            ours.append(float(cost_of(own[0], own[1], own[2], 2 * (1 - mask).unsqueeze(0))))
            total = 0.0
            for place in itertools.product((0, 1), repeat=2):
                z = int(mask[place])
                total += float(saliency[(shown[1 - z], *place)]) + prior[z]
            for one, two in edges:
                z, other = int(mask[one]), int(mask[two])
                pixels = patches[shown[z]][(..., *one)] - patches[shown[other]][(..., *two)]
                total += beta * ((z - other) ** 2 + 0.5 * float(pixels.abs().mean()))
            theirs.append(total)
        # Up to a constant.
        np.testing.assert_allclose(
            np.subtract(ours, ours[0]), np.subtract(theirs, theirs[0]), atol=1e-5
        )
    assert set(chosen.unique().tolist()) <= {0.0, 0.5, 1.0}


def test_blocks_go_to_shown_places_as_in_algorithm_1() -> None:
    shown = (torch.rand(4, 4, 4, generator=seeded(1)) < 0.5).float()
    saliency = torch.rand(4, 4, 4, generator=seeded(2)).pow(3)
    saliency = saliency / saliency.sum(dim=(1, 2), keepdim=True)
    found = transport_blocks(shown, saliency, 0.8)
    for sample in range(4):
        cost = np.empty((16, 16))
        for i, j in itertools.product(range(16), repeat=2):
            far = (i // 4 - j // 4) ** 2 + (i % 4 - j % 4) ** 2
            seen = float(saliency[sample].flatten()[i]) * float(shown[sample].flatten()[j])
            cost[i, j] = np.float32(0.8 * far / 9 - seen)
        for _ in range(4):
            wanted = cost.argmin(axis=1)
            places = list(range(16))
            for j in range(16):
                bids = [i for i in range(16) if wanted[i] == j]
                if bids:
                    places[j] = min(bids, key=lambda i: cost[i, j])
                for i in bids:
                    cost[i, j] += i != places[j]
        assert found[sample].tolist() == places
    stays = transport_blocks(shown, saliency, 1e6)
    assert stays.tolist() == [list(range(16))] * 4


def test_pixels_and_labels_follow_the_mask_and_the_moves(network: nn.Module) -> None:
    images = noise()
    mix = augmentations.create("puzzlemix", blocks=[4], moved=2, distance=0.001, pairing="roll")
    given = {"labels": LABELS, "model": NetworkView(network)}
    plan = mix.sample(images.shape, generator=seeded(1), images=images, **given)
    mixed, weights = plan.mix_images(images), plan.mix_labels(LABELS, 4).weights
    moved = 0
    for sample in range(3):
        for place in range(16):
            row, column = 2 * (place // 4), 2 * (place % 4)
            z = plan.keep[sample, 0, row, column]
            parts = []
            for of, source in (
                (images[sample], int(plan.own_map[sample, place])),
                (images[(sample + 1) % 3], int(plan.partner_map[sample, place])),
            ):
                top, left = 2 * (source // 4), 2 * (source % 4)
                parts.append(of[:, top : top + 2, left : left + 2])
                moved += source != place
            expected = z * parts[0] + (1 - z) * parts[1]
            torch.testing.assert_close(
                mixed[sample, :, row : row + 2, column : column + 2], expected
            )
        own = float(plan.keep[sample].mean())
        assert weights[sample].tolist() == pytest.approx([own, 1 - own])
    assert moved
    still = augmentations.create("puzzlemix", distance=0)
    plan = still.sample(images.shape, generator=seeded(1), images=images, **given)
    assert torch.equal(plan.own_map, torch.arange(plan.own_map.shape[1]).expand(3, -1))


def test_blocks_divide_images_of_any_side() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 4))
    images = located_images(3, 28, 28)[:, :1] + torch.rand(3, 1, 28, 28, generator=seeded(0))
    sides = {}
    for wanted in (2, 4, 8, 16):
        mix = augmentations.create("puzzlemix", blocks=[wanted])
        plan = mix.sample(images.shape, images=images, labels=LABELS, model=NetworkView(flat))
        plan.check_fields()
        sides[wanted] = round(plan.own_map.shape[1] ** 0.5)
    assert sides == {2: 4, 4: 4, 8: 7, 16: 14}
    with pytest.raises(ValueError, match=r"puzzlemix\.blocks: got images of 7 x 9"):
        augmentations.create("puzzlemix").check_size(7, 9)
    with pytest.raises(ValueError, match=r"puzzlemix\.blocks: got \[2, 2\], expected each"):
        augmentations.create("puzzlemix", blocks=[2, 2])
