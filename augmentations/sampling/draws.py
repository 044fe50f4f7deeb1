"""Draw the random numbers of plans, without host synchronisation or global state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mixbench.augmentations.parameters import CLASS_PAIRINGS, PAIRINGS
from mixbench.augmentations.sampling.class_partners import other_class, same_class

if TYPE_CHECKING:
    from mixbench.augmentations.bank import Bank


@dataclass(frozen=True)
class Draws:
    """Random numbers for the plan of one batch.

    Fractions are float64 (float32 where the device has no float64): the papers' code computes boxes
    in double precision, and a box must not depend on the device.

    Args:
        rows: How many independent draws the plan needs: the batch size when the method draws per
            sample, else 1.
        batch: How many samples the batch has.
        height: Height of the images in pixels.
        width: Width of the images in pixels.
        device: The device of the numbers and of the plan.
        generator: Source of the random numbers; None for the device's default generator.
        images: The batch itself, (B, C, H, W), for a method that needs it; not changed.
        labels: Its labels, (B,) int64 or (B, num_classes), likewise.
        masks: Where its objects are, (B, H, W), likewise.
        model: What may be asked of the network that is trained, likewise.
        bank: Earlier batches, likewise.
        normalisation: The mean and the standard deviation of the images' normalisation, likewise.
        drawn: Takes the methods that a `choice` per batch draws.

    Examples:
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> draws = Draws(2, 2, 32, 32, "cpu", generator)
        >>> draws.integers(draws.height).shape
        torch.Size([2])
    """

    rows: int
    batch: int
    height: int
    width: int
    device: torch.device | str
    generator: torch.Generator | None
    images: Tensor | None = None
    labels: Tensor | None = None
    masks: Tensor | None = None
    model: Any = None
    bank: Bank | None = None
    normalisation: Any = None
    drawn: list[Any] | None = None

    @property
    def _float(self) -> torch.dtype:
        return torch.float32 if self._kind == "mps" else torch.float64

    @property
    def _kind(self) -> str:
        kind: str | None = getattr(self.device, "type", None)
        return kind or torch.device(self.device).type

    def uniform(self, low: float = 0.0, high: float = 1.0, *, tries: int | None = None) -> Tensor:
        """Draw uniform fractions from [low, high).

        Args:
            low: Lower bound.
            high: Upper bound.
            tries: How many for each row; None for one.

        Returns:
            (rows,) float64, or (rows, tries).
        """
        shape = (self.rows,) if tries is None else (self.rows, tries)
        unit = torch.rand(shape, dtype=self._float, device=self.device, generator=self.generator)
        if (low, high) == (0.0, 1.0):
            return unit
        return unit.mul_(high - low).add_(low)

    def uniforms(self, count: int) -> Tensor:
        """Draw `count` times from [0, 1); on a CPU the numbers of as many calls of `uniform`.

        Returns:
            (count, rows) float64.
        """
        return torch.rand(
            (count, self.rows), dtype=self._float, device=self.device, generator=self.generator
        )

    def whole(self, value: int) -> Tensor:
        """Repeat a whole number, which is not random, in every row: (rows,) int64."""
        return torch.full((self.rows,), value, dtype=torch.int64, device=self.device)

    def coin(self, prob: float) -> Tensor:
        """Draw True with probability `prob`: (rows,) bool."""
        return self.uniform() < prob

    def integers(self, high: int | Tensor) -> Tensor:
        """Draw uniform whole numbers from [0, high).

        A 53-bit fraction is scaled: for image sides the bias is below 1e-12.

        Args:
            high: Upper bound, at least 1: a number, or (rows,) int64.

        Returns:
            (rows,) int64.
        """
        return self.uniform().mul_(high).to(torch.int64)

    def beta(self, alpha: float) -> Tensor:
        """Draw from Beta(alpha, alpha).

        A gamma variate of shape a is G(a+1) * U^(1/a); the ratio of two is taken in logarithms, so
        that a tiny alpha gives 0 or 1 with equal chance, not 0/0.

        Args:
            alpha: Both parameters of the distribution, above 0.

        Returns:
            (rows,) float64.
        """
        if alpha == 1.0:
            return self.uniform()
        shape = torch.full((2, self.rows), alpha + 1.0, dtype=self._float, device=self.device)
        # torch's only gamma sampler with a generator; torch.distributions uses the same function
        # but always draws from the global one.
        gamma = torch._standard_gamma(shape, generator=self.generator)
        unit = self.uniforms(2)
        if self.rows == 1 and self._kind == "cpu" and not torch.compiler.is_compiling():
            return torch.tensor([_beta_number(gamma, unit, alpha)], dtype=torch.float64)
        # 1 - unit is in (0, 1]: its logarithm is finite.
        log_gamma = gamma.log_().add_(unit.neg_().log1p_().div_(max(alpha, 1e-300)))
        return torch.sigmoid(log_gamma[0] - log_gamma[1])

    def dirichlet(self, alpha: float, count: int) -> Tensor:
        """Draw `count` weights that sum to 1 from a Dirichlet distribution; see `beta`.

        Args:
            alpha: All parameters of the distribution, above 0.
            count: How many weights.

        Returns:
            (rows, count) float64.
        """
        shape = torch.full((count, self.rows), alpha + 1.0, dtype=self._float, device=self.device)
        gamma = torch._standard_gamma(shape, generator=self.generator)
        unit = self.uniforms(count)
        logarithms = gamma.log_().add_(unit.neg_().log1p_().div_(max(alpha, 1e-300)))
        return logarithms.softmax(dim=0).t()

    def blend_weights(self, alpha: float) -> Tensor:
        """Draw `beta(alpha)` in the shape of a `Blend`'s weights: (rows, 1, 1, 1) float32."""
        return self.beta(alpha).float().view(-1, 1, 1, 1)

    def choose(self, weights: Sequence[float]) -> int:
        """Draw an index on the host, with probability proportional to `weights`.

        This is for decisions about which code runs (the layer that is mixed, the method of a
        batch). Nothing waits for the device: the draw is derived from the generator's state, which
        is on the host also for a GPU.

        Args:
            weights: At least 0 each, their sum above 0.

        Returns:
            An index into `weights`.
        """
        if self._kind == "cuda":
            device = torch.device(self.device)
            generator = self.generator
            if generator is None:
                # Asking for the current device makes the default generators.
                current = torch.cuda.current_device()
                at = current if device.index is None else device.index
                generator = torch.cuda.default_generators[at]
            state = blake2b(generator.get_state().numpy().tobytes(), digest_size=7).digest()
            unit = int.from_bytes(state, "big") / 256**7
            self.uniform()  # change the state for the next choice
        else:
            unit = float(torch.rand((), dtype=torch.float64, generator=self.generator))
        total = sum(weights)
        for index, reached in enumerate(accumulate(weights)):
            if unit * total < reached:
                return index
        return max(index for index, weight in enumerate(weights) if weight > 0)

    def normal(self, *size: int) -> Tensor:
        """Draw standard normal numbers: (rows, *size) float32."""
        return torch.randn(
            (self.rows, *size), dtype=torch.float32, device=self.device, generator=self.generator
        )

    def permutations(self, count: int) -> Tensor:
        """Draw `count` independent uniform permutations of the batch: (batch, count) int64."""
        return self._orders(count).t()

    def _orders(self, count: int) -> Tensor:
        """Draw as `permutations`, one permutation per row: (count, batch)."""
        keys = torch.rand(
            (count, self.batch), dtype=self._float, device=self.device, generator=self.generator
        )
        return keys.argsort(dim=1)

    def columns(self, log_weights: Tensor) -> Tensor:
        """Draw a column for each sample, with probability proportional to exp(log_weights).

        By the largest of the logarithms and Gumbel noise, so that nothing waits for the device.

        Args:
            log_weights: (batch, columns), none of them infinite or NaN.

        Returns:
            (batch,) int64.
        """
        unit = torch.rand(
            log_weights.shape, dtype=self._float, device=self.device, generator=self.generator
        )
        # 1 - unit is in (0, 1]; the smallest number keeps its logarithm's logarithm finite.
        exponential = unit.neg_().log1p_().neg_().clamp_(min=torch.finfo(unit.dtype).tiny)
        return (log_weights.to(unit) - exponential.log_()).argmax(dim=1)

    def partners(self, pairing: str) -> Tensor:
        """Draw the partner of each sample.

        Args:
            pairing: "permute": uniform over all permutations (a sample may be its own partner).
                "derange": uniform over the cyclic ones, without self-pairs. "roll": sample i gets
                i + 1. "flip": the batch reversed (the middle sample of an odd batch gets itself). A
                batch of one always gets itself. "same_class", "other_class": by the labels; see
                `class_partners`.

        Returns:
            Each sample's partner, a permutation of the batch wherever there is one: (batch,) int64.

        Raises:
            ValueError: There is no such pairing, or it needs labels (batch,) and there are others.
        """
        if pairing in CLASS_PAIRINGS:
            return self._class_partners(pairing)
        if pairing in ("roll", "flip"):
            index = torch.arange(self.batch, device=self.device)
            return index.roll(-1) if pairing == "roll" else index.flip(0)
        order = self._orders(1)[0]
        if pairing == "permute":
            return order
        if pairing == "derange":
            return torch.empty_like(order).scatter_(0, order, order.roll(-1))
        raise ValueError(f"pairing: got {pairing!r}, expected {', '.join(PAIRINGS)}")

    def classes(self, pairing: str) -> Tensor:
        """Return the labels, (batch,) int64, for a pairing by them.

        Raises:
            ValueError: There are none, or they are soft.
        """
        labels = self.labels
        if labels is None or labels.dim() != 1 or labels.is_floating_point():
            found = "none" if labels is None else f"{tuple(labels.shape)} {labels.dtype}"
            raise ValueError(f"pairing: expected labels (B,) of classes for {pairing}, got {found}")
        return labels

    def _class_partners(self, pairing: str) -> Tensor:
        labels = self.classes(pairing)
        order = self._orders(1)[0]
        if pairing == "same_class":
            return same_class(labels, order)
        draw = torch.rand(
            (3, self.batch), dtype=self._float, device=self.device, generator=self.generator
        )
        return other_class(labels, order, draw)


def _beta_number(gamma: Tensor, unit: Tensor, alpha: float) -> float:
    """Compute `Draws.beta` of one row in Python.

    torch's logarithm can differ from Python's in the last bit, and a seed must always draw the same
    plans.
    """
    first, second = (
        math.log(variate) + math.log1p(-part) / max(alpha, 1e-300)
        for variate, part in zip(gamma.flatten().tolist(), unit.flatten().tolist(), strict=True)
    )
    # exp of more than 709 overflows.
    return 1.0 / (1.0 + math.exp(min(second - first, 709.0)))
