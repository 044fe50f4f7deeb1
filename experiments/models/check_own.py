"""Check a network of the user's own: what mixbench relies on, tried on random images."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from mixbench.experiments.config.schema import ModelConfig
from mixbench.experiments.errors import UserError
from mixbench.experiments.models.build import build
from mixbench.experiments.text import first_line

CLASSES, SIZE, IMAGES = 5, 32, 4


def check_network(name: str) -> list[tuple[str, str]]:
    """Return (promise, what is broken or "") for each thing that training relies on.

    Raises UserError where there is no network at all.
    """
    network = _built(name, 0)
    checks: dict[str, Callable[[], str]] = {
        f"gives {CLASSES} finite logits an image": lambda: _logits(network),
        "has the same initial weights for one seed, others for another": lambda: _seeds(name),
        "learns in each of its parameters": lambda: _gradients(network),
        "sees each image alone when it is evaluated": lambda: _alone(network),
        "takes grey images": lambda: _grey(name),
    }
    found = []
    for promise, broken in checks.items():
        try:
            found.append((promise, broken()))
        except Exception as error:  # other people's code can raise anything
            found.append((promise, f"{type(error).__name__}: {first_line(error)}"))
    return found


def _built(name: str, seed: int, channels: int = 3) -> nn.Module:
    config = ModelConfig(name=name)
    return build(config, channels=channels, classes=CLASSES, size=SIZE, seed=seed)


def _images(channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(IMAGES, channels, SIZE, SIZE, generator=generator)


def _logits(network: nn.Module) -> str:
    logits = network(_images())
    if not isinstance(logits, torch.Tensor):
        return f"got a {type(logits).__name__}"
    if logits.shape != (IMAGES, CLASSES):
        return f"got {list(logits.shape)} for {IMAGES} images, expected {[IMAGES, CLASSES]}"
    return "" if logits.isfinite().all() else "some are not finite"


def _seeds(name: str) -> str:
    first, again, other = (_built(name, seed).state_dict() for seed in (0, 0, 1))
    if any(not torch.equal(value, again[key]) for key, value in first.items()):
        return "one seed gave two networks: draw weights from torch's own generator"
    if all(torch.equal(value, other[key]) for key, value in first.items()):
        return "every seed gives the same: don't set a seed of your own"
    return ""


def _gradients(network: nn.Module) -> str:
    labels = torch.arange(IMAGES) % CLASSES
    network.train()
    F.cross_entropy(network(_images()), labels).backward()
    without = [key for key, value in network.named_parameters() if value.grad is None]
    return f"no gradient for {', '.join(without[:3])}" if without else ""


def _alone(network: nn.Module) -> str:
    network.eval()
    with torch.no_grad():
        together, one = network(_images()), network(_images()[:1])
    return "" if torch.allclose(together[:1], one, rtol=1e-3, atol=1e-4) else "others change it"


def _grey(name: str) -> str:
    try:
        return "" if _built(name, 0, 1)(_images(1)).shape == (IMAGES, CLASSES) else "other logits"
    except UserError as error:
        return str(error)
