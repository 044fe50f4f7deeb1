"""MoEx: the moments of each position's features exchanged with those of another sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.depths import at_depth, choose_depth, depths_parameter, sort_depths
from mixbench.augmentations.method import Home, Method, Paper, parameter, prob_parameter

if TYPE_CHECKING:
    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class MoEx(Method):
    """Replace the moments of each position's features by those of the partner's; labels by λ.

    h = (h - μ) / σ * σ[partner] + μ[partner], where μ and σ are the mean and the standard deviation
    over the channels at every position (positional normalisation), of the output of one of the
    network's stages; the sample's own label weighs λ, the partner's 1 - λ. Run the network within
    `mixbench.mixing_inside(model, batch.plan)`, without which only the labels are mixed.

    Source: Li et al. 2021, section 3, and the authors' code: σ² has n - 1 in its denominator and
    1e-5 added; λ = 0.9 and half of the CIFAR batches are mixed (`prob=0.5`); every batch on
    ImageNet.

    Deviations: the authors exchange before the first stage, after the stem; here it is after the
    first stage (`depths=[1]`), or where `layers=` of `mixing_inside` says. Of several depths one
    is drawn per batch.

    Args:
        prob: Probability of mixing, applied once per batch, or once per sample with `per_sample`.
        weight: λ, the label weight of the sample whose moments are replaced.
        depths: The depths that are drawn from, each at least 0 and given once.
    """

    name: ClassVar[str] = "moex"
    summary: ClassVar[str] = "the moments of a layer's features exchanged, labels by a fixed λ"
    paper: ClassVar[Paper] = Paper(
        "Li et al.", 2021, "On Feature Normalization and Data Augmentation", "2002.11102"
    )
    card: ClassVar[Card] = Card(
        "A light change of features that can be added to a mixing of images (`compose`).",
        {
            "Li et al. 2021, CIFAR": {"prob": 0.5},
            "Li et al. 2021, ImageNet": {"prob": 1.0},
        },
    )
    label_rule: ClassVar[str] = "declared"

    prob: float = prob_parameter(0.5)
    weight: float = parameter(
        0.9, "λ, the label weight of the sample whose moments are replaced", at_least=0, at_most=1
    )
    depths: tuple[int, ...] = depths_parameter((1,), "where moments may be exchanged")

    @property
    def home(self) -> Home:
        return Home()

    def check_combination(self) -> None:
        sort_depths(self)

    @property
    def deepest(self) -> int:
        return max(self.depths)

    def draw(self, draws: Draws) -> Plan:
        import torch

        from mixbench.augmentations.plans.moments import Moments

        depth = choose_depth(draws, self.depths)
        keep = torch.zeros(draws.rows, dtype=torch.float32, device=draws.device)
        weights = torch.stack([keep + self.weight, keep + (1 - self.weight)], dim=1)
        plan = Moments(keep, draws.partners(self.pairing), weights=weights)
        return at_depth(plan, depth)
