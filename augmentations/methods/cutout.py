"""Cutout: a square of the image is blanked, the label stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.method import Home, Method, Paper, flat, parameter
from mixbench.augmentations.sampling.boxes import centred_box, inside_box

if TYPE_CHECKING:
    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws

DEFAULT_SIZE = 16


@dataclass(frozen=True, kw_only=True)
class Cutout(Method):
    """Blank a square of each image; labels are not mixed.

    out = M x + (1 - M) fill, where the mask M is 0 in a square of side `size` around a uniform
    pixel, clipped at the border.

    Source: DeVries & Taylor 2017, section 3, and the authors' code: a square per image, filled with
    zeros after normalisation (the data set's mean colour). The mean erased area is less than size²
    (19.1%, not 25%, for 16 on 32 x 32), and an odd size covers one pixel less per side. The paper's
    sizes at 32 x 32 are 16 for CIFAR-10, 8 for CIFAR-100 and 20 for SVHN.

    Deviations: none by default. `placement="inside"` draws among the positions where the square
    fits, so that size² pixels are always blanked; the authors stress that the square may reach over
    the border. A size that is larger than the longer side of the images (the shorter one with
    "inside") is a ValueError; only the default of "clipped" is clipped to smaller images.

    Args:
        size: Side of the square in pixels, at least 1.
        fill: Value of the blanked pixels, or "mean" for the batch's mean of each channel.
        placement: "clipped" or "inside".
        per_sample: Whether the square is drawn per sample.
    """

    name: ClassVar[str] = "cutout"
    summary: ClassVar[str] = "a square of the image blanked, the label stays"
    label_rule: ClassVar[str] = "kept"
    paper: ClassVar[Paper] = Paper(
        "DeVries & Taylor",
        2017,
        "Improved Regularization of Convolutional Neural Networks with Cutout",
        "1708.04552",
    )
    card: ClassVar[Card] = Card(
        "Objects that are hidden in part at test time, and labels that must not be mixed. Set "
        "`size` to the images: about half of the side or less.",
        {
            "DeVries & Taylor 2017, CIFAR-10": {"size": 16},
            "DeVries & Taylor 2017, CIFAR-100": {"size": 8},
            "DeVries & Taylor 2017, SVHN": {"size": 20},
        },
    )

    size: int = parameter(DEFAULT_SIZE, "side of the square in pixels", at_least=1)
    fill: float | str = parameter(
        0.0, "value of the blanked pixels, or the batch's mean colour", words=("mean",)
    )
    placement: str = parameter(
        "clipped",
        "a square around a uniform centre, clipped at the border, or one that lies inside",
        choices=("clipped", "inside"),
        later=True,
    )
    per_sample: bool = parameter(True, "draw the square per sample, as the authors do")

    @property
    def home(self) -> Home:
        return Home(frozenset({"centre", "square"}), flat(self.fill))

    def check_size(self, height: int, width: int) -> None:
        inside = self.placement == "inside"
        most = (min if inside else max)(height, width)
        if self.size > most and (inside or self.size != DEFAULT_SIZE):
            raise ValueError(
                f"cutout.size: got {self.size}, expected at most {most}, the "
                f"{'shorter' if inside else 'longer'} side of the images"
            )

    def draw(self, draws: Draws) -> Plan:
        from mixbench.augmentations.plans.paste import Paste

        self.check_size(draws.height, draws.width)
        draw_box = inside_box if self.placement == "inside" else centred_box
        target = draw_box(draws, self.size, self.size).unsqueeze(1)
        return Paste((draws.height, draws.width), target, fill=self.fill)
