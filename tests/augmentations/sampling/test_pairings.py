"""Who is mixed with whom: permutations, derangements, the next sample, the batch reversed."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from mixbench import augmentations
from tests.support.oracles import assert_mean, assert_uniform_counts, one_hot_images, seeded

# Those with one partner: RICAP and Mosaic have several, and each method of a choice draws its own.
PAIRED = [
    name
    for name in augmentations.available()
    if augmentations.create(name).label_rule == "pixels"
    and not augmentations.create(name).needs - {"images", "labels"}
    and name not in ("ricap", "mosaic", "choice")
]


def partners(batch: int, pairing: str, repeats: int, seed: int = 0) -> Tensor:
    """(repeats, batch): whom each sample met."""
    mix = augmentations.create("mixup", pairing=pairing)
    generator = seeded(seed)
    found = []
    for _ in range(repeats):
        plan = mix.sample((batch, 1, 1, 1), generator=generator)
        labels = plan.mix_labels(torch.arange(batch)).labels
        assert torch.equal(labels[:, 0], torch.arange(batch))
        found.append(labels[:, 1])
    return torch.stack(found)


def counts_of(found: Tensor, all_of_them: list[tuple[int, ...]]) -> np.ndarray:
    count = Counter(tuple(row) for row in found.tolist())
    assert set(count) <= set(all_of_them)
    return np.array([count[one] for one in all_of_them])


def is_one_cycle(order: tuple[int, ...]) -> bool:
    position, steps = order[0], 1
    while position != 0:
        position, steps = order[position], steps + 1
    return steps == len(order)


def test_permute_is_uniform() -> None:
    # 24 permutations of 4; chi-square, false alarm 1e-6.
    assert_uniform_counts(
        counts_of(partners(4, "permute", 4000), list(itertools.permutations(range(4))))
    )


@pytest.mark.parametrize("batch", [2, 7, 32])
def test_permute_meets_itself_once_in_b(batch: int) -> None:
    found = partners(batch, "permute", 2000)
    own = (found == torch.arange(batch)).sum(dim=1)
    # The number of fixed points has mean 1 for every batch. |z| < 5, false alarm 6e-7.
    assert_mean(own, 1.0)


def test_derange_is_uniform_over_the_cycles() -> None:
    cycles = [order for order in itertools.permutations(range(4)) if is_one_cycle(order)]
    assert len(cycles) == 6
    # Chi-square, false alarm 1e-6.
    assert_uniform_counts(counts_of(partners(4, "derange", 2000), cycles))


@pytest.mark.parametrize("batch", [2, 3, 7, 64])
def test_derange_never_meets_itself(batch: int) -> None:
    found = partners(batch, "derange", 300)
    assert not (found == torch.arange(batch)).any()
    assert torch.equal(found.sort(dim=1).values, torch.arange(batch).expand_as(found))


def test_roll_and_flip_by_hand() -> None:
    assert partners(5, "roll", 1).tolist() == [[1, 2, 3, 4, 0]]
    assert partners(5, "flip", 1).tolist() == [[4, 3, 2, 1, 0]]
    assert partners(4, "flip", 1).tolist() == [[3, 2, 1, 0]]


@pytest.mark.parametrize("pairing", ["permute", "derange", "roll", "flip"])
def test_a_batch_of_one_meets_itself(pairing: str) -> None:
    assert partners(1, pairing, 3).tolist() == [[0]] * 3


@pytest.mark.parametrize("name", PAIRED)
@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("pairing", ["permute", "derange", "roll", "flip"])
def test_every_method_pairs_alike(name: str, per_sample: bool, pairing: str) -> None:
    """From the pixels: only the sample itself and its partner, and the partners a permutation."""
    batch = 7
    images = one_hot_images(batch, 8, 12)
    mix = augmentations.create(name, per_sample=per_sample, pairing=pairing)
    for seed in range(5):
        mixed = mix(images, torch.arange(batch), generator=seeded(seed))
        own, partner = mixed.targets.labels.unbind(1)
        assert torch.equal(own, torch.arange(batch))
        assert torch.equal(partner.sort().values, torch.arange(batch))
        if pairing == "derange":
            assert not (partner == own).any()
        if pairing == "roll":
            assert torch.equal(partner, own.roll(-1))
        if pairing == "flip":
            assert torch.equal(partner, own.flip(0))
        seen = mixed.images.sum(dim=(2, 3)) > 0
        allowed = torch.eye(batch, dtype=torch.bool)
        allowed[own, partner] = True
        assert not (seen & ~allowed).any()


@pytest.mark.parametrize("per_sample", [False, True])
def test_ricap_takes_the_pairing_for_every_quadrant(per_sample: bool) -> None:
    """The k-th quadrant has roll or flip applied k times; deranged, never the sample itself."""
    batch = 7
    own = torch.arange(batch)
    for seed in range(5):
        found = {}
        for pairing in ("derange", "roll", "flip"):
            mix = augmentations.create("ricap", per_sample=per_sample, pairing=pairing)
            plan = mix.sample((batch, 1, 8, 12), generator=seeded(seed))
            found[pairing] = plan.mix_labels(own).labels
        expected = torch.stack([own.roll(-times) for times in (1, 2, 3, 4)], dim=1)
        assert torch.equal(found["roll"], expected)
        expected = torch.stack([own.flip(0), own, own.flip(0), own], dim=1)
        assert torch.equal(found["flip"], expected)
        assert not (found["derange"] == own.unsqueeze(1)).any()
