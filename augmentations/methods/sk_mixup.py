"""SK Mixup: MixUp that mixes similar samples more, and others less."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.method import IMAGE, Home, Method, Paper, parameter

if TYPE_CHECKING:
    from torch import Tensor

    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class SKMixUp(Method):
    """Average each sample with a partner, the more evenly the nearer they are; labels likewise.

    out = λ' x + (1 - λ') x[partner], the same λ' for labels. λ' is the quantile of Beta(τ, τ) at λ
    ~ Beta(α, α); with α = 1 it has the distribution Beta(τ, τ). τ = τ_max exp(-(d / d̄ - 1) / (2
    τ_std²)), where d is the squared distance of the sample to its partner, and d̄ the mean of the
    batch's pairs: pairs at the mean distance are mixed as MixUp with α = τ_max, nearer ones more
    evenly, far ones hardly.

    Source: Bouniot et al. 2023, section 3, and the authors' code (qbouniot/sim_kernel_mixup, with
    the inverse of the distribution function): α = 1, τ_max = 1, τ_std = 0.5, one λ per batch,
    distances between the features of the network that is trained.

    Deviations: features are the last maps' means, asked for in evaluation mode. `distance: images`
    takes pixels, without a pass of the network. Quantiles are interpolated in a table (right to
    1e-4). Pairs of a sample with itself count in d̄, as theirs.

    Args:
        alpha: Both parameters of λ's Beta distribution, above 0.
        tau_max: τ of pairs at the mean distance, above 0.
        tau_std: How far from the mean distance pairs are still mixed, above 0.
        distance: "features" or "images".
    """

    name: ClassVar[str] = "sk_mixup"
    summary: ClassVar[str] = "MixUp that mixes similar samples more evenly than others"
    paper: ClassVar[Paper] = Paper(
        "Bouniot et al.",
        2023,
        "Tailoring Mixup to Data using Kernel Warping Functions",
        "2311.01434",
    )
    card: ClassVar[Card] = Card(
        "Where MixUp costs accuracy or calibration because unlike images are mixed. It asks "
        "the network once for a batch; distances between images are free.",
        {
            "Bouniot et al. 2023, authors' code": {},
            "without a pass of the network": {"distance": "images"},
        },
    )
    needs: ClassVar[frozenset[str]] = frozenset({"images"})
    asks: ClassVar[frozenset[str]] = frozenset({"features"})
    passes: ClassVar[float] = 1.0

    alpha: float = parameter(1.0, "λ ~ Beta(α, α), before it is warped", above=0)
    tau_max: float = parameter(1.0, "τ of pairs at the batch's mean distance", above=0)
    tau_std: float = parameter(
        0.5, "how far from the mean distance pairs are still mixed", at_least=0.01
    )
    distance: str = parameter(
        "features",
        "distances between the network's features, or between images",
        choices=("features", "images"),
    )

    @property
    def home(self) -> Home:
        return Home(fills=IMAGE)

    def check_combination(self) -> None:
        if self.distance == "features":
            self.also_needs("model")
            return
        object.__setattr__(self, "asks", frozenset())
        object.__setattr__(self, "passes", 0.0)

    def draw(self, draws: Draws) -> Plan:
        from mixbench.augmentations.plans.blend import Blend
        from mixbench.augmentations.sampling.beta_quantile import beta_quantile

        share = draws.beta(self.alpha)
        partner = draws.partners(self.pairing)
        seen = self._seen(draws)
        apart = (seen - seen.index_select(0, partner)).square().sum(dim=1)
        relative = apart / apart.mean().clamp(min=1e-30)
        # Beyond these bounds nothing changes: no sample is mixed, or all are by halves.
        power = ((1 - relative) / (2 * self.tau_std**2)).clamp(-30, 30)
        warped = beta_quantile(share.expand(draws.batch), self.tau_max * power.exp())
        return Blend(warped.float().view(-1, 1, 1, 1), partner)

    def _seen(self, draws: Draws) -> Tensor:
        """Return what distances are measured between: (B, D) float32."""
        if draws.images is None:
            raise ValueError("sk_mixup: expected draws with images, got none")
        if self.distance == "images":
            return draws.images.float().flatten(1)
        if draws.model is None:
            raise ValueError("sk_mixup: expected draws with a model, got none")
        maps: Tensor = draws.model.features(draws.images)
        return maps.flatten(2).mean(dim=2)
