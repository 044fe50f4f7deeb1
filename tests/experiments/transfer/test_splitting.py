"""A network in two parts: the rest makes of the features what the network makes of the images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mixbench.experiments.config.schema import ModelConfig
from mixbench.experiments.models.build import build
from mixbench.experiments.transfer.layers import Layers, head_of
from mixbench.experiments.transfer.split_network import (
    Boundary,
    changed_at,
    features_at,
    split,
    why_different,
)

NETWORKS = {
    "small_cnn": 28,
    "resnet20": 28,
    "timm/resnet18": 32,
    "timm/tf_efficientnet_lite0": 64,
    "timm/mobilenetv3_small_050": 32,
    "timm/vit_tiny_patch16_224": 64,
}


def built(name: str, size: int) -> nn.Module:
    """With an input size of its own, as images come smaller."""
    config = ModelConfig(name=name, input_size=size)
    return build(config, channels=1, classes=10, size=28, seed=0)


@pytest.mark.parametrize(("name", "size"), NETWORKS.items())
def test_the_rest_makes_of_features_what_the_network_makes_of_images(name: str, size: int) -> None:
    network = built(name, size).eval()
    names = list(network.state_dict())
    images = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    layers = Layers.of(network, name).names
    boundaries = [
        Boundary(layers[0]),
        Boundary(layers[-1]),
        Boundary(head_of(network), before=True),
    ]
    with torch.no_grad():
        whole = network(images)
        for boundary in boundaries:
            features = features_at(network, boundary, images)
            behind = split(network, boundary, images)
            torch.testing.assert_close(behind(features), whole, rtol=0, atol=1e-5)
            # Of the features it was given, not of those it was made with.
            other = features_at(network, boundary, images.flip(0)[:3])
            torch.testing.assert_close(behind(other), whole.flip(0)[:3], rtol=0, atol=1e-5)
            assert not any("forward" in vars(module) for module in network.modules())
    torch.testing.assert_close(network(images), whole, rtol=0, atol=1e-5)
    assert list(network.state_dict()) == names
    own = {id(parameter) for parameter in network.parameters()}
    assert {id(parameter) for parameter in behind.parameters()} == own


def test_only_what_is_before_the_boundary_runs_for_features_and_only_the_rest_behind() -> None:
    network = built("timm/resnet18", 32).eval()
    ran: list[str] = []
    for name, module in network.named_modules():
        module.register_forward_hook(
            lambda _module, _arguments, output, name=name: ran.append((name, len(output)))
        )
    images = torch.randn(4, 1, 28, 28)
    features = features_at(network, Boundary("layer2"), images)
    assert {name for name, _ in ran} >= {"conv1", "layer1.0.conv1", "layer2"}
    assert not any(name.startswith(("layer3", "fc")) or not name for name, _ in ran)
    behind = split(network, Boundary("layer2"), images)
    ran.clear()
    behind(features)
    worked = {name for name, count in ran if count == 4}
    assert {"layer3", "layer4.1.conv2", "fc", ""} <= worked
    assert not any(name.startswith(("conv1", "layer1")) for name in worked)


class Twice(nn.Module):
    """One activation, and one convolution, run before the boundary and behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.activation = nn.Tanh()
        self.first = nn.Conv2d(1, 3, 3)
        self.again = nn.Conv2d(3, 3, 3, padding=1)
        self.body = nn.Conv2d(3, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Linear(3, 2)

    def forward(self, images: Tensor) -> Tensor:
        x = self.again(self.activation(self.first(images)))
        x = self.activation(self.again(self.activation(self.body(x)) * 2))
        return self.head(self.norm(x).mean((2, 3)))


def test_modules_that_run_on_both_sides() -> None:
    torch.manual_seed(0)
    network = Twice()
    for parameter in (*network.first.parameters(), *network.body.parameters()):
        parameter.requires_grad_(False)
    for parameter in network.again.parameters():
        parameter.requires_grad_(False)
    images = torch.randn(5, 1, 8, 8)
    boundary = Boundary("body")
    features = features_at(network, boundary, images)
    behind = split(network, boundary, images)
    torch.testing.assert_close(behind(features), network(images), rtol=0, atol=1e-6)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert why_different(network, behind, boundary, images, features) is None
    after = network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


class Drawing(nn.Module):
    """Draws, without a trace in what comes out."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0 * torch.rand(1)


class Odd(nn.Module):
    """`kind`: what it does that keeps it from being cut at `body`."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.first = nn.Linear(6, 6)
        self.dropout = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(6)
        self.drawing = Drawing()
        self.body = nn.Linear(6, 6)
        self.head = nn.Linear(6, 2)
        for module in (self.first, self.norm, self.body):
            module.requires_grad_(False)
        if kind == "trained":
            self.first.bias.requires_grad_(True)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        if self.kind == "dropout":
            first = self.dropout(first)
        if self.kind == "statistics":
            first = self.norm(first)
        if self.kind == "noise":
            first = self.drawing(first)
        body = self.body(first)
        if self.kind == "twice":
            body = self.body(body)
        return self.head(body + first if self.kind == "skip" else body)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("plain", None),
        ("skip", "does not work alone"),
        ("trained", "is trained"),
        ("dropout", "not the same every time"),
        ("statistics", "not the same every time"),
        ("noise", "random numbers are drawn"),
        ("twice", "runs 2 times"),
    ],
)
def test_what_does_not_agree(kind: str, expected: str | None) -> None:
    torch.manual_seed(2)
    network = Odd(kind).eval()
    x = torch.randn(6, 6)
    boundary = Boundary("body")
    features = features_at(network, boundary, x)
    behind = split(network, boundary, x)
    network.train()
    reason = why_different(network, behind, boundary, x, features)
    assert (reason is None) if expected is None else (reason is not None and expected in reason)


def test_what_is_at_a_place_is_changed_on_its_way() -> None:
    network = built("small_cnn", 28).eval()
    images = torch.randn(3, 1, 28, 28)
    for boundary in (Boundary("features.6"), Boundary("classifier", before=True)):
        features = features_at(network, boundary, images)
        with torch.no_grad(), changed_at(network, boundary, lambda value: value.roll(1, 0)):
            out = network(images)
        torch.testing.assert_close(out, network(images).roll(1, 0), rtol=0, atol=1e-5)
        assert features.shape[0] == 3
    torch.testing.assert_close(network(images).roll(1, 0), out, rtol=0, atol=1e-5)


def test_a_place_that_gives_no_tensor_or_does_not_run() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return x, x

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = Pair()
            self.unused = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.pair(x)[0]

    with pytest.raises(ValueError, match="'pair' gives tuple, expected a tensor"):
        features_at(Network(), Boundary("pair"), torch.randn(3, 2))
    with pytest.raises(ValueError, match="'unused' does not run"):
        features_at(Network(), Boundary("unused"), torch.randn(3, 2))
    with pytest.raises(ValueError, match="'unused' does not run"):
        split(Network(), Boundary("unused"), torch.randn(3, 2))
