"""RICAP: four random crops of four images, patched together; labels by area."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.method import Method, Paper, parameter
from mixbench.augmentations.sampling.boxes import quadrants

if TYPE_CHECKING:
    from torch import Tensor

    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class RICAP(Method):
    """The image is cut at (w, h) into four; each part is a random crop of another image.

    Source: section 3 and algorithm 1: w = round(W · Beta(β, β)), h = round(H · Beta(β, β)) drawn
    apart; the four images come from four independent permutations; one crop offset per quadrant;
    label weights are the exact areas. Empty quadrants are legal and common with the paper's β = 0.3
    (54% of the draws at 32 x 32 have one).
    Deviation: `pairing` other than "permute" (the paper's) takes roll or flip for every quadrant in
    turn, the k-th quadrant applying it k times; "derange" draws four independent derangements.
    """

    name: ClassVar[str] = "ricap"
    summary: ClassVar[str] = "four crops of four images patched together, labels by area"
    paper: ClassVar[Paper] = Paper(
        "Takahashi et al.",
        2018,
        "Data Augmentation using Random Image Cropping and Patching for Deep CNNs",
        "1811.09030",
    )

    beta: float = parameter(0.3, "the cut is at Beta(β, β) of each side", above=0)

    def draw(self, draws: Draws) -> Plan:
        from mixbench.augmentations.plans.paste import Paste

        target, source = self._crops(draws)
        return Paste((draws.height, draws.width), target, self._partners(draws), source, tiles=True)

    def _crops(self, draws: Draws) -> tuple[Tensor, Tensor]:
        """Draw the quadrants, and where the crops in them come from: both (rows, 4, 4) int64."""
        import torch

        row = (draws.height * draws.beta(self.beta)).round().long()
        column = (draws.width * draws.beta(self.beta)).round().long()
        target = quadrants(draws, row, column)
        size = target[..., 2:] - target[..., :2]
        # Where each crop starts, downwards and sideways: uniform among the places where it fits.
        places = target[:, 3:, 2:] - size + 1
        unit = draws.uniforms(8).view(4, 2, -1).permute(2, 0, 1)
        corner = (unit * places).to(torch.int64)
        return target, torch.cat([corner, corner + size], dim=-1)

    def _partners(self, draws: Draws) -> Tensor:
        import torch

        if self.pairing == "permute":
            return draws.permutations(4)
        if self.pairing == "derange":
            return torch.stack([draws.partners("derange") for _ in range(4)], dim=1)
        once = draws.partners(self.pairing)
        columns = [once]
        for _ in range(3):
            columns.append(once[columns[-1]])
        return torch.stack(columns, dim=1)
