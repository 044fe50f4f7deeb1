"""The images that an attack may make: within ε of an image and in [0,1]."""

from __future__ import annotations

import torch
from torch import Tensor

from mixbench.experiments.evaluation.image_random import ImageRandom


class Ball:
    """The images in [0,1] of which no value is further than ε from that of `pixels`.

    The bound holds exactly, not only up to rounding: where rounding put a bound outside, it is
    moved to the next representable number.

    Args:
        pixels: (B,C,H,W) float32 in [0,1], the centre of the ball.
        epsilon: Its radius in the maximum norm, in pixels from 0 to 1.
    """

    def __init__(self, pixels: Tensor, epsilon: float) -> None:
        exact = pixels.double()
        low, high = (exact - epsilon).float(), (exact + epsilon).float()
        low = torch.where(exact - low.double() > epsilon, _next(low, 2.0), low)
        high = torch.where(high.double() - exact > epsilon, _next(high, -2.0), high)
        self.low, self.high = low.clamp(min=0), high.clamp(max=1)
        self.radius = epsilon

    @classmethod
    def between(cls, low: Tensor, high: Tensor) -> Ball:
        """The images between two images, such as those that differ in a patch alone.

        Args:
            low: (B,C,H,W) float32 in [0,1].
            high: The same, nowhere below `low`.
        """
        ball = object.__new__(cls)
        ball.low, ball.high, ball.radius = low, high, float((high - low).max()) / 2
        return ball

    def clip(self, images: Tensor) -> Tensor:
        """The nearest images in the ball.

        Args:
            images: (B,C,H,W) float32.
        """
        return torch.clamp(images, self.low, self.high)

    def step(self, images: Tensor, slope: Tensor, size: float | Tensor) -> Tensor:
        """Step along the sign of a gradient and project back into the ball.

        Args:
            images: (B,C,H,W) float32, where to start.
            slope: (B,C,H,W), of which only the sign is used.
            size: Of the step, in pixels from 0 to 1; or (B,1,1,1), of each image's.

        Returns:
            clip(images + size · sign(slope), low, high), (B,C,H,W) float32.
        """
        return self.clip(images + size * slope.sign())

    def random(self, draws: ImageRandom) -> Tensor:
        """Draw uniformly from the ball.

        Args:
            draws: The images' random numbers.

        Returns:
            (B,C,H,W) float32.
        """
        share = draws.uniform("start", *self.low.shape[1:])
        return self.clip(self.low + (self.high - self.low) * share)

    def take(self, index: Tensor) -> Ball:
        """The ball around some of the images.

        Args:
            index: (n,) int64 or (B,) bool, which of them.
        """
        part = object.__new__(Ball)
        part.low, part.high, part.radius = self.low[index], self.high[index], self.radius
        return part


def _next(values: Tensor, towards: float) -> Tensor:
    return torch.nextafter(values, torch.full_like(values, towards))
