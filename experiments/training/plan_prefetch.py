"""A training's plans on a CPU, drawn a few batches ahead.

Between two steps of a network nothing of a draw is in the processor's caches, and every call takes
several times as long as in a row with others like it. The plans stay those of drawing each when it
is needed, for whatever they take from the generator is taken in the same order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.plans.blend import Blend
from mixbench.augmentations.plans.paste import Paste

MOST = 8
LARGEST = 1 << 20
"""Bytes of a plan from which on drawing it costs more than beginning to, and keeping many costs
memory."""


class PlansAhead:
    """Draws plans from `generator`, which nothing else may draw from.

    `get_state` and `set_state` are the generator's, as if no plan were drawn before it is needed.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator
        self._waiting: deque[Plan] = deque()
        # How those that wait were drawn: by what, from which state on, and how many are gone.
        self._by: tuple[augmentations.Method, tuple[int, ...]] | None = None
        self._state: Tensor | None = None
        self._taken = 0
        self._count = 1

    def next(
        self, mix: augmentations.Method, shape: Sequence[int], images: Tensor | None = None
    ) -> Plan:
        """The plan of the next batch, of `shape` (B, C, H, W), mixed by `mix`.

        images: the batch itself, for a method whose decision depends on it; drawn when needed.
        """
        by = mix, tuple(shape)
        if self._waiting and self._by != by:
            # A schedule changes the method, or it is an epoch's last batch: begin with one again.
            self.set_state(self.get_state())
        if mix.needs_images:
            device = self._generator.device
            return mix.sample(shape, device=device, generator=self._generator, images=images)
        if not self._waiting:
            self._draw(by)
        self._taken += 1
        return self._waiting.popleft()

    def get_state(self) -> Tensor:
        """The state of the generator when the plans that were taken had been drawn."""
        if not self._waiting or self._state is None or self._by is None:
            return self._generator.get_state()
        again = torch.Generator(self._generator.device)
        again.set_state(self._state)
        for _ in range(self._taken):
            self._sample(self._by, again)
        return again.get_state()

    def set_state(self, state: Tensor) -> None:
        """Go on from `state`, with plans drawn anew."""
        self._waiting.clear()
        self._count = 1
        self._generator.set_state(state)

    def _draw(self, by: tuple[augmentations.Method, tuple[int, ...]]) -> None:
        if self._by != by:
            self._count = 1
        self._by, self._taken = by, 0
        self._state = self._generator.get_state() if self._count > 1 else None
        for _ in range(self._count):
            plan = self._sample(by, self._generator)
            plan.prepare()
            self._waiting.append(plan)
        if self._generator.device.type == "cpu" and _is_small(self._waiting[0]):
            self._count = min(2 * self._count, MOST)

    @staticmethod
    def _sample(
        by: tuple[augmentations.Method, tuple[int, ...]], generator: torch.Generator
    ) -> Plan:
        mix, shape = by
        return mix.sample(shape, device=generator.device, generator=generator)


def _is_small(plan: Plan) -> bool:
    if not isinstance(plan, Blend | Paste):
        return False
    tensors = (value for value in vars(plan).values() if isinstance(value, Tensor))
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors) < LARGEST
