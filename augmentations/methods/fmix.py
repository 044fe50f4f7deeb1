"""FMix: two images combined by a binary mask of low-frequency noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mixbench.augmentations.card import Card
from mixbench.augmentations.method import IMAGE, Home, Method, Paper, parameter
from mixbench.augmentations.plans.seen_shares import weighed
from mixbench.augmentations.sampling.label_weights import (
    declare_label_rule,
    label_rule,
    uncorrected,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.sampling.draws import Draws


@dataclass(frozen=True, kw_only=True)
class FMix(Method):
    """Combine two images by a binary mask of low-frequency noise; labels by area.

    out = M x + (1 - M) x[partner], where the mask M is 1 on the λN largest of the N pixels of a
    random grey image with spectrum 1/f^decay, λ ~ Beta(α, α).

    Source: Harris et al. 2020, section 3, and the authors' code: max_soft 0, decay power 3,
    frequencies below 1/max(H, W) set to that value, λN rounded up or down by a fair coin. With
    `max_soft` s the edges are soft, as in the authors' code: the pixels ranked within sN of λN,
    above and below, go from 1 down to 0 in equal steps; s is at most λ and 1 - λ, so that the mean
    stays λ.

    Deviations: label weights are the mask's realised mean; the authors use λ, which differs by less
    than 1/N and is what `labels="uncorrected"` gives. `spectrum="isotropic"` filters real white
    noise, as the paper describes, and draws it as its spectrum. The authors' code (`"official"`)
    takes the first two rows of its random spectrum for real and imaginary part, so that only two
    horizontal frequencies occur and masks are stripes; on sides that differ much it degenerates.
    Use it to reproduce published results.

    Args:
        alpha: Both parameters of λ's Beta distribution, above 0.
        decay: The exponent of the spectrum, at least 0.
        max_soft: Edges fade over this share of the image on both sides, from 0 to 0.5.
        spectrum: "isotropic" or "official".
        labels: "area", "uncorrected", "objects" or "saliency".
    """

    name: ClassVar[str] = "fmix"
    summary: ClassVar[str] = "two images combined by a mask of low-frequency noise"
    paper: ClassVar[Paper] = Paper(
        "Harris et al.", 2020, "FMix: Enhancing Mixed Sample Data Augmentation", "2002.12047"
    )
    card: ClassVar[Card] = Card(
        "As CutMix, where rectangles would be learnt as such: masks have any shape.",
        {
            "Harris et al. 2020": {},
            "as published results were made": {"spectrum": "official"},
        },
    )
    revision: ClassVar[int] = 2

    alpha: float = parameter(1.0, "λ ~ Beta(α, α), the area that is kept", above=0)
    decay: float = parameter(3.0, "the spectrum falls as 1/frequency^decay", at_least=0)
    max_soft: float = parameter(
        0.0,
        "edges fade over this share of the image on both sides; 0: hard edges",
        at_least=0,
        at_most=0.5,
        later=True,
    )
    spectrum: str = parameter(
        "isotropic",
        "real noise filtered, as the paper says, or the authors' code with its indexing",
        choices=("isotropic", "official"),
    )
    labels: str = label_rule()

    @property
    def home(self) -> Home:
        return Home(frozenset({"blobs"}), IMAGE)

    def check_combination(self) -> None:
        declare_label_rule(self, self.labels)

    def draw(self, draws: Draws) -> Plan:
        import torch

        from mixbench.augmentations.plans.blend import Blend
        from mixbench.augmentations.sampling.top_k_mask import top_k_mask

        pixels = draws.height * draws.width
        wanted, count = self._counts(draws)
        image = self._image(draws).flatten(1)
        if self.max_soft == 0:
            keep = top_k_mask(image, count)
        else:
            order = image.argsort(dim=1, descending=True)
            rank = torch.arange(pixels, device=image.device)
            soft = torch.minimum(wanted, pixels - wanted).clamp(max=self.max_soft * pixels)
            ramp = _ramp(rank, count, soft.floor()).to(image.dtype)
            keep = torch.zeros_like(image).scatter_(1, order, ramp)
        weights = uncorrected(wanted / pixels) if self.labels == "uncorrected" else None
        keep = keep.view(-1, 1, draws.height, draws.width)
        plan = Blend(keep, draws.partners(self.pairing), weights=weights)
        return weighed(plan, self.labels, draws)

    def _counts(self, draws: Draws) -> tuple[Tensor, Tensor]:
        """Draw λN, and the same rounded up or down by a coin: each (rows,) float64."""
        import torch

        wanted = draws.beta(self.alpha) * (draws.height * draws.width)
        return wanted, torch.where(draws.coin(0.5), wanted.ceil(), wanted.floor())

    def _image(self, draws: Draws) -> Tensor:
        """Draw grey images with the wanted spectrum: (rows, H, W) float32."""
        import torch

        height, width = draws.height, draws.width
        if self.spectrum == "official":
            # When the width is odd, the authors' spectrum has a column more than the half spectrum.
            columns = min(width // 2 + 1 + width % 2, width)
            noise = draws.normal(height, columns, 2).mul_(self._scale(draws, height, columns))
            # Rows 0 and 1 stand where real and imaginary part were meant; an image of one row has
            # only row 0.
            spectrum = torch.complex(noise[:, 0], noise[:, min(1, height - 1)])
            stripes: Tensor = torch.fft.irfft2(spectrum, s=(height, width))
            return stripes
        # The upper half of the spectrum of white noise. Where rows are their own mirror image, the
        # second transform takes the real part, as it must.
        rows = height // 2 + 1
        noise = draws.normal(rows, width, 2).mul_(self._scale(draws, rows, width))
        across = torch.fft.ifft(torch.view_as_complex(noise), dim=2)
        image: Tensor = torch.fft.irfft(across, n=height, dim=1)
        return image

    def _scale(self, draws: Draws, rows: int, columns: int) -> Tensor:
        """Compute the standard deviation of the first frequencies, twice: (rows, columns, 2)."""
        size, mirrored = (draws.height, draws.width), self.spectrum == "isotropic"
        return _scale(size, rows, columns, self.decay, mirrored, draws.device)


def _ramp(rank: Tensor, count: Tensor, soft: Tensor) -> Tensor:
    """Fall from 1 to 0 over the `soft` ranks on both sides of `count`: (rows, ranks)."""
    # The first of the 2 soft ranks has 1 and the last 0; with none, the first that is out has 0.
    begin = (count - soft.clamp(min=1)).unsqueeze(1)
    down = (rank - begin) / (2 * soft - 1).clamp(min=1).unsqueeze(1)
    return (1 - down).clamp(min=0, max=1)


def _scale(
    size: tuple[int, int],
    rows: int,
    columns: int,
    decay: float,
    mirrored: bool,
    device: torch.device | str,
) -> Tensor:
    """Compute 1 / frequency^decay of an image of `size` (H, W): (rows, columns, 2) float32.

    mirrored: the rows are half of a real image's spectrum; those that are their own mirror image
    will lose one of two equal parts, and get twice the variance.
    """
    import torch

    # Not the default type, which is the user's to change.
    vertical, horizontal = (
        torch.fft.fftfreq(side, dtype=torch.float32, device=device) for side in size
    )
    frequency = (vertical[:rows].unsqueeze(1).square() + horizontal[:columns].square()).sqrt()
    scale: Tensor = frequency.clamp(min=1 / max(size)).pow(-decay)
    if mirrored:
        is_mirror = (2 * vertical[:rows].abs()) % 1 == 0
        scale = torch.where(is_mirror.unsqueeze(1), math.sqrt(2) * scale, scale)
    return scale.unsqueeze(-1).expand(-1, -1, 2)
