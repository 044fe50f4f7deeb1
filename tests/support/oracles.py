"""Images whose pixels say where they came from, draws with chosen outcomes, and error bounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mixbench.augmentations.sampling.draws import Draws

# False alarms: every statistical check in this folder has a fixed seed, so it passes or fails for
# good. What is stated is the chance that a right implementation had been unlucky with that seed.
SIGMAS = 5.0  # two-sided normal: 6e-7 a check
FALSE_ALARM = 1e-6  # of one Kolmogorov-Smirnov or chi-square check

# Hundreds of tests have a device, and skips take time too: `test_devices.py` has one for all.
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def seeded(seed: int, device: str = "cpu") -> torch.Generator:
    """A generator of `device` with this seed."""
    return torch.Generator(device).manual_seed(seed)


def one_hot_images(
    batch: int, height: int, width: int, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Tensor:
    """(B, B, H, W): image b is 1 in channel b and 0 elsewhere.

    After mixing, channel s of sample b is how much of each pixel comes from sample s.
    """
    eye = torch.eye(batch, dtype=dtype, device=device)
    return eye.view(batch, batch, 1, 1).repeat(1, 1, height, width)


def located_images(batch: int, height: int, width: int) -> Tensor:
    """(B, 3, H, W): every pixel holds its sample, row and column."""
    grid = torch.meshgrid(
        torch.arange(batch), torch.arange(height), torch.arange(width), indexing="ij"
    )
    return torch.stack(grid, dim=1).float()


def pixel_shares(mixed: Tensor) -> Tensor:
    """Pixel means of mixed one-hot images: (B, B) float64, share of source s in sample b."""
    return mixed.double().mean(dim=(2, 3))


def dense_from(labels: Tensor, weights: Tensor, num_classes: int) -> Tensor:
    """Soft labels added up one entry at a time, in float64: what `dense` must return."""
    dense = torch.zeros(labels.shape[0], num_classes, dtype=torch.float64)
    for row in range(labels.shape[0]):
        for label, weight in zip(labels[row].tolist(), weights[row].tolist(), strict=True):
            dense[row, label] += weight
    return dense


@dataclass(frozen=True)
class ChosenDraws(Draws):
    """Draws whose λ, centre or noise is given; everything else stays random.

    `centre` (rows, columns) is answered by the side that is asked for, so that the order of the two
    questions does not matter; on a square both must be equal.
    """

    lam: Tensor | None = None
    centre: tuple[Tensor, Tensor] | None = None
    noise: Callable[..., Tensor] | None = None

    def beta(self, alpha: float) -> Tensor:
        return super().beta(alpha) if self.lam is None else self.lam

    def integers(self, high: int | Tensor) -> Tensor:
        if self.centre is None:
            return super().integers(high)
        row, column = self.centre
        if self.height == self.width:
            assert torch.equal(row, column)
            assert high == self.height
            return row
        return {self.height: row, self.width: column}[int(high)]

    def normal(self, *size: int) -> Tensor:
        return super().normal(*size) if self.noise is None else self.noise(self.rows, *size)


def chosen(rows: int, height: int, width: int, seed: int = 0, **outcomes: object) -> ChosenDraws:
    """`ChosenDraws` for `rows` samples of `height` x `width`, one draw for each."""
    return ChosenDraws(
        rows=rows,
        batch=rows,
        height=height,
        width=width,
        device="cpu",
        generator=seeded(seed),
        **outcomes,  # type: ignore[arg-type]
    )


def assert_rate(hits: int, total: int, rate: float) -> None:
    """`hits` of `total` fits the binomial with `rate`: |z| < 5, false alarm 6e-7."""
    error = math.sqrt(rate * (1 - rate) / total)
    z = (hits / total - rate) / error
    assert abs(z) < SIGMAS, f"{hits}/{total} = {hits / total:.4f}, expected {rate:.4f} (z {z:.1f})"


def assert_mean(values: Tensor, expected: float) -> None:
    """The mean of `values` fits `expected`: |z| < 5 with their own standard error, 6e-7."""
    values = values.double()
    error = float(values.std()) / math.sqrt(values.numel())
    z = (float(values.mean()) - expected) / error
    assert abs(z) < SIGMAS, f"mean {float(values.mean()):.4f}, expected {expected:.4f} (z {z:.1f})"


def assert_distribution(
    sample: Tensor, cdf: Callable[[np.ndarray], np.ndarray], low: float, high: float
) -> None:
    """The sample's empirical distribution stays by `cdf` on [low, high]; false alarm 1e-6.

    The bound is Dvoretzky-Kiefer-Wolfowitz's for the whole line, so a part of it is safe. Outside
    [low, high] the values of a U-shaped Beta are rounded to 0 or 1 by float32.
    """
    values = np.sort(sample.double().numpy())
    count = len(values)
    points = np.linspace(low, high, 20001)
    points = np.concatenate([points, values[(values >= low) & (values <= high)]])
    empirical = np.searchsorted(values, points, side="right") / count
    distance = np.abs(empirical - cdf(points)).max()
    bound = math.sqrt(math.log(2 / FALSE_ALARM) / (2 * count)) + 1 / count
    assert distance < bound, f"distance {distance:.4f}, bound {bound:.4f}"


def assert_same_distribution(first: np.ndarray, second: np.ndarray) -> None:
    """Two-sample Kolmogorov-Smirnov, false alarm 1e-6 (less with ties)."""
    first, second = np.sort(first), np.sort(second)
    points = np.concatenate([first, second])
    one = np.searchsorted(first, points, side="right") / len(first)
    two = np.searchsorted(second, points, side="right") / len(second)
    distance = np.abs(one - two).max()
    bound = math.sqrt(-math.log(FALSE_ALARM / 2) / 2 * (1 / len(first) + 1 / len(second)))
    assert distance < bound, f"distance {distance:.4f}, bound {bound:.4f}"


def assert_uniform_counts(counts: np.ndarray) -> None:
    """Chi-square against equal frequencies, false alarm 1e-6."""
    from scipy.stats import chisquare

    result = chisquare(counts)
    assert result.pvalue > FALSE_ALARM, f"counts {counts.tolist()}, p {result.pvalue:.1e}"


def boxes_of(mask: Tensor) -> Tensor:
    """Bounding boxes (N, 4) top, left, bottom, right of bool masks (N, H, W); 0 if empty."""
    rows, columns = mask.any(dim=2), mask.any(dim=1)

    def ends(line: Tensor) -> tuple[Tensor, Tensor]:
        first = line.long().argmax(dim=1)
        last = line.shape[1] - line.flip(1).long().argmax(dim=1)
        return first, torch.where(line.any(dim=1), last, 0)

    (top, bottom), (left, right) = ends(rows), ends(columns)
    return torch.stack([top, left, bottom, right], dim=1)


def assert_full_rectangles(mask: Tensor) -> None:
    """Every mask (N, H, W) is a filled rectangle, or empty."""
    top, left, bottom, right = boxes_of(mask).unbind(1)
    assert torch.equal(mask.sum(dim=(1, 2)), (bottom - top) * (right - left))
