"""SaliencyMix: the box around the partner's most salient pixel is pasted in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.method import IMAGE, RECTANGLES, Home, Method, Paper, parameter
from mixbench.augmentations.plans.seen_shares import weighed
from mixbench.augmentations.sampling.boxes import (
    check_areas,
    clipped_around,
    cut_area,
    cut_sides,
    largest_area,
    pushed_around,
    smallest_area,
)
from mixbench.augmentations.sampling.label_weights import declare_label_rule, uncorrected

if TYPE_CHECKING:
    from torch import Tensor

    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class SaliencyMix(Method):
    """Paste the box around the partner's most salient pixel into each sample; labels by area.

    out = M x + (1 - M) x[partner], where the mask M is 0 in a box with sides of
    int(side · √(1 - λ)), λ ~ Beta(α, α), around the maximum of the partner's saliency.

    Source: Uddin et al. 2021, section 3, and the authors' code (afm-shahab-uddin/SaliencyMix,
    `saliency_bbox`): the box is clipped at the border and pasted at the same position, labels by
    the area of the clipped box. The authors mix every ImageNet batch and half of the CIFAR batches
    (`prob=0.5`).

    Deviations: the saliency is `mixbench.augmentations.sampling.saliency.fine_grained`, OpenCV's
    detector without its rounding to 8 bits. The authors pass that detector normalised
    floating-point images, whose bytes it reads as grey values, so that their peak has little to do
    with the image; here the paper's description is followed. Their code uses one partner's peak for
    the whole batch, as `per_sample=False` does with the first sample's partner; by default each
    sample has its own, as in the paper.

    Not in the paper: `placement="inside"` moves the box inside instead of clipping it. `min_area`
    and `max_area` bound the box as in CutMix. `labels="saliency"` weighs each image by the part of
    its saliency that is still seen: a / (a + b) for the sample and b / (a + b) for the partner,
    where a is the share of the sample's saliency outside the box and b that of the partner's inside
    it. An image without any saliency counts by area. `labels="uncorrected"` weighs by λ as drawn
    (with bounds: by 1 less the area), as in CutMix.

    Args:
        alpha: Both parameters of λ's Beta distribution, above 0.
        placement: "clipped" or "inside".
        labels: "area", "saliency" or "uncorrected".
        min_area: Smallest area of the box, a fraction of the image.
        max_area: Largest area of the box, a fraction of the image.
        per_sample: Whether box size and peak are per sample, not per batch.
    """

    name: ClassVar[str] = "saliencymix"
    summary: ClassVar[str] = "a box around the partner's most salient pixel pasted in"
    needs: ClassVar[frozenset[str]] = frozenset({"images"})
    paper: ClassVar[Paper] = Paper(
        "Uddin et al.",
        2021,
        "SaliencyMix: A Saliency Guided Data Augmentation Strategy for Better Regularization",
        "2006.01791",
    )
    card: ClassVar[Card] = Card(
        "As CutMix, where objects are small: the box is where the partner is salient. The "
        "saliency is computed for every batch.",
        {
            "Uddin et al. 2021, ImageNet": {"prob": 1.0},
            "Uddin et al. 2021, CIFAR": {"prob": 0.5},
        },
    )

    alpha: float = parameter(1.0, "λ ~ Beta(α, α), the area that is kept before clipping", above=0)
    placement: str = parameter(
        "clipped",
        "the box around the peak is clipped at the border, or moved inside",
        choices=("clipped", "inside"),
    )
    labels: str = parameter(
        "area",
        "labels weigh by area, by the share of each image's saliency that is still seen, by "
        "the area as drawn, or by the share of each image's object that is seen",
        choices=("area", "saliency", "uncorrected", "objects"),
    )
    min_area: float = smallest_area()
    max_area: float = largest_area()
    per_sample: bool = parameter(
        True, "draw the box size and look for the peak per sample, not per batch"
    )

    @property
    def home(self) -> Home:
        return Home(RECTANGLES, IMAGE)

    def check_combination(self) -> None:
        check_areas(self.name, self.min_area, self.max_area)
        declare_label_rule(self, self.labels)

    def draw(self, draws: Draws) -> Plan:
        import torch

        from mixbench.augmentations.plans.paste import Paste
        from mixbench.augmentations.sampling.saliency import fine_grained

        if draws.images is None:
            raise ValueError("saliencymix: expected draws with images, got none")
        area = cut_area(draws, self.alpha, self.min_area, self.max_area)
        height, width = cut_sides(draws, area)
        partner = draws.partners(self.pairing)
        size = draws.height, draws.width
        if self.labels == "saliency":
            maps = fine_grained(draws.images)
            pasted = maps.index_select(0, partner)
        else:
            maps = None
            pasted = fine_grained(draws.images.index_select(0, partner[: draws.rows]))
        peak = pasted[: draws.rows].flatten(1).argmax(dim=1)
        row = torch.div(peak, draws.width, rounding_mode="floor")
        around = clipped_around if self.placement == "clipped" else pushed_around
        target = around(row, peak % draws.width, height, width, size)
        weights = None if maps is None else _seen(maps, pasted, target)
        if self.labels == "uncorrected":
            weights = uncorrected(1 - area)
        plan = Paste(size, target.unsqueeze(1), partner.unsqueeze(1), weights=weights)
        return weighed(plan, self.labels, draws) if maps is None else plan


def _seen(maps: Tensor, pasted: Tensor, box: Tensor) -> Tensor:
    """Return label weights (B, 2) from saliency maps (B, H, W) and boxes (rows, 4)."""
    import torch

    row = torch.arange(maps.shape[1], device=maps.device)
    column = torch.arange(maps.shape[2], device=maps.device)
    top, left, bottom, right = box.unsqueeze(-1).unbind(1)
    rows = (row >= top) & (row < bottom)
    columns = (column >= left) & (column < right)
    inside = (rows.unsqueeze(2) & columns.unsqueeze(1)).float()
    remaining, shown = _share(maps, 1 - inside), _share(pasted, inside)
    total = remaining + shown
    # Nothing of either is seen when the box hides one object and misses the other.
    sample_weight = torch.where(total > 0, remaining / total, (1 - inside).mean(dim=(1, 2)))
    return torch.stack([sample_weight, 1 - sample_weight], dim=1)


def _share(maps: Tensor, seen: Tensor) -> Tensor:
    """Return the share of each map's sum where `seen` is 1; of its area, where a map is all 0."""
    import torch

    whole = maps.sum(dim=(1, 2))
    part = (maps * seen).sum(dim=(1, 2))
    return torch.where(whole > 0, part / whole, seen.mean(dim=(1, 2)))
