"""How long a sweep of 10,000 runs takes to grow by 1,000, and a worker's look for a newer plan.

    python -m tests.bench.growth

From the YAML to the new plan on disk, as `mixbench sweep` does it: read and expand the sweep,
compare it with what is planned and with the configurations of the begun runs, write the revision.
Nine in ten of the runs are done, and 100 are no longer asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from mixbench.experiments.cli import growing
from mixbench.experiments.store.files import dump
from mixbench.experiments.store.plan import Command
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.sweep.load import load
from tests.support import running

SEEDS = 5
METHODS = 20
TARGET_SECONDS = 3.0
LOOKS = 1000


def main() -> int:
    """Measure and print; exit status 1 when it takes longer than the target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["MIXBENCH_RUNS"] = scratch
        path = Path(scratch, "large.yaml")
        begun = _begun(path, options.runs)
        path.write_text(json.dumps(_spec(METHODS + 2, 1, options.runs // SEEDS // METHODS)))
        started, cpu = time.perf_counter(), time.process_time()
        sweep = load(str(path))
        command = Command(time.time(), source=str(path))
        change = growing.preview(sweep, command)
        assert change is not None
        folder, growth = SweepFolder.create_or_grow(
            sweep.name, growing.asked(sweep), None, command, change.checked
        )
        took, of_cpu = time.perf_counter() - started, time.process_time() - cpu
        assert change.growth == growth
        new, dropped = len(growth.added), len(growth.dropped)
        assert dropped == METHODS * SEEDS and folder.dropped() and begun == options.runs * 9 // 10
        started = time.perf_counter()
        for _ in range(LOOKS):
            folder.newest_revision()
        look = (time.perf_counter() - started) / LOOKS
    what = f"{options.runs:,} runs, {new:,} new, {dropped:,} no longer asked for"
    print(f"{what}: {took:.2f} s, {of_cpu:.2f} s of CPU")
    print(f"a worker's look for a newer plan: {look * 1e6:.0f} us")
    print(f"target: at most {TARGET_SECONDS:.0f} s")
    return 0 if took <= TARGET_SECONDS else 1


def _spec(methods: int, first: int, last: int) -> dict[str, object]:
    grid = {
        "augmentation": [{"name": "cutmix", "alpha": 0.5 + n / 100} for n in range(methods)],
        "training.label_smoothing": [n / 10_000 for n in range(first, last)],
    }
    return running.spec("large", grid=grid, seeds=list(range(SEEDS)))


def _begun(path: Path, runs: int) -> int:
    """A sweep of so many runs, of which nine in ten are done; return how many are."""
    path.write_text(json.dumps(_spec(METHODS, 0, runs // SEEDS // METHODS)))
    folder = running.planned(load(str(path)).spec)
    done = folder.plan()[: runs * 9 // 10]
    for planned in done:
        planned.folder.path.mkdir()
        about = {"schema": 1, "run_key": planned.run_key, "cell_key": planned.cell_key}
        (planned.folder.path / "config.json").write_text(dump({**about, "config": planned.config}))
        (planned.folder.path / "result.json").write_text('{"metrics": {}}')
    return len(done)


if __name__ == "__main__":
    sys.exit(main())
