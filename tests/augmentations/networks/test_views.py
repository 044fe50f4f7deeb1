"""What methods may ask of a network: the answers by hand, and that a training does not notice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixbench.augmentations import NetworkView
from mixbench.augmentations.networks.asks import ASKS
from tests.support.oracles import seeded

LABELS = torch.tensor([2, 0, 4])


def images() -> Tensor:
    return torch.rand(3, 3, 8, 8, generator=seeded(0))


@pytest.fixture
def network() -> nn.Sequential:
    """Maps, their mean, a linear layer; in training, with what a pass must leave alone."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 6, 3),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(6, 5),
        )
        network(images())  # statistics that are not the first
    network[0].bias.requires_grad_(False)
    return network.train()


def vit(**options: Any) -> Any:
    from timm.models.vision_transformer import VisionTransformer

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VisionTransformer(
            img_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=2, num_classes=5, **options
        )


@pytest.mark.parametrize("what", [what for what in ASKS if what != "attention"])
def test_a_training_does_not_notice(network: nn.Sequential, what: str) -> None:
    network(images()).sum().backward()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    gradients = [None if p.grad is None else p.grad.clone() for p in network.parameters()]
    wanted = [p.requires_grad for p in network.parameters()]
    network[1].eval()
    state = torch.get_rng_state()
    with_labels = what in ("class_maps", "input_gradients")
    view = NetworkView(network)
    first, second = (
        getattr(view, what)(images(), *([LABELS] if with_labels else [])) for _ in range(2)
    )
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert [p.requires_grad for p in network.parameters()] == wanted
    for p, gradient in zip(network.parameters(), gradients, strict=True):
        assert (p.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(p.grad, gradient)
    assert [module.training for module in network] == [True, False, *[True] * 5]
    assert not network[0]._forward_hooks and not network[2]._forward_hooks


def test_the_answers_are_those_by_hand(network: nn.Sequential) -> None:
    view = NetworkView(network)
    logits, maps = view.logits(images()), view.features(images())
    found, slopes = view.class_maps(images(), LABELS), view.input_gradients(images(), LABELS)
    network.eval()
    by_hand = network[:3](images())
    torch.testing.assert_close(maps, by_hand)
    torch.testing.assert_close(logits, network(images()))
    weight, bias = network[-1].weight.detach(), network[-1].bias.detach()
    cam = torch.einsum("bk,bkhw->bhw", weight[LABELS], by_hand.detach()) / 36
    torch.testing.assert_close(found, cam)
    own = logits.gather(1, LABELS.view(-1, 1)).squeeze(1)
    torch.testing.assert_close(found.sum(dim=(1, 2)) + bias[LABELS], own)
    soft = F.one_hot(LABELS, 5).float()
    torch.testing.assert_close(view.class_maps(images(), soft), found)
    given = images().requires_grad_()
    F.cross_entropy(network(given), LABELS, reduction="sum").backward()
    torch.testing.assert_close(slopes, given.grad)


@pytest.mark.parametrize("registers", [0, 2])
def test_attention_is_timms(registers: int) -> None:
    network = vit(reg_tokens=registers).train()
    view = NetworkView(network)
    inputs = torch.rand(2, 3, 16, 16, generator=seeded(3))
    found = view.attention(inputs)
    weights = []
    attention = network.blocks[-1].attn
    attention.fused_attn = False  # so that timm has its weights, which pass through this dropout
    hook = attention.attn_drop.register_forward_pre_hook(lambda _, given: weights.append(given[0]))
    network.eval()(inputs)
    hook.remove()
    expected = weights[0].mean(dim=1)[:, 0, 1 + registers :].reshape(2, 4, 4)
    torch.testing.assert_close(found, expected)
    assert all(view.can(what, (3, 16, 16)) is None for what in ASKS)


def test_what_a_network_cannot_answer(network: nn.Sequential) -> None:
    assert "no class token" in str(
        NetworkView(vit(class_token=False, global_pool="avg")).can("attention")
    )
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5))
    reason = NetworkView(flat).can("features", (3, 8, 8))
    assert reason is not None and "no part of the network has a spatial output" in reason

    class Blind(nn.Module):
        def forward(self, given: Tensor) -> Tensor:
            return given.new_zeros(len(given), 5)

    assert NetworkView(Blind()).can("input_gradients") is not None
    with pytest.raises(ValueError, match="what: got 'maps', expected one of logits, "):
        NetworkView(network).can("maps")
    with pytest.raises(ValueError, match="attention: Sequential has no attention blocks"):
        NetworkView(network).attention(images())


def test_compiled_and_wrapped_networks_are_looked_into(network: nn.Sequential) -> None:
    compiled: Any = torch.compile(network, backend="eager")
    maps = NetworkView(compiled).features(images())
    assert torch.equal(maps, NetworkView(network).features(images()))


def test_half_precision_images_are_taken_in_that_of_the_network(network: nn.Sequential) -> None:
    view = NetworkView(network)
    half = images().bfloat16()
    torch.testing.assert_close(view.features(half), view.features(half.float()))
    assert view.input_gradients(half, LABELS).dtype == torch.float32
