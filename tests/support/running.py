"""Small real sweeps on scikit-learn's digits, and real processes that run them."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from mixbench.experiments.cli import main
from mixbench.experiments.store.sweep_folder import Asked, SweepFolder, planned_rows
from mixbench.experiments.sweep import expand
from mixbench.experiments.worker import worker

COMMAND = (sys.executable, "-m", "mixbench.experiments.cli")

EAGER_WORKER = (
    "from mixbench.experiments.training import checkpoints\n"
    "from mixbench.experiments.worker.__main__ import main\n"
    "checkpoints.CHECKPOINT_SECONDS, checkpoints.CHECKPOINT_SHARE = 0.0, 1e9\n"
    "exit(main())"
)
"""A worker with a checkpoint before every step."""


def spec(name: str, **parts: Any) -> dict[str, Any]:
    """A sweep of two methods and two seeds; `parts` replace its parts."""
    written: dict[str, Any] = {
        "name": name,
        "fixed": {
            "dataset": {"name": "digits", "train_size": 300},
            "model": {"name": "small_cnn", "width": 4},
            "training": {"epochs": 3, "batch_size": 64},
            "evaluation": {"occlusion": {"images": 100, "fractions": [0.25, 0.5]}},
        },
        "grid": {"augmentation": [{"name": "none"}, {"name": "cutmix"}]},
        "seeds": [0, 1],
    }
    return written | parts


def planned(description: dict[str, Any], overrides: dict[str, Any] | None = None) -> SweepFolder:
    """The folder of a sweep, as the launcher makes it."""
    made = expand.expand(description, overrides)
    whole = ((run.run_key, run.cell_key, run.model_dump(mode="json")) for run in made.runs)
    rows = planned_rows(made.rows() if made.tune else whole, made.pretraining, made.tune)
    asked = Asked(made.spec, made.description, rows)
    return SweepFolder.create_or_grow(made.name, asked, None)[0]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One CPU thread, as every worker of the tests has: sums come in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def work(folder: SweepFolder, name: str) -> int:
    """A worker in this process, with one thread and its log as in a process of its own."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.INFO)
    try:
        with one_thread():
            return worker.Worker(folder, "cpu", name).work()
    finally:
        root.setLevel(before)


def start(*command: str, **environment: str) -> subprocess.Popen[str]:
    """A process of one thread; its output comes with `communicate`."""
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def start_worker(folder: SweepFolder, name: str) -> subprocess.Popen[str]:
    """A worker that checkpoints before every step."""
    options = (str(folder.path), "--threads", "1", "--name", name)
    return start(sys.executable, "-c", EAGER_WORKER, *options)


def mixbench(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command, to its end."""
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=300, cwd=cwd, check=False
    )


def mixbench_here(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in this process, where the slow imports are done already."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        status = main(arguments)
    return subprocess.CompletedProcess(arguments, status, output.getvalue(), errors.getvalue())


def wait_until(true: Callable[[], Any], what: str, seconds: float = 300.0) -> None:
    """Look again and again; AssertionError when it takes too long."""
    limit = time.monotonic() + seconds
    while True:
        begun = time.process_time()
        if true():
            return
        assert time.monotonic() < limit, f"still not, after {seconds:.0f} s: {what}"
        # To look must not take the time of what is waited for.
        time.sleep(0.01 + 4 * (time.process_time() - begun))


def outcome(folder: SweepFolder) -> dict[str, Any]:
    """What the runs came to, without the times: equal for equal runs, to the last digit."""
    found = {}
    for run in folder.plan():
        result = run.folder.result()
        assert result is not None
        rows = [
            {key: value for key, value in row.items() if key not in ("time", "images_per_second")}
            for row in run.folder.metrics()
        ]
        files = {
            name: (run.folder.path / name).read_bytes() for name in ("predictions.npz", "mixed.png")
        }
        found[run.run_key] = (result["metrics"], result["curves"], rows, files)
    return found
