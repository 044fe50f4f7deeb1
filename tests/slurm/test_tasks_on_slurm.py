"""What a user sees of tasks that wait, can't work or have nothing to do, on a real SLURM."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mixbench.experiments import cli
from mixbench.experiments.cli import slurm_queue, slurm_watch
from mixbench.experiments.store.files import atomic_write, dump
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.worker import snapshot
from mixbench.slurm import leave, measuring, profile, queue, submit
from tests.slurm.test_on_slurm import logs, send, sweep_of
from tests.support import running
from tests.support.slurm_cluster import Cluster

QUIET = ("--no-track", "--no-report")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask SLURM every few tenths of a second."""
    monkeypatch.setattr(slurm_queue, "ASK_SECONDS", 0.3)
    monkeypatch.setattr(slurm_watch, "CONFIRM_SECONDS", 0.3)
    monkeypatch.setattr(slurm_watch, "WATCH_SECONDS", 0.2)


def said(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert cli.main(arguments) == status
    return capsys.readouterr().out


def swept(
    capsys: pytest.CaptureFixture[str], name: str, profile: str, *more: str, status: int = 0
) -> str:
    arguments = ("sweep", name, "--cluster", "slurm", "--profile", f"./{profile}.yaml", *QUIET)
    return said(capsys, *arguments, *more, status=status)


def finish(sweep: SweepFolder) -> None:
    """Give all runs a result."""
    for planned in sweep.plan():
        planned.folder.path.mkdir(exist_ok=True)
        atomic_write(planned.folder.path / "result.json", dump({"metrics": {}, "dataset": {}}))


@pytest.mark.usefixtures("impatient")
def test_tasks_that_die_at_once_are_told_of(
    slurm: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = Path("removed", "bin", "python").absolute()
    Path("gone.yaml").write_text(f"cpus: 1\ntime: 5\npython: {gone}\n")
    sweep = sweep_of("lost", runs=3)
    out = swept(capsys, "lost", "gone", "--wait", status=1)
    (array,) = queue.recorded(sweep)
    log = queue.folder_of(sweep) / f"{array.job}_0_0_log.out"
    died = (
        f"3 tasks of job {array.job} ended without starting a worker; last line: {gone}: No such "
        f"file or directory; log: {log}"
    )
    assert f"logs of the tasks: {log.parent}" in out
    end = out[out.index("no task is left in SLURM's queue") :]
    assert died in end and "mixbench logs lost" in end and "3 runs left" in end
    assert died in said(capsys, "status", "lost")
    (job,) = json.loads(said(capsys, "status", "lost", "--json"))["slurm_jobs"]
    assert (job["job"], job["tasks"], job["queued"]) == (array.job, 3, {})
    assert job["ended"] == {"no worker": 3} and job["problems"][0]["log"] == str(log)
    assert job["problems"][0]["last_line"] == f"{gone}: No such file or directory"
    out = said(capsys, "logs", "lost")
    assert f"3 tasks, such as {array.job}_0: ended without starting a worker; {log}" in out
    assert f"{gone}: No such file or directory" in out and str(log.parent) in out

    # A line of setup that fails ends the task, and the newest submission is what is told of.
    lines = [
        "export A=1",
        "if true",
        "then false || true",
        "fi",
        "module load nowhere",
        "touch ran",
    ]
    Path("broken.yaml").write_text(f"cpus: 1\ntime: 5\nsetup: {json.dumps(lines)}\n")
    out = swept(capsys, "lost", "broken", "--wait", "--workers", "1", status=1)
    words = "last line: setup: exit status 127 of the line: module load nowhere"
    assert f"1 task of job {queue.recorded(sweep)[1].job} ended without" in out and words in out
    assert not Path("ran").exists()
    text = said(capsys, "status", "lost")
    assert words in text and str(gone) not in text


@pytest.mark.usefixtures("impatient")
def test_waiting_tasks_say_why_and_are_waited_for(
    slurm: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (node,) = set(slurm.ask("sinfo", "-h", "-N", "-o", "%n").split())
    sweep = sweep_of("patient", epochs=2)
    Path("one.yaml").write_text("cpus: 1\ntime: 5\n")
    drained = f": {node} drained (its disk is full)"
    broken, answers = tmp_path / "broken", []
    (tmp_path / "squeue").write_text(
        f'#!/bin/sh\n[ -e "{broken}" ] && exit 1\nPATH="{os.environ["PATH"]}"\nexec squeue "$@"\n'
    )
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    look = slurm_queue.look

    def count_answers(*arguments: Any) -> Any:
        """Let squeue fail three times once the node's state is known, then end the sweep."""
        answer = look(*arguments)
        answers.append(answer and answer.why_waiting())
        if answers[-1] and drained in answers[-1][0]:
            broken.touch()
        if answers[-3:] == [None] * 3:
            broken.unlink()
            finish(sweep)
        return answer

    monkeypatch.setattr(slurm_queue, "look", count_answers)
    slurm.ask("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=its disk is full")
    try:
        out = swept(capsys, "patient", "one", "--wait")
        monkeypatch.setattr(slurm_queue, "look", look)
        assert "1 of 1 runs done" in out and "no task is left" not in out
        # Who finds the sweep complete takes its waiting tasks away.
        assert "SLURM: 1 waiting task with nothing left to do cancelled" in out
        assert queue.query_tasks(sweep) == []
        assert f"1 task of job {queue.recorded(sweep)[0].job} waits: " in out and drained in out
        sweep.plan()[0].folder.path.joinpath("result.json").unlink()
        swept(capsys, "patient", "one")
        running.wait_until(lambda: "DRAINED" in queue.query_tasks(sweep)[0].reason, "looked at")
        assert drained in said(capsys, "status", "patient")
        (_, job) = json.loads(said(capsys, "status", "patient", "--json"))["slurm_jobs"]
        assert job["queued"] == {"pending": 1} and list(job["waits_for"].values()) == [1]
        assert "DRAINED" in next(iter(job["waits_for"]))
    finally:
        slurm.ask("scontrol", "update", f"NodeName={node}", "State=UNDRAIN")


def test_tasks_with_nothing_to_do_leave_the_queue(
    slurm: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, other = sweep_of("many", runs=300, epochs=1), sweep_of("other")
    finish(sweep)
    send(other, flags={"hold": True})
    order = measuring.Order({"calibration": {}})
    held = profile.parse({"time": 5, "flags": {"hold": True}}, Path("held.yaml"))
    submit.submit(sweep, held, code=sweep.path, missing=1, order=order)
    # With all CPUs of the node in each task, one runs at a time.
    one = profile.parse(
        {"time": 5, "cpus": slurm.cpus, "workers": 1, "tasks": 300}, Path("one.yaml")
    )
    submit.submit(sweep, one, missing=300, code=snapshot.take(sweep))
    assert sum(array.tasks for array in queue.recorded(sweep)) == 301
    running.wait_until(
        lambda: not [task for task in queue.query_tasks(sweep) if task.measure is None], "gone"
    )
    assert "waiting tasks would have had nothing to do: cancelled" in logs(sweep)
    # Some may have ended while the others were being submitted.
    assert 1 <= len(list(queue.folder_of(sweep).glob("*_log.out"))) < 30
    # Neither those that measure nor another sweep's are these.
    assert [task.measure for task in queue.query_tasks(sweep)] == [order.text()]
    assert len(queue.query_tasks(other)) == 1
    assert "ended without" not in said(capsys, "status", "many")


def test_nobody_cancels_what_a_launcher_counts_on(
    slurm: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = sweep_of("growing", runs=2)
    send(sweep, flags={"hold": True})
    first, second = queue.query_tasks(sweep)
    assert leave.cancel_siblings(sweep) == 0, "runs are left"
    finish(sweep)
    # A launcher that has just grown the sweep looks who is there.
    with leave.submitting(sweep):
        assert leave.cancel_siblings(sweep) == 0
    # Nor does a launcher count on a task that is about to leave.
    queue_end = queue.folder_of(sweep) / f"{first.name}_end.json"
    atomic_write(queue_end, dump({"status": 0, "why": "nothing is left to do"}))
    planned = {run.run_key for run in sweep.plan()[:1]}
    assert not leave.has_grown(sweep, planned)
    (sweep.plan()[1].folder.path / "result.json").unlink()
    assert leave.has_grown(sweep, planned) and leave.cancel_siblings(sweep) == 0
    there = "1 task of this sweep in the queue already (1 waiting)"
    assert send(sweep)[0].startswith(there)
    # Tasks with older code count until the sweep grows: they may not know the new runs.
    monkeypatch.setattr(snapshot, "take", lambda sweep: sweep.path / "code" / "edited")
    assert send(sweep)[0].startswith(there)
    sweep_of("growing", runs=3)
    assert send(sweep, flags={"hold": True})[:1] == [
        "1 task of before the sweep has grown, with other code: not counted"
    ]
    assert send(sweep, flags={"hold": True})[1].startswith("2 tasks of this sweep in the queue al")
    finish(sweep)
    assert leave.cancel_siblings(sweep) == 4
    assert queue.query_tasks(sweep) == [] and second.waits


@pytest.mark.usefixtures("impatient")
def test_options_of_the_command_line_reach_the_job(
    slurm: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("one.yaml").write_text("cpus: 1\ntime: 5\nflags: {hold: true, no-requeue: true}\n")
    for name in ("alpha_small", "alpha_large"):
        sweep_of(name)
    given = ("time=7", "mail-type=END,FAIL", "mail-user=me@example.org", "requeue=true")
    options = [word for option in given for word in ("--slurm", option)]
    out = swept(capsys, "alpha_small", "one", *options, "--dry-run")
    assert f"time limit of a task: 7 min 0 s (time of one with --slurm {' '.join(given)})" in out
    swept(capsys, "alpha_small", "one", *options)
    swept(capsys, "alpha_large", "one")
    small, large = (queue.recorded(SweepFolder.open(f"alpha_{s}"))[0] for s in ("small", "large"))
    fields = set(slurm.ask("scontrol", "--oneliner", "show", "job", small.job).split())
    assert {"TimeLimit=00:07:00", "MailUser=me@example.org", "MailType=END,FAIL"} <= fields
    assert "Requeue=1" in fields and small.name in {f.partition("=")[2] for f in fields}
    fields = set(slurm.ask("scontrol", "--oneliner", "show", "job", large.job).split())
    assert {"TimeLimit=00:05:00", "Requeue=0"} <= fields
    # As a user without options sees them.
    shown = {row.split()[2] for row in slurm.ask("squeue", "--noheader").splitlines()}
    assert shown == {"alpha_sm", "alpha_la"}

    # A task that can never start is not waited for.
    Path("free.yaml").write_text("cpus: 1\ntime: 5\n")
    failed = slurm.ask("sbatch", "--parsable", "--output=/dev/null", "--wrap=exit 1")
    slurm.ask("scancel", large.job)
    running.wait_until(lambda: not queue.query_tasks(SweepFolder.open("alpha_large")), "gone")
    after = ("--slurm", f"dependency=afterok:{failed}", "--wait")
    out = swept(capsys, "alpha_large", "free", *after, status=1)
    assert "wait: DependencyNeverSatisfied (never starts: a job that it depends on failed" in (
        out.replace("waits:", "wait:")
    )
    assert "no task is left in SLURM's queue that can start" in out


@pytest.mark.usefixtures("impatient")
def test_final_runs_wait_on_slurm_for_the_choice_of_their_setting(
    slurm: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed = running.spec("")["fixed"] | {"training": {"epochs": 1, "batch_size": 64}}
    spec = running.spec("tuned", fixed=fixed, grid={"augmentation": ["cutmix"]}, replicates=2)
    spec["tune"] = {"over": {"augmentation.prob": [0.3, 0.6]}, "replicates": 1}
    del spec["seeds"]
    Path("tuned.yaml").write_text(json.dumps(spec))
    Path("one.yaml").write_text("cpus: 1\ntime: 10\n")
    out = swept(capsys, "tuned.yaml", "one", "--wait", "--workers", "2")
    assert "submitted job" in out and "6 of 6 runs done" in out
    sweep = SweepFolder.open("tuned")
    (array,) = queue.recorded(sweep)
    began: dict[str, list[float]] = {}
    finished = []
    for planned in sweep.plan():
        (row,) = planned.folder.attempts()
        assert row["job"]["array"] == array.job
        began.setdefault(planned.part, []).append(row["started"])
        if planned.part == "tuning":
            finished.append((planned.folder.result() or {})["provenance"]["finished"])
    assert {part: len(times) for part, times in began.items()} == {
        "tuning": 2,
        "tuned": 2,
        "default": 2,
    }
    assert len(list(sweep.path.glob("choice.*.json"))) == 1
    assert max(finished) <= min(began["tuned"])
