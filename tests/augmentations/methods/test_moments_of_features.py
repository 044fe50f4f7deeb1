"""MoEx and MixStyle: the authors' formulas, on the same draws."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mixbench import augmentations
from mixbench.augmentations.integrations.hooks import mixing_inside
from tests.support.oracles import seeded


def maps(channels: int = 6) -> Tensor:
    return torch.randn(5, channels, 4, 7, generator=seeded(3))


def test_moex_is_the_authors() -> None:
    plan = augmentations.create("moex", prob=1.0).sample((5, 3, 8, 8), generator=seeded(0))
    assert plan.depth == 1
    swap = plan.plan.partner
    x = maps().requires_grad_()
    mean = x.mean(dim=1, keepdim=True)
    std = x.var(dim=1, keepdim=True).add(1e-5).sqrt()
    expected = (x - mean) / std * std[swap] + mean[swap]
    mixed = plan.mix_features(x)
    torch.testing.assert_close(mixed, expected)
    # The authors' moments are not detached.
    weight = torch.randn(x.shape, generator=seeded(4))
    ours, theirs = (torch.autograd.grad((weight * y).sum(), x)[0] for y in (mixed, expected))
    torch.testing.assert_close(ours, theirs)
    targets = plan.mix_labels(torch.arange(5), 5)
    assert targets.labels.tolist() == [[b, int(swap[b])] for b in range(5)]
    torch.testing.assert_close(targets.weights, torch.tensor([[0.9, 0.1]] * 5))


def test_mixstyle_is_the_authors_at_each_depth() -> None:
    plan = augmentations.create("mixstyle", prob=1.0, alpha=0.5, depths=[2, 1]).sample(
        (5, 3, 8, 8), generator=seeded(0)
    )
    assert [stage.depth for stage in plan.stages] == [1, 2]
    strengths = [stage.plan.keep for stage in plan.stages]
    assert not torch.equal(*strengths) and len(set(strengths[0].tolist())) == 5
    for stage in plan.stages:
        lmda, perm = stage.plan.keep.view(-1, 1, 1, 1), stage.plan.partner
        x = maps().requires_grad_()
        mu, sig = x.mean(dim=(2, 3), keepdim=True), (x.var(dim=(2, 3), keepdim=True) + 1e-6).sqrt()
        mu, sig = mu.detach(), sig.detach()
        mixed_sig = sig * lmda + sig[perm] * (1 - lmda)
        expected = (x - mu) / sig * mixed_sig + mu * lmda + mu[perm] * (1 - lmda)
        mixed = stage.mix_features(x)
        torch.testing.assert_close(mixed, expected, atol=1e-5, rtol=1e-5)
        ours, theirs = (torch.autograd.grad(y.square().sum(), x)[0] for y in (mixed, expected))
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    targets = plan.mix_labels(torch.arange(5), 5)
    assert targets.labels.tolist() == [[b] for b in range(5)]
    assert targets.weights.tolist() == [[1.0]] * 5


def test_mixstyle_runs_at_both_stages_of_a_network() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 2, 3))
    batch = augmentations.create("mixstyle", prob=1.0)(
        torch.rand(5, 3, 8, 8, generator=seeded(1)), torch.arange(5), 5, seeded(2)
    )
    with mixing_inside(network, batch.plan):
        mixed = network(batch.images)
    first, second = batch.plan.stages
    by_hand = network[2](
        second.mix_features(network[1](first.mix_features(network[0](batch.images))))
    )
    assert torch.equal(mixed, by_hand)
    assert not torch.equal(mixed, network(batch.images))


@pytest.mark.parametrize("name", ["moex", "mixstyle", "patchup"])
def test_depths_given_twice_are_refused(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"{name}\.depths: got \[1, 1\], expected each depth once"
    ):
        augmentations.create(name, depths=[1, 1])
