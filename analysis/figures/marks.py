"""The marks that several figures share: dots of single replicates, heat maps."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes


def strip(axis: Axes, x: Sequence[float], y: Sequence[float], colour: str) -> None:
    """Draw single values as small faint dots."""
    axis.plot(x, y, "o", ms=3, mew=0, color=colour, alpha=0.55, zorder=2)
