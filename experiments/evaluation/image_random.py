"""Random numbers for each image, from a seed, a name and the image's index in its split.

They are hashed from a counter instead of taken from a generator's stream, so that they are the same
in batches of any size and for any model, are computed on the images' device, and need no loop.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

_STEP = -0x61C8864680B583EB
"""An odd number near 2^64 / golden ratio, in two's complement: neighbours start far apart."""
_MIX = (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)


class ImageRandom:
    """Random numbers for a batch of images; asked twice for the same, it gives the same tensor.

    Args:
        indices: (B,) int64, the images' indices in their split, on the device of the numbers.
        seed: Which numbers.
        name: Which numbers, for purposes that are independent of each other.

    Examples:
        >>> draws = ImageRandom(torch.arange(5), seed=0, name="noise")
        >>> alone = ImageRandom(torch.tensor([3]), seed=0, name="noise")
        >>> torch.equal(draws.uniform("shift", 2)[3:4], alone.uniform("shift", 2))
        True
    """

    def __init__(self, indices: Tensor, seed: int, name: str) -> None:
        self.indices = indices
        self._seed = f"{seed}/{name}"
        self._cache: dict[tuple[str, str, tuple[int, ...]], Tensor] = {}

    def uniform(self, what: str, *shape: int) -> Tensor:
        """(B, *shape) float32 in [0,1), from 2^24 equally likely values."""
        return self._once("uniform", what, shape)

    def normal(self, what: str, *shape: int) -> Tensor:
        """(B, *shape) float32 from a standard normal distribution, within 6.7 deviations."""
        return self._once("normal", what, shape)

    def _once(self, kind: str, what: str, shape: tuple[int, ...]) -> Tensor:
        key = (kind, what, shape)
        if key not in self._cache:
            bits = self._bits(what, math.prod(shape))
            flat = _uniform(bits) if kind == "uniform" else _normal(bits)
            self._cache[key] = flat.view(-1, *shape)
        return self._cache[key]

    def _bits(self, what: str, count: int) -> Tensor:
        """(B, count) int64, all 64 bits random."""
        digest = hashlib.sha256(f"{self._seed}/{what}".encode()).digest()
        key = int.from_bytes(digest[:8], "little", signed=True)
        images = _scrambled(self.indices * _STEP + key)
        counter = torch.arange(count, device=self.indices.device) * _STEP
        return _scrambled(images.unsqueeze(1) + counter)


def _scrambled(bits: Tensor) -> Tensor:
    """The finaliser of SplitMix64 (Steele et al. 2014, variant 13 of Stafford), of a new tensor."""
    for shift, factor in zip((30, 27), _MIX, strict=True):
        bits = (bits ^ _right(bits, shift)).mul_(factor)
    return bits ^ _right(bits, 31)


def _right(bits: Tensor, shift: int) -> Tensor:
    """Shift right, filling with zeros: torch's shift repeats the sign."""
    return (bits >> shift).bitwise_and_((1 << (64 - shift)) - 1)


def _uniform(bits: Tensor) -> Tensor:
    return _right(bits, 40).float().mul_(2.0**-24)


def _normal(bits: Tensor) -> Tensor:
    """Box and Muller 1958, the cosine of the two: one number of the upper and the lower 32 bits."""
    # Above 0, for the logarithm.
    radius = _right(bits, 32).float().add_(0.5).mul_(2.0**-32).log_().mul_(-2).clamp_(min=0).sqrt_()
    angle = bits.bitwise_and((1 << 32) - 1).float().mul_(2.0**-32 * 2 * math.pi)
    return radius.mul_(angle.cos_())
