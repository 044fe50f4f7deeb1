"""Manifold MixUp: MixUp of the images or of the outputs of a layer, drawn per batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.depths import at_depth, depths_parameter, sort_depths
from mixbench.augmentations.method import IMAGE, Home, Method, Paper, parameter

if TYPE_CHECKING:
    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class ManifoldMixUp(Method):
    """Average the outputs of one layer for pairs of samples; labels likewise.

    h = λ h + (1 - λ) h[partner], λ ~ Beta(α, α), where h is the network's input (depth 0) or the
    output of its k-th stage (depth k; see `augmentations/integrations/hooks.py`). Run the network
    in this context, without which only the labels are mixed:

        with mixbench.mixing_inside(model, batch.plan):
            logits = model(batch.images)

    Source: Verma et al. 2019, section 2, and the authors' code: the layer is drawn once per batch,
    uniformly among the input and the first two stages of a residual network; α = 2, one λ per
    batch; labels are mixed with the same λ at every depth.

    Deviations: with `per_sample` there is one λ per sample, but still one layer for the batch. The
    host draws the layer (no wait for the device, but a break in a compiled graph).

    Args:
        alpha: Both parameters of λ's Beta distribution, above 0.
        depths: The depths that are drawn from, each at least 0 and given once.
    """

    name: ClassVar[str] = "manifold_mixup"
    summary: ClassVar[str] = "MixUp of the images or of a layer's output, drawn per batch"
    paper: ClassVar[Paper] = Paper(
        "Verma et al.",
        2019,
        "Manifold Mixup: Better Representations by Interpolating Hidden States",
        "1806.05236",
    )
    card: ClassVar[Card] = Card(
        "MixUp for convolutional networks with stages, when a training is long enough to "
        "learn mixed features. Can't be a drop-in.",
        {"Verma et al. 2019": {}},
    )

    alpha: float = parameter(2.0, "λ ~ Beta(α, α); small values mix little", above=0)
    depths: tuple[int, ...] = depths_parameter((0, 1, 2), "where it may mix")

    @property
    def home(self) -> Home:
        return Home(fills=IMAGE)

    def check_combination(self) -> None:
        sort_depths(self)

    @property
    def deepest(self) -> int:
        return max(self.depths)

    def draw(self, draws: Draws) -> Plan:
        from mixbench.augmentations.plans.blend import Blend

        depth = self.depths[draws.choose([1.0] * len(self.depths))]
        keep = draws.blend_weights(self.alpha)
        plan = Blend(keep, draws.partners(self.pairing))
        return at_depth(plan, depth)
