"""What MLflow's projection costs, and how that grows with the sweep.

The runs are made by the store's own functions, with ten epochs each and without training. The
store is SQLite; figures are left out (they cost matplotlib's time, once a run). Processor time is
measured beside the clock, so that a busy machine does not decide. The target: a run costs at most
half as much processor time again in the largest sweep as in the smallest.

    python -m tests.bench.projection --sizes 100 1000 10000
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from mixbench.experiments import tracking
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.tracking import changes
from tests.support import tracking_fixtures as made

SIZES = (100, 1000)
"""Ten thousand take a quarter of an hour: `--sizes 100 1000 10000`."""
EPOCHS = 10
METHOD = {"name": "cutmix", "prob": 1.0, "per_sample": False, "alpha": 1.0}
MOST_GROWTH = 1.5
PROJECT = "project"


def main() -> int:
    """Measure and print; exit status 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    sizes = sorted(parser.parse_args().sizes)
    _measure(1)  # imports, once
    print("seconds by the clock, of the processor; in brackets processor milliseconds a run")
    per_run = []
    for size in sizes:
        measured = _measure(size)
        for what, (clock, busy) in measured.items():
            print(f"{size:>6} runs  {what:40} {clock:8.2f} {busy:8.2f}  ({1000 * busy / size:.2f})")
        sys.stdout.flush()
        per_run.append(measured[PROJECT][1] / size)
    growth = per_run[-1] / per_run[0]
    print(
        f"a run of {sizes[-1]} costs {growth:.2f} times one of {sizes[0]} (at most {MOST_GROWTH})"
    )
    return 0 if growth <= MOST_GROWTH else 1


def _measure(size: int) -> dict[str, tuple[float, float]]:
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, {"MIXBENCH_RUNS": folder}),
    ):
        return _measure_in(Path(folder), size)


def _measure_in(root: Path, size: int) -> dict[str, tuple[float, float]]:
    sweep = made.make_sweep("bench", (METHOD,), seeds=size, epochs=EPOCHS)
    *plan, last = sweep.plan()
    for run in plan:
        made.finish(run, EPOCHS)
    held = made.begin(last, epochs=1)
    tracking.ensure_store(tracking.resolve(root))
    found = {}
    # The files are taken for settled as soon as they are read again.
    with mock.patch.object(changes, "SETTLE_SECONDS", 0.0), tracking.Projector(sweep) as projector:
        found[PROJECT] = _seconds(projector.update)
        projector.update()
        found["again, nothing new"] = _seconds(projector.update)
        held.release("stopped")
        made.finish(last, EPOCHS)
        found["again, one run went on"] = _seconds(projector.update)
    found["by a new process, nothing new"] = _seconds(lambda: tracking.project(sweep))
    found["verify"] = _seconds(lambda: _verify(sweep))
    return found


def _verify(sweep: SweepFolder) -> None:
    verdict = tracking.verify(sweep)
    if not verdict.equal:
        raise SystemExit(str(verdict))


def _seconds(call: Callable[[], object]) -> tuple[float, float]:
    clock, busy = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - clock, time.process_time() - busy


if __name__ == "__main__":
    sys.exit(main())
