"""`mixbench retry`: let failed runs be tried again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mixbench.experiments.cli import names
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.states import RunState
from mixbench.experiments.text import plural

if TYPE_CHECKING:
    from mixbench.experiments.store.run_folder import PlannedRun
    from mixbench.experiments.store.sweep_folder import SweepFolder


def retry(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SWEEP] RUN",
            help="Runs by key, or the beginning of it; a sweep alone: all its failed runs.",
        ),
    ] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="All failed runs; without a sweep, of all sweeps.")
    ] = False,
) -> None:
    """Let failed runs be tried again; keep their checkpoints and attempts.

    Running workers pick them up; otherwise start some with `mixbench sweep`.

    Example: mixbench retry demo --failed
    """

    from mixbench.experiments.store.retry import retry_failed

    chosen = _chosen_runs(words or [], failed)
    retried = 0
    for folder, runs in chosen.values():
        count = retry_failed(folder, {planned.run_key for planned in runs} if runs else None)
        retried += count
        if count:
            print(f"{folder.name}: {plural(count, 'failed run')} will be tried again")
            print(_who_picks_up(folder))
    if not retried:
        print(f"no run of {' and '.join(chosen) or 'any sweep'} has failed")


def _chosen_runs(words: list[str], failed: bool) -> dict[str, tuple[SweepFolder, list[PlannedRun]]]:
    """Return sweep name -> its runs to retry, [] for all failed ones; UserError for others."""
    from mixbench.experiments.store.sweep_folder import SweepFolder

    if words:
        chosen = names.several_runs(words)
        if failed and any(runs for _, runs in chosen.values()):
            raise UserError("--failed: means all failed runs; give a sweep alone, or runs alone")
    elif failed:
        chosen = {name: (SweepFolder.open(name), []) for name in SweepFolder.names()}
    else:
        raise UserError("give a sweep, runs, or --failed (mixbench retry --help)")
    for folder, runs in chosen.values():
        for planned in runs:
            state = planned.folder.state()
            if state != RunState.FAILED:
                raise UserError(
                    f"run {planned.run_key!r} of sweep {folder.name!r} is {state}, "
                    "only a failed one can be tried again"
                )
    return chosen


def _who_picks_up(folder: SweepFolder) -> str:
    from mixbench.experiments.manage import cancel
    from mixbench.experiments.manage.observe import Observer

    now = Observer(folder).snapshot()
    workers = cancel.running_workers(now)
    if workers and not now.stopped:
        return f"running workers will pick them up ({names.a_few(workers)})"
    return f"to start them: mixbench sweep {folder.name}"
