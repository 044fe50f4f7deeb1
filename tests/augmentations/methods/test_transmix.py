"""TransMix: the weights of its labels after the forward pass, by the authors' formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

import mixbench
from mixbench.augmentations import NetworkView
from mixbench.augmentations.forward import Forward, clean_batch
from mixbench.augmentations.targets import Targets
from tests.support.oracles import seeded

IMAGES = torch.rand(6, 3, 16, 16, generator=seeded(0))
LABELS = torch.tensor([2, 0, 4, 2, 1, 3])


@pytest.fixture(scope="module")
def vit() -> Any:
    from timm.models.vision_transformer import VisionTransformer

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = VisionTransformer(
            img_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=2, num_classes=5
        )
    # An attention that differs between patches, as that of a trained network.
    network.blocks[-1].attn.qkv.weight.data *= 30
    return network


def test_labels_weigh_by_attention_and_area(vit: Any) -> None:
    """Boxes of whole patches, of which the authors' nearest pixels and ours say the same."""
    mix = mixbench.create("transmix", pairing="roll")
    target = torch.tensor([[[4, 0, 12, 8]]]).expand(6, -1, -1)
    partner = torch.arange(6).roll(-1)
    plan = mixbench.Paste((16, 16), target, partner.unsqueeze(1))
    clean = clean_batch(IMAGES, LABELS, 5)
    mixed = mixbench.Batch(plan.mix_images(IMAGES), plan.mix_labels(LABELS, 5), plan)
    attention = NetworkView(vit).attention(mixed.images).flatten(1)
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 4:12, 0:8] = 1
    mask = torch.nn.Upsample(size=4)(mask).view(1, -1)
    kept, pasted = ((1 - mask) * attention).sum(dim=1), (mask * attention).sum(dim=1)
    lam = (64 / 256 + pasted / (kept + pasted)) / 2
    assert float((lam - 64 / 256).abs().max()) > 1e-3
    logits = vit(mixed.images)
    one, other = (F.cross_entropy(logits, y, reduction="none") for y in (LABELS, LABELS[partner]))
    expected = ((1 - lam) * one + lam * other).mean()
    forward = Forward(lambda batch: vit(batch.images), Targets.cross_entropy, vit)
    loss = mix.loss(forward, clean, mixed)
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(
        *(torch.autograd.grad(value, list(vit.parameters())) for value in (loss, expected)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)
    soft = F.one_hot(LABELS, 5).float()
    again = mix.loss(forward, clean_batch(IMAGES, soft, 5), mixed)
    torch.testing.assert_close(again, expected)
    by_area = mixbench.create("transmix", share=0).loss(forward, clean, mixed)
    torch.testing.assert_close(by_area, mixed.targets.cross_entropy(logits))


def test_in_a_loop_of_ones_own_and_beside_mixup(vit: Any) -> None:
    mix = mixbench.create("choice", methods=["transmix", "mixup"])
    for seed in range(4):
        loss = mixbench.training_loss(mix, vit, IMAGES, LABELS, 5, generator=seeded(seed))
        loss.backward()
        assert bool(loss.isfinite())
    assert not vit.blocks[-1].attn._forward_pre_hooks


def test_the_loss_keeps_the_contract_with_a_real_network(vit: Any) -> None:
    """Nothing mixed is the usual loss; half precision makes no difference."""
    clean = clean_batch(IMAGES, LABELS, 5)
    forward = Forward(lambda batch: vit(batch.images), Targets.cross_entropy, vit)
    unmixed = mixbench.create("transmix", prob=0.0)(IMAGES, LABELS, 5, generator=seeded(0))
    loss = mixbench.create("transmix").loss(forward, clean, unmixed)
    torch.testing.assert_close(loss, F.cross_entropy(vit(IMAGES), LABELS))
    for per_sample in (False, True):
        mix = mixbench.create("transmix", per_sample=per_sample, share=1.0)
        mixed = mix(IMAGES, LABELS, 5, generator=seeded(1))
        first, again = (mix.loss(forward, clean, mixed) for _ in range(2))
        assert torch.equal(first, again) and first.dtype == torch.float32
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(mix.loss(forward, clean, mixed), first, atol=0.05, rtol=0)


def test_a_network_without_attention_is_refused() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 256, 5))
    with pytest.raises(ValueError, match="attention: Sequential has no attention blocks"):
        mixbench.training_loss(mixbench.create("transmix"), network, IMAGES, LABELS, 5)
