"""How long it takes to look for runs that other sweeps have finished, and to take them over.

    python -m tests.bench.reuse

A new sweep plans a thousand runs that a hundred sweeps have begun, and that the last one of them to
be looked at has finished.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from mixbench.experiments.store import reuse, take_over
from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support import running
from tests.support.finished_runs import finish

SEEDS = 5
TARGET_SECONDS = 3.0


def main() -> int:
    """Measure and print; exit status 1 when looking takes longer than the target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweeps", type=int, default=100)
    parser.add_argument("--runs", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["MIXBENCH_RUNS"] = scratch
        old, new = (_planned(name, options.runs) for name in ("the_one", "new"))
        for planned in old.plan():
            finish(planned)
        keys = [planned.run_key for planned in new.plan()]
        for number in range(options.sweeps - 1):
            _begun(Path(scratch, f"other_{number}"), keys)
        began = time.perf_counter()
        plan = new.plan()
        found = reuse.find(new.path, set(keys), lambda: plan)
        seconds = time.perf_counter() - began
        sizes = f"{options.sweeps} sweeps of {options.runs:,} runs"
        print(f"{sizes}: found {len(found.sources):,} in {seconds:.2f} s")
        began = time.perf_counter()
        taken = take_over.take_over(new.path, plan, found.sources)
        print(f"took {len(taken.sweeps):,} over in {time.perf_counter() - began:.2f} s")
    print(f"target: looking takes at most {TARGET_SECONDS:.0f} s")
    return 0 if seconds <= TARGET_SECONDS else 1


def _planned(name: str, count: int) -> SweepFolder:
    alphas = [0.5 + step / 1000 for step in range(count // SEEDS)]
    grid = {"augmentation": [{"name": "cutmix", "alpha": alpha} for alpha in alphas]}
    return running.planned(running.spec(name, grid=grid, seeds=list(range(SEEDS))))


def _begun(path: Path, keys: list[str]) -> None:
    """A sweep with begun runs of these keys, none of which is done."""
    for key in keys:
        (path / "runs" / key).mkdir(parents=True)
    (path / "sweep.json").write_text("{}")


if __name__ == "__main__":
    sys.exit(main())
