"""No mixing: the baseline that every method is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.method import Home, Method

if TYPE_CHECKING:
    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class NoMixing(Method):
    """Return the batch unchanged: the same image tensor, each label with weight 1.

    out = x. `prob`, `per_sample` and `pairing` have no effect; they exist so that a grid of methods
    can vary them.
    """

    name: ClassVar[str] = "none"
    summary: ClassVar[str] = "no mixing (the baseline)"
    card: ClassVar[Card] = Card(
        "The baseline of every comparison: images are as they are.",
        {"always": {}},
    )
    label_rule: ClassVar[str] = "kept"

    @property
    def home(self) -> Home:
        return Home()

    def draw(self, draws: Draws) -> Plan:
        import torch

        from mixbench.augmentations.plans.paste import Paste

        no_rectangles = torch.zeros(1, 0, 4, dtype=torch.int64, device=draws.device)
        return Paste((draws.height, draws.width), no_rectangles)
