"""What a sweep costs on top of its runs' own time: runs of about five seconds, local workers.

    python -m tests.bench.overhead

A run's own time is from its claim's beginning to its result. What a worker spends between two runs
is overhead; its start (torch's import) comes once for a worker and is shown by itself.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.slurm.local import cores
from tests.support import running

TARGET = 0.03


def main() -> int:
    """Measure and print; exit status 1 when the overhead is above the target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=52)
    options = parser.parse_args()
    spec = running.spec(
        "overhead", grid={"augmentation": ["cutmix"]}, seeds=list(range(options.runs))
    )
    spec["fixed"]["training"] = {"epochs": options.epochs, "batch_size": 64}
    spec["fixed"]["model"]["width"] = 16
    spec["fixed"]["dataset"] = {"name": "digits"}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "overhead.yaml"
        path.write_text(yaml.safe_dump(spec))
        os.environ["MIXBENCH_RUNS"] = scratch
        command = [*running.COMMAND, "sweep", str(path), "--no-track", "--no-report"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        folder = SweepFolder.open("overhead")
        attempts = [planned.folder.attempts()[0] for planned in folder.plan()]
        created = json.loads((folder.path / "sweep.json").read_text())["created"]
    by_worker: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(attempts, key=lambda row: row["started"]):
        by_worker.setdefault(row["worker"], []).append(row)
    own = sum(row["ended"] - row["started"] for row in attempts)
    between = sum(
        after["started"] - before["ended"]
        for rows in by_worker.values()
        for before, after in itertools.pairwise(rows)
    )
    start = max(rows[0]["started"] for rows in by_worker.values()) - created
    print(f"{options.runs} runs on {len(by_worker)} workers ({cores()} cores)")
    print(f"the runs' own time   {own:7.2f} s, {own / options.runs:.2f} s a run")
    print(f"between runs         {between:7.2f} s, {between / own:.2%} of it (target: below 3%)")
    print(f"start of the workers {start:7.2f} s, once")
    return 0 if between / own < TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
