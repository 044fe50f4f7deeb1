"""RegMixup: the loss of the clean batch plus that of a batch mixed by MixUp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.method import IMAGE, Home, Method, Paper, parameter

if TYPE_CHECKING:
    from torch import Tensor

    from mixbench.augmentations.forward import Forward
    from mixbench.augmentations.plans.base import Batch, Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class RegMixUp(Method):
    """Add MixUp's loss to that of the clean images, as a regulariser.

    loss = CE(f(x), y) + η CE(f(λ x + (1 - λ) x[partner]), mixed labels), λ ~ Beta(α, α).

    Source: Pinto et al. 2022, section 3, and the authors' code (FrancescoPinto/RegMixup): η = 1,
    and α of 20 (CIFAR-10) or 10 (CIFAR-100), so that most images are mixed about half and half.

    Deviations: two forward passes, the clean one first, each with its own statistics of batch
    normalisation; the authors' code runs both halves as one batch and returns their mean, which is
    half this loss and so half the learning rate of the paper's formula. With `prob`, a batch that
    is not mixed has the loss (1 + η) CE(f(x), y).

    Args:
        alpha: Both parameters of λ's Beta distribution, above 0.
        eta: The weight of the mixed half, at least 0.
    """

    name: ClassVar[str] = "regmixup"
    summary: ClassVar[str] = "the loss of the clean images plus that of a MixUp of them"
    paper: ClassVar[Paper] = Paper(
        "Pinto et al.",
        2022,
        "RegMixup: Mixup as a Regularizer Can Surprisingly Improve Accuracy and Out Distribution "
        "Robustness",
        "2206.14502",
    )
    card: ClassVar[Card] = Card(
        "MixUp for calibration and unknown inputs without losing the clean images; a step is "
        "twice as long.",
        {
            "Pinto et al. 2022, CIFAR-10": {"alpha": 20.0},
            "Pinto et al. 2022, CIFAR-100": {"alpha": 10.0},
        },
    )

    passes: ClassVar[float] = 3.0

    alpha: float = parameter(20.0, "λ ~ Beta(α, α); large values mix to halves", above=0)
    eta: float = parameter(1.0, "the weight of the mixed half of the loss", at_least=0)

    @property
    def home(self) -> Home:
        return Home(fills=IMAGE)

    def draw(self, draws: Draws) -> Plan:
        from mixbench.augmentations.plans.blend import Blend

        return Blend(draws.blend_weights(self.alpha), draws.partners(self.pairing))

    def loss(self, forward: Forward, clean: Batch, mixed: Batch) -> Tensor:
        plain = forward.loss(clean.targets, forward(clean))
        return plain + self.eta * forward.loss(mixed.targets, forward(mixed))
