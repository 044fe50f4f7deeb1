"""What a SLURM task decides at its end; on a real SLURM: test_on_slurm.py."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mixbench.experiments.store import claims
from mixbench.experiments.store.claims import Watch
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.slurm import node, queue, requeue, task_ends
from mixbench.slurm.local import Slot
from mixbench.slurm.requeue import MAX_FRUITLESS_STARTS, Progress, Requeue, StartLog
from mixbench.slurm.task_ends import GAVE_UP
from tests.support import running


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path / "runs"))
    for name in list(os.environ):
        if name.startswith("SLURM_"):
            monkeypatch.delenv(name)
    return running.planned(running.spec("one"))


def test_the_job_of_an_array_task_is_not_the_array(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    assert queue.this_job() is None
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert queue.this_job() == "12"
    # SLURM gives one task of an array the array's own number.
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "7")
    assert queue.this_job() == "12_7"


def test_starts_that_change_nothing_are_counted(sweep: SweepFolder) -> None:
    starts = StartLog(sweep, "12_7")
    assert [starts.record(Progress(0, 0)) for _ in range(3)] == [0, 1, 2]
    # One step further and the count begins anew; another task has its own.
    assert [starts.record(Progress(0, 5)) for _ in range(2)] == [0, 1]
    assert starts.record(Progress(1, 5)) == 0
    assert StartLog(sweep, "12_8").record(Progress(1, 5)) == 0
    with starts.path.open("a") as file:
        file.write('{"torn')
    assert starts.record(Progress(1, 5)) == 1


def test_how_far_a_sweep_is(sweep: SweepFolder) -> None:
    assert requeue.progress_of(sweep) == Progress(0, 0)
    done, failed, saved, stopped = (planned.folder for planned in sweep.plan())
    for folder in (done, failed, saved, stopped):
        claim = claims.acquire(folder.path, "w", Watch())
        assert claim
        progress = {"saved": 40, "step": 55}
        claim.renew(progress, force=True)
        claim.release("stopped" if folder is stopped else "failed")
    (done.path / "result.json").write_text('{"metrics": {}}')
    failed.fail("it broke", "", 1)
    assert requeue.progress_of(sweep) == Progress(2, 40 + 55)
    assert requeue.runs_left(sweep)
    for folder in (saved, stopped):
        folder.fail("it broke", "", 1)
    assert not requeue.runs_left(sweep)


@pytest.mark.parametrize("what", ["fruitless", "stopped", "done"])
def test_a_task_without_use_is_not_put_back(
    sweep: SweepFolder, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    caplog.set_level(logging.INFO, "task")
    if what == "stopped":
        sweep.ask_to_stop("cancelled by hand")
    elif what == "done":
        for planned in sweep.plan():
            planned.folder.path.mkdir(parents=True)
            (planned.folder.path / "result.json").write_text('{"metrics": {}}')
    decision = Requeue(sweep, "999999999_1", MAX_FRUITLESS_STARTS if what == "fruitless" else 0)
    decision.after_stop(warned=True)
    assert {
        "fruitless": "no run got further in 3 starts before this one",
        "stopped": "the sweep was stopped: cancelled by hand",
        "done": "no run is left",
    }[what] in caplog.text
    assert caplog.text.count("not put back into the queue") == 1
    decision.after_stop(warned=True)
    assert len(caplog.messages) == 1, "decided once"


def test_sigterm_that_nobody_explains_is_taken_for_a_cancellation(
    sweep: SweepFolder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "task")
    monkeypatch.setenv("PATH", "/nowhere")
    Requeue(sweep, "999999999_1", 0).after_stop(warned=False)
    assert "it may have been cancelled" in caplog.text
    # The warning before the time limit is not how a job is cancelled: this one tries.
    Requeue(sweep, "999999999_1", 0).after_stop(warned=True)
    assert "scontrol is not on the PATH; submit the sweep again" in caplog.text


def test_places_in_an_allocation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    assert node.slots("cpu", 3) == [Slot(None, 2)] * 3
    assert node.slots("cuda", 1) == [Slot("0", 2), Slot("1", 2), Slot("2", 2)]
    assert [slot.gpu for slot in node.slots("cuda", 1, per_gpu=2)] == list("001122")
    assert node.slots("cuda", 1, devices=2) == [Slot("0,1", 8)]
    assert node.slots("cuda", 1, devices=4) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert node.slots("cuda", 1) == []
    monkeypatch.delenv("SLURM_CPUS_PER_TASK")
    assert node.slots("cpu", 2) == [Slot(None, 1)] * 2


def test_workers_in_a_container_and_a_task_outside(sweep: SweepFolder, tmp_path: Path) -> None:
    # A prefix that says what it was given, and then does what a container's runtime does.
    prefix = tmp_path / "run image"
    prefix.write_text('#!/bin/sh\nprintf "%s|" "$@" > "$0.said"\nexec "$@"\n')
    prefix.chmod(0o755)
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-P",
                "-m",
                "mixbench.slurm.task",
                str(sweep.path),
                "--time-limit",
                "3600",
            ),
            *("--container", f"'{prefix}' ", "--python", sys.executable, "--device", "cuda"),
        ],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    said = (tmp_path / "run image.said").read_text().split("|")
    assert said[:5] == [sys.executable, "-P", "-u", "-m", "mixbench.slurm.node"]
    assert said[5] == str(sweep.path) and "--deadline" in said
    assert "too few GPUs in this allocation: none" in done.stdout
    assert "the workers ended with status 1: not put back into the queue" in done.stdout
    assert set(sweep.states().values()) == {"waiting"}


def test_outside_of_slurm_a_signal_stops_it(sweep: SweepFolder) -> None:
    process = subprocess.Popen(
        [
            *(
                sys.executable,
                "-P",
                "-u",
                "-m",
                "mixbench.slurm.task",
                str(sweep.path),
                "--workers",
                "1",
            ),
            *("--time-limit", "3600"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    workers = sweep.path / "workers"
    running.wait_until(lambda: list(workers.glob("*.json")), "a worker")
    process.send_signal(signal.SIGUSR2)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    assert "got SIGUSR2" in said and "not put back into the queue: this is no SLURM job" in said
    assert "running" not in sweep.states().values()
    assert json.loads((sweep.path / "sweep.json").read_text())["name"] == "one"


def test_how_tasks_ended(sweep: SweepFolder) -> None:
    folder = queue.folder_of(sweep)
    folder.mkdir()
    jobs = [
        queue.Submitted("7", 9, "lab", 1, says_end=True),
        queue.Submitted("8", 1, "lab", 1, says_end=True, measure="{}"),
        queue.Submitted("9", 1, "of 0.2", 1),
    ]
    stamp = "2026-11-29 23:00:00,123 "
    wanted = {
        "7_0": ("well", {"status": 0, "why": "nothing is left to do"}, "nothing is left to do"),
        "7_1": ("no worker", None, "/opt/python: No such file or directory"),
        "7_2": ("killed", None, "slurmstepd: error: Detected 1 oom_kill event"),
        "7_3": ("gave up", {"status": 1, "why": "no run got further"}, "no run got further"),
        "7_4": ("no worker", {"status": 1, "why": f"{GAVE_UP} 1"}, "too few GPUs"),
        # Put back, and killed at once when it began again; cancelled before it began again.
        "7_5": ("killed", {"status": 0, "why": "its time is up", "comes_back": True}, "Killed"),
        "7_7": (
            "well",
            {"status": 0, "why": "back (preempted)", "comes_back": True},
            "back (preempted); cancelled while it waited there",
        ),
        "8": ("no worker", None, ""),
        "8_1": ("killed", None, "Killed"),
        "9": ("no worker", None, "module: not found"),
        "9_1": ("well", None, "an older one that worked says no end"),
    }
    for name, (_, record, said) in wanted.items():
        text = (
            f"first\n{stamp}{said}\n\n" if name != "7_1" else f"/a/slurm_script: line 9: {said}\n"
        )
        if name == "7_4":
            text += f"{stamp}{GAVE_UP} 1: not put back into the queue\n"
        (folder / f"{name}_0_log.out").write_text(text if said else "")
        if name not in ("7_1", "8"):
            (folder / f"{name}_starts.jsonl").write_text("{}\n")
        if record is not None:
            (folder / f"{name}_end.json").write_text(json.dumps(record))
    os.utime(folder / "7_5_end.json", (1, time.time() - 120))
    for other in ("7_6_0_log.out", "70_0_0_log.out", "7_submission.sh"):
        (folder / other).write_text("of a task in the queue, of no job here, no log")
    found = task_ends.ended(sweep, {"7_6"}, {"7_0", "7_2", "7_3", "7_5", "7_7", "9_1"}, jobs)
    assert {task.name: (str(task.kind), task.said) for task in found} == {
        name: (kind, said) for name, (kind, _, said) in wanted.items()
    }
    # About to leave, or to come back.
    assert [task_ends.is_ending(sweep, name) for name in ("7_0", "7_5", "7_1")] == [
        True,
        False,
        False,
    ]


def test_names_of_jobs_differ_where_squeue_cuts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "runs"
    monkeypatch.setenv("MIXBENCH_RUNS", str(root))
    names = ["demo", "alpha_small", "alpha_large", "alpha_small_2", "ablation_a", "ablation_b"]
    names += [f"a_long_name_with_{long}_in_it" for long in ("something", "somewhere")]
    for name in names:
        (root / name).mkdir(exist_ok=True, parents=True)
        (root / name / "sweep.json").write_text("{}")
    jobs = [queue.job_name(SweepFolder(root / name)) for name in names]
    assert jobs[:2] == ["demo-mixbench", "alpha_small-mixbench"]
    assert len({job[:8] for job in jobs}) == len(jobs)
    assert all(name in job for name, job in zip(names, jobs, strict=True))
    assert queue.job_name(SweepFolder(root / "demo"), "{}") == "demo-mixbench-evaluate"
