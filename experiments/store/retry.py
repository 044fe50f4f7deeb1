"""Let failed runs be tried again."""

from __future__ import annotations

import time
from collections.abc import Collection

from mixbench.experiments.store import choices, dependencies
from mixbench.experiments.store.states import Outcome, RunState
from mixbench.experiments.store.sweep_folder import SweepFolder


def retry_failed(folder: SweepFolder, keys: Collection[str] | None = None) -> int:
    """Let failed runs (all, or those of these keys) be tried again; returns how many.

    Their attempts stay on record, and no longer count. Also retried are runs that failed because
    one of these did, and runs whose failure made one of these fail. A run whose setting can't be
    chosen has failed with its tuning runs, and is mended with them.
    """
    begun = folder.begun()
    plan = folder.plan()
    needed = dependencies.needed(plan)
    pending = {
        run.cell_key for run in plan if run.pending and (keys is None or run.run_key in keys)
    }
    if keys is not None and pending:
        cells = (
            cell for cell in choices.tuned_cells(folder.path, plan) if cell.cell_key in pending
        )
        keys = {*keys, *(run.run_key for cell in cells for run in cell.runs)}
    failed = {
        run.run_key: run
        for run in plan
        if run.run_key in begun and run.folder.state_on_file() == RunState.FAILED
    }
    if keys is not None:
        chosen = {key for key in keys if key in failed}
        chosen |= {
            run.run_key
            for key in chosen
            for run in dependencies.chain(key, needed)
            if run.run_key in failed
        }
        # A run begins after the one that it needs has ended: if that failed, it failed too.
        chosen |= dependencies.dependants(chosen, needed)
        failed = {key: run for key, run in failed.items() if key in chosen}
    # Needed runs first: a worker that looks meanwhile would fail the others once more.
    for run in dependencies.by_need(list(failed.values()), needed):
        run.folder.add_attempt({"outcome": Outcome.RETRY, "time": time.time()})
        (run.folder.path / "failure.json").unlink(missing_ok=True)
    return len(failed)
