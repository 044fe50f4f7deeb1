"""SpecAugment: bands of frequency and pieces of time are blanked, the label stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.method import Home, Method, Paper, flat, parameter

if TYPE_CHECKING:
    from torch import Tensor

    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws

MOST_MASKS = 10


@dataclass(frozen=True, kw_only=True)
class SpecAugment(Method):
    """Blank bands of frequency (rows) and pieces of time (columns); labels are not mixed.

    out = M x + (1 - M) fill, where the mask M is 0 in rows [f0, f0 + f) and in columns [t0, t0 + t)
    with f ~ U{0, ..., F}, t ~ U{0, ..., T}, once for each mask; masks may overlap.

    Source: Park et al. 2019, section 2, with two masks of each kind as in its policy LD; masks are
    drawn per spectrogram and filled with the mean, zero after normalisation. F = 27 of 80 mel bands
    there, which is `max_frequency=0.34`.

    Deviations: time warping is left out (the paper finds it the least important part). F and T are
    fractions of the image's sides: the paper's T, 100 frames, is a second, which here may be all of
    a clip; the default is that of the bands. A mask may begin anywhere where it fits; in the paper,
    whose intervals are half open, none reaches the last row or column.

    Args:
        frequency_masks: How many bands of frequency are blanked.
        max_frequency: Largest height of a band, F, a fraction of the image's height.
        time_masks: How many pieces of time are blanked.
        max_time: Largest width of a piece, T, a fraction of the image's width.
        fill: Value of the blanked pixels, or "mean" for the batch's mean of each channel.
        per_sample: Whether masks are drawn per sample.
    """

    name: ClassVar[str] = "spec_augment"
    summary: ClassVar[str] = "bands of frequency and pieces of time blanked, the label stays"
    label_rule: ClassVar[str] = "kept"
    paper: ClassVar[Paper] = Paper(
        "Park et al.",
        2019,
        "SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition",
        "1904.08779",
    )
    card: ClassVar[Card] = Card(
        "Sound as spectrograms, where labels must not be mixed: Cutout for rows and columns. With "
        "clips of a second, lower `max_time` if words get lost.",
        {"Park et al. 2019, policy LB": {"frequency_masks": 1, "time_masks": 1}},
    )

    frequency_masks: int = parameter(
        2, "how many bands of frequency (rows) are blanked", at_least=0, at_most=MOST_MASKS
    )
    max_frequency: float = parameter(
        0.34, "largest height of a band, a fraction of the image's height", above=0, at_most=1
    )
    time_masks: int = parameter(
        2, "how many pieces of time (columns) are blanked", at_least=0, at_most=MOST_MASKS
    )
    max_time: float = parameter(
        0.34, "largest width of a piece, a fraction of the image's width", above=0, at_most=1
    )
    fill: float | str = parameter(
        0.0, "value of the blanked pixels, or the batch's mean colour", words=("mean",)
    )
    per_sample: bool = parameter(True, "draw the masks per sample, as the authors do")

    @property
    def home(self) -> Home:
        return Home(frozenset({"centre", "square"}), flat(self.fill))

    def check_combination(self) -> None:
        if not self.frequency_masks and not self.time_masks:
            raise ValueError(
                "spec_augment.time_masks: got 0, and frequency_masks is 0, expected at least one "
                "mask of either kind"
            )

    def draw(self, draws: Draws) -> Plan:
        from mixbench.augmentations.plans.blend import Blend

        rows = _shown(draws, draws.height, self.max_frequency, self.frequency_masks)
        columns = _shown(draws, draws.width, self.max_time, self.time_masks)
        shown = rows.unsqueeze(2) & columns.unsqueeze(1)
        return Blend(shown.float().unsqueeze(1), fill=self.fill)


def _shown(draws: Draws, side: int, most: float, masks: int) -> Tensor:
    """Return which of `side` lines no mask covers: (rows, side) bool."""
    import torch

    line = torch.arange(side, device=draws.device)
    shown = torch.ones(draws.rows, side, dtype=torch.bool, device=draws.device)
    for _ in range(masks):
        length = draws.integers(int(most * side) + 1)
        start = draws.integers(side + 1 - length)
        shown &= (line < start.unsqueeze(1)) | (line >= (start + length).unsqueeze(1))
    return shown
