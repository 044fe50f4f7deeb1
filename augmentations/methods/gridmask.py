"""GridMask: a rotated grid of squares is blanked, the label stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.method import Home, Method, Paper, flat, parameter, prob_parameter

if TYPE_CHECKING:
    from torch import Tensor

    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class GridMask(Method):
    """Blank the squares of a rotated grid; labels are not mixed.

    out = M x + (1 - M) fill, where the mask M is 0 in a square of side d - l in each d x d cell of
    the grid.

    Source: Chen et al. 2020, section 3, and the authors' code (dvlab-research/GridMask,
    `imagenet_grid/utils/grid.py`): the period d is a whole number of pixels, uniform from
    min_period up to but not including max_period. Bars of l = int(ratio · d + 0.5) pixels remain
    between the squares, so that 1 - (1 - ratio)² of the image stays. The grid starts at a uniform
    whole pixel in both directions and is rotated by a uniform whole number of degrees below
    `rotate`. Squares are filled with zeros after normalisation, per image. Defaults are those of
    the authors' ImageNet runs: ratio 0.6, periods 96 to 224 of 224 pixels, all angles,
    probability 0.8. `invert` is `mode=0` of that code, which blanks the bars, not the squares.

    Deviations: periods are fractions of the image's smaller side, as 96 pixels have no meaning at
    32 x 32. The authors raise the probability from 0 to its value over 80% of the epochs; here it
    is constant, and a run's `staging` can raise it. Their grid ends at 1.5 times the image's sides,
    so that rotation leaves corners of a long image unmasked; here it has no end. On square images
    both give the same mask.

    Args:
        ratio: Width of the bars, a fraction of the period, at least 0 and below 1.
        min_period: Smallest period, a fraction of the image's smaller side.
        max_period: Periods stay below this fraction of the image's smaller side.
        rotate: Angles are whole degrees below this, from 1 to 360.
        invert: Whether to blank the bars, not the squares.
        fill: Value of the blanked pixels, or "mean" for the batch's mean of each channel.
        prob: Probability of blanking, per sample with `per_sample`.
        per_sample: Whether the grid is drawn per sample.
    """

    name: ClassVar[str] = "gridmask"
    summary: ClassVar[str] = "a rotated grid of squares blanked, the label stays"
    label_rule: ClassVar[str] = "kept"
    paper: ClassVar[Paper] = Paper("Chen et al.", 2020, "GridMask Data Augmentation", "2001.04086")

    ratio: float = parameter(
        0.6, "width of the bars between the squares, a fraction of the period", at_least=0, below=1
    )
    card: ClassVar[Card] = Card(
        "As Cutout, where one square hides too much or nothing: squares are spread evenly. It "
        "wants long trainings.",
        {"Chen et al. 2020, ImageNet": {}},
    )
    min_period: float = parameter(
        0.43, "smallest period of the grid, a fraction of the smaller side", above=0, at_most=2
    )
    max_period: float = parameter(
        1.0, "periods stay below this fraction of the smaller side", above=0, at_most=2
    )
    rotate: int = parameter(
        360, "angles are whole degrees below this; 1 is upright", at_least=1, at_most=360
    )
    invert: bool = parameter(False, "blank the bars and keep the squares")
    fill: float | str = parameter(
        0.0, "value of the blanked pixels, or the batch's mean colour", words=("mean",)
    )
    prob: float = prob_parameter(0.8)
    per_sample: bool = parameter(True, "draw the grid per sample, as the authors do")

    @property
    def home(self) -> Home:
        return Home(frozenset({"patches"}), flat(self.fill))

    def check_combination(self) -> None:
        if self.min_period > self.max_period:
            raise ValueError(
                f"gridmask.min_period: got {self.min_period:g}, expected at most max_period "
                f"({self.max_period:g})"
            )

    def draw(self, draws: Draws) -> Plan:
        from mixbench.augmentations.plans.blend import Blend

        side = min(draws.height, draws.width)
        shortest = max(round(self.min_period * side), 1)
        choices = max(round(self.max_period * side) - shortest, 1)
        degrees = draws.uniform(0, self.rotate).floor()
        # In floating point: a division of integers would have torch's default dtype.
        period = (shortest + draws.integers(choices)).to(degrees.dtype)
        bar = (period * self.ratio + 0.5).floor()
        starts = draws.integers(period).to(period.dtype), draws.integers(period).to(period.dtype)
        lines = _grid_lines(draws, period, starts, degrees)
        # Where a line lies between the start of its bar, 0, and the start of the next one, 1.
        width = (bar / period).view(-1, 1, 1)
        row, column = (line.sub_(line.floor()) < width for line in lines)
        shown = row | column
        if self.invert:
            shown = ~shown
        return Blend(shown.float().unsqueeze(1), fill=self.fill)


def _grid_lines(
    draws: Draws, period: Tensor, starts: tuple[Tensor, Tensor], degrees: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the row and column of the upright grid under each pixel, in periods: (rows, H, W).

    The grid is drawn on a canvas of int(1.5 H) x int(1.5 W) pixels and rotated counter-clockwise by
    `degrees` (rows,) about its centre; the image is the centre of the canvas.
    """
    import torch

    angle = torch.deg2rad(degrees)
    sides = []
    for side in (draws.height, draws.width):
        pixel = torch.arange(side, dtype=angle.dtype, device=draws.device)
        # From the middle of the canvas to the middle of the pixel.
        whole = int(1.5 * side)
        sides.append(pixel + ((whole - side) // 2 + 0.5 - whole / 2))
    # A point on the edge of two pixels must not depend on the device's rounding: 1e-6.
    row, column = (
        (int(1.5 * side) / 2 + 1e-6 - start) / period
        for side, start in zip((draws.height, draws.width), starts, strict=True)
    )
    cos, sin = angle.cos() / period, angle.sin() / period
    down, across = sides
    return (
        torch.outer(cos, down).add_(row.unsqueeze(1)).unsqueeze(2)
        + torch.outer(sin, across).unsqueeze(1),
        torch.outer(-sin, down).add_(column.unsqueeze(1)).unsqueeze(2)
        + torch.outer(cos, across).unsqueeze(1),
    )
