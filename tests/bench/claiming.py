"""How long a worker takes to find and claim its next run, with sixteen of them at a sweep.

    python -m tests.bench.claiming

The workers are processes that really claim, and release as done without training: nothing but the
queue is measured, and they meet at it far more often than workers that train.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

from mixbench.experiments.signals import Stop
from mixbench.experiments.store.states import Outcome
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.worker.worker import Worker
from tests.support import running

WORKERS = 16
TARGET_SECONDS = 0.020


def main() -> int:
    """Measure and print; exit status 1 when the median among 10,000 runs is above the target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 1000, 10_000])
    options = parser.parse_args()
    median = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["MIXBENCH_RUNS"] = scratch
        for runs in options.runs:
            folder = _planned(runs)
            took, wall = _claim_all(folder)
            states = list(folder.states().values())
            assert states.count("done") == runs == len(took), "every run claimed once"
            median = took[len(took) // 2]
            print(
                f"{runs:7,} runs, {WORKERS} workers: median {median * 1e3:6.2f} ms a claim, "
                f"95% {took[int(len(took) * 0.95)] * 1e3:6.2f} ms, "
                f"all of them in {wall:.1f} s ({wall / runs * 1e3:.2f} ms a run)"
            )
    print(f"target: a median of at most {TARGET_SECONDS * 1e3:.0f} ms")
    return 0 if median <= TARGET_SECONDS else 1


def _planned(runs: int) -> SweepFolder:
    alphas = [0.5 + step / 10_000 for step in range(runs // 5)]
    grid = {"augmentation": [{"name": "cutmix", "alpha": alpha} for alpha in alphas]}
    return running.planned(running.spec(f"claims_{runs}", grid=grid, seeds=[0, 1, 2, 3, 4]))


def _claim_all(folder: SweepFolder) -> tuple[list[float], float]:
    """Seconds of every claim, sorted, and of the whole."""
    context = multiprocessing.get_context("fork")
    started = time.perf_counter()
    processes = [
        context.Process(target=_work, args=(folder, f"worker-{number}"))
        for number in range(WORKERS)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    wall = time.perf_counter() - started
    took = [
        second
        for number in range(WORKERS)
        for second in json.loads((folder.path / f"worker-{number}.times").read_text())
    ]
    return sorted(took), wall


def _work(folder: SweepFolder, name: str) -> None:
    worker = Worker(folder, "cpu", name, stop=Stop(folder.stop_reason))
    took = []
    before = time.perf_counter()
    for claim, planned in worker.runs:
        took.append(time.perf_counter() - before)
        (Path(planned.folder.path) / "result.json").write_text("{}")
        claim.release(Outcome.DONE)
        before = time.perf_counter()
    (folder.path / f"{name}.times").write_text(json.dumps(took))


if __name__ == "__main__":
    sys.exit(main())
