"""The values of black and white of pixels with more than 8 bits: one scale for a whole data set.

Pixels of 8 bits go from 0 to 255. Whole numbers of more bits go from 0 to the data set's largest
value, rounded up to 2^k - 1 (12 bits in a 16-bit file: 0 to 4095); from the smallest where there
are negative ones. Fractions go from 0 to 1, or from the data set's smallest to its largest value
where some are outside. `dataset.pixel_range` says it for both.

The scale is that of all files, the test images' too: it is a property of how they were taken, as
the 8 bits of other files are, and the same for every part of the data set that is trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.data.open_image import open_image
from mixbench.experiments.errors import UserError
from mixbench.experiments.text import plural

Kind = Literal["bytes", "whole", "real"]
Range = tuple[float, float]
WHITE = 65535
"""What white is kept as, in 16 bits."""


@dataclass(frozen=True)
class Scale:
    """The ranges of whole numbers with more than 8 bits, and of fractions; None: there are none."""

    whole: Range | None = None
    real: Range | None = None

    @property
    def is_wide(self) -> bool:
        """Does any picture have more than 8 bits a pixel?"""
        return self.whole is not None or self.real is not None

    def describe(self) -> dict[str, list[float]]:
        """The ranges by kind of pixels, for records; empty where all pixels have 8 bits."""
        ranges = (("whole numbers", self.whole), ("fractions", self.real))
        return {name: list(found) for name, found in ranges if found is not None}

    def text(self) -> str:
        """The ranges in words; empty where all pixels have 8 bits."""
        return "; ".join(
            f"{name} from {low:g} (black) to {high:g} (white)"
            for name, (low, high) in self.describe().items()
        )

    def levels(self, values: NDArray[Any], kind: Kind) -> NDArray[np.uint16]:
        """Pixels as 0 (black) to 65535 (white); what is outside is cut off, no number is black."""
        low, high = (self.whole if kind == "whole" else self.real) or _usual(kind)
        shares = (values.astype(np.float64) - low) / (high - low)
        shares = np.nan_to_num(shares, nan=0.0, posinf=1.0, neginf=0.0)
        return (shares.clip(0, 1) * WHITE).round().astype(np.uint16)


BYTES = Scale()


def kind_of(mode: str) -> Kind:
    """What the pixels of an image in this mode of Pillow's are."""
    if mode == "F":
        return "real"
    return "whole" if mode == "I" or mode.startswith("I;16") else "bytes"


def _usual(kind: Kind) -> Range:
    # A file that was no image when the scale was determined.
    return (0.0, 65535.0) if kind == "whole" else (0.0, 1.0)


@dataclass(frozen=True)
class _Seen:
    """What the pixels of one file are; low and high are of those that are finite numbers."""

    kind: Kind
    size: tuple[int, int]
    low: float = math.inf
    high: float = -math.inf
    finite: bool = True


@dataclass(frozen=True)
class Survey:
    """What was seen of some files.

    scale: of all of them. notes: what is to be said about it, a line each. sizes: (N,2) width and
    height; 0 of files that can't be read.
    """

    scale: Scale
    notes: tuple[str, ...]
    sizes: NDArray[np.int64]


def survey(paths: Sequence[Path], given: Range | None = None, threads: int = 1) -> Survey:
    """Look at the heads of files, and at all pixels of those with more than 8 bits.

    given: `dataset.pixel_range`. Raises UserError where it is given and all pixels have 8 bits.
    """
    with ThreadPoolExecutor(max(1, threads)) as pool:
        seen = list(pool.map(_look, paths))
    sizes = np.array([one.size for one in seen], dtype=np.int64).reshape(-1, 2)
    wide = [one for one in seen if one.kind != "bytes"]
    if not wide:
        if given not in (None, (0.0, 255.0)):
            raise UserError(
                f"dataset.pixel_range: got {list(given or ())}, but all images have 8 bits a "
                "pixel, from 0 to 255; leave it out"
            )
        return Survey(BYTES, (), sizes)
    ranges: dict[Kind, Range] = {}
    for kind, determine in (("whole", _whole_range), ("real", _real_range)):
        some = [one for one in wide if one.kind == kind and one.low <= one.high]
        if any(one.kind == kind for one in wide):
            ranges[cast(Kind, kind)] = given or (determine(some) if some else (0.0, 1.0))
    scale = Scale(ranges.get("whole"), ranges.get("real"))
    notes = [f"pixels of {plural(len(wide), 'image')} with more than 8 bits: {scale.text()}"]
    if given is None:
        notes[0] += ", from all images (dataset.pixel_range)"
    else:
        notes += _outside(wide, given)
    strange = sum(not one.finite for one in wide)
    if strange:
        notes.append(
            f"{plural(strange, 'image')} with pixels that are not finite: infinite ones become "
            "white or black, those that are no number black"
        )
    return Survey(scale, tuple(notes), sizes)


def _look(path: Path) -> _Seen:
    try:
        with open_image(path) as image:
            kind, size = kind_of(image.mode), image.size
            if kind == "bytes":
                return _Seen(kind, size)
            values = np.asarray(image)
    except Exception:  # a broken file can raise anything; it is named where it is decoded
        return _Seen("bytes", (0, 0))
    finite = values[np.isfinite(values)] if kind == "real" else values
    if not finite.size:
        return _Seen(kind, size, finite=False)
    whole = finite.size == values.size
    return _Seen(kind, size, float(finite.min()), float(finite.max()), whole)


def _bounds(seen: Iterable[_Seen]) -> Range:
    lows, highs = zip(*((one.low, one.high) for one in seen), strict=True)
    return min(lows), max(highs)


def _whole_range(seen: list[_Seen]) -> Range:
    low, high = _bounds(seen)
    if low < 0:
        return low, max(high, low + 1)
    return 0.0, float(2 ** max(8, int(high).bit_length()) - 1)


def _real_range(seen: list[_Seen]) -> Range:
    low, high = _bounds(seen)
    if low < high and (low < 0 or high > 1):
        return low, high
    return min(0.0, low), max(1.0, high)


def _outside(wide: list[_Seen], given: Range) -> list[str]:
    low, high = given
    beyond = [one for one in wide if one.low < low or one.high > high]
    if not beyond:
        return []
    least, most = _bounds(beyond)
    return [
        f"dataset.pixel_range: {len(beyond)} of {plural(len(wide), 'image')} with more than 8 bits "
        f"have pixels outside of {low:g} to {high:g}, from {least:g} to {most:g}: cut off"
    ]
