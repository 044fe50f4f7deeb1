"""Manifold MixUp: where and how much it mixes, on networks whose layers can be run one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.stats import beta
from torch import Tensor, nn

from mixbench import augmentations
from mixbench.augmentations.integrations.hooks import mixing_inside
from mixbench.augmentations.networks.layers import layer_names
from mixbench.augmentations.plans.at_depth import AtDepth
from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.plans.blend import Blend
from mixbench.augmentations.plans.composite import chain
from tests.support.oracles import assert_distribution, assert_uniform_counts, seeded


def manifold(**parameters: Any) -> Any:
    return augmentations.create("manifold_mixup", **parameters)


def at(depth: int, batch: int = 4, seed: int = 0) -> Plan:
    """A plan of λ = 0.25, ... at this depth, one λ per sample."""
    keep = torch.linspace(0.25, 0.75, batch).view(-1, 1, 1, 1)
    return AtDepth(Blend(keep, torch.randperm(batch, generator=seeded(seed))), depth)


def by_hand(plan: Any, features: Tensor) -> Tensor:
    """λ h + (1 - λ) h[partner], sample by sample."""
    inner = plan.plan
    return torch.stack(
        [
            float(inner.keep[b]) * features[b]
            + (1 - float(inner.keep[b])) * features[int(inner.partner[b])]
            for b in range(len(features))
        ]
    )


@pytest.fixture
def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Conv2d(5, 6, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 7),
    )


# What is drawn.


def test_layers_are_drawn_evenly_and_strengths_from_their_beta() -> None:
    mix = manifold()
    generator = seeded(0)
    plans = [mix.sample((2, 1, 2, 2), generator=generator) for _ in range(6000)]
    counts = torch.tensor([plan.depth for plan in plans]).bincount()
    assert len(counts) == 3
    assert_uniform_counts(counts.numpy())  # false alarm 1e-6
    blends = [plan.plan if isinstance(plan, AtDepth) else plan for plan in plans]
    # The authors' α is 2; false alarm 1e-6.
    strengths = torch.stack([plan.keep[0, 0, 0, 0] for plan in blends])
    assert_distribution(strengths, beta(2, 2).cdf, 0, 1)


def test_at_depth_0_it_is_mixup() -> None:
    images, labels = torch.rand(5, 2, 4, 4), torch.arange(5)
    batch = manifold(depths=[0], alpha=0.7, per_sample=True)(images, labels, 5, seeded(3))
    assert isinstance(batch.plan, Blend)
    assert batch.plan.depth == 0
    assert torch.equal(batch.plan.mix_images(images), batch.images)
    assert not torch.equal(batch.images, images)


def test_inside_images_stay_and_labels_and_masks_are_mixed() -> None:
    images, labels = torch.rand(5, 2, 4, 4), torch.arange(5)
    batch = manifold(depths=[3], pairing="roll")(images, labels, 5, seeded(3))
    assert batch.plan.depth == 3
    assert torch.equal(batch.images, images)
    inner = batch.plan.plan
    keep = float(inner.keep[0])
    assert batch.targets.labels.tolist() == [[b, (b + 1) % 5] for b in range(5)]
    torch.testing.assert_close(batch.targets.weights, torch.tensor([[keep, 1 - keep]] * 5))
    masks = labels.view(5, 1, 1).expand(5, 4, 4)
    assert torch.equal(batch.plan.mix_masks(masks), inner.mix_masks(masks))
    assert bool(batch.plan.changed().all())


def test_prob_holds_inside_too() -> None:
    mix = manifold(depths=[1], prob=0.0)
    plan = mix.sample((4, 1, 2, 2), generator=seeded(1))
    features = torch.rand(4, 3, 5, 5)
    assert torch.equal(plan.mix_features(features), features)
    assert torch.equal(plan.own_share(), torch.ones(4))


@pytest.mark.parametrize(
    ("depths", "message"),
    [([], "not empty"), ([-1], "at least 0"), ([1, 1], "each depth once"), (2, "expected a list")],
)
def test_depths_that_cannot_be(depths: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        manifold(depths=depths)


def test_the_order_of_depths_says_nothing() -> None:
    assert manifold(depths=[2, 0]) == manifold(depths=[0, 2])
    assert manifold(depths=[2, 0]).deepest == 2


# Inside a network.


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_layers_output_is_mixed_and_nothing_else(small: nn.Sequential, depth: int) -> None:
    small.eval()
    images, plan = torch.rand(4, 3, 9, 9), at(depth)
    # Layers end before the next convolution.
    cut = {1: 2, 2: 5, 3: 8}[depth]
    expected = small[cut:](by_hand(plan, small[:cut](images)))
    with mixing_inside(small, plan):
        mixed = small(images)
    torch.testing.assert_close(mixed, expected)
    assert not torch.allclose(mixed, small(images))


def test_nothing_stays_behind(small: nn.Sequential) -> None:
    small.eval()
    images = torch.rand(4, 3, 9, 9)
    plain = small(images)
    with pytest.raises(ValueError, match="expected"), mixing_inside(small, at(2)):
        small(images[:2])
    assert torch.equal(small(images), plain)
    assert not any(module._forward_hooks for module in small.modules())


def test_images_that_are_mixed_already_are_not_mixed_again(small: nn.Sequential) -> None:
    images = torch.rand(4, 3, 9, 9)
    plan = manifold(depths=[0]).sample(images.shape, generator=seeded(1))
    small.eval()
    plain = small(images)
    with mixing_inside(small, plan):
        assert torch.equal(small(images), plain)
        assert not any(module._forward_hooks for module in small.modules())


def test_a_chain_is_mixed_at_each_of_its_depths(small: nn.Sequential) -> None:
    small.eval()
    images, first, second, third = torch.rand(4, 3, 9, 9), at(1, seed=1), at(1, seed=2), at(3)
    with mixing_inside(small, chain([third, first, second])):
        mixed = small(images)
    inner = by_hand(second, by_hand(first, small[:2](images)))
    torch.testing.assert_close(mixed, small[8:](by_hand(third, small[2:8](inner))))


def test_a_choice_per_sample_is_mixed_where_its_method_says(small: nn.Sequential) -> None:
    small.eval()
    methods = [{"name": "manifold_mixup", "depths": [2]}, "cutmix", "none"]
    mix = augmentations.create("choice", methods=methods, per_sample=True)
    images = torch.rand(12, 3, 9, 9, generator=seeded(1))
    batch = mix(images, torch.arange(12), 12, generator=seeded(2))
    pixels, inside = batch.plan.stages
    assert (pixels.depth, inside.depth, mix.deepest) == (0, 2, 2)
    choice = inside.choice
    assert set(choice.tolist()) == {0, 1, 2}
    untouched = (batch.images == images).flatten(1).all(dim=1)
    assert bool(untouched[choice != 1].all())
    with mixing_inside(small, batch.plan):
        mixed = small(batch.images)
    features = small[:5](batch.images)
    there = torch.where(
        (choice == 0).view(-1, 1, 1, 1), by_hand(inside.plans[0], features), features
    )
    torch.testing.assert_close(mixed, small[5:](there))
    # A partner's label is what its image shows: rows of both stages add up to 1, K is 2 x 2.
    assert batch.targets.weights.shape == (12, 4)
    torch.testing.assert_close(batch.targets.weights.sum(dim=1), torch.ones(12))
    soft = pixels.mix_labels(torch.arange(12), 12).dense(12)
    torch.testing.assert_close(batch.targets.dense(12), inside.mix_features(soft))


def test_gradients_reach_both_samples(small: nn.Sequential) -> None:
    images = torch.rand(4, 3, 9, 9, requires_grad=True)
    plan = AtDepth(Blend(torch.full((4, 1, 1, 1), 0.25), torch.tensor([1, 2, 3, 0])), 2)
    small.eval()
    with mixing_inside(small, plan):
        small(images)[0].sum().backward()
    assert images.grad is not None
    reached = images.grad.flatten(1).any(dim=1)
    assert reached.tolist() == [True, True, False, False]


def test_half_precision_features_are_mixed_in_float32(small: nn.Sequential) -> None:
    small.eval().bfloat16()
    images, plan = torch.rand(4, 3, 9, 9, dtype=torch.bfloat16), at(2)
    seen: list[Tensor] = []
    small[5].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with mixing_inside(small, plan):
        small(images)
    expected = by_hand(plan, small[:5](images).float()).bfloat16()
    assert seen[0].dtype == torch.bfloat16
    assert torch.equal(seen[0], expected)


def torchvision_resnet(model: Any, images: Tensor, mix: Callable[[Tensor], Tensor]) -> Tensor:
    x = model.maxpool(model.relu(model.bn1(model.conv1(images))))
    x = mix(model.layer2(model.layer1(x)))
    return model.fc(model.avgpool(model.layer4(model.layer3(x))).flatten(1))


def timm_transformer(model: Any, images: Tensor, mix: Callable[[Tensor], Tensor]) -> Tensor:
    x = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(images))))
    x = mix(model.blocks[1](model.blocks[0](x)))
    for block in model.blocks[2:]:
        x = block(x)
    return model.forward_head(model.norm(x))


def test_any_network_is_mixed_without_a_change_to_it() -> None:
    import timm
    import torchvision

    torch.manual_seed(0)
    plan = at(2, batch=3)
    cases = (
        (torchvision.models.resnet18(num_classes=5), torchvision_resnet, 32),
        (
            timm.create_model("vit_tiny_patch16_224", img_size=32, depth=3, num_classes=5),
            timm_transformer,
            32,
        ),
    )
    for model, forward, side in cases:
        model.eval()
        images = torch.rand(3, 3, side, side)
        with torch.no_grad(), mixing_inside(model, plan):
            mixed = model(images)
        with torch.no_grad():
            expected = forward(model, images, lambda x: by_hand(plan, x))
            plain = forward(model, images, lambda x: x)
        torch.testing.assert_close(mixed, expected, atol=1e-5, rtol=1e-4)
        assert not torch.allclose(plain, expected, atol=1e-4)


def test_inside_distributed_data_parallel(small: nn.Sequential) -> None:
    small.eval()
    images, plan = torch.rand(4, 3, 9, 9), at(2)
    with mixing_inside(small, plan):
        expected = small(images)
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(small)
        for place in (wrapped, small):
            with mixing_inside(place, plan, ["1", "4"]):
                mixed = wrapped(images)
            assert torch.equal(mixed, expected)
        mixed.sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    assert all(parameter.grad is not None for parameter in small.parameters())


# Which layers there are.


def test_layers_that_are_found() -> None:
    import timm
    import torchvision

    torchvisions = torchvision.models
    with torch.device("meta"):
        found = {
            "resnet": layer_names(torchvisions.resnet18()),
            "vit": layer_names(torchvisions.vit_b_16()),
            "vgg": layer_names(torchvisions.vgg11_bn()),
            "inception": layer_names(torchvisions.inception_v3(init_weights=False)),
            "timm resnet": layer_names(timm.create_model("resnet50d")),
            "timm convnext": layer_names(timm.create_model("convnext_tiny")),
            "timm efficientnet": layer_names(timm.create_model("efficientnet_b0")),
            "timm vit": layer_names(timm.create_model("vit_tiny_patch16_224")),
        }
    stages = ("layer1", "layer2", "layer3", "layer4")
    assert found["resnet"] == found["timm resnet"] == stages
    assert found["vit"] == tuple(f"encoder.layers.encoder_layer_{n}" for n in range(12))
    # After batch norm, activation and pooling; the classifier has more weights, but fewer layers.
    assert found["vgg"][:3] == ("features.3", "features.7", "features.10")
    assert found["inception"][0] == "Mixed_5b"
    assert found["timm convnext"] == tuple(f"stages.{n}" for n in range(4))
    assert found["timm efficientnet"] == tuple(f"blocks.{n}" for n in range(7))
    assert found["timm vit"] == tuple(f"blocks.{n}" for n in range(12))


def test_a_wrapped_network_is_looked_into() -> None:
    body = nn.Sequential(*(nn.Linear(3, 3) for _ in range(6)))
    assert layer_names(nn.Sequential(body, nn.Linear(3, 2)))[:2] == ("0.0", "0.1")
    assert layer_names(nn.Linear(3, 3)) == ()


def test_a_detail_of_a_network_is_not_its_layers() -> None:
    head = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    parts = {name: nn.Linear(3, 3) for name in ("stem", "body", "neck", "tail")}
    network = nn.ModuleDict({**parts, "head": head})
    assert layer_names(network) == ()
    with pytest.raises(ValueError, match="none found; name them with layers="):
        mixing_inside(network, at(1)).__enter__()


def test_other_layers_can_be_named(small: nn.Sequential) -> None:
    small.eval()
    images, plan = torch.rand(4, 3, 9, 9), at(2)
    with mixing_inside(small, plan, ["0", "3"]):
        mixed = small(images)
    torch.testing.assert_close(mixed, small[4:](by_hand(plan, small[:4](images))))


@pytest.mark.parametrize(
    ("depth", "layers", "message"),
    [
        (5, None, r"depth 5: expected at most 4, the network's layers: 1, 4, 7, 8"),
        (2, ["4"], r"depth 2: expected at most 1, the network's layers: 4"),
        (1, ["44"], r"no module '44'; did you mean '4'\? Its layers: 1, 4, 7, 8"),
        (1, [""], r"no module ''"),
    ],
)
def test_layers_that_do_not_exist(
    small: nn.Sequential, depth: int, layers: list[str] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message), mixing_inside(small, at(depth), layers):
        pass


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.LSTM(3, 3)
        self.layer2 = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer2(self.layer1(x)[0])


def test_an_output_that_is_no_tensor_is_named() -> None:
    model = Pair()
    message = "layer 'layer1': expected a tensor as its output, got tuple"
    with pytest.raises(ValueError, match=message), mixing_inside(model, at(1), ["layer1"]):
        model(torch.rand(4, 2, 3))


def test_a_layer_that_does_not_run_is_an_error(small: nn.Sequential) -> None:
    with pytest.raises(RuntimeError, match="layer '4' did not run"), mixing_inside(small, at(2)):
        small[0](torch.rand(4, 3, 9, 9))


def test_a_compiled_network_that_would_not_notice_is_refused(small: nn.Sequential) -> None:
    compiled: Any = torch.compile(small, backend="eager")
    with (
        pytest.raises(ValueError, match="skip_nnmodule_hook_guards"),
        mixing_inside(compiled, at(1)),
    ):
        pass


def test_another_batch_is_refused(small: nn.Sequential) -> None:
    with pytest.raises(ValueError, match=r"expected \(4, "), mixing_inside(small, at(1)):
        small(torch.rand(3, 3, 9, 9))
