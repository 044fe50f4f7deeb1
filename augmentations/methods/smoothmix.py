"""SmoothMix: two images combined by a smooth circle or square; labels by the mask's mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.method import IMAGE, Home, Method, Paper, parameter
from mixbench.augmentations.plans.seen_shares import weighed
from mixbench.augmentations.sampling.label_weights import declare_label_rule, label_rule

if TYPE_CHECKING:
    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class SmoothMix(Method):
    """Show each sample through a smooth circle or square, its partner around it; labels by area.

    out = G x + (1 - G) x[partner], where the mask G = exp(-d² / 2σ²) falls off smoothly with the
    distance d from a centre, and the sample's label weight is the mean of G.

    Source: the method of Lee et al. 2020, as openmixup has it. The centre is a uniform pixel and σ
    is uniform from min_sigma to max_sigma times the image's smaller side; 0.25 and 0.5 are
    openmixup's values. With `shape="circle"` d is the Euclidean distance.

    Deviations: neither the paper nor its authors' code was at hand, and openmixup has the circle
    only. Here `shape="square"` has the larger of vertical and horizontal distance for d, so that
    the lines of equal weight are squares with the same fall-off. σ follows the smaller side of
    images that aren't square.

    Args:
        shape: "circle" or "square".
        min_sigma: Smallest σ, a fraction of the image's smaller side, above 0.
        max_sigma: Largest σ, a fraction of the image's smaller side, above 0.
        labels: "area", "objects" or "saliency".
    """

    name: ClassVar[str] = "smoothmix"
    summary: ClassVar[str] = "two images combined by a smooth circle or square, labels by area"
    paper: ClassVar[Paper] = Paper(
        "Lee et al.",
        2020,
        "SmoothMix: A Simple Yet Effective Data Augmentation to Train Robust Classifiers",
        url="openaccess.thecvf.com/content_CVPRW_2020/papers/w45/Lee_SmoothMix_A_Simple_"
        "Yet_Effective_Data_Augmentation_to_Train_Robust_CVPRW_2020_paper.pdf",
    )
    card: ClassVar[Card] = Card(
        "As CutMix, without the hard edges that a network can learn to find.",
        {"openmixup": {}},
    )

    shape: str = parameter(
        "circle", "the lines of equal weight around the centre", choices=("circle", "square")
    )
    min_sigma: float = parameter(
        0.25, "smallest σ of the fall-off, a fraction of the smaller side", above=0, at_most=10
    )
    max_sigma: float = parameter(
        0.5, "largest σ of the fall-off, a fraction of the smaller side", above=0, at_most=10
    )
    labels: str = label_rule(drawn=False)

    @property
    def home(self) -> Home:
        # What is hidden is what is around the circle.
        return Home(frozenset({"boundary"}), IMAGE)

    def check_combination(self) -> None:
        if self.min_sigma > self.max_sigma:
            raise ValueError(
                f"smoothmix.min_sigma: got {self.min_sigma:g}, expected at most max_sigma "
                f"({self.max_sigma:g})"
            )
        declare_label_rule(self, self.labels)

    def draw(self, draws: Draws) -> Plan:
        import torch

        from mixbench.augmentations.plans.blend import Blend

        sigma = draws.uniform(self.min_sigma, self.max_sigma) * min(draws.height, draws.width)
        # A line of G along each side; the circle's mask is their product.
        down, across = (
            (torch.arange(side, device=draws.device) - draws.integers(side).unsqueeze(1))
            .div(sigma.unsqueeze(1))
            .square_()
            .mul_(-0.5)
            .exp_()
            for side in (draws.height, draws.width)
        )
        down, across = down.unsqueeze(2), across.unsqueeze(1)
        keep = down * across if self.shape == "circle" else torch.minimum(down, across)
        plan = Blend(keep.float().unsqueeze(1), draws.partners(self.pairing))
        return weighed(plan, self.labels, draws)
