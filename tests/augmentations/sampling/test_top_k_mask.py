"""FMix's masks: exactly the largest values of each row, found without sorting where it can be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mixbench.augmentations.sampling import top_k_mask
from tests.support.oracles import seeded


def sorted_mask(values: Tensor, count: Tensor) -> Tensor:
    mask = np.zeros(values.shape, dtype=np.float32)
    for row, (line, number) in enumerate(zip(values.numpy(), count.tolist(), strict=True)):
        mask[row, np.argsort(-line, kind="stable")[: int(number)]] = 1
    return torch.from_numpy(mask)


@pytest.mark.parametrize("size", [1, 7, 100, 1024, top_k_mask.LONG, top_k_mask.LONG + 1, 20_000])
@pytest.mark.parametrize("kind", ["noise", "smooth", "steps", "constant", "wide", "striped"])
def test_exactly_the_largest_values_are_marked(size: int, kind: str) -> None:
    """Exactly so many, the first of equal ones, for every kind of row."""
    rows = 2 if size == 7 else 40
    values = torch.randn(rows, size, generator=seeded(size))
    if kind == "smooth":
        values = values.cumsum(dim=1)
    elif kind == "steps":
        values = (3 * values).round()
    elif kind == "constant":
        values = torch.zeros(rows, size)
    elif kind == "wide":
        values = values.pow(9)
    elif kind == "striped":
        # A sample at equal distances sees one kind of value: its bracket is wrong.
        values[:, :: max(1, size // top_k_mask.SAMPLE) | 1] += 100
    count = (torch.rand(rows, generator=seeded(1)) * (size + 1)).floor().double()
    count[0], count[1] = 0, size
    before = values.clone()
    assert torch.equal(top_k_mask.top_k_mask(values, count), sorted_mask(values, count))
    assert torch.equal(values, before)


def test_a_threshold_is_found_without_sorting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were every row sorted in the end, all would be right and slow."""

    def refuse(*_: object) -> Tensor:
        raise AssertionError("sorted a row without equal values")

    monkeypatch.setattr(top_k_mask, "_by_rank", refuse)
    for rows, size in ((128, 1024), (8, 50_176)):
        values = torch.randn(rows, size, dtype=torch.float64, generator=seeded(0)).cumsum(dim=1)
        values = values.argsort(dim=1).argsort(dim=1).float()  # no two are equal
        count = (torch.rand(rows, generator=seeded(1)) * size).floor()
        assert torch.equal(top_k_mask.top_k_mask(values, count).sum(dim=1), count)
