"""`dataset.mean` and `dataset.std`: what images are normalised by, where it isn't their own."""

from __future__ import annotations

import math
from typing import Any

from mixbench.experiments.section import as_number
from mixbench.experiments.text import plural

Numbers = tuple[float, ...]


def numbers(given: Any) -> Numbers | None:
    """Return a number, or a list of one for each channel, as a tuple; ValueError for others."""
    if given is None:
        return None
    values = [as_number(one) for one in (given if isinstance(given, list | tuple) else [given])]
    known = tuple(float(one) for one in values if type(one) in (int, float))
    if not values or len(known) != len(values) or not all(map(math.isfinite, known)):
        raise ValueError(
            f"got {given!r}, expected a number, or a list with one for each channel, of pixels "
            "from 0 to 1, such as [0.485, 0.456, 0.406]"
        )
    return known


def check(mean: Numbers | None, std: Numbers | None) -> None:
    """Raise ValueError unless both or neither are there, within what pixels from 0 to 1 have."""
    if (mean is None) != (std is None):
        one, other = ("mean", "std") if std is None else ("std", "mean")
        raise ValueError(f"{one}: needs {other} too; give both, or neither for those of the images")
    for value in mean or ():
        if not 0 <= value <= 1:
            raise ValueError(f"mean: got {value:g}, expected 0 to 1{_bytes(value)}")
    for value in std or ():
        if not 0 < value <= 1:
            raise ValueError(f"std: got {value:g}, expected more than 0, at most 1{_bytes(value)}")


def for_channels(given: Numbers | None, channels: int, field: str) -> Numbers | None:
    """Return a number for each channel; ValueError for another number of them."""
    if given is None or len(given) == channels:
        return given
    if len(given) != 1:
        expected = "one number" if channels == 1 else f"one number, or {channels}"
        raise ValueError(
            f"{field}: got {len(given)} numbers, expected {expected}: the images have "
            f"{plural(channels, 'channel')}"
        )
    return given * channels


def _bytes(value: float) -> str:
    if 1 < value <= 255:
        return f": pixels count from 0 to 1, so {value:g} of 255 is {value / 255:.4g}"
    return ""
