"""Everything random in a plan comes from here, without host synchronisation or global state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate

import torch
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """Random numbers for the plan of one batch.

    `rows` is how many independent draws the plan needs: the batch size when the method draws per
    sample, else 1. Fractions are float64 (float32 where the device has no float64), because the
    original code computes boxes in double precision and a box must not depend on the device.
    """

    rows: int
    batch: int
    height: int
    width: int
    device: torch.device | str
    generator: torch.Generator | None
    images: Tensor | None = None
    """The batch itself, where the method asked for it; never written to."""

    @property
    def _float(self) -> torch.dtype:
        return torch.float32 if self._kind == "mps" else torch.float64

    @property
    def _kind(self) -> str:
        kind = getattr(self.device, "type", None)
        return kind or torch.device(self.device).type

    @property
    def at_hand(self) -> bool:
        """Can values be read without waiting, or breaking a graph that is being compiled?"""
        return self._kind == "cpu" and not torch.compiler.is_compiling()

    @property
    def on_host(self) -> bool:
        """Is there one row, `at_hand`? Python's numbers, a tenth of the time, do for it."""
        return self.rows == 1 and self.at_hand

    def uniform(self, low: float = 0.0, high: float = 1.0, *, tries: int | None = None) -> Tensor:
        """Uniform on [low, high): (rows,), or (rows, tries)."""
        shape = (self.rows,) if tries is None else (self.rows, tries)
        unit = torch.rand(shape, dtype=self._float, device=self.device, generator=self.generator)
        if (low, high) == (0.0, 1.0):
            return unit
        return unit.mul_(high - low).add_(low)

    def uniforms(self, count: int) -> Tensor:
        """Uniform on [0, 1): (count, rows), on a CPU as `count` calls of `uniform` give them."""
        return torch.rand(
            (count, self.rows), dtype=self._float, device=self.device, generator=self.generator
        )

    def whole(self, value: int) -> Tensor:
        """The same whole number in every row: (rows,) int64."""
        return torch.full((self.rows,), value, dtype=torch.int64, device=self.device)

    def coin(self, prob: float) -> Tensor:
        """True with probability `prob`: (rows,) bool."""
        return self.uniform() < prob

    def integers(self, high: int | Tensor) -> Tensor:
        """Uniform integers in [0, high): (rows,) int64; `high` positive, a number or (rows,).

        By scaling a 53-bit uniform: for image sides the bias is below 1e-12.
        """
        return self.uniform().mul_(high).to(torch.int64)

    def number(self) -> float:
        """`uniform()` of the one row, where it is `on_host`."""
        return float(self.uniform())

    def places(self, down: int, across: int) -> tuple[int, int]:
        """`integers(down)` and `integers(across)` of the one row, where it is `on_host`."""
        first, second = self.uniforms(2).flatten().tolist()
        return int(first * down), int(second * across)

    def beta(self, alpha: float) -> Tensor:
        """Beta(alpha, alpha): (rows,).

        A gamma variate of shape a is G(a+1) * U^(1/a); the ratio of two is taken in logarithms, so
        that a tiny alpha gives 0 or 1 with equal chance, not 0/0.
        """
        if alpha == 1.0:
            return self.uniform()
        shape = torch.full((2, self.rows), alpha + 1.0, dtype=self._float, device=self.device)
        # The only gamma sampler of torch that takes a generator; torch.distributions is built on
        # the same function but always draws from the global one.
        gamma = torch._standard_gamma(shape, generator=self.generator)
        unit = torch.rand(
            (2, self.rows), dtype=self._float, device=self.device, generator=self.generator
        )
        # 1 - unit is in (0, 1]: its logarithm is finite.
        log_gamma = gamma.log_().add_(unit.neg_().log1p_().div_(max(alpha, 1e-300)))
        return torch.sigmoid(log_gamma[0] - log_gamma[1])

    def beta_number(self, alpha: float) -> float:
        """`beta(alpha)` of the one row, where it is `on_host`; to the last digits the same."""
        if alpha == 1.0:
            return self.number()
        shape = torch.full((2,), alpha + 1.0, dtype=torch.float64)
        gamma = torch._standard_gamma(shape, generator=self.generator).tolist()
        unit = self.uniforms(2).flatten().tolist()
        first, second = (
            math.log(variate) + math.log1p(-part) / max(alpha, 1e-300)
            for variate, part in zip(gamma, unit, strict=True)
        )
        # exp of more than 709 overflows.
        return 1.0 / (1.0 + math.exp(min(second - first, 709.0)))

    def kept(self, alpha: float) -> Tensor:
        """`beta(alpha)` as the weights of a `Blend`: (rows, 1, 1, 1) float32."""
        if alpha != 1.0 and self.on_host:
            return torch.tensor([[[[self.beta_number(alpha)]]]], dtype=torch.float32)
        return self.beta(alpha).float().view(-1, 1, 1, 1)

    def choose(self, weights: Sequence[float]) -> int:
        """One index, with probability proportional to `weights`, known to the host.

        For a decision that changes which code runs (the layer that is mixed, the method of a
        batch). Nothing waits for the device: a generator's state is on the host, also that of a
        GPU, and the draw is made from it.
        """
        if self._kind == "cuda":
            device = torch.device(self.device)
            generator = self.generator
            if generator is None:
                torch.cuda.init()  # there are no default generators before
                at = torch.cuda.current_device() if device.index is None else device.index
                generator = torch.cuda.default_generators[at]
            state = blake2b(generator.get_state().numpy().tobytes(), digest_size=7).digest()
            unit = int.from_bytes(state, "big") / 256**7
            self.uniform()  # the next choice must meet another state
        else:
            unit = float(torch.rand((), dtype=torch.float64, generator=self.generator))
        total = sum(weights)
        for index, reached in enumerate(accumulate(weights)):
            if unit * total < reached:
                return index
        return max(index for index, weight in enumerate(weights) if weight > 0)

    def normal(self, *size: int) -> Tensor:
        """Standard normal float32 of shape (rows, *size)."""
        return torch.randn(
            (self.rows, *size), dtype=torch.float32, device=self.device, generator=self.generator
        )

    def permutations(self, count: int) -> Tensor:
        """Independent uniform permutations of the batch: (batch, count) int64."""
        order = self._orders(count)
        return order.t()

    def _orders(self, count: int) -> Tensor:
        """As `permutations`: (count, batch)."""
        keys = torch.rand(
            (count, self.batch), dtype=self._float, device=self.device, generator=self.generator
        )
        if self.at_hand:
            # Two to three times as fast, and the same order: no two keys are equal.
            return torch.from_numpy(keys.numpy().argsort())
        return keys.argsort(dim=1)

    def partners(self, pairing: str) -> Tensor:
        """Who each sample is mixed with: (batch,) int64, always a permutation of the batch.

        "permute": uniform over all permutations (a sample may meet itself). "derange": uniform over
        the cyclic ones, so nobody meets itself. "roll": sample i meets i+1. "flip": the batch
        reversed (an odd batch leaves its middle sample with itself). A batch of one has no choice.
        """
        if pairing in ("roll", "flip"):
            index = torch.arange(self.batch, device=self.device)
            return index.roll(-1) if pairing == "roll" else index.flip(0)
        order = self._orders(1)[0]
        if pairing == "permute":
            return order
        if pairing == "derange":
            return torch.empty_like(order).scatter_(0, order, order.roll(-1))
        raise ValueError(f"pairing: got {pairing!r}, expected permute, derange, roll or flip")
