"""The program as the tests of this folder call it, and the few names of its inside they need."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mixbench.experiments.config import resolve
from mixbench.experiments.sweep import load, scales
from tests.support import running

COMMAND = (sys.executable, "-m", "mixbench.experiments.cli")
"""The command `mixbench`."""

ON_ONE_CORE = ("--workers", "1", "--device", "cpu")
"""Options of `mixbench sweep` and `mixbench evaluate`."""


def mixbench(runs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; `runs` is the folder that holds the sweeps."""
    environment = {
        **os.environ,
        "MIXBENCH_RUNS": str(runs),
        "OMP_NUM_THREADS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=environment,
    )


def output(runs: Path, *arguments: str, status: int = 0) -> str:
    """Run the command, check its exit status and return what it prints."""
    done = mixbench(runs, *arguments)
    assert done.returncode == status, f"{' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout


def output_here(runs: Path, *arguments: str, status: int = 0) -> str:
    """Run the command as `output` does, but in this process, which has the slow imports behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIXBENCH_RUNS", str(runs))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        done = running.mixbench_here(*arguments)
    assert done.returncode == status, f"{' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout


def scales_of_shipped_sweeps() -> list[tuple[str, str | None]]:
    """List every shipped sweep with each of its scales; None where a sweep has only one size."""
    return [
        (name, scale)
        for name in load.shipped()
        for scale in scales.names(load.read_spec(name)) or (None,)
    ]


def keys_of_sweep(name: str, scale: str | None) -> list[tuple[str, str]]:
    """Return the run key and the cell key of each run of a shipped sweep, in order."""
    return list(load.load(name, scale=scale).keys)


def pretraining_of_sweep(name: str, scale: str | None) -> list[str]:
    """Return the keys of the cells that only serve as a start for others."""
    return sorted(load.load(name, scale=scale).pretraining)


def keys_of_run(written: dict[str, Any]) -> tuple[str, str]:
    """Return the run key and the cell key of one configuration."""
    parsed = resolve.parse(written)
    return parsed.run_key, parsed.cell_key
