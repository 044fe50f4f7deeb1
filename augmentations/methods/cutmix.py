"""CutMix: a box of another image pasted in, labels by area."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.method import IMAGE, RECTANGLES, Home, Method, Paper, parameter
from mixbench.augmentations.plans.seen_shares import weighed
from mixbench.augmentations.sampling.boxes import (
    centred_box,
    check_areas,
    cut_area,
    cut_sides,
    cutting_along,
    full_length,
    inside_box,
    largest_area,
    smallest_area,
)
from mixbench.augmentations.sampling.label_weights import (
    declare_label_rule,
    label_rule,
    uncorrected,
)

if TYPE_CHECKING:
    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class CutMix(Method):
    """Paste a box of the partner into each sample; labels by area.

    out = M x + (1 - M) x[partner], where the mask M is 0 in a box of √(1 - λ) of each side,
    λ ~ Beta(α, α), and the sample's label weight is the mean of M.

    Source: Yun et al. 2019, section 3.1, equations 1 and 2. What the paper leaves open is as in the
    authors' code: sides are rounded down to whole pixels, the centre is a uniform pixel, the box is
    clipped at the border, and the label weight is recomputed from the clipped box. Clipping moves
    the sample's mean label weight from 0.50 to about 0.70 at 32 x 32 (α = 1). `placement="inside"`
    draws among the positions where the box fits, for a mean of 0.52. The authors mix every ImageNet
    batch and half of the CIFAR batches (`prob=0.5`).

    Deviations: none by default. `min_area` and `max_area` are not in the paper: they bound the box,
    whose area before rounding and clipping is min_area + (max_area - min_area)(1 - λ).
    `labels="uncorrected"` leaves out the authors' last step: the sample's label weighs 1 less that
    area (λ, without bounds), whatever was cut off at the border, as timm's `correct_lam=False` and
    several other implementations have it. `axis="width"` cuts a part 1 - λ of the width at full
    height, "height" a part of the height at full width: pieces of time, or bands of frequency,
    where images are spectrograms.

    Args:
        alpha: Both parameters of λ's Beta distribution, above 0.
        placement: "clipped" or "inside".
        min_area: Smallest area of the box, a fraction of the image.
        max_area: Largest area of the box, a fraction of the image.
        labels: "area", "uncorrected", "objects" or "saliency".
        axis: "both", "width" or "height".
    """

    name: ClassVar[str] = "cutmix"
    summary: ClassVar[str] = "a box of another image pasted in, labels by area"
    paper: ClassVar[Paper] = Paper(
        "Yun et al.",
        2019,
        "CutMix: Regularization Strategy to Train Strong Classifiers",
        "1905.04899",
    )
    card: ClassVar[Card] = Card(
        "The usual first choice for image classes, strong on small data and long trainings. "
        "Short trainings and small networks lose by mixing every batch: lower `prob`.",
        {
            "Yun et al. 2019, ImageNet": {"alpha": 1.0, "prob": 1.0},
            "Yun et al. 2019, CIFAR": {"alpha": 1.0, "prob": 0.5},
            "results/tuned, 2,000 Fashion-MNIST images": {"alpha": 4.0, "prob": 0.5},
        },
    )

    alpha: float = parameter(1.0, "λ ~ Beta(α, α), the area that is kept before clipping", above=0)
    placement: str = parameter(
        "clipped",
        "a box around a uniform centre, clipped at the border, or one that lies inside",
        choices=("clipped", "inside"),
    )
    min_area: float = smallest_area()
    max_area: float = largest_area()
    labels: str = label_rule()
    axis: str = cutting_along()

    @property
    def home(self) -> Home:
        return Home(RECTANGLES, IMAGE)

    def check_combination(self) -> None:
        check_areas(self.name, self.min_area, self.max_area)
        declare_label_rule(self, self.labels)

    def draw(self, draws: Draws) -> Plan:
        from mixbench.augmentations.plans.paste import Paste

        area = cut_area(draws, self.alpha, self.min_area, self.max_area)
        height, width = cut_sides(draws, area, self.axis)
        draw_box = centred_box if self.placement == "clipped" else inside_box
        target = full_length(draw_box(draws, height, width), self.axis, draws).unsqueeze(1)
        partner = draws.partners(self.pairing).unsqueeze(1)
        weights = uncorrected(1 - area) if self.labels == "uncorrected" else None
        plan = Paste((draws.height, draws.width), target, partner, weights=weights)
        return weighed(plan, self.labels, draws)
