"""The look at a sweep's folder: every state is told apart, also while things change."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixbench.experiments import cli
from mixbench.experiments.cli import names
from mixbench.experiments.manage.observe import Observer, job_name, key_length
from mixbench.experiments.store import claims, workers
from mixbench.experiments.store.files import atomic_write, dump
from mixbench.experiments.store.retry import retry_failed
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.store.states import RunState
from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support import running

TOP = {
    "schema",
    "sweep",
    "folder",
    "time",
    "stopped",
    "counts",
    "dropped",
    "epochs",
    "images_per_second",
    "seconds_left",
    "slurm",
    "slurm_measuring",
    "slurm_jobs",
    "workers",
    "runs",
}
ALWAYS = {"run_key", "cell_key", "label", "seed", "state", "epoch", "epochs"}
UNFINISHED = ALWAYS | {"attempts", "faults", "error"}
HELD = UNFINISHED | {
    "stage",
    "images_per_second",
    "seconds_left",
    "worker",
    "host",
    "job",
    "silent",
}
FIELDS = {
    "done": ALWAYS,
    "failed": UNFINISHED,
    "waiting": UNFINISHED,
    "running": HELD,
    "stale": HELD,
}

CLAIM_AND_WAIT = """
import sys, time
from pathlib import Path
from mixbench.experiments.store import claims
claim = claims.acquire(Path(sys.argv[1]), "another", claims.Watch())
claim.renew({"stage": "training", "epoch": 0.5, "images_per_second": 7.0}, force=True)
print("claimed", flush=True)
time.sleep(600)
"""


def claimed_elsewhere(planned: PlannedRun, silent: float, **more: Any) -> None:
    """A claim of a worker on another host, whose last heartbeat is that old by our clock."""
    folder = planned.folder.path / "claims"
    folder.mkdir(parents=True)
    body = {
        "worker": "far-1",
        "host": "far boot pid",
        "pid": 1,
        "process_start": "1",
        "job": None,
        "started": time.time() - silent - 9,
        "time": time.time() - silent,
        "beat": 3,
        "progress": {"stage": "training", "epoch": 1.5, "images_per_second": 10.0},
    }
    (folder / "000001.json").write_text(json.dumps(body | more))


def attempt(number: int, outcome: str, error: str | None = None) -> dict[str, Any]:
    return {
        "attempt": number,
        "worker": "w",
        "started": 1.0,
        "ended": 2.0,
        "outcome": outcome,
        "error": error,
    }


def epochs(planned: PlannedRun, *times: float) -> None:
    rows = [{"epoch": n, "time": moment} for n, moment in enumerate(times, start=1)]
    planned.folder.path.mkdir(exist_ok=True)
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    (planned.folder.path / "metrics.jsonl").write_text(text)


@pytest.fixture
def folder(runs: Path) -> SweepFolder:
    """Eight runs of three epochs, of which none has begun."""
    return running.planned(running.spec("seen", seeds=[0, 1, 2, 3]))


def test_before_anything_begins(folder: SweepFolder) -> None:
    now = Observer(folder).snapshot()
    assert (now.total, now.count("waiting"), now.epochs, now.epochs_total) == (8, 8, 0.0, 24)
    assert now.seconds_left is None and not now.workers and not now.settled and not now.retried


def test_every_state_is_told_apart(folder: SweepFolder) -> None:
    done, failed, there, silent, stopped, again, forgiven, _ = plan = folder.plan()
    for planned in (done, failed, stopped, again, forgiven):
        planned.folder.path.mkdir()
    atomic_write(done.folder.path / "result.json", dump({}))
    failed.folder.add_attempt(attempt(1, "died", "the worker died: signal SIGKILL"))
    failed.folder.add_attempt(attempt(2, "failed", "ValueError: no\nand more"))
    failed.folder.fail("ValueError: no\nand more", "", 2)
    claimed_elsewhere(there, 5.0, job={"id": "121", "array": "120", "task": "7", "restart": 0})
    claimed_elsewhere(silent, 1000.0)
    stopped.folder.add_attempt(attempt(1, "stopped"))
    epochs(stopped, 1.0, 2.0)
    again.folder.add_attempt(attempt(1, "out of memory", "OutOfMemoryError: 3 GiB"))
    forgiven.folder.add_attempt(attempt(1, "failed", "ValueError: yes"))
    forgiven.folder.add_attempt({"outcome": "retry", "time": 3.0})

    now = Observer(folder).snapshot()
    expected = ["done", "failed", "running", "stale", *["waiting"] * 4]
    assert [run.state for run in now.runs] == expected
    assert sum(now.count(state) for state in RunState) == now.total == len(plan)
    by_key = {run.run_key: run for run in now.runs}
    lost = by_key[failed.run_key]
    assert (lost.error, lost.attempts, lost.faults) == ("ValueError: no", 2, 2)
    seen = by_key[there.run_key]
    assert (seen.epoch, seen.images_per_second, seen.stage) == (1.5, 10.0, "training")
    assert (seen.worker, seen.host, seen.job) == ("far-1", "far", "120_7")
    assert seen.silent == pytest.approx(5.0, abs=2.0)
    assert [run.run_key for run in now.retried] == [again.run_key]
    assert by_key[again.run_key].error == "OutOfMemoryError: 3 GiB"
    assert by_key[forgiven.run_key].faults == 0
    # The epochs of the failed run are neither done nor to come; those that a run has got through
    # before it was stopped are done.
    assert now.epochs == 3 + 1.5 + 2 and now.epochs_total == 7 * 3
    assert now.images_per_second == 10.0


@pytest.mark.parametrize(
    ("silent", "state"),
    [(-60.0, "running"), (0.0, "running"), (175.0, "running"), (185.0, "stale")],
)
def test_stale_is_a_lease_and_a_minute_of_skew(
    silent: float, state: str, folder: SweepFolder
) -> None:
    assert claims.LEASE_SECONDS + claims.SKEW_SECONDS == 180.0
    claimed_elsewhere(folder.plan()[0], silent)
    (run,) = (run for run in Observer(folder).snapshot().runs if run.worker)
    assert run.state == state and run.silent is not None and run.silent >= 0.0


def test_a_worker_known_dead_here_is_stale_at_once(folder: SweepFolder) -> None:
    planned = folder.plan()[0]
    process = subprocess.Popen(
        [sys.executable, "-c", CLAIM_AND_WAIT, str(planned.folder.path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "claimed\n"
    observer = Observer(folder)
    assert observer.snapshot().runs[0].state == "running"
    process.kill()
    process.wait()
    assert observer.snapshot().runs[0].state == "stale"
    process.stdout.close()


def test_a_released_claim_is_not_running(folder: SweepFolder) -> None:
    claim = claims.acquire(folder.plan()[0].folder.path, "me", claims.Watch())
    assert claim is not None
    assert Observer(folder).snapshot().runs[0].state == "running"
    claim.release("stopped")
    assert Observer(folder).snapshot().runs[0].state == "waiting"


def test_one_observer_sees_every_change(folder: SweepFolder) -> None:
    first, second = folder.plan()[:2]
    observer = Observer(folder)
    assert observer.snapshot().count("waiting") == 8
    claim = claims.acquire(first.folder.path, "me", claims.Watch())
    assert claim is not None and observer.snapshot().runs[0].state == "running"
    atomic_write(first.folder.path / "result.json", dump({}))
    claim.release("done")
    assert observer.snapshot().runs[0].state == "done"
    second.folder.path.mkdir()
    second.folder.fail("ValueError: no", "", 1)
    assert observer.snapshot().runs[1].state == "failed"
    retry_failed(folder)
    assert observer.snapshot().runs[1].state == "waiting"
    folder.ask_to_stop("because")
    assert observer.snapshot().stopped == "because"


def test_the_time_left_of_a_run_is_at_the_pace_of_its_epochs(folder: SweepFolder) -> None:
    planned = folder.plan()[0]
    claimed_elsewhere(planned, 1.0, progress={"stage": "training", "epoch": 2.25})
    # A break between the first two epochs is not a slow epoch.
    epochs(planned, 100.0, 2100.0)
    assert Observer(folder).snapshot().runs[0].seconds_left == pytest.approx(0.75 * 2000.0)
    claimed = Observer(folder).snapshot()
    # The only pace that is known, for all that is left.
    assert claimed.seconds_left == pytest.approx((24 - 2.25) * 2000.0)


def test_a_torn_row_of_metrics_is_as_if_not_written(folder: SweepFolder) -> None:
    planned = folder.plan()[0]
    epochs(planned, 1.0, 2.0)
    with (planned.folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "ti')
    assert Observer(folder).snapshot().runs[0].epoch == 2.0


@given(st.sets(st.text("0123456789abcdef", min_size=16, max_size=16), min_size=1, max_size=60))
def test_keys_are_shortened_as_far_as_they_differ(keys: set[str]) -> None:
    length = key_length(list(keys))
    assert 6 <= length <= 16 and len({key[:length] for key in keys}) == len(keys)
    assert length == 6 or len({key[: length - 1] for key in keys}) < len(keys)


def test_jobs_are_named_as_squeue_does() -> None:
    assert job_name(None) is None
    assert job_name({"id": "5", "array": None, "task": None, "restart": 0}) == "5"
    assert job_name({"id": "12", "array": "10", "task": "0", "restart": 2}) == "10_0"


# As JSON.


def test_the_json_has_just_the_fields_that_are_documented(
    folder: SweepFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    done, failed, there, silent, *_ = folder.plan()
    for planned in (done, failed):
        planned.folder.path.mkdir()
    atomic_write(done.folder.path / "result.json", dump({}))
    failed.folder.fail("ValueError: no", "", 1)
    claimed_elsewhere(there, 5.0)
    claimed_elsewhere(silent, 1000.0)
    assert cli.main(["status", "seen", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert err == "" and set(found) == TOP and found["schema"] == 1 and found["slurm"] is None
    assert found["counts"] == {
        "planned": 8,
        "done": 1,
        "failed": 1,
        "dropped": 0,
        "running": 1,
        "stale": 1,
        "waiting": 4,
        "retried": 0,
    }
    for run in found["runs"]:
        assert set(run) == FIELDS[run["state"]]
    assert [run["run_key"] for run in found["runs"]] == [p.run_key for p in folder.plan()]
    assert {run["label"] for run in found["runs"]} == {"none", "cutmix"}


def test_the_readme_names_every_field_of_the_json() -> None:
    readme = Path(__file__).parents[3] / "experiments" / "cli" / "README.md"
    text = readme.read_text(encoding="utf-8")
    for name in TOP | HELD | {"planned", "retried", "alive", "pid", "device", "started"}:
        assert f"`{name}`" in text, name


# While workers work.


@pytest.fixture(scope="module")
def worked_on(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the JSON said again and again while a real worker did a small sweep, to its end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIXBENCH_RUNS", str(tmp_path_factory.mktemp("worked_on")))
        spec = running.spec("worked_on", seeds=[0])
        spec["fixed"]["training"] = {"epochs": 6, "batch_size": 16}
        folder = running.planned(spec)
        observer = Observer(folder)
        labels = names.cell_names(folder.plan())
        worker = running.start_worker(folder, "worker-one")
        seen = []
        while worker.poll() is None:
            seen.append(json.loads(json.dumps(observer.snapshot().as_json(labels))))
            fresh = Observer(folder).snapshot()
            assert sum(fresh.count(state) for state in RunState) == fresh.total
            time.sleep(0.02)
        said = worker.communicate()
        seen.append(observer.snapshot().as_json(labels))
    assert worker.returncode == 0, said
    return folder, worker.pid, seen


def test_a_running_run_shows_its_worker_and_epochs(worked_on: Any) -> None:
    _, pid, seen = worked_on
    rows = [run for now in seen for run in now["runs"] if run["state"] == "running"]
    training = [run for run in rows if run["stage"] == "training"]
    assert training
    for run in training:
        assert run["worker"] == "worker-one" and run["host"] == os.uname().nodename
        assert run["images_per_second"] > 0 and 0 < run["epoch"] <= run["epochs"] == 6
    here = [w for now in seen for w in now["workers"] if w["alive"]]
    assert here and {(w["worker"], w["pid"]) for w in here} == {("worker-one", pid)}


def test_nothing_goes_backwards_while_nothing_goes_wrong(worked_on: Any) -> None:
    _, _, seen = worked_on
    assert seen[-1]["counts"]["done"] == 2 and seen[-1]["seconds_left"] == 0
    for before, after in itertools.pairwise(seen):
        assert before["counts"]["done"] <= after["counts"]["done"]
        assert before["epochs"]["done"] <= after["epochs"]["done"]
    assert {now["counts"]["failed"] + now["counts"]["stale"] for now in seen} == {0}


def test_a_worker_that_is_gone_is_not_alive(worked_on: Any) -> None:
    folder, _, _ = worked_on
    assert [worker.alive for worker in workers.workers(folder)] in ([], [False])


def test_the_verb_needs_no_torch_and_tells_what_to_do_next(
    worked_on: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _, _ = worked_on
    monkeypatch.setenv("MIXBENCH_RUNS", str(folder.path.parent))
    code = (
        "import sys; from mixbench.experiments import cli; status = cli.main(sys.argv[1:])\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)\n"
        "sys.exit(status)"
    )
    for arguments in (["status"], ["status", "worked_on"], ["status", "worked_on", "--json"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
        )
        assert "worked_on" in done.stdout
        assert not {"torch", "numpy", "pandas", "mlflow", "submitit"} & set(done.stderr.split())


def test_watching_ends_with_the_sweep_and_with_ctrl_c(
    worked_on: Any, folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.run(
        [*running.COMMAND, "status", "worked_on", "--watch"],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env={**os.environ, "MIXBENCH_RUNS": str(worked_on[0].path.parent)},
    )
    assert "2/2 runs done" in done.stdout and done.stderr == ""
    watching = running.start(*running.COMMAND, "status", "seen", "--watch")
    assert watching.stdout is not None
    assert watching.stdout.readline().startswith("0/8 runs done")
    watching.send_signal(signal.SIGINT)
    assert watching.communicate(timeout=300)[1] == "" and watching.returncode == 130
