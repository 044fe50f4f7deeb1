"""TrivialAugment: one operation of fourteen on each image, as strong as is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.method import Home, Method, Paper, parameter

if TYPE_CHECKING:
    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class TrivialAugment(Method):
    """Apply one operation, uniformly drawn, at a strength that is uniformly drawn; labels are kept.

    The operations are identity, shears, translations, rotation, brightness, colour, contrast,
    sharpness, posterize, solarize, autocontrast and equalize, in the paper's wide space: shears up
    to 0.99, 32 pixels, 135 degrees, factors from 0.01 to 1.99, 8 to 2 bits, any threshold.

    Source: Müller & Hutter 2021, section 3 and table 9 (TA wide), as torchvision's
    `v2.TrivialAugmentWide` has it: the same space, 31 strengths, nearest pixels, black from
    outside, and its operations on uint8: the same pixels, but for colour, which may differ by one
    of 256 levels where a processor rounds once instead of twice.

    Deviations: everything is drawn from the generator, per image, for the whole batch at once
    (torchvision: from torch's global one). Images are rounded to 256 levels for it, those without
    an operation are not. Of images with neither one nor three channels, grey is the channels' mean.
    What reaches a network is normalised, so the plan must know how (`normalisation`); images in a
    `compose` are clipped to black and white first. `pairing` has no meaning.

    Cost: drawing and applying it takes 0.12 to 0.23 of a training step of `small_cnn` on a CPU.

    Args:
        bins: How many strengths there are, from none to the largest.
        per_sample: Whether each image has an operation of its own.
    """

    name: ClassVar[str] = "trivial_augment"
    summary: ClassVar[str] = "one operation on each image (turned, shifted, recoloured), label kept"
    label_rule: ClassVar[str] = "kept"
    needs: ClassVar[frozenset[str]] = frozenset({"normalisation"})
    paper: ClassVar[Paper] = Paper(
        "Müller & Hutter",
        2021,
        "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation",
        "2103.10158",
    )
    card: ClassVar[Card] = Card(
        "What must stand beside mixing: one random operation an image, nothing to tune.",
        {"Müller & Hutter 2021": {}},
    )

    bins: int = parameter(31, "how many strengths there are to draw from", at_least=2)
    per_sample: bool = parameter(True, "draw the operation per sample, as the authors do")

    @property
    def home(self) -> Home:
        return Home(frozenset({"boundary"}), frozenset({"black"}))

    def draw(self, draws: Draws) -> Plan:
        from mixbench.augmentations.plans.operations import Operations
        from mixbench.augmentations.sampling.operations import (
            Space,
            draw_operations,
            normalisation_of,
        )

        space = Space(shear=0.99, translate=(32.0, 32.0), rotate=135.0, factor=0.99, bits=2)
        drawn = draw_operations(draws, space, 1, self.bins)
        return Operations((draws.height, draws.width), *drawn, *normalisation_of(draws))
