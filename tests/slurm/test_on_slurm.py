"""Sweeps on a real SLURM, from submission to the last run."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import mixbench
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.worker import snapshot
from mixbench.slurm import profile, queue, submit
from mixbench.slurm.script import TaskScript
from tests.support import running
from tests.support.slurm_cluster import Cluster


def sweep_of(name: str, runs: int = 1, epochs: int = 3) -> SweepFolder:
    """A sweep of so many runs."""
    spec = running.spec(name, seeds=list(range(runs)), grid={"augmentation": [{"name": "cutmix"}]})
    spec["fixed"]["training"] = {"epochs": epochs, "batch_size": 64}
    return running.planned(spec)


SLOWLY = """

_train = train


def train(network, dataset, config, device, folder, beat, *rest):
    import time

    def slowly(progress, *, force=False):
        beat(progress, force=force)
        first = not (folder / "claims" / "000002.json").exists()
        if first and (progress or {}).get("epoch", 0) > 25:
            time.sleep(0.2)

    return _train(network, dataset, config, device, folder, slowly, *rest)
"""


def slowed(sweep: SweepFolder) -> None:
    """Have its run take its time after the 25th epoch, so that it is not done before it is met.

    Who takes it up again goes on as usual.
    """
    with (snapshot.take(sweep) / "mixbench/experiments/worker/execute.py").open("a") as file:
        file.write(SLOWLY)


def send(sweep: SweepFolder, tasks: int | None = None, **keys: Any) -> list[str]:
    """Submit a sweep with a profile of these keys; what the user is told."""
    raw = {"cpus": 1, "time": 5, "signal_seconds": 60} | keys
    chosen = profile.parse(raw, Path("tests.yaml"))
    states = list(sweep.states().values())
    return submit.submit(
        sweep,
        chosen,
        code=snapshot.take(sweep),
        missing=len(states) - states.count("done"),
        workers=tasks,
    )


def logs(sweep: SweepFolder) -> str:
    """What the sweep's tasks have said, all their starts together."""
    files = sorted(queue.folder_of(sweep).glob("*_log.out"))
    return "\n".join(path.read_text() for path in files)


def wait_for(sweep: SweepFolder, seconds: float = 300) -> None:
    """Until all runs are done and all tasks have left."""
    limit = time.monotonic() + seconds
    while set(sweep.states().values()) != {"done"} or queue.query_tasks(sweep):
        failures = [planned.folder.failure() for planned in sweep.plan()]
        if any(failures) or time.monotonic() > limit:
            pytest.fail(f"{failures}\n{queue.tasks(sweep)}\n{logs(sweep)}")
        time.sleep(0.2)


def wait_for_training(sweep: SweepFolder) -> None:
    """Until a run is well under way."""
    (run,) = sweep.plan()
    running.wait_until(lambda: len(run.folder.metrics()) > 20, "training")


def went_on_from(sweep: SweepFolder) -> list[int]:
    """The steps at which the sweep's only run was taken up again."""
    (run,) = sweep.plan()
    said = (run.folder.path / "log.txt").read_text()
    return [int(step) for step in re.findall(r"going on from step (\d+)", said)]


def restarted(sweep: SweepFolder) -> bool:
    """Whether a task that was put back has the sweep's only run in hand again, or has done it."""
    (run,) = sweep.plan()
    claim = run.folder.claim()
    jobs = [row["job"] for row in run.folder.attempts()] + ([claim["job"]] if claim else [])
    return any(job["restart"] > 0 for job in jobs)


def stepping(task: queue.Task) -> bool:
    """Whether SLURM's own process for the task is still there."""
    for commands in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"slurmstepd: [{task.array}.".encode() in commands.read_bytes():
                return True
    return False


def hurry(slurm: Cluster, sweep: SweepFolder) -> None:
    """Start a task that is put back, and wait until it has: SLURM leaves it for two minutes."""
    limit = time.monotonic() + 300
    quiet = 0
    while not restarted(sweep):
        if time.monotonic() > limit:
            pytest.fail(f"it does not start again\n{queue.tasks(sweep)}\n{logs(sweep)}")
        time.sleep(0.5)
        waiting = [task for task in queue.query_tasks(sweep) if task.state == "PENDING"]
        # What the minutes are for: the end of the start before, reported late, would be taken for
        # the end of the next one.
        quiet = quiet + 1 if waiting and not any(map(stepping, waiting)) else 0
        for task in waiting if quiet > 4 else ():
            # It may just have started. The time for a start on a busy machine is not what is tried.
            with contextlib.suppress(subprocess.CalledProcessError):
                slurm.ask(
                    "scontrol", "update", f"JobId={task.name}", "StartTime=now", "TimeLimit=10"
                )


def test_an_array_does_a_sweep(slurm: Cluster) -> None:
    sweep = sweep_of("array", runs=3)
    said = send(sweep, cpus=2, workers=2)
    (array,) = queue.recorded(sweep)
    assert said == [f"submitted job {array.job}: 2 tasks of 2 workers, profile tests"]
    there = queue.query_tasks(sweep)
    assert [task.index for task in there] == [0, 1]
    assert {task.array for task in there} == {array.job}
    wait_for(sweep)
    jobs = set()
    for planned in sweep.plan():
        (row,) = planned.folder.attempts()
        assert row["outcome"] == "done"
        jobs.add((row["job"]["array"], row["job"]["restart"]))
        assert int(row["job"]["task"]) in (0, 1)
    assert jobs == {(array.job, 0)}
    assert "nothing is left to do" in logs(sweep)
    assert "2 x 1 CPU thread" in logs(sweep)
    # Nobody keeps accounts here, and nobody was asked.
    assert subprocess.run(["sacct"], capture_output=True, check=False).returncode != 0
    # The workers ran the copy of the code.
    copy = next((sweep.path / "code").iterdir())
    assert list((copy / "mixbench" / "experiments").rglob("worker.*.pyc")) or os.environ.get(
        "PYTHONDONTWRITEBYTECODE"
    )


def test_arrays_stay_below_the_highest_index(slurm: Cluster) -> None:
    sweep = sweep_of("chunked", runs=9)
    assert queue.max_array_size() == 4
    said = send(sweep, flags={"hold": True})
    arrays = queue.recorded(sweep)
    assert [array.tasks for array in arrays] == [4, 4, 1]
    there = queue.query_tasks(sweep)
    assert sorted(task.index or 0 for task in there) == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    assert said[-1] == "(no index of an array reaches 4: MaxArraySize)"
    # SLURM takes no higher one: the limit is real.
    larger = TaskScript(sweep, profile.parse({"time": 5}, Path("tests.yaml")), sweep.path).text(5)
    assert "Invalid job array specification" in submit._sbatch(larger).message()
    # The tasks that wait are enough, until some are lost.
    assert send(sweep) == ["9 tasks of this sweep in the queue already (9 waiting); no more needed"]
    slurm.ask("scancel", arrays[0].job, f"{arrays[1].job}_[1-3]")
    assert send(sweep, tasks=3, flags={"hold": True})[0] == (
        "2 tasks of this sweep in the queue already (2 waiting); 1 more needed"
    )
    slurm.ask("scancel", queue.recorded(sweep)[-1].job)
    # Two tasks of different arrays do the whole sweep.
    slurm.ask("scontrol", "release", f"{arrays[1].job}_0", arrays[2].job)
    wait_for(sweep)
    rows = [row for planned in sweep.plan() for row in planned.folder.attempts()]
    assert {row["job"]["array"] for row in rows} <= {arrays[1].job, arrays[2].job}


def test_what_is_cancelled_stays_away_and_loses_nothing(slurm: Cluster) -> None:
    sweep = sweep_of("cancelled", epochs=60)
    other = sweep_of("other", epochs=60)
    slowed(sweep)
    send(sweep)
    send(other)
    wait_for_training(sweep)
    assert queue.cancel(sweep) == 1
    running.wait_until(lambda: not queue.query_tasks(sweep), "gone")
    (planned,) = sweep.plan()
    (row,) = planned.folder.attempts()
    assert row["outcome"] == "stopped"
    assert (planned.folder.path / "checkpoint.pt").exists()
    assert planned.folder.state() == "waiting"
    assert "not put back into the queue: it was cancelled" in logs(sweep)
    # The other sweep's tasks are not this one's.
    wait_for(other)
    assert queue.cancel(sweep) == 0


def test_what_is_requeued_goes_on_where_it_was(slurm: Cluster) -> None:
    sweep = sweep_of("requeued", epochs=60)
    slowed(sweep)
    send(sweep)
    wait_for_training(sweep)
    (task,) = queue.query_tasks(sweep)
    slurm.ask("scontrol", "requeue", task.name)
    hurry(slurm, sweep)
    assert "not put back into the queue: SLURM has done so already" in logs(sweep)
    wait_for(sweep)
    (planned,) = sweep.plan()
    first, second = planned.folder.attempts()
    assert (first["outcome"], second["outcome"]) == ("stopped", "done")
    assert [row["job"]["restart"] for row in (first, second)] == [0, 1]
    assert went_on_from(sweep)[0] > 20 * 5
    steps = [row["step"] for row in planned.folder.metrics()]
    assert steps == sorted(set(steps)), "no epoch was done twice"


def test_the_time_limit_is_no_end(slurm: Cluster) -> None:
    # A minute is the shortest limit that SLURM has, and this run takes more than one anywhere.
    sweep = sweep_of("limited", epochs=100_000)
    # SLURM's warning comes up to half a minute before it is due.
    send(sweep, time=1, signal_seconds=10)
    wait_for_training(sweep)
    hurry(slurm, sweep)
    assert "got SIGUSR2" in logs(sweep) or "got " not in logs(sweep)
    assert "back into the queue (its time is up)" in logs(sweep)
    (planned,) = sweep.plan()
    (row,) = planned.folder.attempts()
    assert (row["outcome"], row["job"]["restart"]) == ("stopped", 0)
    running.wait_until(lambda: went_on_from(sweep), "going on")
    assert went_on_from(sweep)[0] >= row["saved"] > 0, "nothing was lost"
    queue.cancel(sweep)


def test_what_is_preempted_comes_back(slurm: Cluster) -> None:
    # This partition cancels jobs that it takes the CPUs from, and SLURM puts none back by itself.
    sweep = sweep_of("preempted", epochs=60)
    slowed(sweep)
    send(sweep, partition="gone", flags={"exclusive": True})
    wait_for_training(sweep)
    options = ("--partition=urgent", "--exclusive", "--output=/dev/null", "--chdir=/")
    slurm.ask("sbatch", *options, "--wrap=sleep 1")
    hurry(slurm, sweep)
    assert "back into the queue (preempted)" in logs(sweep)
    wait_for(sweep)
    (planned,) = sweep.plan()
    assert [row["outcome"] for row in planned.folder.attempts()] == ["stopped", "done"]


def test_a_task_that_is_killed_leaves_its_runs_to_others(slurm: Cluster) -> None:
    sweep = sweep_of("killed", epochs=60)
    slowed(sweep)
    send(sweep)
    wait_for_training(sweep)
    slurm.ask("scancel", "--full", "--signal=KILL", queue.recorded(sweep)[0].job)
    running.wait_until(lambda: not queue.query_tasks(sweep), "gone")
    (planned,) = sweep.plan()
    assert planned.folder.state() == "waiting"
    assert send(sweep)[-1].startswith("submitted job")
    wait_for(sweep)
    assert planned.folder.attempts()[-1]["outcome"] == "done"


def test_submitting_from_inside_a_job(slurm: Cluster, tmp_path: Path) -> None:
    sweep = sweep_of("inner", runs=2)
    (tmp_path / "inner.yaml").write_text("cpus: 1\ntime: 5\n")
    code = (
        "from mixbench.slurm import profile, submit\n"
        "from mixbench.experiments.worker import snapshot\n"
        "from mixbench.experiments.store.sweep_folder import SweepFolder\n"
        "sweep = SweepFolder.open('inner')\n"
        "print(*submit.submit(sweep, profile.load('inner.yaml'), missing=2, workers=1,\n"
        "      code=snapshot.take(sweep)), sep='\\n')\n"
    )
    (tmp_path / "inside.py").write_text(code)
    (tmp_path / "outer.sh").write_text(f"#!/bin/sh\nexec {sys.executable} inside.py\n")
    root = Path(mixbench.__file__).resolve().parent.parent
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        "SBATCH_PARTITION": "urgent",
        "SBATCH_TIMELIMIT": "7",
    }
    options = ["--array=3", "--cpus-per-task=2", "--mem=100M", "--output=outer.txt"]
    subprocess.run(["sbatch", *options, "outer.sh"], check=True, env=environment)
    running.wait_until(lambda: queue.recorded(sweep), "submitted")
    (inner,) = queue.recorded(sweep)
    fields = slurm.ask("scontrol", "--oneliner", "show", "job", inner.job).split()
    assert {"CPUs/Task=1", "TimeLimit=00:05:00", "Partition=main"} <= set(fields)
    wait_for(sweep)
    (row,) = sweep.plan()[0].folder.attempts()
    assert row["job"]["array"] == inner.job
    assert (tmp_path / "outer.txt").read_text().startswith(f"submitted job {inner.job}: 1 task")


def test_a_refusal_is_in_the_words_of_sbatch(slurm: Cluster) -> None:
    sweep = sweep_of("refused")
    before = sorted(sweep.path.rglob("*"))
    for keys, words in (
        ({"partition": "nowhere"}, "invalid partition specified: nowhere"),
        ({"gres": "tpu:1"}, "Invalid generic resource (gres) specification"),
        ({"flags": {"no-such-flag": True}}, "unrecognized option '--no-such-flag'"),
    ):
        chosen = profile.parse({"time": 5, **keys}, Path("tests.yaml"))
        with pytest.raises(UserError) as error:
            submit.submit(sweep, chosen, code=sweep.path, missing=1)
        assert words in str(error.value) and "\n" not in str(error.value)
        assert str(error.value).startswith("profile tests: sbatch refuses it: ")
        with pytest.raises(UserError, match="sbatch refuses it"):
            submit.check_accepted(chosen)
    assert queue.recorded(sweep) == [] and queue.query_tasks(sweep) == []
    assert sorted(sweep.path.rglob("*")) == before
    with pytest.raises(UserError, match="Requested node configuration is not available"):
        submit.check_accepted(profile.parse({"time": 5, "cpus": 1000}, Path("tests.yaml")))


def test_a_partition_that_is_not_there_on_the_command_line(slurm: Cluster, tmp_path: Path) -> None:
    (tmp_path / "lost.yaml").write_text("partition: nowhere\n")
    done = running.mixbench("profile", "check", "lost.yaml")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines() == [
        "mixbench: profile lost: sbatch refuses it: invalid partition specified: nowhere; "
        "Invalid partition name specified"
    ]
    (tmp_path / "good.yaml").write_text("partition: free\n")
    done = running.mixbench("profile", "check", "good.yaml")
    assert done.returncode == 0
    assert "in partition free" in done.stdout


def test_a_limit_of_submitted_jobs(slurm: Cluster) -> None:
    sweep = sweep_of("limited_jobs", runs=9)
    said = send(sweep, flags={"hold": True, "comment": "at most 3"})
    (array,) = queue.recorded(sweep)
    assert array.tasks == 2
    assert len(queue.query_tasks(sweep)) == 2
    assert said[0] == f"submitted job {array.job}: 2 tasks of 1 worker, profile tests"
    assert said[1].startswith("that is 2 of 9 tasks: sbatch refuses more (Job violates accounting")
    # Where not even one is allowed, that is the answer.
    queue.cancel(sweep)
    running.wait_until(lambda: not queue.query_tasks(sweep), "gone")
    with pytest.raises(UserError, match="job submit limit"):
        send(sweep, flags={"comment": "at most 0"})


def test_the_gpus_of_an_allocation(slurm: Cluster, tmp_path: Path) -> None:
    code = (
        "from mixbench.slurm import node, queue\n"
        "print([slot.gpu for slot in node.slots('cuda', 1, 2)], end=' ')\n"
        "print([slot.threads for slot in node.slots('cuda', 1, 2)], end=' ')\n"
        "print([slot.gpu for slot in node.slots('cuda', 1, 1, devices=2)], end=' ')\n"
        "left = queue.seconds_left(queue.this_job())\n"
        "print(100 < left <= 120, queue.ending(queue.this_job()), queue.restarts())\n"
    )
    (tmp_path / "look.py").write_text(code)
    root = Path(mixbench.__file__).resolve().parent.parent
    subprocess.run(
        [
            "sbatch",
            "--gres=gpu:2",
            "--cpus-per-task=4",
            "--time=2",
            "--output=look.txt",
            f"--wrap=exec {sys.executable} look.py",
        ],
        check=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    said = tmp_path / "look.txt"
    running.wait_until(lambda: said.exists() and said.read_text().endswith("0\n"), "said")
    assert said.read_text() == "['0', '0', '1', '1'] [1, 1, 1, 1] ['0,1'] True running 0\n"


def test_without_the_gpus_asked_for_no_run_is_touched(slurm: Cluster) -> None:
    # The partition gives the task what it asks for, and torch can't use it: it is no GPU.
    sweep = sweep_of("no_gpus")
    send(sweep, gres="gpu:1", setup=["export CUDA_VISIBLE_DEVICES=-1"])
    running.wait_until(lambda: not queue.query_tasks(sweep), "gone")
    assert "too few GPUs in this allocation: none" in logs(sweep)
    assert "not put back into the queue" in logs(sweep)
    assert set(sweep.states().values()) == {"waiting"}


@pytest.mark.parametrize("how", ["sleep 6123", "exit 1", "echo '???'"])
def test_programs_of_slurm_that_are_broken_hang_nothing(
    slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    sweep = sweep_of("broken")
    send(sweep, flags={"hold": True})
    broken = tmp_path / "broken"
    broken.mkdir()
    for program in ("squeue", "scontrol", "sacct", "sinfo"):
        # The shell around the sleep dies of the time limit, and the sleep must, too.
        (broken / program).write_text(f"#!/bin/sh\n{how}\nexit 1\n")
        (broken / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken}:{os.environ['PATH']}")
    monkeypatch.setenv("MIXBENCH_SLURM_SECONDS", "1")
    began = time.monotonic()
    assert queue.tasks(sweep) is None
    with pytest.raises(UserError, match=r"can't be asked to cancel the jobs .*: squeue"):
        queue.cancel(sweep)
    assert queue.max_array_size() == 1001
    assert queue.ending("1") is None and queue.seconds_left("1") is None
    told = {"hold": True} if how != "sleep 6123" else {}
    said = send(sweep, flags=told)
    assert said[0].startswith("squeue") and "not taken into account" in said[0]
    assert said[1].startswith("submitted job")
    assert time.monotonic() - began < 150
    assert not subprocess.run(["pgrep", "-fx", how], capture_output=True, check=False).stdout
    if not told:
        # The task meets the same programs in its job, and does its work without them.
        running.wait_until(lambda: "nothing is left to do" in logs(sweep), "done")
        assert set(sweep.states().values()) == {"done"}
