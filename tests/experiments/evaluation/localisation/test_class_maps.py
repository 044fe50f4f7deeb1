"""Class activation maps: by the formula written out, and at the right place of networks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mixbench.experiments.config import resolve
from mixbench.experiments.errors import Impossible
from mixbench.experiments.evaluation.gradients import input_gradients
from mixbench.experiments.evaluation.localisation import class_maps
from mixbench.experiments.models.build import build
from tests.support import planted


def network(name: str, size: int) -> nn.Module:
    run = resolve.parse({"dataset": {"name": "fashion_mnist"}, "model": {"name": name}})
    return build(run.model, channels=1, classes=10, size=size, seed=0).eval()


def noise(size: int, count: int = 3) -> Tensor:
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(3))


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        # Before pooling, after the activation.
        ("small_cnn", 56, ("features.9", (14, 14))),
        ("resnet20", 56, ("norm", (14, 14))),
        ("timm/resnet18", 96, ("layer4", (3, 3))),
        # Its pooling keeps four axes, and has one place.
        ("timm/mobilenetv3_small_050", 64, ("blocks.5", (2, 2))),
        # Behind the last block, only the class token counts.
        ("timm/vit_tiny_patch16_224", 64, ("blocks.10", (4, 4))),
        # Channels last.
        ("timm/swin_tiny_patch4_window7_224", 56, ("norm", (2, 2))),
    ],
)
def test_where_maps_are_made(name: str, size: int, expected: object) -> None:
    model = network(name, size)
    with planted.untouched(model), input_gradients(model):
        found = class_maps.find_map_layer(model, model, noise(size))
        maps = class_maps.maps(model, model, noise(size), torch.tensor([1, 0, 9]), found)
    assert (found.name, found.size) == expected
    assert maps.shape == (3, *found.size) and maps.min() >= 0 and maps.max() > 0
    assert hooks(model) == 0


@pytest.mark.parametrize("name", ["small_cnn", "timm/vit_tiny_patch16_224"])
def test_maps_are_the_formula_written_out(name: str) -> None:
    model, images, labels = network(name, 32), noise(32), torch.tensor([2, 2, 7])
    with input_gradients(model):
        place = class_maps.find_map_layer(model, model, images)
        found = class_maps.maps(model, model, images, labels, place)
    kept: list[Tensor] = []
    hook = model.get_submodule(place.name).register_forward_hook(
        lambda _module, _arguments, output: kept.append(output)
    )
    for number, label in enumerate(labels.tolist()):
        logits = model(images[number : number + 1])
        (slope,) = torch.autograd.grad(logits[0, label], kept[-1])
        values = kept[-1][0]
        if values.dim() == 2:  # a class token, and then tokens by row
            side = int((len(values) - 1) ** 0.5)
            values = values[1:].T.reshape(-1, side, side)
            slope = slope[:, 1:].transpose(1, 2).reshape(1, -1, side, side)
        expected = torch.zeros_like(values[0])
        for channel, layer in enumerate(values):
            expected += slope[0, channel].mean() * layer
        expected = expected.clamp(min=0).detach()
        assert torch.allclose(found[number], expected, atol=1e-6 + 1e-4 * float(expected.max()))
    hook.remove()


class Pooled(nn.Module):
    """Features are averaged and weighted: for these Grad-CAM is CAM (Zhou et al. 2016)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2))
        self.classifier = nn.Linear(6, 4)

    def forward(self, images: Tensor) -> Tensor:
        # In place, as some networks do behind a layer.
        return self.classifier(self.features(images).mul_(2).mean(dim=(2, 3)))


def test_it_is_cam_where_features_are_averaged() -> None:
    model, images = Pooled().eval(), noise(10)
    with planted.untouched(model), input_gradients(model):
        place = class_maps.MapLayer("features.2", (4, 4))
        found = class_maps.maps(model, model, images, torch.tensor([0, 1, 2]), place)
    weights = model.classifier.weight[:3]
    expected = torch.einsum("bc,bchw->bhw", weights, model.features(images)).relu() / 8
    assert torch.allclose(found, expected, atol=1e-7)


def test_maps_follow_the_class() -> None:
    model, images = network("small_cnn", 28), noise(28, 1).repeat(10, 1, 1, 1)
    with input_gradients(model):
        place = class_maps.find_map_layer(model, model, images)
        found = class_maps.maps(model, model, images, torch.arange(10), place)
    assert len({tuple(one.flatten().tolist()) for one in found}) == 10


def test_a_network_without_places_is_named() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Linear(5, 3))
    with input_gradients(model), pytest.raises(Impossible, match=r"no part of the network"):
        class_maps.find_map_layer(model, model, noise(8))
    assert hooks(model) == 0


def test_hooks_go_when_a_network_fails() -> None:
    model = network("small_cnn", 28)
    with input_gradients(model), pytest.raises(RuntimeError):
        class_maps.find_map_layer(model, model, torch.zeros(2, 5, 28, 28))
    assert hooks(model) == 0
