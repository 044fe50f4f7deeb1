"""Mosaic: four images meet at a point, each in its own quadrant; labels by area."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.method import (
    IMAGE,
    RECTANGLES,
    Home,
    Method,
    Paper,
    parameter,
    prob_parameter,
)
from mixbench.augmentations.parameters import CLASS_PAIRINGS
from mixbench.augmentations.plans.seen_shares import weighed
from mixbench.augmentations.sampling.boxes import inside_box, quadrants
from mixbench.augmentations.sampling.label_weights import declare_label_rule, label_rule

if TYPE_CHECKING:
    from torch import Tensor

    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class Mosaic(Method):
    """Put four images into four quadrants around a random point; labels by area.

    out = x in the upper left quadrant and x[partner k], k = 1 to 3, in the others. The quadrants
    meet at a uniform whole pixel between `min_offset` and 1 - `min_offset` of each side.

    Source: Bochkovskiy et al. 2020, section 3.3, which names the method, for detection. For
    classification it is in the authors' code (darknet, `load_data_augment`): `min_offset` 0.2,
    every image at the same position as in the original (`parts="same_place"`), labels by area, half
    of the batches mixed (`prob=0.5`).

    Deviations: whether to mix is drawn per sample (with `per_sample`), not per batch. The other
    images come from the batch: from three independent permutations with `pairing` "permute"
    (derangements with "derange"); "roll" and "flip" are applied once, twice and three times. The
    shifts, flips and jitter of the detector's mosaic are not included. `parts="crop"` takes a
    random crop of each image, as RICAP does; `"resize"` scales each whole image into its quadrant,
    which changes its aspect but cuts no object.

    Args:
        min_offset: Least distance from the cut to the border, a fraction of the side, from 0 to
            0.5.
        parts: "same_place", "crop" or "resize".
        prob: Probability of mixing, per sample with `per_sample`.
        per_sample: Whether the cut is drawn per sample.
        labels: "area", "objects" or "saliency".
    """

    name: ClassVar[str] = "mosaic"
    summary: ClassVar[str] = "four images in four quadrants around a random point, labels by area"
    paper: ClassVar[Paper] = Paper(
        "Bochkovskiy et al.",
        2020,
        "YOLOv4: Optimal Speed and Accuracy of Object Detection",
        "2004.10934",
    )
    card: ClassVar[Card] = Card(
        "Detection, which sees objects in more places and smaller; for classes, RICAP is the "
        "published method.",
        {
            "Bochkovskiy et al. 2020, authors' code for classes": {},
            "detection: four crops": {"parts": "crop"},
        },
    )

    min_offset: float = parameter(
        0.2, "the cut keeps this fraction of the side from the border", at_least=0, at_most=0.5
    )
    parts: str = parameter(
        "same_place",
        "what is in a quadrant: the image at that place, a random crop, or all of it, resized",
        choices=("same_place", "crop", "resize"),
    )
    prob: float = prob_parameter(0.5)
    per_sample: bool = parameter(True, "draw the cut per sample, as the authors do")
    labels: str = label_rule(drawn=False)

    @property
    def home(self) -> Home:
        return Home(RECTANGLES, IMAGE)

    def check_combination(self) -> None:
        declare_label_rule(self, self.labels)

    def draw(self, draws: Draws) -> Plan:
        import torch

        from mixbench.augmentations.plans.paste import Paste

        row, column = self._cut(draws, draws.height), self._cut(draws, draws.width)
        target = quadrants(draws, row, column)
        size, partner = (draws.height, draws.width), self._partners(draws)
        if self.parts == "same_place":
            # The sample's own quadrant stays where it is.
            plan = Paste(size, target[:, 1:], partner[:, 1:])
            return weighed(plan, self.labels, draws)
        if self.parts == "crop":
            source = torch.stack(
                [
                    inside_box(draws, box[:, 2] - box[:, 0], box[:, 3] - box[:, 1])
                    for box in target.unbind(1)
                ],
                dim=1,
            )
        else:
            # From the first quadrant's corner to the last one's.
            whole = torch.cat([target[:, :1, :2], target[:, 3:, 2:]], dim=-1)
            source = whole.expand(-1, 4, -1)
        resize = self.parts == "resize"
        plan = Paste(size, target, partner, source, tiles=True, resize=resize)
        return weighed(plan, self.labels, draws)

    def _cut(self, draws: Draws, side: int) -> Tensor:
        """Draw where a side of so many pixels is cut: (rows,) int64."""
        low, high = int(side * self.min_offset), int(side * (1 - self.min_offset))
        return low + draws.integers(high - low + 1)

    def _partners(self, draws: Draws) -> Tensor:
        """Draw the sample of each quadrant, the first is the sample itself: (batch, 4) int64."""
        import torch

        columns = [torch.arange(draws.batch, device=draws.device)]
        if self.pairing in ("permute", "derange", *CLASS_PAIRINGS):
            columns += [draws.partners(self.pairing) for _ in range(3)]
        else:
            once = draws.partners(self.pairing)
            for _ in range(3):
                columns.append(once[columns[-1]])
        return torch.stack(columns, dim=1)
