"""The planned timeline of a schedule, epoch by epoch."""

from __future__ import annotations

from collections import Counter
from statistics import fmean
from typing import TYPE_CHECKING, Any

from mixbench.experiments.staging.moments import steps_of
from mixbench.experiments.staging.schedule import Schedule
from mixbench.experiments.staging.values import SCHEDULED

if TYPE_CHECKING:
    from mixbench.experiments.config.schema import RunConfig

_STEPS = 60
"""How many steps to sample in each epoch."""


def timeline(config: RunConfig) -> list[dict[str, Any]]:
    """What is to be mixed in each epoch: a row with these keys.

    epoch: from 1. phase: its number, from 1; None outside of all. method: "none" where nothing is
    mixed. prob: how likely an image is mixed, the mean over the epoch. alpha, min_area, max_area:
    their mean over the steps that mix; None where the method has none. until_plateau: what the row
    shows ends when accuracy reaches a plateau; the rows go on to where it ends at the latest.
    Where an epoch is in two phases, `phase` and `method` are those of most of its steps.
    """
    epochs = config.training.epochs
    steps = epochs * _STEPS
    schedule = Schedule(config.augmentation, config.phases, steps, _STEPS)
    unfreezings = steps_of(config.unfreezings, steps, _STEPS)
    rows = []
    for epoch in range(epochs):
        within = range(epoch * _STEPS, (epoch + 1) * _STEPS)
        mixes = [schedule.method(step, (), unfreezings) for step in within]
        phases = [schedule.phase(step, (), unfreezings) for step in within]
        if config.staging is None:
            phases = [1] * _STEPS
        phase, method = Counter(
            (phase, mix.name) for phase, mix in zip(phases, mixes, strict=True)
        ).most_common(1)[0][0]
        shown = within[phases.index(phase)]
        row: dict[str, Any] = {"epoch": epoch + 1, "phase": phase or None, "method": method}
        for key in SCHEDULED:
            values = [
                getattr(mix, key) for mix in mixes if mix.name == method and hasattr(mix, key)
            ]
            row[key] = fmean(values) if values else None
        row["prob"] = fmean(0.0 if mix.name == "none" else mix.prob for mix in mixes)
        row["until_plateau"] = schedule.waits_for_plateau(shown, config.unfreezings, unfreezings)
        rows.append(row)
    return rows
