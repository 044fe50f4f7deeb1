"""Manifold MixUp: MixUp of the images or of the outputs of a layer, drawn per batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.method import Method, Paper, parameter

if TYPE_CHECKING:
    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class ManifoldMixUp(Method):
    """h = λ h + (1 - λ) h[partner] at one layer of the network, λ ~ Beta(α, α); labels likewise.

        with augmentations.mixing_inside(model, batch.plan):
            logits = model(batch.images)

    Without this only labels would be mixed. Depth 0 is the network's input, depth k the output of
    its k-th stage (`augmentations/integrations/hooks.py`).

    Source: section 2 and the authors' code: the layer is drawn once per batch, uniformly among the
    input and the first two of a residual network's stages, α = 2, one λ per batch. The same labels
    at every depth.
    Deviation: with `per_sample` there is one λ per sample, but still one layer for the batch. The
    layer is known to the host, so it is drawn there (no wait for the device, but a break in a
    compiled graph).
    """

    name: ClassVar[str] = "manifold_mixup"
    summary: ClassVar[str] = "MixUp of the images or of a layer's output, drawn per batch"
    paper: ClassVar[Paper] = Paper(
        "Verma et al.",
        2019,
        "Manifold Mixup: Better Representations by Interpolating Hidden States",
        "1806.05236",
    )

    alpha: float = parameter(2.0, "λ ~ Beta(α, α); small values mix little", above=0)
    depths: tuple[int, ...] = parameter(
        (0, 1, 2), "where it may mix: 0 is the input, k the network's k-th stage", at_least=0
    )

    def check_combination(self) -> None:
        # Their order says nothing: the same run has the same configuration.
        depths = tuple(sorted(self.depths))
        if len(set(depths)) < len(depths):
            raise ValueError(f"{self.name}.depths: got {list(depths)}, expected each depth once")
        object.__setattr__(self, "depths", depths)

    @property
    def deepest(self) -> int:
        return max(self.depths)

    def draw(self, draws: Draws) -> Plan:
        from mixbench.augmentations.plans.blend import Blend
        from mixbench.augmentations.plans.composite import AtDepth

        depth = self.depths[draws.choose([1.0] * len(self.depths))]
        keep = draws.blend_weights(self.alpha)
        plan = Blend(keep, draws.partners(self.pairing))
        return AtDepth(plan, depth) if depth else plan
