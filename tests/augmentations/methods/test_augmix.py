"""AugMix against the authors' formulas, on the plan's draws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mixbench
from mixbench import augmentations
from mixbench.augmentations.pixels.operations import OPERATIONS, apply_operation
from mixbench.augmentations.plans.views import another_view
from tests.support.oracles import seeded

CLASSES = 4
IMAGES = torch.randint(0, 256, (6, 3, 10, 12), generator=seeded(1)) / 255
LABELS = torch.tensor([0, 1, 2, 3, 0, 1])
UNIT: dict[str, Any] = {"normalisation": (0, 1)}


def view_by_hand(plan: Any, view: int) -> Tensor:
    """(1 - m) x + m Σ w_i chain_i(x), an operation at a time."""
    views = []
    for row, image in enumerate(IMAGES):
        result = plan.keep[row, view] * image
        for chain in range(plan.operation.shape[2]):
            pixels = image[None] * 255
            for step in range(plan.operation.shape[3]):
                at = (slice(row, row + 1), view, chain, step)
                operation, strength = plan.operation[at], plan.strength[at]
                if operation:
                    pixels = apply_operation(pixels.round(), operation, strength, smooth=True)
            result = result + plan.weights[row, view, chain] * pixels[0] / 255
        views.append(result)
    return torch.stack(views)


def authors_loss(logits: list[Tensor], labels: Tensor) -> Tensor:
    answers = [one.softmax(1) for one in logits]
    mean = (sum(answers) / 3).clamp(1e-7, 1).log()  # type: ignore[attr-defined]
    apart = sum(F.kl_div(mean, one, reduction="batchmean") for one in answers)
    return F.cross_entropy(logits[0], labels) + 12 * apart / 3


def test_both_views_and_the_loss_by_hand() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(360, CLASSES), nn.BatchNorm1d(CLASSES))
    mix = augmentations.create("augmix")
    plan = mix.sample(IMAGES.shape, generator=seeded(5), **UNIT)
    first, second = (view_by_hand(plan, view) for view in (0, 1))
    torch.testing.assert_close(plan.mix_images(IMAGES), first, atol=1e-6, rtol=0)
    torch.testing.assert_close(another_view(plan).mix_images(IMAGES), second, atol=1e-6, rtol=0)
    assert not torch.allclose(first, second)
    loss = mixbench.training_loss(
        mix, network, IMAGES, LABELS, CLASSES, generator=seeded(5), **UNIT
    )
    # One pass of all three, with common statistics of batch normalisation.
    logits = list(network(torch.cat([IMAGES, first, second])).split(6))
    expected = authors_loss(logits, LABELS)
    torch.testing.assert_close(loss, expected)
    weights = list(network.parameters())
    torch.testing.assert_close(
        torch.autograd.grad(loss, weights),
        torch.autograd.grad(expected, weights),
        rtol=1e-4,
        atol=1e-5,
    )


def test_what_is_drawn_is_the_authors() -> None:
    mix = augmentations.create("augmix")
    plan: Any = mix.sample((400, 3, 30, 60), generator=seeded(2), **UNIT)
    assert plan.operation.shape == (400, 2, 3, 3)
    torch.testing.assert_close(plan.keep + plan.weights.sum(2), torch.ones(400, 2))
    assert abs(float(plan.keep.mean()) - 0.5) < 0.05
    length = (plan.operation > 0).sum(dim=3).flatten()
    shares = length.bincount(minlength=4) / len(length)
    assert shares[0] == 0 and (shares[1:] - 1 / 3).abs().max() < 0.05
    at = {name: plan.operation == place for place, name in enumerate(OPERATIONS)}
    drawn = {name for name, where in at.items() if where.any()} - {"identity"}
    assert drawn == {
        *("shear_x", "shear_y", "translate_x", "translate_y", "rotate"),
        *("posterize", "solarize", "autocontrast", "equalize"),
    }
    found = {name: plan.strength[where] for name, where in at.items()}
    assert set(found["posterize"].tolist()) == {3.0, 4.0}
    assert found["translate_x"].abs().max() == 5 and found["translate_y"].abs().max() == 2
    assert found["rotate"].abs().max() == 8 and found["solarize"].min() >= 256 - 76
    assert 0.08 < found["shear_x"].abs().max() <= 0.09
    skewed: Any = augmentations.create("augmix", alpha=0.05).sample(
        (400, 3, 8, 8), generator=seeded(3), **UNIT
    )
    largest = skewed.weights.max(dim=2).values / skewed.weights.sum(dim=2)
    assert largest.nanmedian() > 0.99


def test_without_consistency_it_is_a_mixed_batch_with_its_labels() -> None:
    plain = augmentations.create("augmix", consistency=0)
    assert not plain.has_loss and plain.passes == 0 and augmentations.create("augmix").passes == 6
    plan: Any = plain.sample(IMAGES.shape, generator=seeded(1), **UNIT)
    assert plan.operation.shape[1] == 1
    soften = augmentations.SoftTargets(plain, CLASSES, generator=seeded(1), **UNIT)
    mixed, _ = soften(IMAGES, LABELS)
    assert torch.equal(mixed, plan.mix_images(IMAGES))
    with pytest.raises(ValueError, match="augmix has a loss of its own, which soft labels can't"):
        augmentations.SoftTargets(augmentations.create("augmix"), CLASSES, **UNIT)


def test_in_a_compose_both_views_go_through_all() -> None:
    says = "expected methods that keep labels beside augmix, .* got cutmix"
    with pytest.raises(ValueError, match=says):
        augmentations.create("compose", methods=["augmix", "cutmix"])
    network = nn.Sequential(nn.Flatten(), nn.Linear(360, CLASSES))
    cutout = {"name": "cutout", "size": 4}
    mix = augmentations.create("compose", methods=["augmix", cutout])
    plan: Any = mix.sample(IMAGES.shape, generator=seeded(5), **UNIT)
    loss = mixbench.training_loss(
        mix, network, IMAGES, LABELS, CLASSES, generator=seeded(5), **UNIT
    )
    views = [plan.mix_images(IMAGES), another_view(plan).mix_images(IMAGES)]
    hidden = plan.stages[1].changed_pixels().unsqueeze(1).expand_as(IMAGES)
    assert not views[1][hidden].any()
    logits = [network(one) for one in (IMAGES, *views)]
    torch.testing.assert_close(loss, authors_loss(logits, LABELS))
