"""Attentive CutMix and SnapMix: pixels and labels by their papers' formulas, on the same draws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixbench import augmentations
from mixbench.augmentations import NetworkView
from mixbench.augmentations.plans.serialise import from_tensors, to_tensors
from tests.support.oracles import located_images, seeded

LABELS = torch.tensor([2, 0, 4, 2, 1])


@pytest.fixture(scope="module")
def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 5),
        )


def noise(side: int = 16) -> Tensor:
    return torch.randn(5, 3, side, side, generator=seeded(0))


def test_the_patches_of_the_largest_features_come_from_the_partner(network: nn.Module) -> None:
    images = noise()
    mix = augmentations.create("attentive_cutmix", patches=3, grid=4, pairing="roll")
    plan = mix.sample(images.shape, images=images, model=NetworkView(network))
    mixed, targets = plan.mix_images(images), plan.mix_labels(LABELS, 5)
    maps = network[:2](images).detach().mean(dim=1)  # 8 x 8
    for sample in range(5):
        partner = (sample + 1) % 5
        cells = F.avg_pool2d(maps[partner].unsqueeze(0), 2)[0].flatten()
        expected = images[sample].clone()
        for best in cells.topk(3).indices.tolist():
            top, left = 4 * (best // 4), 4 * (best % 4)
            box = (..., slice(top, top + 4), slice(left, left + 4))
            expected[box] = images[partner][box]
        assert torch.equal(mixed[sample], expected)
        assert targets.labels[sample].tolist() == [LABELS[sample], LABELS[partner]]
        assert targets.weights[sample].tolist() == pytest.approx([13 / 16, 3 / 16])


def test_snapmix_weighs_labels_by_class_maps(network: nn.Sequential) -> None:
    """The authors' formula with weights from their maps: the classifier's, bias included."""
    images = noise()
    mix = augmentations.create("snapmix", per_sample=True)
    plan = mix.sample(
        images.shape, generator=seeded(2), images=images, labels=LABELS, model=NetworkView(network)
    )
    weight, bias = network[-1].weight.detach(), network[-1].bias.detach()
    maps = F.conv2d(network[:2](images).detach(), weight.view(5, 6, 1, 1), bias)
    own = torch.stack([maps[sample, label] for sample, label in enumerate(LABELS)])
    large = F.interpolate(own.unsqueeze(1), (16, 16), mode="bilinear", align_corners=False)[:, 0]
    large = large - large.amin(dim=(1, 2), keepdim=True)
    large = large / large.sum(dim=(1, 2), keepdim=True)
    index, weights = plan.sources()
    for sample in range(5):
        top, left, bottom, right = plan.target[sample, 0].tolist()
        up, start, down, end = plan.source[sample, 0].tolist()
        partner = int(plan.partner[sample, 0])
        assert index[sample].tolist() == [sample, partner]
        covered = large[sample, top:bottom, left:right].sum()
        taken = large[partner, up:down, start:end].sum()
        torch.testing.assert_close(weights[sample], torch.stack([1 - covered, taken]))
    assert plan.has_free_weights and float((weights.sum(dim=1) - 1).abs().max()) > 0.01
    targets, logits = plan.mix_labels(LABELS, 5), torch.randn(5, 5, generator=seeded(3))
    losses = [
        F.cross_entropy(logits, targets.labels[:, k], reduction="none", label_smoothing=0.1)
        for k in (0, 1)
    ]
    expected = (losses[0] * weights[:, 0] + losses[1] * weights[:, 1]).mean()
    torch.testing.assert_close(targets.cross_entropy(logits, 0.1), expected)
    restored = from_tensors(to_tensors(plan))
    assert torch.equal(restored.mix_labels(LABELS, 5).weights, weights)


def test_snapmix_resizes_the_partners_box_and_leaves_out_empty_ones(network: nn.Module) -> None:
    images = located_images(40, 16, 16)
    mix = augmentations.create("snapmix", per_sample=True, alpha=0.2, pairing="derange")
    labels = torch.zeros(40, dtype=torch.int64)
    given: dict[str, Any] = {"images": images, "labels": labels, "model": NetworkView(network)}
    plan = mix.sample(images.shape, generator=seeded(1), **given)
    mixed, weights = plan.mix_images(images), plan.sources()[1]
    empty = plan.area()[:, 0] == 0
    assert 0 < int(empty.sum()) < 40
    assert torch.equal(mixed[empty], images[empty])
    assert torch.equal(weights[empty], torch.tensor([1.0, 0.0]).expand(int(empty.sum()), 2))
    for sample in (~empty).nonzero().flatten().tolist():
        top, left, bottom, right = plan.target[sample, 0].tolist()
        up, start, down, end = plan.source[sample, 0].tolist()
        inside = mixed[sample, :, top:bottom, left:right]
        assert bool((inside[0] == plan.partner[sample, 0]).all())
        assert up <= float(inside[1].min()) and float(inside[1].max()) <= down - 1
        assert start <= float(inside[2].min()) and float(inside[2].max()) <= end - 1


def test_what_cannot_be_is_named(network: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"attentive_cutmix\.patches: got 9, expected less than"):
        augmentations.create("attentive_cutmix", patches=9, grid=3)
    mix = augmentations.create("attentive_cutmix")
    with pytest.raises(ValueError, match=r"attentive_cutmix\.grid: got 7, expected at most"):
        mix.sample((5, 3, 6, 16), images=noise()[:, :, :6], model=NetworkView(network))
    with pytest.raises(ValueError, match="attentive_cutmix: expected model="):
        mix(noise(), LABELS)
    both = augmentations.create("compose", methods=["snapmix", "attentive_cutmix"])
    assert both.passes == 2 and both.asks == {"class_maps", "features"}
    assert both.needs == {"images", "labels", "model"}
