"""A run's random numbers: one independent stream for each purpose, all from its seed.

With the same seed every method starts from the same weights and sees the same images in the same
order, however much its mixing draws.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations.plans.base import Plan
from mixbench.experiments.ranks import Ranks


def stream_seed(seed: int, stream: str) -> int:
    """A seed for one of a run's random streams: unrelated for neighbouring seeds."""
    return int.from_bytes(hashlib.sha256(f"{stream} {seed}".encode()).digest()[:7], "big")


@dataclass(frozen=True)
class RandomStreams:
    """order: which images come when, the same on all ranks; crops and mixing: of this rank."""

    order: torch.Generator
    crops: torch.Generator
    mixing: torch.Generator

    @classmethod
    def seeded(cls, seed: int, device: torch.device, ranks: Ranks) -> RandomStreams:
        """The streams at a run's beginning. Seeds torch's global one too, which dropout uses."""
        torch.manual_seed(stream_seed(seed, ranks.stream("network")))

        def on_device(stream: str) -> torch.Generator:
            return torch.Generator(device).manual_seed(stream_seed(seed, ranks.stream(stream)))

        order = torch.Generator().manual_seed(stream_seed(seed, "order"))
        return cls(order, on_device("crops"), on_device("mixing"))

    def draw_plan(
        self, method: augmentations.Method, shape: Sequence[int], **given: Any
    ) -> tuple[Plan, tuple[augmentations.Method, ...]]:
        """The mixing plan of the next batch of `shape` (B, C, H, W), and what a `choice` drew.

        given: what `Method.sample` takes; a method gets only what it needs of it.
        """
        drawn: list[augmentations.Method] = []
        device = self.mixing.device
        plan = method.sample(shape, device=device, generator=self.mixing, drawn=drawn, **given)
        return plan, tuple(drawn)

    def states_of_rank(self) -> dict[str, Tensor]:
        """The states of the streams that differ between ranks."""
        return {"crops": self.crops.get_state(), "mixing": self.mixing.get_state()}

    def restore_states_of_rank(self, states: Mapping[str, Tensor]) -> None:
        """Continue from `states_of_rank`."""
        self.crops.set_state(states["crops"])
        self.mixing.set_state(states["mixing"])
