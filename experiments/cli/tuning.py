"""The settings that a sweep chooses: what is chosen, what waits for it, for `plan` and `sweep`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mixbench.experiments.store import choices
from mixbench.experiments.store.choices import TUNING
from mixbench.experiments.text import plural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mixbench.experiments.store.choices import TunedCell
    from mixbench.experiments.store.plan import PlanRow
    from mixbench.experiments.store.sweep_folder import SweepFolder
    from mixbench.experiments.sweep.expand import Sweep


def settled(sweep: Sweep) -> tuple[Sweep, dict[str, str]]:
    """Return the sweep with the settings that were chosen, and run key -> key in the plan.

    Without a choice it is the sweep itself. The sweep itself is what its folder plans.
    """
    from mixbench.experiments.config import resolve

    if not sweep.tune:
        return sweep, {run_key: run_key for run_key, _ in sweep.keys}
    path, rows = _rows(sweep)
    runs, keys, places, tune = [], [], {}, {}
    for run, row, planned in zip(sweep.runs, rows, choices.by_row(path, rows), strict=True):
        if planned is None:
            # The default, which was chosen.
            continue
        is_chosen = planned.run_key != row.run_key
        runs.append(resolve.parse(planned.config) if is_chosen else run)
        keys.append((planned.run_key, planned.cell_key))
        places[planned.run_key] = row.run_key
        if planned.tune is not None:
            tune[planned.run_key] = planned.tune
    return replace(sweep, runs=tuple(runs), keys=tuple(keys), tune=tune), places


def choose(folder: SweepFolder) -> None:
    """Choose what the finished runs allow: their worker may have been killed before it could."""
    while choices.make(choices.still_to_choose(folder.path, folder.plan())):
        # After a look the next may be due.
        pass


def lines(sweep: Sweep, begun: SweepFolder | None) -> list[str]:
    """Return what is tuned and how, and what was chosen or can't be; none without tuning."""
    from mixbench.experiments.design import tune as tunes

    tune = tunes.read(sweep.spec)
    cells = _cells(sweep)
    if tune is None or not cells:
        return []
    runs = sum(sweep.is_tuning(run_key) for run_key, _ in sweep.keys)
    numbers = tune.replicates
    which = f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 2 else ", ".join(map(str, numbers))
    better = "higher" if tune.better > 0 else "lower"
    count = sum(len(cell.settings) for cell in cells)
    found = [
        f"tune: {plural(count, 'setting')} of {plural(len(cells), 'cell')} on "
        f"{plural(len(numbers), 'replicate')} of their own ({which}), {plural(runs, 'run')}; "
        f"chosen by {tune.metric} ({better} is better), rule {tune.rule}"
    ]
    if tune.halving is not None:
        at = ", ".join(f"{share:.0%}" for share in tune.halving.at)
        found.append(
            f"tune: after {at} of the training the best {tune.halving.keep:.0%} of the settings "
            "go on"
        )
    labels = _compared_labels(sweep)
    for cell in cells:
        left_out = [key for key in tune.over if key not in cell.how["over"]]
        over = ", ".join(cell.how["over"])
        without = f", as it has no {', '.join(left_out)}" if left_out else ""
        label = labels.get(cell.cell_key, cell.cell_key[:8])
        found.append(f"tune: {label}: over {over}{without}; {_standing(cell, begun)}")
    rest = dict.fromkeys(cell for _, (key, cell) in sweep.compared() if key not in sweep.tune)
    untuned = [labels[cell] for cell in rest]
    if untuned:
        found.append(f"tune: nothing to tune, just trained: {', '.join(untuned)}")
    return found


def shares(sweep: Sweep) -> dict[str, float]:
    """Return run_key -> the share of its training, of tuning runs of which some are stopped early.

    Which, is not known before: each of a cell's has the mean of those that are not stopped yet.
    """
    found: dict[str, float] = {}
    for cell in _cells(sweep):
        if not cell.shares:
            continue
        left = [run.run_key for setting in cell.left() for run in setting.runs]
        found |= dict.fromkeys(left, cell.mean_share())
    return found


def labels_of(sweep: Sweep) -> dict[str, str]:
    """Return cell_key -> label of each cell; those that tune a method have theirs too."""
    from mixbench.analysis.tables.labels import plan_labels

    path, rows = _rows(sweep)
    return plan_labels([run for run in choices.by_row(path, rows) if run is not None])


def cell_configs(sweep: Sweep) -> dict[str, Mapping[str, Any]]:
    """Return cell_key -> configuration, as reports name and compare cells; tuning runs aside."""
    from mixbench.analysis.tables.tuned import of_cell

    path, rows = _rows(sweep)
    runs = [run for run in choices.by_row(path, rows) if run is not None and run.part != TUNING]
    return {run.cell_key: of_cell(run) for run in runs}


def _compared_labels(sweep: Sweep) -> dict[str, str]:
    from mixbench.analysis.tables.labels import cell_labels, origins_of

    configs = cell_configs(sweep)
    compared = {cell_key for _, (_, cell_key) in sweep.compared()}
    wanted = {key: config for key, config in configs.items() if key in compared}
    return cell_labels(wanted, origins_of(configs))


def _standing(cell: TunedCell, begun: SweepFolder | None) -> str:
    """Say what was chosen for a cell, or what its final runs wait for."""
    choice = cell.choice()
    if choice is not None:
        from mixbench.analysis.tables.labels import setting_text

        return f"chosen: {setting_text(choice['values'])}"
    if problem := cell.problem():
        return f"not chosen: {problem}"
    known = f", {cell.ended()} of them done" if begun is not None else ""
    return f"its final runs wait for {plural(len(cell.runs), 'tuning run')}{known}"


def values_text(values: Mapping[str, Any]) -> str:
    """Return the values of a setting as text, such as "prob 0.5, alpha 1"."""
    return ", ".join(
        f"{key.removeprefix('augmentation.')} {value}" for key, value in values.items()
    )


def _cells(sweep: Sweep) -> list[TunedCell]:
    path, rows = _rows(sweep)
    return choices.tuned_cells(path, [choices.as_planned(path, row) for row in rows])


def _rows(sweep: Sweep) -> tuple[Path, Sequence[PlanRow]]:
    """Return the folder of a sweep, and its plan whatever was chosen."""
    from mixbench.experiments.store.sweep_folder import planned_rows, root

    rows = planned_rows(sweep.rows(), sweep.pretraining, sweep.tune)
    return root() / sweep.name, rows
