"""SpecAugment: whole rows and columns blanked, lengths and places uniform, labels kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mixbench import augmentations
from tests.support.oracles import assert_mean, assert_uniform_counts, seeded

ONES = torch.ones(20_000, 1, 10, 16)


def blanked(images: torch.Tensor = ONES, seed: int = 0, **parameters: object) -> torch.Tensor:
    """(B,H,W): where a drawn plan blanks."""
    mix = augmentations.create("spec_augment", **parameters)
    return mix.sample(images.shape, generator=seeded(seed)).mix_images(images)[:, 0] == 0


def test_rows_and_columns_are_blanked_whole_and_no_more_than_asked() -> None:
    hidden = blanked(ONES[:500])
    rows, columns = hidden.all(dim=2), hidden.all(dim=1)
    assert torch.equal(hidden, rows.unsqueeze(2) | columns.unsqueeze(1))
    for lines, most in ((rows, int(0.34 * 10)), (columns, int(0.34 * 16))):
        edges = torch.diff(lines.int(), dim=1, prepend=torch.zeros(500, 1, dtype=torch.int))
        assert (edges == 1).sum(dim=1).max() == 2  # of two masks, some apart
        assert lines.sum(dim=1).max() <= 2 * most


@pytest.mark.parametrize("axis", ["frequency", "time"])
def test_lengths_and_places_are_uniform(axis: str) -> None:
    """One mask of at most a half: chi-square over its lengths, and over the places of each."""
    other = "time" if axis == "frequency" else "frequency"
    hidden = blanked(**{f"{axis}_masks": 1, f"{other}_masks": 0, f"max_{axis}": 0.5})
    lines = hidden.all(dim=2 if axis == "frequency" else 1).numpy()
    side = lines.shape[1]
    length, first = lines.sum(axis=1), lines.argmax(axis=1)
    assert_uniform_counts(np.bincount(length, minlength=side // 2 + 1))
    for one in (1, side // 2):
        assert_uniform_counts(np.bincount(first[length == one], minlength=side - one + 1))


def test_the_shape_of_the_image_is_respected_and_labels_are_kept() -> None:
    mix = augmentations.create("spec_augment", max_frequency=1.0, max_time=1.0, fill="mean")
    images = torch.rand(64, 2, 5, 9, generator=seeded(1))
    labels = torch.arange(64)
    batch = mix(images, labels, generator=seeded(2))
    assert torch.equal(batch.targets.dense(64), torch.eye(64))
    filled = (batch.images - images.mean(dim=(0, 2, 3)).view(1, 2, 1, 1)).abs() < 1e-6
    assert (filled | (batch.images == images)).all() and filled.all(dim=(1, 2, 3)).any()
    shown = augmentations.create("spec_augment", max_frequency=0.01, max_time=0.01)
    assert torch.equal(shown(images, labels, generator=seeded(3)).images, images)


def test_masks_of_neither_kind_are_refused() -> None:
    with pytest.raises(ValueError, match=r"spec_augment\.time_masks: got 0, and frequency_masks"):
        augmentations.create("spec_augment", time_masks=0, frequency_masks=0)


def test_the_mean_share_is_what_the_lengths_say() -> None:
    """One band of up to 5 of 10 rows and one piece of up to 8 of 16 columns: 1 - .75 · .75."""
    half = {"frequency_masks": 1, "time_masks": 1, "max_frequency": 0.5, "max_time": 0.5}
    assert_mean(blanked(seed=4, **half).double().mean(dim=(1, 2)), 1 - 0.75 * 0.75)
