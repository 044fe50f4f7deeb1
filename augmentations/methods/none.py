"""No mixing: the baseline that every method is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.method import Method

if TYPE_CHECKING:
    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class NoMixing(Method):
    """Leave the batch as it is: images are the same tensor, each label has weight 1.

    `prob`, `per_sample` and `pairing` are accepted, so that a grid may vary them, and do nothing.
    """

    name: ClassVar[str] = "none"
    summary: ClassVar[str] = "no mixing (the baseline)"
    label_rule: ClassVar[str] = "kept"

    def draw(self, draws: Draws) -> Plan:
        import torch

        from mixbench.augmentations.plans.paste import Paste

        no_rectangles = torch.zeros(1, 0, 4, dtype=torch.int64, device=draws.device)
        return Paste((draws.height, draws.width), no_rectangles)
