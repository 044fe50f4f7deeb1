"""Which run of a sweep needs which: one that starts from a pretraining, or learns from a teacher.

`transfer.weights` or `teacher.weights: cell:KEY` means the run of that cell with the same seed and
replicate, in the same sweep. A run waits until the one that it needs is done, and fails with it.
Standard library only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from mixbench.experiments.errors import UserError
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.store.states import RunState
from mixbench.experiments.text import first_line

CELL = "cell:"
SECTIONS = frozenset({"teacher", "transfer"})
"""The sections of a run that name weights."""


class NeedFailed(UserError):
    """The run whose weights this one starts from has failed."""


def weights_of(config: Mapping[str, Any]) -> list[str]:
    """`transfer.weights` and `teacher.weights` of a run's configuration, as far as they are set."""
    named = ((config.get(section) or {}).get("weights") for section in sorted(SECTIONS))
    return [weights for weights in named if isinstance(weights, str)]


def cell_of(config: Mapping[str, Any]) -> str | None:
    """The key of the cell whose weights a run of this configuration needs; None if none.

    There is one at most: `config.teacher` sees to it.
    """
    cells = [weights for weights in weights_of(config) if weights.startswith(CELL)]
    return cells[0].removeprefix(CELL) if cells else None


def draw_of(config: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Return replicate and seed of a run: what pairs runs of different cells."""
    return config.get("replicate"), config.get("seed")


def needed(plan: Iterable[PlannedRun]) -> dict[str, PlannedRun]:
    """run_key -> the run that it needs, of those that need one of the sweep's."""
    plan = list(plan)
    wanted = [(run, cell) for run in plan if (cell := cell_of(run.config)) is not None]
    if not wanted:
        return {}
    by_cell = {(run.cell_key, *draw_of(run.config)): run for run in plan}
    needs = {}
    for run, cell in wanted:
        other = by_cell.get((cell, *draw_of(run.config)))
        # Don't wait for a run that is not in the plan: loading the weights reports it.
        if other is not None and other.run_key != run.run_key:
            needs[run.run_key] = other
    return needs


def depth(run_key: str, needs: Mapping[str, PlannedRun]) -> int:
    """How many runs must be done, one after the other, before this one can begin."""
    return len(chain(run_key, needs))


def chain(run_key: str, needs: Mapping[str, PlannedRun]) -> list[PlannedRun]:
    """The runs that this one needs, its own first, then that one's, and so on."""
    runs: list[PlannedRun] = []
    seen = {run_key}
    while run_key in needs and needs[run_key].run_key not in seen:
        runs.append(needs[run_key])
        run_key = runs[-1].run_key
        seen.add(run_key)
    return runs


def dependants(keys: Collection[str], needs: Mapping[str, PlannedRun]) -> set[str]:
    """The keys of the runs that need one of these, directly or through other runs."""
    wanted = set(keys)
    return {key for key in needs if any(run.run_key in wanted for run in chain(key, needs))}


def check_not_failed(planned: PlannedRun, needs: Mapping[str, PlannedRun]) -> None:
    """NeedFailed, in one line that names it, where the run that this one needs has failed."""
    other = needs.get(planned.run_key)
    if other is None or other.folder.state_on_file() != RunState.FAILED:
        return
    error = first_line((other.folder.failure() or {}).get("error")) or "no reason is known"
    raise NeedFailed(f"the run that it starts from failed, {in_short(other)}: {error}")


def in_short(run: PlannedRun) -> str:
    """A run as a line can name it."""
    return f"{run.run_key[:8]} ({run.config['dataset']['name']} seed {run.config['seed']})"


def by_need(plan: Sequence[PlannedRun], needs: Mapping[str, PlannedRun]) -> list[PlannedRun]:
    """The plan with what is needed before what needs it, else in its order."""
    return sorted(plan, key=lambda run: depth(run.run_key, needs)) if needs else list(plan)
