"""What is kept for the next network: the same as anew, and no more than the limit."""

from __future__ import annotations

import torch
from torch import Tensor

from mixbench.experiments.evaluation.kept import Kept


def test_it_is_made_once_by_images_and_key_and_within_the_limit() -> None:
    kept = Kept(limit=2 * 40)
    made: list[str] = []

    def get(images: Tensor, key: str) -> Tensor:
        def make() -> tuple[Tensor]:
            made.append(key)
            return (images + 1,)

        return kept.get(images, key, make)[0]

    one, other = torch.zeros(10), torch.ones(10)
    for key in "abcabc":
        assert torch.equal(get(one.clone(), key), one + 1)
    # Two of 40 bytes fit, the third does not.
    assert made == ["a", "b", "c", "c"]
    # Other images take the place of those before.
    assert torch.equal(get(other, "a"), other + 1) and torch.equal(get(other, "a"), other + 1)
    assert torch.equal(get(one, "a"), one + 1)
    assert made == ["a", "b", "c", "c", "a", "a"]
