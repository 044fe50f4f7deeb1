"""GridMix: each cell of a grid is taken from one of two images; labels by area."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.method import IMAGE, Home, Method, Paper, parameter
from mixbench.augmentations.plans.seen_shares import weighed
from mixbench.augmentations.sampling.label_weights import (
    declare_label_rule,
    label_rule,
    uncorrected,
)

if TYPE_CHECKING:
    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws

DEFAULT_GRID = 4


@dataclass(frozen=True, kw_only=True)
class GridMix(Method):
    """Take each cell of a grid from the sample or from its partner; labels by area.

    out = M x + (1 - M) x[partner], where the mask M is 1 in λn² cells, chosen at random, of a grid
    of n x n cells, λ ~ Beta(α, α), and the sample's label weight is the mean of M.

    Source: Baek et al. 2021, which mixes two images cell by cell and adds a loss on the labels of
    patches.

    Deviations: the loss of the patches is left out, as a plan has one label per image. Neither the
    paper's text nor its authors' code could be read for n, α and how the cells are drawn: here λn²
    is rounded up or down by a fair coin, as in FMix, and all choices of as many cells are equally
    likely. What others publish under this name (IlyaDobrynin/GridMixup, which openmixup took over)
    is another method: a box with sides of √(1 - λ) in the corner of each cell, at the same place in
    all. Cells differ by a pixel where n does not divide a side; images with a side of fewer than 4
    pixels have as many cells along it as pixels, and any other n larger than a side is a
    ValueError. `labels="uncorrected"` weighs by λ as drawn.

    Args:
        grid: The number n of cells along each side, at least 2.
        alpha: Both parameters of λ's Beta distribution, above 0.
        labels: "area", "uncorrected", "objects" or "saliency".
    """

    name: ClassVar[str] = "gridmix"
    summary: ClassVar[str] = "each cell of a grid from one of two images, labels by area"
    paper: ClassVar[Paper] = Paper(
        "Baek et al.",
        2021,
        "GridMix: Strong regularization through local context mapping",
        url="www.sciencedirect.com/science/article/pii/S0031320320303976",
    )
    card: ClassVar[Card] = Card(
        "As CutMix, where both images are to be seen all over the picture.",
        {"Baek et al. 2021, mixing alone": {}},
    )

    grid: int = parameter(DEFAULT_GRID, "cells along each side", at_least=2)
    alpha: float = parameter(1.0, "λ ~ Beta(α, α), the share of cells that is kept", above=0)
    labels: str = label_rule()

    @property
    def home(self) -> Home:
        return Home(frozenset({"patches"}), IMAGE)

    def check_combination(self) -> None:
        declare_label_rule(self, self.labels)

    def check_size(self, height: int, width: int) -> None:
        most = min(height, width)
        if self.grid > most and self.grid != DEFAULT_GRID:
            raise ValueError(
                f"gridmix.grid: got {self.grid}, expected at most {most}, the smaller side of the "
                "images"
            )

    def draw(self, draws: Draws) -> Plan:
        import torch

        from mixbench.augmentations.plans.blend import Blend
        from mixbench.augmentations.sampling.top_k_mask import top_k_mask

        self.check_size(draws.height, draws.width)
        rows, columns = min(self.grid, draws.height), min(self.grid, draws.width)
        share = draws.beta(self.alpha)
        wanted = share * (rows * columns)
        count = torch.where(draws.coin(0.5), wanted.ceil(), wanted.floor())
        # Float32 may draw the same number twice, which only favours the earlier of two cells.
        order = draws.uniform(tries=rows * columns).float()
        cells = top_k_mask(order, count).view(-1, rows, columns)
        row, column = (
            torch.div(torch.arange(side, device=draws.device) * number, side, rounding_mode="floor")
            for side, number in ((draws.height, rows), (draws.width, columns))
        )
        keep = cells.index_select(1, row).index_select(2, column).unsqueeze(1)
        weights = uncorrected(share) if self.labels == "uncorrected" else None
        plan = Blend(keep, draws.partners(self.pairing), weights=weights)
        return weighed(plan, self.labels, draws)
