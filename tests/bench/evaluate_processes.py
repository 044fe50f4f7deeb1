"""How a finished sweep of 100 runs is measured by one and by two processes of one thread each.

Run by `python -m tests.bench.evaluate`. The runs share the weights of one that is trained: they are
as good as others for the time. It is that of whole processes, with their start.
"""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from mixbench.experiments.evaluation import catalogue
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.sweep import expand
from mixbench.experiments.worker import worker
from mixbench.slurm.local import Slot
from mixbench.slurm.measuring import Measurers, Order

RUNS = 100
SETTINGS = {"attack.images": 200, "attack.steps": 5, "hiding.images": 100}


class Taken(NamedTuple):
    """Seconds by the clock, and CPU seconds of the processes."""

    wall: float
    cpu: float


def measure(counts: tuple[int, ...] = (1, 2)) -> dict[int, Taken]:
    """Number of processes -> what they took; every run is measured once, or RuntimeError."""
    found = {}
    with tempfile.TemporaryDirectory() as root, mock.patch.dict(os.environ, MIXBENCH_RUNS=root):
        for count in counts:
            folder = _finished(f"bench{count}")
            wanted = catalogue.resolve(SETTINGS, ["calibration", "attack", "hiding"])
            order = Order(wanted)
            before, started = _cpu(), time.perf_counter()
            processes = Measurers(folder, order)
            for _ in range(count):
                processes.start(Slot(None, 1))
            while processes.poll():
                time.sleep(0.05)
            found[count] = Taken(time.perf_counter() - started, _cpu() - before)
            if order.missing(folder.plan()):
                raise RuntimeError(f"not all is measured: {processes.unusable}")
    return found


def _finished(name: str) -> SweepFolder:
    """A sweep of which one run is trained and the others are copies of it."""
    spec: dict[str, Any] = {
        "name": name,
        "fixed": {
            "dataset": {"name": "digits"},
            "model": {"name": "small_cnn", "width": 4},
            "training": {"epochs": 1, "batch_size": 64},
            "evaluation": {"occlusion": {"images": 20, "fractions": [0.5]}},
        },
        "grid": {"augmentation": [{"name": "none"}]},
    }

    def planned(seeds: int) -> SweepFolder:
        made = expand.expand({**spec, "seeds": list(range(seeds))})
        rows = ((run.run_key, run.cell_key, run.model_dump(mode="json")) for run in made.runs)
        return SweepFolder.create(made.name, "", made.spec, rows, None, made.pretraining)

    folder = planned(1)
    worker.Worker(folder, "cpu", "trainer").work()
    trained = folder.plan()[0].folder.path
    aside = Path(tempfile.mkdtemp(dir=folder.path.parent)) / "run"
    shutil.move(trained, aside)
    shutil.rmtree(folder.path)
    folder = planned(RUNS)
    for run in folder.plan():
        shutil.copytree(aside, run.folder.path, dirs_exist_ok=True)
    return folder


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
