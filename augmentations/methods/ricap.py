"""RICAP: four random crops of four images, patched together; labels by area."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.method import IMAGE, RECTANGLES, Home, Method, Paper, parameter
from mixbench.augmentations.parameters import CLASS_PAIRINGS
from mixbench.augmentations.plans.seen_shares import weighed
from mixbench.augmentations.sampling.boxes import quadrants
from mixbench.augmentations.sampling.label_weights import declare_label_rule, label_rule

if TYPE_CHECKING:
    from torch import Tensor

    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class RICAP(Method):
    """Patch random crops of four images together; labels by area.

    out = a crop of x[partner k], k = 1 to 4, in each of the four quadrants around the point (w, h),
    with w = round(W · Beta(β, β)) and h = round(H · Beta(β, β)), drawn independently.

    Source: Takahashi et al. 2018, section 3 and algorithm 1: the four images come from four
    independent permutations, each with its own crop, and label weights are the exact areas. Empty
    quadrants are legal and common with the paper's β = 0.3 (54% of the draws at 32 x 32 have one).

    Deviations: none by default. The paper's `pairing` is "permute"; "roll" and "flip" are applied k
    times for the k-th quadrant, and "derange" draws four independent derangements.

    Args:
        beta: Both parameters of the Beta distribution of the cut, above 0.
        labels: "area", "objects" or "saliency".
    """

    name: ClassVar[str] = "ricap"
    summary: ClassVar[str] = "four crops of four images patched together, labels by area"
    paper: ClassVar[Paper] = Paper(
        "Takahashi et al.",
        2018,
        "Data Augmentation using Random Image Cropping and Patching for Deep CNNs",
        "1811.09030",
    )
    card: ClassVar[Card] = Card(
        "Long trainings of large networks: four images at once are strong regularisation, and "
        "slow a short training.",
        {"Takahashi et al. 2018": {}},
    )

    beta: float = parameter(0.3, "the cut is at Beta(β, β) of each side", above=0)
    labels: str = label_rule(drawn=False)

    @property
    def home(self) -> Home:
        return Home(RECTANGLES, IMAGE)

    def check_combination(self) -> None:
        declare_label_rule(self, self.labels)

    def draw(self, draws: Draws) -> Plan:
        from mixbench.augmentations.plans.paste import Paste

        target, source = self._crops(draws)
        size = (draws.height, draws.width)
        plan = Paste(size, target, self._partners(draws), source, tiles=True)
        return weighed(plan, self.labels, draws)

    def _crops(self, draws: Draws) -> tuple[Tensor, Tensor]:
        """Draw the quadrants and the crops that fill them: both (rows, 4, 4) int64."""
        import torch

        row = (draws.height * draws.beta(self.beta)).round().long()
        column = (draws.width * draws.beta(self.beta)).round().long()
        target = quadrants(draws, row, column)
        size = target[..., 2:] - target[..., :2]
        # The rows and columns at which each crop can start; one of them is drawn uniformly.
        positions = target[:, 3:, 2:] - size + 1
        unit = draws.uniforms(8).view(4, 2, -1).permute(2, 0, 1)
        corner = (unit * positions).to(torch.int64)
        return target, torch.cat([corner, corner + size], dim=-1)

    def _partners(self, draws: Draws) -> Tensor:
        """Draw the sample of each quadrant: (batch, 4) int64."""
        import torch

        if self.pairing == "permute":
            return draws.permutations(4)
        if self.pairing in ("derange", *CLASS_PAIRINGS):
            return torch.stack([draws.partners(self.pairing) for _ in range(4)], dim=1)
        once = draws.partners(self.pairing)
        columns = [once]
        for _ in range(3):
            columns.append(once[columns[-1]])
        return torch.stack(columns, dim=1)
