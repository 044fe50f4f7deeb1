"""Fashion-MNIST, each image rotated by an angle that is to be predicted.

In the manner of RCF-MNIST (Yao et al. 2022, C-Mixup, appendix), without its colours: the angle is
drawn evenly, here from -90 to 90 degrees, so that it is no circle.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.config.datasets import DatasetInfo
from mixbench.experiments.data.named import Arrays, NamedDataset
from mixbench.experiments.data.sets.fashion_mnist import DATASET as FASHION_MNIST

INFO = DatasetInfo(
    name="rotated_fashion_mnist",
    title="Fashion-MNIST, rotated by an angle to predict",
    channels=1,
    size=28,
    classes=1,
    train=60_000,
    test=10_000,
    flip=False,
    crop_padding=2,
    targets=("regression",),
    source="made from fashion_mnist",
)

LARGEST = 90.0
"""Angles are from minus this to this, in degrees."""
_SEED = 20260


class _RotatedFashionMNIST(NamedDataset):
    def find(self) -> str | None:
        """Where Fashion-MNIST is."""
        return FASHION_MNIST.find()

    def fetch(self) -> str:
        """Fetch Fashion-MNIST."""
        return FASHION_MNIST.fetch()

    def verify(self, source: str) -> None:
        FASHION_MNIST.verify(source)

    def read(self, source: str) -> Arrays:
        """Rotate all images, always by the same angles."""
        plain = FASHION_MNIST.read(source)
        angles, test_angles = (
            angles_of(len(plain.train_images), 0),
            angles_of(len(plain.test_images), 1),
        )
        return Arrays(
            ("angle",),
            rotated(plain.train_images, angles),
            angles[:, None],
            rotated(plain.test_images, test_angles),
            test_angles[:, None],
        )


DATASET = _RotatedFashionMNIST()


def angles_of(images: int, part: int) -> NDArray[np.float32]:
    """Return the angle of each image in degrees, anticlockwise; part: 0 to train, 1 to test."""
    # RandomState's streams are frozen: every release of numpy gives the same angles.
    draws = np.random.RandomState(_SEED + part)
    return draws.uniform(-LARGEST, LARGEST, images).astype(np.float32)


def rotated(images: NDArray[np.uint8], angles: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Rotate each of images (N,1,H,W) about its middle, bilinear, with black from outside."""
    import torch
    import torch.nn.functional as F

    turned = np.empty_like(images)
    for first in range(0, len(images), 4096):
        part = slice(first, first + 4096)
        radians = torch.from_numpy(angles[part]).double().deg2rad().float()
        cos, sin, zero = radians.cos(), radians.sin(), torch.zeros_like(radians)
        matrix = torch.stack([cos, -sin, zero, sin, cos, zero], dim=1).view(-1, 2, 3)
        pixels = torch.from_numpy(images[part].astype(np.float32))
        grid = F.affine_grid(matrix, list(pixels.shape), align_corners=False)
        found = F.grid_sample(pixels, grid, align_corners=False)
        turned[part] = found.round().clamp(0, 255).to(torch.uint8).numpy()
    return turned
