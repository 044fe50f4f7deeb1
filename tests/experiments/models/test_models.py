"""The networks: sizes worked out by hand, shapes, and weights that come from the seed alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mixbench.augmentations.networks.layers import layer_names
from mixbench.experiments.config.models import our_networks
from mixbench.experiments.config.schema import ModelConfig
from mixbench.experiments.errors import UserError
from mixbench.experiments.models.build import build


def made(name: str, size: int = 32, channels: int = 3, seed: int = 0, **options: Any) -> nn.Module:
    config = ModelConfig(name=name, **options)
    return build(config, channels=channels, classes=10, size=size, seed=seed)


def parameters(network: nn.Module) -> int:
    return sum(value.numel() for value in network.parameters())


def small_cnn_size(channels: int, width: int) -> int:
    norms = 2 * (1 + 2 + 4) * width
    first = 25 * channels * width
    return first + 9 * 2 * width**2 + 9 * 8 * width**2 + norms + 16 * width * 10 + 10


def resnet20_size(channels: int, width: int) -> int:
    total, inputs = 9 * channels * width, width
    for stage in range(3):
        outputs = width * 2**stage
        for _ in range(3):
            total += 2 * inputs + 9 * inputs * outputs + 2 * outputs + 9 * outputs**2
            total += inputs * outputs if inputs != outputs else 0
            inputs = outputs
    return total + 2 * inputs + 10 * inputs + 10


@pytest.mark.parametrize(
    ("name", "channels", "width", "expected"),
    [
        ("small_cnn", 1, None, 26_234),
        ("small_cnn", 3, None, small_cnn_size(3, 16)),
        ("small_cnn", 1, 5, small_cnn_size(1, 5)),
        ("resnet20", 1, None, 271_994),
        ("resnet20", 3, None, resnet20_size(3, 16)),
        ("resnet20", 3, 4, resnet20_size(3, 4)),
        # The usual ResNet-18 for CIFAR-10.
        ("timm/resnet18", 3, None, 11_173_962),
    ],
)
def test_parameters(name: str, channels: int, width: int | None, expected: int) -> None:
    options = {"width": width} if width else {}
    network = made(name, channels=channels, small_stem=name.startswith("timm"), **options)
    assert parameters(network) == expected
    assert (small_cnn_size(1, 16), resnet20_size(1, 16)) == (26_234, 271_994)


@pytest.mark.parametrize(
    ("name", "expected"), [("small_cnn", [16, 8, 2]), ("resnet20", [32, 16, 8])]
)
def test_stages_are_modules_of_the_network_in_order(name: str, expected: list[int]) -> None:
    """Where a method may mix is known without the network: it must be what the network has."""
    network, stages = made(name, width=4), our_networks()[name].stages
    sides = []
    for stage in stages:
        network.get_submodule(stage).register_forward_hook(
            lambda _module, _given, output: sides.append(output.shape[2])
        )
    network(torch.zeros(2, 3, 32, 32))
    assert sides == expected
    assert name != "small_cnn" or stages == layer_names(network)


@pytest.mark.parametrize("name", ["small_cnn", "resnet20"])
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (1, 28), (3, 32), (3, 96)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_shapes(name: str, channels: int, size: int, layout: torch.memory_format) -> None:
    network = made(name, size, channels, width=4).to(memory_format=layout)
    images = torch.randn(3, channels, size, size).contiguous(memory_format=layout)
    logits = network(images)
    assert logits.shape == (3, 10) and torch.isfinite(logits).all()
    logits.sum().backward()
    assert all(value.grad is not None for value in network.parameters())


def sizes_within(network: nn.Module, images: Tensor, place: str) -> list[tuple[int, ...]]:
    seen: list[tuple[int, ...]] = []
    hook = network.get_submodule(place).register_forward_hook(
        lambda _, __, output: seen.append(tuple(output.shape[2:]))
    )
    with torch.no_grad():
        network.eval()(images)
    hook.remove()
    return seen


@pytest.mark.parametrize(
    ("small_stem", "expected"),
    [(True, [(32, 32), (16, 16), (8, 8), (4, 4)]), (False, [(8, 8), (4, 4), (2, 2), (1, 1)])],
)
def test_a_small_stem_keeps_the_resolution(
    small_stem: bool, expected: list[tuple[int, int]]
) -> None:
    network = made("timm/resnet18", small_stem=small_stem)
    images = torch.randn(2, 3, 32, 32)
    found = [sizes_within(network, images, f"layer{stage}")[0] for stage in range(1, 5)]
    assert found == expected
    assert network.eval()(images).shape == (2, 10)


def test_resnet20_halves_twice() -> None:
    network = made("resnet20", 28, 1, width=4)
    images = torch.randn(2, 1, 28, 28)
    found = [sizes_within(network, images, f"blocks.{block}")[0] for block in (2, 3, 6, 8)]
    assert found == [(28, 28), (14, 14), (7, 7), (7, 7)]


def test_a_vision_transformer_for_small_images() -> None:
    network = made("timm/vit_tiny_patch16_224", 32)
    assert network.pos_embed.shape[1] == 4 + 1  # 2 x 2 patches and the class token
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("name", ["timm/mobilenetv3_small_050", "timm/convnext_atto"])
def test_other_families(name: str) -> None:
    network = made(name, 32, channels=1)
    assert network.eval()(torch.randn(2, 1, 32, 32)).shape == (2, 10)


def test_a_stem_that_cannot_be_shrunk() -> None:
    for name in ("timm/resnet18d", "timm/vit_tiny_patch16_224"):
        with pytest.raises(UserError, match=r"model\.small_stem: timm/.* has no single stem"):
            made(name, small_stem=True)


def test_paths_are_dropped_more_the_deeper_they_are() -> None:
    plain, dropping = (made("timm/resnet18", drop_path=rate) for rate in (0, 0.35))
    assert dropping.state_dict().keys() == plain.state_dict().keys()
    assert all(torch.equal(v, dropping.state_dict()[k]) for k, v in plain.state_dict().items())
    rates = [block.drop_path for block in dropping.modules() if hasattr(block, "drop_path")]
    # Eight blocks, from 0 in even steps up to the rate of the last one.
    assert [getattr(path, "drop_prob", 0) for path in rates] == pytest.approx(
        [0.05 * number for number in range(8)]
    )
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(dropping.eval()(images), plain.eval()(images))
    with pytest.raises(UserError, match=r"drop_path: got 0.1, but timm/densenet121 drops no path"):
        made("timm/densenet121", drop_path=0.1)


@pytest.mark.parametrize(
    ("name", "options"),
    [("small_cnn", {}), ("resnet20", {"width": 4}), ("timm/resnet18", {"small_stem": True})],
)
def test_weights_come_from_the_seed_alone(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = made(name, seed=1, **options).state_dict()
    assert torch.equal(torch.get_rng_state(), before), "the global random state is left alone"
    torch.manual_seed(6)
    again, other = (made(name, seed=seed, **options).state_dict() for seed in (1, 2))
    assert all(torch.equal(value, again[key]) for key, value in one.items())
    drawn = [key for key, value in one.items() if value.is_floating_point() and value.dim() > 1]
    assert drawn and not any(torch.equal(one[key], other[key]) for key in drawn)


@pytest.mark.parametrize("name", ["small_cnn", "resnet20"])
def test_the_first_outputs_are_of_a_sound_size(name: str) -> None:
    network = made(name, 32, seed=3)
    logits = network(torch.randn(64, 3, 32, 32))
    assert 0.05 < logits.std() < 5
