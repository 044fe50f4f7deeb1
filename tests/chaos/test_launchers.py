"""A sweep does not need its launcher: it may be killed, and two may take its place at once."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from mixbench.experiments.store import processes
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.slurm.local import cores
from tests.support import running

EPOCHS = 30
SPEC: dict[str, Any] = {
    "name": "launched",
    "fixed": {
        "dataset": {"name": "digits"},
        "model": {"name": "small_cnn", "width": 4},
        "training": {"epochs": EPOCHS, "batch_size": 64, "crop_padding": 1},
        "evaluation": {"occlusion": {"images": 100, "fractions": [0.5]}},
    },
    "grid": {"augmentation": [{"name": "none"}, {"name": "cutmix", "per_sample": True}]},
    "seeds": [0, 1],
}


def held(folder: SweepFolder) -> dict[str, int]:
    """The runs in their midst, with the processes that do them."""
    found = {}
    for planned in folder.plan():
        claim = planned.folder.claim()
        if claim is not None and claim["progress"].get("step", 0) > 0:
            found[planned.run_key] = int(claim["pid"])
    return found


def test_a_killed_launcher_and_two_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    monkeypatch.setenv("MIXBENCH_RUNS", str(runs))
    path = tmp_path / "launched.yaml"
    path.write_text(json.dumps(SPEC))  # JSON is YAML
    # As many workers as cores, so that each has one thread.
    launch = (
        *running.COMMAND,
        "sweep",
        str(path),
        "--device",
        "cpu",
        "--workers",
        str(cores()),
        "--no-track",
        "--no-report",
    )
    first = running.start(*launch)
    folder = SweepFolder(runs / "launched")
    running.wait_until(lambda: held(folder), "a run in its midst")
    os.kill(first.pid, signal.SIGKILL)
    first.wait(300)
    workers = held(folder)
    assert workers, "its workers go on"
    for pid in workers.values():
        assert processes.process_start(pid) is not None
        assert os.getpgid(pid) != os.getpgid(0), "not even its terminal's end would reach them"

    # The orphans sleep until there are workers of others, so that they have not done all by then.
    known = {worker["pid"] for worker in roster(folder)}
    for pid in workers.values():
        os.kill(pid, signal.SIGSTOP)
    try:
        both = [running.start(*launch) for _ in range(2)]

        def others_are_there() -> bool:
            parents = {parent(pid) for pid in {one["pid"] for one in roster(folder)} - known}
            undone = [key for key, state in folder.states().items() if state != "done"]
            return {launcher.pid for launcher in both} <= parents or set(undone) <= set(workers)

        running.wait_until(others_are_there, "workers of both launchers, or nothing left for them")
    finally:
        for pid in workers.values():
            os.kill(pid, signal.SIGCONT)
    for launcher in both:
        out, err = launcher.communicate(timeout=300)
        assert (launcher.returncode, err) == (0, ""), out
        assert "4 of 4 runs done" in out
    assert set(folder.states().values()) == {"done"}
    for planned in folder.plan():
        run = planned.folder
        assert [row["outcome"] for row in run.attempts()] == ["done"], "nobody was disturbed"
        assert [row["epoch"] for row in run.metrics()] == list(range(1, EPOCHS + 1))
        last = run.last_claim()
        assert last is not None and (last["number"], last["released"]) == (1, "done")
    pids = {worker["pid"] for worker in roster(folder)}
    running.wait_until(
        lambda: all(processes.process_start(pid) is None for pid in pids), "no process is left", 30
    )
    used = {(planned.folder.last_claim() or {})["pid"] for planned in folder.plan()}
    assert used >= set(workers.values()), "the orphans finished what they had"


def parent(pid: int) -> int | None:
    """The process that started this one, while it is there."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def roster(folder: SweepFolder) -> list[dict[str, Any]]:
    """All workers that ever told where they are."""
    return [json.loads(path.read_text()) for path in (folder.path / "workers").glob("*.json")]


def test_two_that_grow_a_sweep_in_opposite_ways_are_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More seeds in one terminal, another method in the other, and neither is left in peace."""
    runs = tmp_path / "runs"
    monkeypatch.setenv("MIXBENCH_RUNS", str(runs))
    fixed = {**SPEC["fixed"], "training": {"epochs": 2, "batch_size": 64}}

    def launch(name: str, methods: list[str], seeds: list[int]) -> tuple[str, ...]:
        path = tmp_path / f"{name}.yaml"
        grid = {"augmentation": methods}
        described = {"name": "grown", "fixed": fixed, "grid": grid, "seeds": seeds}
        path.write_text(json.dumps(described))
        options = ("--device", "cpu", "--workers", "1", "--no-track", "--no-report")
        return (*running.COMMAND, "sweep", str(path), *options)

    begun = running.start(*launch("begun", ["none"], [0]))
    assert begun.wait(300) == 0
    ways = (
        launch("seeds", ["none"], [0, 1, 2]),
        launch("methods", ["none", "cutmix"], [0]),
    )
    pause = random.Random(13)
    for _ in range(2):
        both = [running.start(*way) for way in ways]
        for launcher in both:
            time.sleep(pause.uniform(0.2, 2.5))
            launcher.kill()
        for launcher in both:
            launcher.wait(300)
    last = [running.start(*way) for way in ways]
    for launcher in last:
        out, err = launcher.communicate(timeout=300)
        assert (launcher.returncode, err) == (0, ""), out
    folder = SweepFolder(runs / "grown")
    planned = {(run.config["augmentation"]["name"], run.config["seed"]) for run in folder.plan()}
    assert planned == {("none", 0), ("none", 1), ("none", 2), ("cutmix", 0)}
    assert set(folder.states().values()) == {"done"} and folder.dropped() == []
    for run in folder.plan():
        outcomes = [row["outcome"] for row in run.folder.attempts()]
        assert outcomes.count("done") == 1 and outcomes[-1] == "done"
        assert [row["epoch"] for row in run.folder.metrics()] == [1, 2]
    assert not [path for path in folder.path.iterdir() if path.name.startswith(".plan")]
