"""ResizeMix: the whole partner, made small, is pasted in; labels by area."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.method import IMAGE, Home, Method, Paper, parameter
from mixbench.augmentations.plans.seen_shares import weighed
from mixbench.augmentations.sampling.boxes import inside_box, pushed_box
from mixbench.augmentations.sampling.label_weights import (
    declare_label_rule,
    label_rule,
    uncorrected,
)

if TYPE_CHECKING:
    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class ResizeMix(Method):
    """Paste the whole partner, scaled down, into each sample; labels by area.

    out = x, with x[partner] scaled to τH x τW in a box of that size, τ ~ U(min_scale, max_scale).
    The partner's label weight is the box's share of the image: τ² before rounding.

    Source: Qin et al. 2020, section 3, and the authors' code (JayQine/ResizeMix,
    `run_apis/trainer.py`): sides are rounded down to whole pixels, and every batch is mixed. With
    `placement="pushed"` the box is placed as in that code: around a uniform centre pixel, moved
    inside where it reaches over the border. The box is never clipped, so that all of the partner is
    seen.

    Deviations: the authors draw one τ per batch and a position per image; here `per_sample` draws
    both per sample, and without it both are shared. They take the nearest pixel; here values are
    interpolated (see `augmentations/pixels/resize.py`), which does not shift the small image by up
    to a source pixel. `placement="inside"` draws uniformly among the positions where the box fits.
    `labels="uncorrected"` gives the partner's label τ² as drawn, before sides are rounded.

    Args:
        min_scale: Smallest τ, above 0 and at most 1.
        max_scale: Largest τ, above 0 and at most 1.
        placement: "pushed" or "inside".
        labels: "area", "uncorrected", "objects" or "saliency".
    """

    name: ClassVar[str] = "resizemix"
    summary: ClassVar[str] = "the whole partner scaled down and pasted in, labels by area"
    paper: ClassVar[Paper] = Paper(
        "Qin et al.",
        2020,
        "ResizeMix: Mixing Data with Preserved Object Information and True Labels",
        "2012.11101",
    )
    card: ClassVar[Card] = Card(
        "As CutMix, where a piece of an image often misses its object: all of the partner is "
        "seen, small.",
        {"Qin et al. 2020": {}},
    )

    min_scale: float = parameter(
        0.1, "smallest side of the small image, a fraction of the image's", above=0, at_most=1
    )
    max_scale: float = parameter(
        0.8, "largest side of the small image, a fraction of the image's", above=0, at_most=1
    )
    placement: str = parameter(
        "pushed",
        "a box around a uniform centre, moved inside at the border, or uniform where it fits",
        choices=("pushed", "inside"),
    )
    labels: str = label_rule()

    @property
    def home(self) -> Home:
        return Home(frozenset({"centre", "square"}), IMAGE)

    def check_combination(self) -> None:
        if self.min_scale > self.max_scale:
            raise ValueError(
                f"resizemix.min_scale: got {self.min_scale:g}, expected at most max_scale "
                f"({self.max_scale:g})"
            )
        declare_label_rule(self, self.labels)

    def draw(self, draws: Draws) -> Plan:
        import torch

        from mixbench.augmentations.plans.paste import Paste

        scale = draws.uniform(self.min_scale, self.max_scale)
        height = (draws.height * scale).long()
        width = (draws.width * scale).long()
        draw_box = pushed_box if self.placement == "pushed" else inside_box
        target = draw_box(draws, height, width).unsqueeze(1)
        whole = torch.zeros_like(target)
        whole[..., 2], whole[..., 3] = draws.height, draws.width
        partner = draws.partners(self.pairing).unsqueeze(1)
        weights = uncorrected(1 - scale.square()) if self.labels == "uncorrected" else None
        size = draws.height, draws.width
        plan = Paste(size, target, partner, whole, resize=True, weights=weights)
        return weighed(plan, self.labels, draws)
