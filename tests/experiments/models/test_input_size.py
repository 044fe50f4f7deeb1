"""Images are brought to a network's own size as they enter it, and nothing else changes."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mixbench.experiments.config import resolve
from mixbench.experiments.config.schema import ModelConfig
from mixbench.experiments.data.load import load
from mixbench.experiments.evaluation.after_training import measure
from mixbench.experiments.models.build import build
from mixbench.experiments.models.resizing import resized
from mixbench.experiments.training import loop


def built(name: str, size: int, input_size: int | None = None) -> nn.Module:
    made = ModelConfig(name=name, input_size=input_size)
    return build(made, channels=1, classes=10, size=size, seed=0).eval()


@pytest.mark.parametrize("name", ["small_cnn", "resnet20", "timm/test_efficientnet"])
def test_a_network_with_an_input_size_is_the_same_network_on_resized_images(name: str) -> None:
    images = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    plain, other = built(name, 28), built(name, 28, 40)
    assert list(plain.state_dict()) == list(other.state_dict())
    for key, value in plain.state_dict().items():
        assert torch.equal(value, other.state_dict()[key])
    larger = F.interpolate(images, (40, 40), mode="bilinear", align_corners=False)
    with torch.no_grad():
        torch.testing.assert_close(other(images), plain(larger))
        assert not torch.allclose(other(images), plain(images), atol=1e-3)
        assert torch.equal(other(larger), plain(larger))


def test_a_vision_transformer_is_built_for_it() -> None:
    network = built("timm/test_vit", 28, 64)
    assert network.patch_embed.grid_size == (4, 4)  # type: ignore[union-attr]
    with torch.no_grad():
        assert network(torch.randn(2, 1, 28, 28)).shape == (2, 10)


def test_what_is_made_smaller_is_smoothed_and_what_is_made_larger_is_bilinear() -> None:
    board = (torch.arange(20).view(-1, 1) + torch.arange(20)).remainder(2).float()
    smaller = resized(board.view(1, 1, 20, 20), 4)
    # A sample of single pixels, here in the middles of 5 x 5, would show black and white.
    half = torch.full((1, 1, 2, 2), 0.5)
    torch.testing.assert_close(smaller[..., 1:3, 1:3], half, rtol=0, atol=0.01)
    corner = torch.tensor([[0.0, 1.0], [2.0, 3.0]]).view(1, 1, 2, 2)
    rows = torch.tensor([0.0, 0.25, 0.75, 1.0])
    torch.testing.assert_close(resized(corner, 4)[0, 0], 2 * rows.view(-1, 1) + rows)


def test_images_of_the_size_are_the_very_same_and_the_memory_format_stays() -> None:
    images = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
    assert resized(images, 8) is images
    for size in (5, 12):
        assert resized(images, size).is_contiguous(memory_format=torch.channels_last)


def test_copies_and_networks_without_storage_have_it_too() -> None:
    network = built("small_cnn", 28, 20)
    images = torch.randn(2, 1, 28, 28)
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(network)(images), network(images))
    with torch.device("meta"):
        empty = built("small_cnn", 28, 20)
        assert empty(torch.empty(2, 1, 28, 28)).shape == (2, 10)
    empty = empty.to_empty(device="cpu")
    empty.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(empty(images), network(images))


def test_it_holds_for_training_and_for_every_measurement(tmp_path: Path) -> None:
    made = resolve.parse(
        {
            "dataset": {"name": "digits", "train_size": 100},
            "model": {"name": "small_cnn", "width": 4, "input_size": 16},
            "augmentation": "cutmix",
            "training": {"epochs": 1, "batch_size": 30},
        }
    )
    dataset = load(made.dataset)
    network = build(made.model, channels=1, classes=10, size=8, seed=0)
    entered, seen = set(), []
    network.register_forward_pre_hook(
        lambda _module, arguments: entered.add(tuple(arguments[0].shape[1:])), prepend=True
    )
    network.get_submodule("features.0").register_forward_pre_hook(
        lambda _module, arguments: seen.append(tuple(arguments[0].shape[1:]))
    )
    loop.train(network, dataset, made, torch.device("cpu"), tmp_path, lambda *_, **__: None)
    steps = len(seen)
    measured = measure(network, dataset, made, lambda: None)
    assert steps >= 4 and len(seen) > steps
    # Mixed, and hidden in part, at the size of the data set.
    assert entered == {(1, 8, 8)} and set(seen) == {(1, 16, 16)}
    assert "occlusion/centre/0.25" in measured.metrics
