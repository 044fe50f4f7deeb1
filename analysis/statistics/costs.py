"""What a method costs: time per training image against the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

import pandas as pd

from mixbench.analysis.numbers import is_number
from mixbench.experiments.store.states import RunState

SPEED = "timing.images_per_second"
SECONDS = "timing.train_seconds"
PASSES = {
    "attentive_cutmix": 1.0,
    "augmix": 6.0,
    "puzzlemix": 3.0,
    "recursivemix": 3.0,
    "regmixup": 3.0,
    "sk_mixup": 1.0,
    "snapmix": 1.0,
}
"""Forward passes for a batch beyond the usual one, of the methods that take some; a backward pass
counts 2."""


def costs(runs: pd.DataFrame, baselines: Mapping[str, str | None]) -> dict[str, float]:
    """Return cell_key -> time per image divided by that of its baseline.

    The median over runs with the same replicate and seed, as single runs share their machine with
    others.

    Args:
        runs: One row per run, as `mixbench.analysis.tables.load.load` makes them.
        baselines: cell_key -> the cell_key of its baseline.

    Examples:
        >>> runs = pd.DataFrame({
        ...     "cell_key": ["a", "a", "b", "b"], "seed": [0, 1, 0, 1], "state": "done",
        ...     "timing.images_per_second": [1000.0, 900.0, 800.0, 720.0],
        ... })
        >>> {cell: round(cost, 2) for cell, cost in costs(runs, {"a": "a", "b": "a"}).items()}
        {'a': 1.0, 'b': 1.25}
    """
    if SPEED not in runs:
        return {}
    drawn = ["replicate", "seed"] if "replicate" in runs else ["seed"]
    speeds: dict[str, dict[tuple[int, ...], float]] = {}
    done = runs[runs["state"] == RunState.DONE]
    for cell, speed, *draw in done[["cell_key", SPEED, *drawn]].itertuples(index=False):
        if is_number(speed) and speed > 0:
            speeds.setdefault(str(cell), {})[tuple(draw)] = float(speed)
    found = {}
    for cell, base in baselines.items():
        own, other = speeds.get(cell, {}), speeds.get(base or "", {})
        ratios = [other[draw] / speed for draw, speed in own.items() if draw in other]
        if ratios:
            found[cell] = median(ratios)
    return found


def train_seconds(runs: pd.DataFrame) -> dict[str, float]:
    """Return cell_key -> the seconds of a training, the median over its finished runs.

    Args:
        runs: One row per run, as `mixbench.analysis.tables.load.load` makes them.

    Examples:
        >>> runs = pd.DataFrame({
        ...     "cell_key": ["a"] * 3, "state": "done",
        ...     "timing.train_seconds": [9.0, 11.0, 90.0],
        ... })
        >>> train_seconds(runs)
        {'a': 11.0}
    """
    if SECONDS not in runs:
        return {}
    done = runs[runs["state"] == RunState.DONE]
    times: dict[str, list[float]] = {}
    for cell, seconds in done[["cell_key", SECONDS]].itertuples(index=False):
        if is_number(seconds):
            times.setdefault(str(cell), []).append(float(seconds))
    return {cell: median(found) for cell, found in times.items()}
