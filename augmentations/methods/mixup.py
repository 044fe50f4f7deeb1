"""MixUp: a weighted mean of two images and of their labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.method import IMAGE, Home, Method, Paper, parameter

if TYPE_CHECKING:
    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class MixUp(Method):
    """Average each sample with a partner; labels likewise.

    out = λ x + (1 - λ) x[partner], λ ~ Beta(α, α), and the same λ for the labels.

    Source: Zhang et al. 2018, section 2, equation 1; defaults of the authors' CIFAR code (α = 1,
    every batch, one λ per batch).

    Deviations: none. λ is not folded to max(λ, 1 - λ), as some implementations do. With one λ per
    batch, folding only swaps the two images of a pair; per sample it would change what is seen.

    Args:
        alpha: Both parameters of λ's Beta distribution, above 0; small values mix little.
    """

    name: ClassVar[str] = "mixup"
    summary: ClassVar[str] = "weighted mean of two images and of their labels"
    paper: ClassVar[Paper] = Paper(
        "Zhang et al.", 2018, "mixup: Beyond Empirical Risk Minimization", "1710.09412"
    )
    card: ClassVar[Card] = Card(
        "A first choice beside CutMix, also for calibration, with little to tune; long "
        "trainings and small data gain most. Strong mixing makes networks under-confident.",
        {
            "Zhang et al. 2018, CIFAR": {"alpha": 1.0},
            "Zhang et al. 2018, ImageNet": {"alpha": 0.2},
            "results/tuned, 2,000 Fashion-MNIST images": {"alpha": 4.0, "prob": 0.5},
        },
    )

    alpha: float = parameter(1.0, "λ ~ Beta(α, α); small values mix little", above=0)

    @property
    def home(self) -> Home:
        return Home(fills=IMAGE)

    def draw(self, draws: Draws) -> Plan:
        from mixbench.augmentations.plans.blend import Blend

        return Blend(draws.blend_weights(self.alpha), draws.partners(self.pairing))
