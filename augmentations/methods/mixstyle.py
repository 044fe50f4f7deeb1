"""MixStyle: the means and deviations of feature maps mixed with another sample's; labels kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.depths import at_depth, depths_parameter, sort_depths
from mixbench.augmentations.method import Home, Method, Paper, parameter, prob_parameter

if TYPE_CHECKING:
    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class MixStyle(Method):
    """Mix the mean and deviation of every feature map with the partner's; keep the labels.

    h = (h - μ) / σ * (λ σ + (1 - λ) σ[partner]) + λ μ + (1 - λ) μ[partner], λ ~ Beta(α, α), where μ
    and σ are those of each channel over its positions, and constants for the gradient. It is
    applied at each of `depths`, with partners and λ of its own. Run the network within
    `mixbench.mixing_inside(model, batch.plan)`.

    Source: Zhou et al. 2021, section 3, and the authors' code (`mix="random"`): α = 0.1, one λ per
    sample, half of the batches, after the first and the second stage of a residual network, 1e-6
    added to the variance.

    Deviations: `prob` is one coin per sample with `per_sample` (the default, for the λ per sample)
    and the same coin at all depths; the authors toss one per batch and depth.

    Args:
        prob: Probability of mixing, applied once per batch, or once per sample with `per_sample`.
        per_sample: Whether λ is drawn per sample.
        alpha: Both parameters of λ's Beta distribution, above 0.
        depths: The depths at each of which it mixes, each at least 0 and given once.
    """

    name: ClassVar[str] = "mixstyle"
    summary: ClassVar[str] = "mean and deviation of feature maps mixed, labels kept"
    paper: ClassVar[Paper] = Paper(
        "Zhou et al.", 2021, "Domain Generalization with MixStyle", "2104.02008"
    )
    card: ClassVar[Card] = Card(
        "Test images of another style than the training images (domain generalisation): it "
        "varies style and keeps labels.",
        {"Zhou et al. 2021": {}},
    )
    label_rule: ClassVar[str] = "kept"

    prob: float = prob_parameter(0.5)
    per_sample: bool = parameter(True, "draw λ and the coin per sample, not per batch")
    alpha: float = parameter(0.1, "λ ~ Beta(α, α), how much of its own style is kept", above=0)
    depths: tuple[int, ...] = depths_parameter((1, 2), "where it mixes, at all of them")

    @property
    def home(self) -> Home:
        return Home()

    def check_combination(self) -> None:
        sort_depths(self)

    @property
    def deepest(self) -> int:
        return max(self.depths)

    def draw(self, draws: Draws) -> Plan:
        from mixbench.augmentations.plans.composite import chain
        from mixbench.augmentations.plans.moments import Moments

        return chain(
            [
                at_depth(
                    Moments(
                        draws.beta(self.alpha).float(),
                        draws.partners(self.pairing),
                        over="positions",
                        epsilon=1e-6,
                        detach=True,
                    ),
                    depth,
                )
                for depth in self.depths
            ]
        )
