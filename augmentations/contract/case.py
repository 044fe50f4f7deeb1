"""One case of the contract: a method, a mode, and the batch that it mixes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mixbench.augmentations.bank import Bank
from mixbench.augmentations.method import Method
from mixbench.augmentations.networks.views import NetworkView
from mixbench.augmentations.plans.base import Batch, Plan


@dataclass(frozen=True)
class Case:
    """A method and a batch on which a property is checked.

    Attributes:
        make: Creates the method for `prob`, `per_sample` and `pairing`: its class, or
            `partial(mixbench.create, name, alpha=0.2)`.
        batch: The number of samples, B.
        channels: The number of channels, C.
        size: Height and width, in pixels.
        dtype: The images' dtype.
        channels_last: Whether the images have torch's channels-last memory format.
        per_sample: The method's parameter.
        prob: The method's parameter.
        pairing: The method's parameter.
        device: The device of images and plan.
        seed: Seed of the generator from which the plan is drawn.
    """

    make: Callable[..., Method]
    batch: int = 7
    channels: int = 3
    size: tuple[int, int] = (16, 24)
    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    per_sample: bool = False
    prob: float = 1.0
    pairing: str = "permute"
    device: str = "cpu"
    seed: int = 0

    def __str__(self) -> str:
        height, width = self.size
        parts = [
            f"batch of {self.batch} x {self.channels} x {height} x {width}",
            str(self.dtype).removeprefix("torch."),
            "channels_last" if self.channels_last else "",
            self.device if self.device != "cpu" else "",
            "per_sample" if self.per_sample else "",
            f"prob={self.prob:g}" if self.prob != 1 else "",
            f"pairing={self.pairing}",
            f"seed {self.seed}",
        ]
        return ", ".join(part for part in parts if part)

    def method(self, **changed: Any) -> Method:
        """Create the method in this case's mode."""
        mode = {"prob": self.prob, "per_sample": self.per_sample, "pairing": self.pairing}
        return self.make(**{**mode, **changed})

    def generator(self, seed: int | None = None) -> torch.Generator:
        """Create a generator on the case's device, by default with the case's seed."""
        return torch.Generator(self.device).manual_seed(self.seed if seed is None else seed)

    def images(self, seed: int = 0) -> Tensor:
        """Create noise in [0.5, 1.5) of the case's shape, dtype and layout; all pixels differ."""
        return self.noise(self.batch, self.channels, *self.size, seed=seed)

    def noise(self, *shape: int, seed: int = 0) -> Tensor:
        """Create noise as `images`, of any shape."""
        generator = torch.Generator().manual_seed(seed)
        values = torch.rand(shape, generator=generator, dtype=torch.float32) + 0.5
        values = values.to(device=self.device, dtype=self.dtype)
        if len(shape) == 4:
            layout = torch.channels_last if self.channels_last else torch.contiguous_format
            values = values.contiguous(memory_format=layout)
        return values

    def labels(self, classes: int = 10, batch: int | None = None) -> Tensor:
        """Create labels (B,) int64, neither sorted nor all different."""
        count = self.batch if batch is None else batch
        return (torch.arange(count, device=self.device) * 3 + 1) % classes

    def soft_labels(self, classes: int = 10) -> Tensor:
        """Create soft labels (B, classes) float32, whose rows sum to 1."""
        generator = torch.Generator().manual_seed(self.seed)
        values = torch.rand(self.batch, classes, generator=generator, dtype=torch.float32)
        return values.softmax(dim=1).to(self.device)

    def one_hot_images(self, size: tuple[int, int] | None = None) -> Tensor:
        """Create images (B, B, H, W) float32: image b is 1 in channel b and 0 elsewhere.

        After mixing, channel s of sample b is how much of each pixel comes from sample s.
        """
        height, width = size or self.size
        eye = torch.eye(self.batch, device=self.device, dtype=torch.float32)
        return eye.view(self.batch, self.batch, 1, 1).repeat(1, 1, height, width)

    def sample(self, images: Tensor, *, seed: int | None = None, **changed: Any) -> Plan:
        """Draw a plan for `images` with this case's method."""
        method = self.method(**changed)
        return method.sample(
            images.shape,
            device=images.device,
            generator=self.generator(seed),
            images=images,
            labels=self.labels(batch=len(images)),
            **self.given(method, images),
        )

    def mix(self, images: Tensor, labels: Tensor) -> Batch:
        """Mix a batch of 10 classes with this case's method and generator."""
        mix = self.method()
        given = self.given(mix, images)
        return mix(images, labels, 10, generator=self.generator(), **given)

    def given(self, method: Method, images: Tensor) -> dict[str, Any]:
        """Return what a method needs beside images and labels, as arguments for it."""
        given: dict[str, Any] = {}
        if "normalisation" in method.needs:
            given["normalisation"] = (-0.5, 1.0)  # of images from 0.5 to 1.5
        if "masks" in method.needs:
            given["masks"] = _masks(images)
        if "model" in method.needs:
            given["model"] = _view(images)
        if "bank" in method.needs:
            labels = self.labels(batch=len(images)).to(images.device)
            # Not images.roll, which autocast may refuse.
            before = torch.arange(len(images), device=images.device).roll(1)
            given["bank"] = Bank(images.index_select(0, before), labels.index_select(0, before))
        return given


def _masks(images: Tensor) -> Tensor:
    """Return masks (B, H, W) int64: 3 x 3 cells of the background and four objects, all unlike."""
    row, column = (
        torch.div(torch.arange(side, device=images.device) * 3, side, rounding_mode="floor")
        for side in images.shape[2:]
    )
    sample = torch.arange(len(images), device=images.device)
    return (3 * row.view(-1, 1) + column + sample.view(-1, 1, 1)) % 5


def _view(images: Tensor) -> NetworkView:
    """Return a small network for images such as these, always the same."""
    with torch.random.fork_rng(devices=[]):
        network = nn.Sequential(
            nn.Conv2d(images.shape[1], 4, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 10),
        ).to(images.device, torch.float32)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for one in network.parameters():
            one.copy_(torch.randn(one.shape, generator=generator, dtype=torch.float32))
    return NetworkView(network, map_layer="1")


def pixels_of(plan: Plan, images: Tensor) -> Tensor:
    """Mix `images` by the plan, also by one for a layer inside a network."""
    return plan.mix_images(images) if plan.depth == 0 else plan.mix_features(images)
