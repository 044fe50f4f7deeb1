"""A sweep does not need its launcher: it may be killed, and two may take its place at once."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from mixbench.experiments.store import processes
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.slurm.local import cores
from tests.support import running

SPEC: dict[str, Any] = {
    "name": "launched",
    "fixed": {
        "dataset": {"name": "digits"},
        "model": {"name": "small_cnn", "width": 4},
        "training": {"epochs": 40, "batch_size": 64, "crop_padding": 1},
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
    first.wait(30)
    workers = held(folder)
    assert workers, "its workers go on"
    for pid in workers.values():
        assert processes.process_start(pid) is not None
        assert os.getpgid(pid) != os.getpgid(0), "not even its terminal's end would reach them"

    both = [running.start(*launch) for _ in range(2)]
    for launcher in both:
        out, err = launcher.communicate(timeout=180)
        assert (launcher.returncode, err) == (0, ""), out
        assert "4 of 4 runs done" in out
    assert set(folder.states().values()) == {"done"}
    for planned in folder.plan():
        run = planned.folder
        assert [row["outcome"] for row in run.attempts()] == ["done"], "nobody was disturbed"
        assert [row["epoch"] for row in run.metrics()] == list(range(1, 41))
        last = run.last_claim()
        assert last is not None and (last["number"], last["released"]) == (1, "done")
    pids = {worker["pid"] for worker in roster(folder)}
    running.wait_until(
        lambda: all(processes.process_start(pid) is None for pid in pids), "no process is left", 30
    )
    used = {(planned.folder.last_claim() or {})["pid"] for planned in folder.plan()}
    assert used >= set(workers.values()), "the orphans finished what they had"


def roster(folder: SweepFolder) -> list[dict[str, Any]]:
    """All workers that ever told where they are."""
    return [json.loads(path.read_text()) for path in (folder.path / "workers").glob("*.json")]
