"""The corruptions, their families, and the constants of their five severities.

The numbers are those of Hendrycks and Dietterich 2019 ("Benchmarking Neural Network Robustness to
Common Corruptions and Perturbations", arXiv:1903.12261), as published with the data sets: `small`
those of CIFAR-10-C, for images of 32 pixels, `large` those of ImageNet-C, for 224. Lengths are in
pixels of these sizes, and are scaled with the images.

In the preset `monotone` a higher severity always changes an image more (its mean absolute
difference, measured on photographs and Fashion-MNIST); as published, that is not so for all. Where
the published settings are only out of order they are sorted by strength, so that the mean over
severities is of the same five; where two have the same effect, one is changed, and the comment says
so. The preset `published` has the numbers as they were published.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LARGE_FROM = 112
"""The shorter side, in pixels, from which images get the constants of ImageNet-C."""
SMALL_SIDE, LARGE_SIDE = 32, 224


@dataclass(frozen=True)
class Levels:
    """A corruption: its family, and the constants of each severity from 1 to 5.

    Attributes:
        family: "noise", "blur", "weather" or "digital".
        small: Constants for images of 32 pixels.
        large: Constants for images of 224 pixels.
        colour: Whether it needs colour images.
        published_small: The constants of CIFAR-10-C, where `small` are others.
        published_large: Those of ImageNet-C, where `large` are others.
    """

    family: str
    small: tuple[Any, ...]
    large: tuple[Any, ...]
    colour: bool = False
    published_small: tuple[Any, ...] | None = None
    published_large: tuple[Any, ...] | None = None

    def of(self, severity: int, preset: str, *, is_large: bool) -> Any:
        """The constants of a severity.

        Args:
            severity: 1 to 5.
            preset: "monotone" or "published".
            is_large: Those for images of 224 pixels, or for 32.
        """
        levels = self.large if is_large else self.small
        if preset == "published":
            published = self.published_large if is_large else self.published_small
            levels = levels if published is None else published
        return levels[severity - 1]


CORRUPTIONS = {
    # Deviation of the noise.
    "gaussian_noise": Levels(
        "noise", (0.04, 0.06, 0.08, 0.09, 0.1), (0.08, 0.12, 0.18, 0.26, 0.38)
    ),
    # Photons that white has.
    "shot_noise": Levels("noise", (500, 250, 100, 75, 50), (60, 25, 12, 5, 3)),
    # Share of the values that become black or white.
    "impulse_noise": Levels(
        "noise", (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27)
    ),
    # Deviation of the noise on white.
    "speckle_noise": Levels("noise", (0.06, 0.1, 0.12, 0.16, 0.2), (0.15, 0.2, 0.35, 0.45, 0.6)),
    # Radius of the disk, deviation of the Gaussian that smooths it.
    "defocus_blur": Levels(
        "blur",
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    ),
    # Deviation of the Gaussian, largest step of a pixel, steps, share of the pixels that move. The
    # small ones are ours but for the last: deviations of 0.05 and 0.25, as published, do nothing.
    # The first large one had two steps, which near 112 pixels is more than the second's one.
    "glass_blur": Levels(
        "blur",
        ((0.4, 1, 1, 0.4), (0.4, 1, 1, 0.6), (0.4, 1, 1, 0.8), (0.4, 1, 1, 1), (0.4, 1, 2, 1)),
        ((0.7, 1, 1, 1), (0.9, 2, 1, 1), (1, 2, 3, 1), (1.1, 3, 2, 1), (1.5, 4, 2, 1)),
        published_small=(
            (0.05, 1, 1, 1),
            (0.25, 1, 1, 1),
            (0.4, 1, 1, 1),
            (0.25, 1, 2, 1),
            (0.4, 1, 2, 1),
        ),
        published_large=(
            (0.7, 1, 2, 1),
            (0.9, 2, 1, 1),
            (1, 2, 3, 1),
            (1.1, 3, 2, 1),
            (1.5, 4, 2, 1),
        ),
    ),
    # Half the length of the trail, deviation of the Gaussian along it. The fourth of the small ones
    # was (8, 2), which at its ends, where it differs from (6, 2), is as good as nothing.
    "motion_blur": Levels(
        "blur",
        ((6, 1), (6, 1.5), (6, 2), (8, 2.25), (9, 2.5)),
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        published_small=((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    ),
    # Largest zoom, step between zooms.
    "zoom_blur": Levels(
        "blur",
        ((1.05, 0.01), (1.10, 0.01), (1.15, 0.01), (1.20, 0.01), (1.25, 0.01)),
        ((1.10, 0.01), (1.15, 0.01), (1.20, 0.02), (1.24, 0.02), (1.30, 0.03)),
    ),
    # Deviation of the Gaussian.
    "gaussian_blur": Levels("blur", (0.4, 0.6, 0.7, 0.8, 1), (1, 2, 3, 4, 6)),
    # Thickness, and how fast details fade with their size. The fourth of the large ones had the
    # third's thickness.
    "fog": Levels(
        "weather",
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.75, 1.5), (3, 1.4)),
        published_large=((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    ),
    # Mean, deviation and zoom of the noise, what of it is snow, half the length of a flake's trail,
    # deviation along it, what of the image is seen; of that, the second large one had the third's.
    "snow": Levels(
        "weather",
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.75),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        published_large=(
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    # What is added to the value (of hue, saturation, value).
    "brightness": Levels("weather", (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
    # What is left of the distance from the mean.
    "contrast": Levels("digital", (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    # Strength and smoothness of the shifts, largest shift of the corners that turn and shear. Put
    # in order: published small 5, 4, 3, 2, 1 and large 3, 4, 5, 1, 2.
    "elastic_transform": Levels(
        "digital",
        ((3.2, 0.96, 0.96), (3.2, 1.28, 1.6), (2.56, 1.92, 1.92), (1.6, 6.4, 2.24), (0, 0, 2.56)),
        (
            (12.2, 2.44, 4.88),
            (17.08, 2.44, 4.88),
            (29.28, 2.44, 4.88),
            (488, 170.8, 24.4),
            (488, 19.52, 48.8),
        ),
        published_small=(
            (0, 0, 2.56),
            (1.6, 6.4, 2.24),
            (2.56, 1.92, 1.92),
            (3.2, 1.28, 1.6),
            (3.2, 0.96, 0.96),
        ),
        published_large=(
            (488, 170.8, 24.4),
            (488, 19.52, 48.8),
            (12.2, 2.44, 4.88),
            (17.08, 2.44, 4.88),
            (29.28, 2.44, 4.88),
        ),
    ),
    # Side after shrinking.
    "pixelate": Levels("digital", (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
    # Quality.
    "jpeg_compression": Levels("digital", (80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
    # Factor of the saturation, what is added to it. Put in order: published small 3, 4, 1, 5, 2 and
    # large 3, 1, 2, 4, 5.
    "saturate": Levels(
        "digital",
        ((1.5, 0), (2, 0.1), (0.3, 0), (2.5, 0.2), (0.1, 0)),
        ((2, 0), (0.3, 0), (0.1, 0), (5, 0.1), (20, 0.2)),
        colour=True,
        published_small=((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
        published_large=((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    ),
    # What is left of the image, how much of the frost is added.
    "frost": Levels(
        "weather",
        ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.45), (0.75, 0.55)),
        ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.75), (0.6, 0.8)),
        published_small=((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        published_large=((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    ),
    # Mean and deviation of the noise, its smoothing, above what it is liquid; strength of water or
    # smoothing of mud, and 1 for mud. As published most mud changes less than most water.
    "spatter": Levels(
        "digital",
        (
            (0.62, 0.1, 0.7, 0.7, 0.5, 0),
            (0.65, 0.1, 0.5, 0.68, 0.6, 1),
            (0.65, 0.1, 0.8, 0.7, 0.5, 0),
            (0.65, 0.3, 1, 0.69, 0.5, 0),
            (0.65, 0.1, 0.5, 0.62, 0.6, 1),
        ),
        (
            (0.65, 0.3, 4, 0.69, 0.6, 0),
            (0.65, 0.3, 1, 0.65, 1.5, 1),
            (0.65, 0.3, 3, 0.68, 0.6, 0),
            (0.65, 0.3, 2, 0.68, 0.5, 0),
            (0.67, 0.4, 1, 0.64, 1.5, 1),
        ),
        published_small=(
            (0.62, 0.1, 0.7, 0.7, 0.5, 0),
            (0.65, 0.1, 0.8, 0.7, 0.5, 0),
            (0.65, 0.3, 1, 0.69, 0.5, 0),
            (0.65, 0.1, 0.7, 0.69, 0.6, 1),
            (0.65, 0.1, 0.5, 0.68, 0.6, 1),
        ),
        published_large=(
            (0.65, 0.3, 4, 0.69, 0.6, 0),
            (0.65, 0.3, 3, 0.68, 0.6, 0),
            (0.65, 0.3, 2, 0.68, 0.5, 0),
            (0.65, 0.3, 1, 0.65, 1.5, 1),
            (0.67, 0.4, 1, 0.65, 1.5, 1),
        ),
    ),
}

FAMILIES = tuple(dict.fromkeys(levels.family for levels in CORRUPTIONS.values()))
SEVERITIES = (1, 2, 3, 4, 5)
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""Those that the publications keep for tuning, and leave out of their means."""
BENCHMARK = tuple(name for name in CORRUPTIONS if name not in EXTRA)
"""The fifteen of the publications' means."""
USUAL = tuple(name for name in CORRUPTIONS if name not in ("frost", "spatter"))
"""Those of the preset `monotone`, which had no `frost` and no `spatter` at first, where none are
named."""
