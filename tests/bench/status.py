"""How long `mixbench status` takes, start-up included, for sweeps of 100, 1,000 and 10,000 runs.

    python -m tests.bench.status

The folders are generated: most runs done, some failed, sixteen running, the rest waiting.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mixbench.experiments.store import claims
from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support import running

SEEDS = 5
TARGET_SECONDS = 2.0


def main() -> int:
    """Measure and print; exit status 1 when 10,000 runs take longer than the target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["MIXBENCH_RUNS"] = scratch
        for count in options.runs:
            generate(f"sweep_{count}", count)
            for arguments in ((), ("--json",)):
                command = [*running.COMMAND, "status", f"sweep_{count}", *arguments]
                took = sorted(_seconds(command) for _ in range(options.times))
                median = took[len(took) // 2]
                what = " ".join(["status", *arguments])
                print(f"{what:14} {count:7,} runs  median {median:.2f} s  worst {took[-1]:.2f} s")
                slowest = max(slowest, median)
    print(f"target: at most {TARGET_SECONDS:.0f} s")
    return 0 if slowest <= TARGET_SECONDS else 1


def generate(name: str, count: int) -> SweepFolder:
    """A sweep of so many runs in all states, as workers leave it; nothing is trained."""
    cells = count // SEEDS
    description = running.spec(
        name,
        grid={
            "augmentation": [
                {"name": "cutmix", "alpha": 0.5 + step / 1000} for step in range(cells)
            ]
        },
        seeds=list(range(SEEDS)),
    )
    folder = running.planned(description)
    plan = folder.plan()
    row = json.dumps({"epoch": 1, "step": 5, "time": 1.0, "images_per_second": 100.0})
    for place, planned in enumerate(plan[: len(plan) * 9 // 10]):
        path = planned.folder.path
        (path / "claims").mkdir(parents=True)
        (path / "metrics.jsonl").write_text(f"{row}\n" * 3)
        planned.folder.add_attempt({"attempt": 1, "outcome": "done", "started": 1.0, "ended": 2.0})
        (path / "claims" / "000001.json").write_text('{"released": "done"}')
        if place % 100 == 99:
            planned.folder.fail("ValueError: generated", "", 1)
        else:
            (path / "result.json").write_text("{}")
    for planned in plan[-min(16, count // 10) :]:
        claim = claims.acquire(planned.folder.path, "bench-1", claims.Watch())
        assert claim is not None
        claim.renew({"stage": "training", "epoch": 1.5, "images_per_second": 100.0}, force=True)
    return folder


def _seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[2])
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
