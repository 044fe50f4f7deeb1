"""CowMask: blotches of smoothed noise, filled with a partner (mix) or blanked (erase)."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.method import IMAGE, Home, Method, Paper, flat, parameter
from mixbench.augmentations.plans.seen_shares import weighed
from mixbench.augmentations.sampling.label_weights import declare_label_rule, label_rule

if TYPE_CHECKING:
    from torch import Tensor

    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws

FARTHEST = 1e6
"""Bound of the threshold in standard deviations; that of the legal shares 0 and 1 is infinite."""


@dataclass(frozen=True, kw_only=True)
class CowMask(Method):
    """Replace irregular blotches of each sample by its partner, or blank them; labels by area.

    out = M x + (1 - M) x[partner] ("mix") or M x + (1 - M) fill ("erase"), where the mask M is 1
    where white noise, smoothed by a Gaussian of σ pixels, is at most its mean plus Φ⁻¹(p) times its
    standard deviation: about a share p of the pixels.

    Source: French et al. 2020, section 3, and the authors' code (google-research,
    `milking_cowmask/masking/cow_mask.py`): noise is 0 outside the image, mean and standard
    deviation are the image's own, p is uniform from min_keep to max_keep, log σ from that of
    min_sigma to that of max_sigma, and every image has a mask of its own. Defaults are those of
    their CIFAR runs with mixing: p from 0.2 to 0.8, σ from 4 to 16 of 32 pixels. They erase with p
    from 0.25 to 1 (`min_keep=0.25, max_keep=1`). The label weight is the mask's mean, as theirs is.

    Deviations: σ is a fraction of the image's smaller side. Their p is the share of the partner
    when they mix; here it is that of the sample, the same as long as p is symmetric about 1/2.
    They erase with normal noise; a plan holds no noise, so pixels get a value, or the batch's mean
    colour. They use the masks for consistency between predictions on images without labels; here
    the masks mix and erase labelled images. Their kernel ends at 6 times the largest σ, this one
    does not.

    Args:
        mode: "mix" or "erase"; erasing leaves labels as they are.
        min_sigma: Smallest σ, a fraction of the image's smaller side, above 0.
        max_sigma: Largest σ, a fraction of the image's smaller side, above 0.
        min_keep: Smallest p, from 0 to 1.
        max_keep: Largest p, from 0 to 1.
        fill: With "erase", the value of the blanked pixels, or "mean" for the batch's mean of each
            channel.
        per_sample: Whether the mask is drawn per sample.
        labels: "area", "objects" or "saliency".
    """

    name: ClassVar[str] = "cowmask"
    summary: ClassVar[str] = "blotches of smoothed noise replaced by another image, or blanked"
    paper: ClassVar[Paper] = Paper(
        "French et al.",
        2020,
        "Milking CowMask for Semi-Supervised Image Classification",
        "2003.12022",
    )
    card: ClassVar[Card] = Card(
        "Consistency on images without labels, and as FMix; `mode: erase` is a Cutout of any "
        "shape.",
        {
            "French et al. 2020, CIFAR, mixing": {},
            "French et al. 2020, erasing": {"mode": "erase", "min_keep": 0.25, "max_keep": 1.0},
        },
    )

    mode: str = parameter(
        "mix", "replace by the partner, or blank and keep the label", choices=("mix", "erase")
    )
    min_sigma: float = parameter(
        0.125, "smallest σ of the smoothing, a fraction of the smaller side", above=0, at_most=10
    )
    max_sigma: float = parameter(
        0.5, "largest σ of the smoothing, a fraction of the smaller side", above=0, at_most=10
    )
    min_keep: float = parameter(0.2, "smallest share that is kept", at_least=0, at_most=1)
    max_keep: float = parameter(0.8, "largest share that is kept", at_least=0, at_most=1)
    fill: float | str = parameter(
        0.0, "with erase: value of the blanked pixels, or the mean colour", words=("mean",)
    )
    per_sample: bool = parameter(True, "draw the mask per sample, as the authors do")
    labels: str = label_rule(drawn=False)

    @property
    def home(self) -> Home:
        return Home(frozenset({"blobs"}), IMAGE if self.mode == "mix" else flat(self.fill))

    def check_combination(self) -> None:
        for low, high in (("min_sigma", "max_sigma"), ("min_keep", "max_keep")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(
                    f"cowmask.{low}: got {getattr(self, low):g}, expected at most {high} "
                    f"({getattr(self, high):g})"
                )
        declare_label_rule(self, self.labels)
        if self.mode == "erase":
            if self.labels != "area":
                raise ValueError(
                    f"cowmask.labels: got {self.labels}, expected area with mode: erase, which "
                    "mixes no labels"
                )
            object.__setattr__(self, "label_rule", "kept")

    def draw(self, draws: Draws) -> Plan:
        import torch

        from mixbench.augmentations.plans.blend import Blend

        keep_share = draws.uniform(self.min_keep, self.max_keep)
        side = min(draws.height, draws.width)
        sigma = draws.uniform(math.log(self.min_sigma), math.log(self.max_sigma)).exp() * side
        noise = _smoothed(draws.normal(draws.height, draws.width), sigma)
        spread, mean = torch.std_mean(noise, dim=(1, 2), correction=0, keepdim=True)
        factor = torch.special.ndtri(keep_share).clamp(-FARTHEST, FARTHEST)
        keep = noise <= factor.to(noise.dtype).view(-1, 1, 1) * spread + mean
        keep = keep.float().unsqueeze(1)
        if self.mode == "erase":
            return Blend(keep, fill=self.fill)
        return weighed(Blend(keep, draws.partners(self.pairing)), self.labels, draws)


def _smoothed(noise: Tensor, sigma: Tensor) -> Tensor:
    """Blur (rows, H, W) with Gaussians of sigma (rows,) pixels, up to a factor; 0 outside."""
    import torch

    def kernel(side: int) -> Tensor:
        pixel = torch.arange(side, device=noise.device)
        distance = (pixel.unsqueeze(1) - pixel).to(sigma.dtype) / sigma.view(-1, 1, 1)
        return distance.square_().mul_(-0.5).exp_().to(noise.dtype)

    # Matrix products, which autocast would take to half precision.
    device = noise.device.type
    has_autocast = torch.amp.is_autocast_available(device)
    with torch.autocast(device, enabled=False) if has_autocast else nullcontext():
        across = noise @ kernel(noise.shape[2])
        down: Tensor = kernel(noise.shape[1]) @ across
    return down
