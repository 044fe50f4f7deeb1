"""Cells whose setting is chosen: what they are called, whatever was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mixbench.experiments.design.question import TUNE
from mixbench.experiments.merge import merge
from mixbench.experiments.store.choices import DEFAULT, TUNED, TUNING
from mixbench.experiments.store.run_folder import PlannedRun


def of_cell(run: PlannedRun) -> Mapping[str, Any]:
    """Return the configuration of a run's cell, the same before and after a choice.

    `augmentation.tune` says "tuned" or "default"; all else is as the sweep has it without tuning,
    so that cells differ in what was chosen nowhere else.
    """
    config = run.cell_config if run.cell_config is not None else run.config
    return _marked(run, config)


def of_run(run: PlannedRun) -> Mapping[str, Any]:
    """Return the configuration of a run with the setting that it has.

    What is still to be chosen is None.
    """
    if not run.pending:
        return _marked(run, run.config)
    over = (run.tune or {})["over"]
    return _marked(run, merge(dict(run.config), [(key, None) for key in over]))


def _marked(run: PlannedRun, config: Mapping[str, Any]) -> Mapping[str, Any]:
    if run.part not in (TUNED, DEFAULT):
        return config
    _, _, name = TUNE.partition(".")
    return {**config, "augmentation": {**config["augmentation"], name: run.part}}


def is_compared(run: PlannedRun) -> bool:
    """Is a run compared with others, or there for others alone?"""
    return not run.pretraining and run.part != TUNING
