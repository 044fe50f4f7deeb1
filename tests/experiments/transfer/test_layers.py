"""Which layer a module of a network is in: stem, layers, neck, head."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mixbench.experiments.config.schema import ModelConfig
from mixbench.experiments.errors import UserError
from mixbench.experiments.models.build import build
from mixbench.experiments.transfer.layers import Layers, last_within

# Of timm, none with weights of interest: how many layers, and some parameters' layers.
NETWORKS: dict[str, tuple[int, dict[str, int]]] = {
    "small_cnn": (
        3,
        {
            "features.0.weight": 1,
            "features.1.running_mean": 1,
            "features.3.weight": 2,
            "features.8.running_var": 3,
            "classifier.bias": 5,
        },
    ),
    "resnet20": (
        3,
        {
            "stem.weight": 0,
            "blocks.0.norm1.weight": 1,
            "blocks.2.conv2.weight": 1,
            "blocks.3.shortcut.weight": 2,
            "blocks.8.conv2.weight": 3,
            "norm.weight": 4,
            "norm.running_var": 4,
            "classifier.weight": 5,
        },
    ),
    "timm/resnet18": (
        4,
        {
            "conv1.weight": 0,
            "bn1.running_mean": 0,
            "layer1.0.conv1.weight": 1,
            "layer4.1.bn2.running_var": 4,
            "fc.weight": 6,
        },
    ),
    "timm/tf_efficientnet_lite0": (
        7,
        {
            "conv_stem.weight": 0,
            "bn1.weight": 0,
            "blocks.0.0.conv_dw.weight": 1,
            "blocks.6.0.bn3.running_mean": 7,
            "conv_head.weight": 8,
            "bn2.running_mean": 8,
            "classifier.bias": 9,
        },
    ),
    "timm/vit_tiny_patch16_224": (
        12,
        {
            "cls_token": 0,
            "pos_embed": 0,
            "patch_embed.proj.weight": 0,
            "blocks.0.norm1.weight": 1,
            "blocks.11.mlp.fc2.bias": 12,
            "norm.weight": 13,
            "head.weight": 14,
        },
    ),
    "timm/convnext_atto": (
        4,
        {
            "stem.0.weight": 0,
            "stages.0.blocks.0.gamma": 1,
            "stages.3.downsample.1.weight": 4,
            "head.norm.weight": 5,
            "head.fc.weight": 6,
        },
    ),
    "timm/mobilenetv3_small_050": (
        6,
        {
            "conv_stem.weight": 0,
            "blocks.5.0.conv.weight": 6,
            "conv_head.weight": 7,
            "classifier.weight": 8,
        },
    ),
    "timm/vgg11_bn": (
        8,
        {
            "features.0.weight": 1,
            "features.4.weight": 2,
            "pre_logits.fc1.weight": 9,
            "head.fc.bias": 10,
        },
    ),
    "timm/densenet121": (
        8,
        {"features.conv0.weight": 1, "features.norm5.running_mean": 8, "classifier.weight": 10},
    ),
}


def network_of(name: str) -> nn.Module:
    with torch.device("meta"):
        return build(ModelConfig(name=name), channels=3, classes=10, size=32, seed=0)


@pytest.fixture(scope="module", params=NETWORKS)
def case(request: pytest.FixtureRequest) -> tuple[str, nn.Module, Layers, dict[str, int]]:
    network = network_of(request.param)
    layers = Layers.of(network, request.param)
    return request.param, network, layers, layers.numbers(network)


Case = tuple[str, nn.Module, Layers, dict[str, int]]


def test_every_parameter_and_statistic_is_in_one_layer(case: Case) -> None:
    name, network, layers, numbers = case
    depth, expected = NETWORKS[name]
    assert len(layers.names) == depth and layers.neck == depth + 1
    assert list(numbers) == [one for one, _ in network.named_modules()]
    tensors = [*network.named_parameters(), *network.named_buffers()]
    found = {key: numbers[key.rpartition(".")[0]] for key, _ in tensors}
    assert {key: found[key] for key in expected} == expected
    # Each layer has some, and what is a layer by name has all of its own.
    assert set(found.values()) >= set(range(1, depth + 1)) | {depth + 2}
    for number, layer in enumerate(layers.names, start=1):
        assert {value for key, value in found.items() if key.startswith(f"{layer}.")} <= {number}
    # From the stem to the head, as they are registered; what a network holds itself comes first.
    assert list(numbers.values()) == sorted(numbers.values())


def test_the_output_of_a_layer_depends_on_what_is_up_to_it_and_on_nothing_else() -> None:
    """The numbers are depths: what comes later in the list comes later in the forward pass."""
    for name in ("resnet20", "timm/mobilenetv3_small_050", "timm/vit_tiny_patch16_224"):
        network = build(ModelConfig(name=name), channels=3, classes=10, size=32, seed=0).train()
        layers = Layers.of(network, name)
        numbers = layers.numbers(network)
        for number in (1, len(layers.names)):
            outputs: list[torch.Tensor] = []
            layer = network.get_submodule(layers.names[number - 1])
            with layer.register_forward_hook(lambda *given, kept=outputs: kept.append(given[2])):
                network(torch.randn(2, 3, 32, 32))
            network.zero_grad()
            outputs[0].square().sum().backward()
            for key, parameter in network.named_parameters():
                reached = parameter.grad is not None
                assert reached == (numbers[key.rpartition(".")[0]] <= number), (name, number, key)


class Scaled(nn.Module):
    """Its classifier is registered first, and a constant of its own comes after it."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(8, 10)
        self.scale = nn.Parameter(torch.ones(()))
        self.layer1, self.layer2 = nn.Linear(4, 8), nn.Linear(8, 8)
        self.gain = nn.Linear(1, 1)


def test_where_the_classifier_is_registered_does_not_matter() -> None:
    network = Scaled()
    layers = Layers(("layer1", "layer2"), None)
    assert layers.numbers(network) == {"": 0, "classifier": 4, "layer1": 1, "layer2": 2, "gain": 3}


def test_what_follows_the_classifier_is_of_the_head() -> None:
    network = nn.Module()
    network.layer1, network.layer2 = nn.Linear(4, 8), nn.Linear(8, 8)
    network.norm = nn.LayerNorm(8)
    network.classifier = nn.Linear(8, 10)
    network.temperature = nn.Linear(1, 1)
    layers = Layers(("layer1", "layer2"), None)
    numbers = layers.numbers(network)
    assert list(numbers.values()) == [0, 1, 2, 3, 4, 4]


def test_a_network_without_layers_is_neck_and_head() -> None:
    network = nn.Module()
    network.body = nn.Linear(4, 4)
    network.classifier = nn.Linear(4, 2)
    assert Layers((), None).numbers(network) == {"": 1, "body": 1, "classifier": 2}


def test_networks_without_what_is_needed() -> None:
    with pytest.raises(UserError, match="has no classifier"):
        Layers(("0", "1"), None).numbers(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    network = network_of("timm/deit_tiny_distilled_patch16_224")
    with pytest.raises(UserError, match="no single classifier"):
        Layers.of(network, "timm/deit_tiny_distilled_patch16_224").numbers(network)
    with pytest.raises(ValueError, match=r"no module 'blocks\.2'"):
        Layers.of(network, "resnet20").numbers(network_of("small_cnn"))


def test_the_end_of_a_module() -> None:
    order = ["", "a", "a.b", "a.c", "ab", "d"]
    assert [order[last_within(name, order)] for name in ("a", "a.b", "ab", "d")] == [
        "a.c",
        "a.b",
        "ab",
        "d",
    ]
