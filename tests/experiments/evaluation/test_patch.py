"""Patch: where it is, what a planted network says of it, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mixbench.experiments import cli
from mixbench.experiments.evaluation.base import Subject
from mixbench.experiments.evaluation.image_random import ImageRandom
from mixbench.experiments.evaluation.patch import PatchSettings, measure, place
from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support import planted


def asked(**settings: Any) -> PatchSettings:
    return PatchSettings.model_validate(settings)


def test_a_patch_is_pasted_at_its_place_and_gets_its_gradient() -> None:
    draws = ImageRandom(torch.arange(200), 0, "patch")
    places = place.Places(draws, 2, 4, 5)
    patch = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]], requires_grad=True)
    shown = places.paste(torch.zeros(200, 1, 4, 5), patch)
    for image, top, left in zip(shown, places.top.flatten(), places.left.flatten(), strict=True):
        expected = torch.zeros(1, 4, 5)
        expected[:, top : top + 2, left : left + 2] = patch.detach()
        assert torch.equal(image, expected)
    assert torch.equal(places.inside, (shown > 0))
    # All places there are, the last row and column included.
    corners = {(int(t), int(n)) for t, n in zip(places.top, places.left, strict=True)}
    assert corners == {(t, n) for t in range(3) for n in range(4)}
    (gradient,) = torch.autograd.grad(shown.sum(), patch)
    assert torch.equal(gradient, torch.full((1, 2, 2), 200.0))


def test_a_network_that_counts_light_falls_where_the_patch_outweighs_the_rest() -> None:
    # Class 1 where the sum of 16 values is above 8: all of shade s, 16 s. A patch of n pixels can
    # leave (16 - n) s, whatever the place; the blank one, in the mean 0.5, 16 s - n (s - 0.5).
    shades = torch.tensor([130, 150, 180, 250], dtype=torch.uint8)
    images = shades.view(-1, 1, 1, 1).expand(-1, 1, 4, 4).repeat(4, 1, 1, 1)
    weight = torch.stack([torch.zeros(16), torch.ones(16)])
    bias = torch.tensor([0.0, (0.5 * 16 - 8.0) / 0.25])
    network = planted.Linear(weight, bias)
    subject = planted.subject(network, images, torch.ones(16).long(), mean=0.5, std=0.25)
    # (16 - 4) s < 8 for s < 170/255, (16 - 9) s < 8 for all.
    with planted.untouched(network):
        found = measure.measure(subject, asked(shares=[0.55, 0.25], train_steps=40, steps=8))
    assert found.metrics == {
        "patch/clean": 1.0,
        "patch/blank/0.25": 1.0,
        "patch/blank/0.55": 1.0,
        "patch/universal/0.25": 0.5,
        "patch/universal/0.55": 0.0,
        "patch/per_image/0.25": 0.5,
        "patch/per_image/0.55": 0.0,
    }
    assert found.curves["side"] == [2, 3] and found.curves["share"] == [0.0, 0.25, 0.5625]
    assert found.arrays["universal_0.25"].shape == (1, 2, 2)
    assert found.arrays["universal_0.25"].max() == 0.0


def test_patches_mislead_a_trained_network_the_same_in_batches_of_any_size(
    digits_subject: Subject,
) -> None:
    settings = asked(shares=[0.1, 0.2], train_images=150, train_steps=40, steps=8, images=60)
    raw, data = digits_subject.split("test"), digits_subject.dataset
    found = []
    for size in (7, 64):
        other = planted.subject(
            digits_subject.network,
            raw.images,  # type: ignore[attr-defined]
            raw.labels,  # type: ignore[attr-defined]
            batch_size=size,
            mean=float(data.mean),
            std=float(data.std),
        )
        found.append(measure.measure(other, settings).metrics)
    assert found[0] == found[1]
    metrics = {key.removeprefix("patch/"): float(value or 0) for key, value in found[0].items()}
    for share in ("0.1", "0.2"):
        blank, universal, each = (metrics[f"{kind}/{share}"] for kind in measure.KINDS)
        assert each < universal < blank - 0.05
    assert metrics["universal/0.2"] < metrics["universal/0.1"]


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ("1.5", "patch.shares.0: got 1.5, expected above 0 and at most 1"),
        ("[0.1, 20]", "patch.shares.1: got 20, expected above 0 and at most 1"),
        ("0.002", "a square smaller than a pixel of 8 x 8 pixels; expected from 0.0039 to 1"),
    ],
)
def test_a_patch_that_does_not_fit(
    sweep: SweepFolder, shares: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = cli.main(["evaluate", "small", "--only", "patch", "--set", f"patch.shares={shares}"])
    said = capsys.readouterr()
    assert status == 2 and not said.out
    (line,) = said.err.splitlines()
    assert words in line
    with pytest.raises(place.UserError, match="larger than the image of 4 x 16 pixels"):
        place.side_of(0.6, 4, 16)
