"""Strip: a full-height strip of another image, labels by area."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations import Method, parameter

if TYPE_CHECKING:
    from mixbench.augmentations import Draws, Plan


@dataclass(frozen=True, kw_only=True)
class Strip(Method):
    """Columns [left, left + width) come from the partner; width = round(W (1 - λ)), λ ~ Beta(α, α).

    The left edge is uniform among those that fit. Labels follow from the pixels.
    """

    name: ClassVar[str] = "strip"
    summary: ClassVar[str] = "a full-height strip of another image pasted in, labels by area"

    alpha: float = parameter(1.0, "λ ~ Beta(α, α), the area that is kept", above=0)

    def draw(self, draws: Draws) -> Plan:
        # Imported here: `mixbench list` must answer without torch.
        import torch

        from mixbench.augmentations import Paste

        width = (draws.width * (1 - draws.beta(self.alpha))).round().long()
        left = draws.integers(draws.width - width + 1)
        top = torch.zeros_like(left)
        target = torch.stack([top, left, draws.whole(draws.height), left + width], dim=-1)
        partner = draws.partners(self.pairing)
        return Paste((draws.height, draws.width), target.unsqueeze(1), partner.unsqueeze(1))
