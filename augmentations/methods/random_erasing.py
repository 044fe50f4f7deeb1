"""Random Erasing: a rectangle of random area and shape is blanked, the label stays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.method import Home, Method, Paper, flat, parameter, prob_parameter
from mixbench.augmentations.sampling.boxes import check_areas, inside_box

if TYPE_CHECKING:
    from torch import Tensor

    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws

MOST_TRIES = 100
RARE = 1e-9
"""Largest probability that an image is not erased because fewer than `MOST_TRIES` were drawn."""
AREAS = 8
"""Areas by which the share of tries that fit is estimated."""


@dataclass(frozen=True, kw_only=True)
class RandomErasing(Method):
    """Blank a rectangle of random area and aspect; labels are not mixed.

    out = M x + (1 - M) fill, where the mask M is 0 in a rectangle with area ~ U(min_area, max_area)
    of the image and height / width ~ U(min_aspect, 1 / min_aspect).

    Source: Zhong et al. 2017, algorithm 1, and the authors' code: per image with probability 0.5;
    the aspect is uniform (timm and torchvision draw it log-uniformly); up to 100 tries to find a
    rectangle that is smaller than the image on both sides, else the image is not changed.

    Deviations: the authors' code fills with CIFAR-10's mean pixel, not normalised, whatever the
    data; `fill="mean"` is the mean colour of the batch. All tries are drawn at once and the first
    that fits is taken: the same distribution without a loop on the host. Where most tries fit,
    fewer than 100 are drawn, but enough that none fits in less than one of 10^9 images.

    Args:
        min_area: Smallest area, a fraction of the image.
        max_area: Largest area, a fraction of the image.
        min_aspect: Smallest height / width, above 0 and at most 1; the largest is its inverse.
        fill: Value of the blanked pixels, or "mean" for the batch's mean of each channel.
        prob: Probability of erasing, per sample with `per_sample`.
        per_sample: Whether the rectangle is drawn per sample.
    """

    name: ClassVar[str] = "random_erasing"
    summary: ClassVar[str] = "a random rectangle of the image blanked, the label stays"
    label_rule: ClassVar[str] = "kept"
    paper: ClassVar[Paper] = Paper(
        "Zhong et al.", 2017, "Random Erasing Data Augmentation", "1708.04896"
    )
    card: ClassVar[Card] = Card(
        "As Cutout, with rectangles of all sizes; usual in re-identification and with timm's "
        "recipes.",
        {"Zhong et al. 2017": {}},
    )
    revision: ClassVar[int] = 2

    min_area: float = parameter(0.02, "smallest area, a fraction of the image", above=0, below=1)
    max_area: float = parameter(0.4, "largest area, a fraction of the image", above=0, at_most=1)
    min_aspect: float = parameter(
        0.3, "smallest height / width; the largest is its inverse", above=0, at_most=1
    )
    fill: float | str = parameter(
        "mean", "value of the blanked pixels, or the batch's mean colour", words=("mean",)
    )
    prob: float = prob_parameter(0.5)
    per_sample: bool = parameter(True, "draw the rectangle per sample, as the authors do")

    @property
    def home(self) -> Home:
        return Home(frozenset({"centre", "square"}), flat(self.fill))

    def check_combination(self) -> None:
        check_areas(self.name, self.min_area, self.max_area)

    def draw(self, draws: Draws) -> Plan:
        from mixbench.augmentations.plans.paste import Paste

        tries = self._tries(draws.height, draws.width)
        unit = draws.uniform(tries=2 * tries)
        height, width = self._sides(draws, unit[:, :tries], unit[:, tries:])
        target = inside_box(draws, height, width).unsqueeze(1)
        return Paste((draws.height, draws.width), target, fill=self.fill)

    def _tries(self, height: int, width: int) -> int:
        """Return how many tries an image of this size needs, at most the authors' 100."""
        low, high = self.min_aspect, 1 / self.min_aspect
        # A side is rounded and must be smaller than the image's: area times aspect, and area over
        # aspect, are below these.
        down, across = ((side - 0.5) ** 2 / (height * width) for side in (height, width))
        fitting = 0.0
        for step in range(AREAS):
            area = self.min_area + (self.max_area - self.min_area) * (step + 0.5) / AREAS
            lowest, highest = max(low, area / across), min(high, down / area)
            if lowest <= highest:
                fitting += (highest - lowest) / (high - low) if low < high else 1
        # A tenth less, as this uses a few areas for all and ignores that sides are whole numbers.
        missing = 1 - 0.9 * fitting / AREAS
        if missing == 1:
            return MOST_TRIES
        return min(MOST_TRIES, math.ceil(math.log(RARE) / math.log(missing)))

    def _sides(self, draws: Draws, area: Tensor, aspect: Tensor) -> tuple[Tensor, Tensor]:
        """Return height and width of the first try that fits, 0 if none does: each (rows,) int64.

        area, aspect: (rows, tries), uniform on [0, 1).
        """
        area = area * (self.max_area - self.min_area) + self.min_area
        area = area * (draws.height * draws.width)
        aspect = aspect * (1 / self.min_aspect - self.min_aspect) + self.min_aspect
        heights = (area * aspect).sqrt_().round_().long()
        widths = (area / aspect).sqrt_().round_().long()
        fits = (heights < draws.height) & (widths < draws.width)
        first = fits.long().argmax(dim=1, keepdim=True)
        any_fits = fits.gather(1, first).squeeze(1)
        height = heights.gather(1, first).squeeze(1) * any_fits
        width = widths.gather(1, first).squeeze(1) * any_fits
        return height, width
