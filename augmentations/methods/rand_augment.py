"""RandAugment: a few operations on each image, all of one strength."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.method import Home, Method, Paper, parameter

if TYPE_CHECKING:
    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws

TRANSLATE = 150 / 331
"""The largest translation, a share of the side: AutoAugment's 150 pixels of 331."""


@dataclass(frozen=True, kw_only=True)
class RandAugment(Method):
    """Apply `num_ops` operations, uniformly drawn with repeats, at one strength; labels are kept.

    The operations are those of `trivial_augment`, in AutoAugment's space: shears up to 0.3, 150/331
    of a side, 30 degrees, factors from 0.1 to 1.9, 8 to 4 bits, any threshold; at strength
    `magnitude` of `bins`, in either direction.

    Source: Cubuk et al. 2020, section 3, as torchvision's `v2.RandAugment` has it: the same space,
    N = 2, M = 9 of 31 strengths, nearest pixels, black from outside, and the same pixels as its
    operations on uint8. The paper's own strengths go to 30 in units of a tenth of this space, so
    beyond it; its best for CIFAR-10 and a WideResNet-28-10 was N = 3, M = 5.

    Deviations: as `trivial_augment`. torchvision's operations have an identity and no inversion, as
    the paper's have; both directions are drawn for every operation that has two.

    Cost: drawing and applying it takes 0.2 to 0.54 of a training step of `small_cnn` on a CPU.

    Args:
        num_ops: N, how many operations each image gets, at least 1.
        magnitude: M, the strength, from 0 to `bins` - 1.
        bins: How many strengths there are, from none to the largest.
        per_sample: Whether each image has operations of its own.
    """

    name: ClassVar[str] = "rand_augment"
    summary: ClassVar[str] = "a few operations on each image, all of one strength, label kept"
    label_rule: ClassVar[str] = "kept"
    needs: ClassVar[frozenset[str]] = frozenset({"normalisation"})
    paper: ClassVar[Paper] = Paper(
        "Cubuk et al.",
        2020,
        "RandAugment: Practical Automated Data Augmentation with a Reduced Search Space",
        "1909.13719",
    )
    card: ClassVar[Card] = Card(
        "What must stand beside mixing: random operations of one strength, as in recipes for "
        "ImageNet.",
        {"its defaults, from the paper": {}},
    )

    num_ops: int = parameter(2, "how many operations each image gets", at_least=1)
    magnitude: int = parameter(9, "their strength, from 0 to bins - 1", at_least=0)
    bins: int = parameter(31, "how many strengths there are", at_least=2)
    per_sample: bool = parameter(True, "draw the operations per sample, as the authors do")

    @property
    def home(self) -> Home:
        return Home(frozenset({"boundary"}), frozenset({"black"}))

    def check_combination(self) -> None:
        if self.magnitude >= self.bins:
            raise ValueError(
                f"{self.name}.magnitude: got {self.magnitude}, expected at most {self.bins - 1}, "
                f"as bins is {self.bins}"
            )

    def draw(self, draws: Draws) -> Plan:
        from mixbench.augmentations.plans.operations import Operations
        from mixbench.augmentations.sampling.operations import (
            Space,
            draw_operations,
            normalisation_of,
        )

        far = (TRANSLATE * draws.height, TRANSLATE * draws.width)
        space = Space(shear=0.3, translate=far, rotate=30.0, factor=0.9, bits=4)
        drawn = draw_operations(draws, space, self.num_ops, self.bins, self.magnitude)
        return Operations((draws.height, draws.width), *drawn, *normalisation_of(draws))
