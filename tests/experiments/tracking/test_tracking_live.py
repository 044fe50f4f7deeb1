"""`mixbench track --follow` beside a sweep, whatever happens to server, worker or follower."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mixbench.experiments import tracking
from mixbench.experiments.errors import UserError
from mixbench.experiments.store import claims
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.tracking import changes, stored_points
from tests.support import running
from tests.support import tracking_fixtures as made
from tests.support.running import wait_until
from tests.support.tracking_servers import FAULTS, MlflowServer, Proxy, basic, proxy_of

PROJECT = Path(__file__).parents[3]


@pytest.fixture
def root(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for sweeps, with an empty store in it."""
    folder = tmp_path / "runs"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    monkeypatch.setenv("MIXBENCH_RUNS", str(folder))
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[MlflowServer]:
    """A real server with a store of its own."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_store, folder / "mlflow.db")
    server = MlflowServer(folder)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def proxy(server: MlflowServer) -> Iterator[Proxy]:
    """A proxy before the server."""
    with proxy_of(server) as proxy:
        yield proxy


FOLLOW = """
import sys
from mixbench.experiments import tracking
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.tracking import changes, follower
from tests.support import tracking_fixtures as made
follower.POLL_SECONDS = 0.2
follower.SAY_SECONDS = 0.0
follower.LONGEST_PAUSE_SECONDS = 1.0
follower.IDLE_SECONDS = float(sys.argv[3])
changes.SETTLE_SECONDS = 0.5
for _ in range(int(sys.argv[4])):
    tracking.follow(SweepFolder.open(sys.argv[1]), sys.argv[2] or None, made.figures)
"""
"""A follower in a hurry: sweep, URI, how long nobody has to be at work for it to end, how often."""


def follow(
    sweep: SweepFolder, uri: str = "", idle: float = 1.0, times: int = 1, **environment: str
) -> subprocess.Popen[str]:
    """A follower in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", FOLLOW, sweep.name, uri, str(idle), str(times)],
        cwd=PROJECT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stored(uri: str, sweep: SweepFolder) -> dict[str, Any]:
    """The store's runs of the sweep by run key, "" for its own; no key twice."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(sweep.name)
    if experiment is None:
        return {}
    found: dict[str, Any] = {}
    runs = "tags.`mixbench.kind` != 'cell'"
    for run in client.search_runs([experiment.experiment_id], runs, max_results=1000):
        key = run.data.tags.get("run_key", "")
        assert key not in found, "two runs for one key"
        found[key] = run
    return found


def local(root: Path) -> str:
    """The URI of the store in the root."""
    return f"sqlite:///{root / 'mlflow.db'}"


# ---------------------------------------------------------------- the server goes away


def test_a_server_killed_and_started_again_during_a_sweep(server: MlflowServer, root: Path) -> None:
    training = {"epochs": 12, "batch_size": 64}
    fixed = {**running.spec("x")["fixed"], "training": training}
    sweep = running.planned(running.spec("outlived", fixed=fixed, seeds=[0]))
    plan = sweep.plan()
    command = [*running.COMMAND, "track", "outlived", "--follow", "--uri", server.address]
    follower = running.start(*command)
    worker = running.start_worker(sweep, "worker")
    try:
        wait_until(lambda: any(run.folder.metrics() for run in plan), "a first epoch")
        # Or else it may do all runs before the follower is there.
        worker.send_signal(signal.SIGSTOP)
        wait_until(
            lambda: any(run.data.metrics for run in stored(server.address, sweep).values()),
            "metrics of a run that goes on are in MLflow",
        )
        done_before = list(sweep.states().values()).count("done")
        assert done_before < 2
        server.kill()
        worker.send_signal(signal.SIGCONT)
        wait_until(
            lambda: list(sweep.states().values()).count("done") > done_before,
            "a run is done while the server is away",
        )
    finally:
        worker.send_signal(signal.SIGCONT)
        server.start()
    assert worker.wait(300) == 0
    said, errors = follower.communicate(timeout=300)
    assert (follower.returncode, errors) == (0, ""), said
    lines = said.splitlines()
    assert lines[0].startswith(f"following outlived into MLflow at {server.address}")
    assert len([line for line in lines if "the runs go on" in line]) == 1, said
    assert len([line for line in lines if re.match(r"MLflow is back after \d+ s$", line)]) == 1
    assert lines[-1] == "every run is done or failed: 2 of 2 runs done"
    verified = running.mixbench_here("track", "outlived", "--verify", "--uri", server.address)
    assert verified.returncode == 0, verified.stdout
    assert verified.stdout.startswith(f"equal: MLflow at {server.address} and the folders")
    runs = stored(server.address, sweep)
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert len(runs) == 3
    # Each epoch has the time at which it was over, not the one at which it was sent.
    for run in sweep.plan():
        times = [round(1000 * row["time"]) for row in run.folder.metrics()]
        points = history(server.address, runs[run.run_key].info.run_id, "train/loss")
        assert [point.timestamp for point in points] == times


def history(uri: str, run_id: str, key: str) -> list[Any]:
    """The points of a metric, in order."""
    from mlflow import MlflowClient

    return sorted(MlflowClient(uri).get_metric_history(run_id, key), key=lambda point: point.step)


def test_every_fault_of_a_server_only_delays(
    proxy: Proxy, server: MlflowServer, root: Path
) -> None:
    sweep = made.make_sweep("faults", made.METHODS[:3], seeds=4, epochs=4)
    *plan, last = sweep.plan()
    follower = follow(sweep, proxy.address, idle=600.0, MLFLOW_HTTP_REQUEST_TIMEOUT="1")
    proxy.every = 11
    limit = time.monotonic() + 300
    try:
        held = made.begin(last, epochs=1)
        for number, run in enumerate(plan):
            other = made.begin(run, epochs=2)
            time.sleep(0.3)
            other.release("stopped")
            (made.fail if number % 5 == 4 else made.finish)(run, epochs=4)
        while min(proxy.seen[fault] for fault in FAULTS) < 1:
            assert time.monotonic() < limit, proxy.seen
            held.release("stopped")
            time.sleep(0.3)
            held = made.begin(last, epochs=2)
            time.sleep(0.3)
        proxy.every = None
        held.release("stopped")
        made.finish(last, epochs=4)
        said, errors = follower.communicate(timeout=300)
    finally:
        follower.kill()
    assert (follower.returncode, errors) == (0, ""), said
    assert said.count("; the runs go on") == said.count("MLflow is back") >= 1
    assert "Traceback" not in said
    assert len(stored(server.address, sweep)) == 13
    verdict = tracking.verify(sweep, server.address)
    assert verdict.equal, str(verdict)


@pytest.mark.parametrize("fault", ["500", "hang", "hang halfway", "refuse"])
def test_a_server_in_trouble_costs_a_line_where_nobody_follows(
    fault: str, proxy: Proxy, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    sweep = made.make_sweep("study", made.METHODS[:1], seeds=1)
    made.finish(sweep.plan()[0])
    proxy.fault = fault
    began = time.monotonic()
    with pytest.raises(tracking.StoreUnavailable) as raised:
        tracking.project(sweep, proxy.address)
    # The library would try for minutes.
    assert time.monotonic() - began < 100
    words = {"500": "answers 500", "refuse": "Remote end closed"}
    assert str(raised.value).startswith(f"MLflow at {proxy.address}: ")
    assert words.get(fault, "no answer within 1 s") in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_an_answer_that_was_lost_makes_no_second_run(
    proxy: Proxy, server: MlflowServer, root: Path
) -> None:
    sweep = made.make_sweep("lost", made.METHODS[:2], seeds=4)
    for run in sweep.plan():
        made.finish(run)
    with tracking.Projector(sweep, proxy.address) as projector:
        lost = 0
        # One in so many takes effect and is not answered: now of this kind, now of that.
        proxy.faults, proxy.every = itertools.repeat("drop"), 13
        while True:
            try:
                projector.update()
                break
            except tracking.StoreUnavailable:
                lost += 1
                assert lost < 100
    assert lost >= 5
    assert len(stored(server.address, sweep)) == 9
    assert tracking.verify(sweep, server.address).equal


def test_verifying_through_a_server_at_once_and_run_by_run(
    server: MlflowServer, proxy: Proxy, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = made.make_sweep("compared", made.METHODS[:3], seeds=2)
    plan = sweep.plan()
    for run in plan[:3]:
        made.finish(run)
    made.fail(plan[3])
    made.interrupt(plan[4])
    tracking.project(sweep, server.address, figures=made.figures)
    at_once = tracking.verify(sweep, server.address)
    assert at_once.equal
    # As where only MLflow's own interface is let through, and not what its pages ask.
    proxy.closed = "/ajax-api"
    one_by_one = tracking.verify(sweep, proxy.address)
    assert proxy.seen["closed"] == 1
    assert (one_by_one.points, one_by_one.count) == (at_once.points, 0)
    # More than MLflow answers at once.
    monkeypatch.setattr(stored_points, "MOST_POINTS", 3)
    assert tracking.verify(sweep, server.address).equal
    run_id = stored(server.address, sweep)[plan[0].run_key].info.run_id
    change = "UPDATE metrics SET value = value + 1e-12 WHERE run_uuid = ? AND key = ? AND step = 30"
    with contextlib.closing(sqlite3.connect(server.folder / "mlflow.db")) as database:
        assert database.execute(change, (run_id, "train/loss")).rowcount == 1
        database.commit()
    assert tracking.verify(sweep, server.address).count == 1


def test_a_number_of_seconds_that_is_none(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = made.make_sweep("study", made.METHODS[:1], seeds=1)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "soon")
    with pytest.raises(UserError, match=r"MLFLOW_HTTP_REQUEST_TIMEOUT: got 'soon', expected"):
        tracking.project(sweep)


# ---------------------------------------------------------------- the follower goes away

KILLED_FOLLOWERS = """
import os, random, signal, sys, time
from mixbench.experiments import tracking
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.tracking import changes, follower
from mlflow.store.tracking import sqlalchemy_store
from tests.support import tracking_fixtures as made
follower.POLL_SECONDS = follower.IDLE_SECONDS = 0.1
changes.SETTLE_SECONDS = 0.2
sweep = SweepFolder.open(sys.argv[1])
numbers = random.Random(int(sys.argv[2]))
plan = sweep.plan()
killed = 0
held = []
def advance():
    run = plan[numbers.randrange(len(plan))]
    state = run.folder.state()
    if state == "waiting" and numbers.random() < 0.6:
        held.append((run, made.begin(run, epochs=numbers.randint(0, 2))))
    elif state == "running":
        place = next(n for n, (other, _) in enumerate(held) if other.run_key == run.run_key)
        _, claim = held.pop(place)
        claim.release("stopped")
        if numbers.random() < 0.8:
            made.finish(run)
for attempt in range(int(sys.argv[3])):
    advance()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        tracking.follow(sweep, None, made.figures)
        os._exit(0)
    time.sleep(numbers.uniform(0.0, 0.5))
    advance()
    time.sleep(numbers.uniform(0.0, 0.3))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    killed += os.WIFSIGNALED(status)
for run, claim in held:
    claim.release("stopped")
for run in plan:
    if run.folder.state() == "waiting":
        made.finish(run)
tracking.follow(sweep, None, made.figures)
print("killed", killed)
"""


def test_followers_killed_at_any_moment(root: Path) -> None:
    sweep = made.make_sweep("killed", made.METHODS[:3], seeds=3)
    process = subprocess.run(
        [sys.executable, "-c", KILLED_FOLLOWERS, "killed", "5", "14"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (process.returncode, process.stderr) == (0, ""), process.stdout
    lines = process.stdout.splitlines()
    assert lines[-2] == "every run is done or failed: 9 of 9 runs done"
    assert int(lines[-1].split()[1]) >= 10
    assert len(stored(local(root), sweep)) == 10
    verdict = tracking.verify(sweep)
    assert verdict.equal, str(verdict)
    assert not list(sweep.path.glob("*.lock*"))


def test_ctrl_c_and_sigterm_end_following_with_a_line(root: Path) -> None:
    sweep = made.make_sweep("study", made.METHODS[:1], seeds=2)
    made.finish(sweep.plan()[0])
    held = made.begin(sweep.plan()[1], epochs=1)
    ended = "stopped following study; `mixbench track study --follow` goes on\n"
    follower = follow(sweep, times=2)
    assert follower.stdout is not None
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            assert any(line.startswith("following study into") for line in follower.stdout)
            wait_until(lambda: len(stored(local(root), sweep)) == 3, "the runs are in MLflow")
            follower.send_signal(number)
            assert ended in follower.stdout, "its line, after those of its progress"
        assert follower.communicate(timeout=300) == ("", "")
    finally:
        follower.kill()
    held.release("stopped")
    assert follower.returncode == 0
    assert not list(sweep.path.glob("*.lock*"))


# ---------------------------------------------------------------- the worker goes away

HOLD = """
import sys, time
from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support import tracking_fixtures as made
run = SweepFolder.open(sys.argv[1]).plan()[int(sys.argv[2])]
claim = made.begin(run, epochs=int(sys.argv[3]))
print("held", flush=True)
while True:
    claim.renew(force=True)
    time.sleep(0.05)
"""


def hold(sweep: SweepFolder, place: int, epochs: int) -> subprocess.Popen[str]:
    """A process that holds a run and renews its claim until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, sweep.name, str(place), str(epochs)],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_run_is_killed_when_its_worker_is_and_runs_when_resumed(root: Path) -> None:
    sweep = made.make_sweep("resumed", made.METHODS[:1], seeds=1)
    run = sweep.plan()[0]
    follower = follow(sweep, idle=600.0)

    def status() -> tuple[str, int | None] | None:
        found = stored(local(root), sweep).get(run.run_key)
        return None if found is None else (found.info.status, found.info.end_time or None)

    try:
        worker = hold(sweep, 0, epochs=2)
        wait_until(lambda: status() == ("RUNNING", None), "RUNNING")
        run_id = stored(local(root), sweep)[run.run_key].info.run_id
        time.sleep(0.3)
        worker.kill()
        worker.wait()
        last = run.folder.last_claim()
        assert last is not None
        # It ended when it was last seen alive, and that is known at once, without a lease.
        wait_until(lambda: status() == ("KILLED", round(1000 * last["time"])), "KILLED", 100)
        worker = hold(sweep, 0, epochs=2)
        wait_until(lambda: status() == ("RUNNING", None), "RUNNING again, without an end")
        assert stored(local(root), sweep)[run.run_key].info.run_id == run_id
        worker.kill()
        worker.wait()
        wait_until(lambda: (status() or ("",))[0] == "KILLED", "KILLED again")
        sweep.path.joinpath("stop.json").write_text('{"reason": "enough", "time": 0}')
        said, errors = follower.communicate(timeout=300)
    finally:
        follower.kill()
    assert (follower.returncode, errors) == (0, "")
    assert said.splitlines()[-1] == (
        "nobody works on resumed any more (enough): 0 of 1 runs done, 1 interrupted; the same "
        "`mixbench sweep` continues it, `mixbench track resumed --follow` follows it"
    )
    assert stored(local(root), sweep)[""].info.status == "KILLED"
    assert tracking.verify(sweep).equal
    made.finish(run)
    tracking.project(sweep)
    assert stored(local(root), sweep)[run.run_key].info.status == "FINISHED"


def test_through_a_server_a_resumed_run_has_no_end(server: MlflowServer, root: Path) -> None:
    sweep = made.make_sweep("reopened", made.METHODS[:1], seeds=1)
    run = sweep.plan()[0]
    made.interrupt(run)
    with tracking.Projector(sweep, server.address) as projector:
        projector.update()
        assert stored(server.address, sweep)[run.run_key].info.end_time is not None
        held = made.begin(run, epochs=2)
        projector.update()
        info = stored(server.address, sweep)[run.run_key].info
        assert (info.status, info.end_time) == ("RUNNING", None)
        held.release("stopped")


def test_a_real_worker_that_is_killed_leaves_a_killed_run(root: Path) -> None:
    sweep = running.planned(running.spec("slain", seeds=[0]), {"training.epochs": 500})
    worker = running.start_worker(sweep, "worker")
    wait_until(
        lambda: any(len(run.folder.metrics()) > 2 for run in sweep.plan()), "a run is under way"
    )
    tracking.project(sweep)
    before = {key: run.info.status for key, run in stored(local(root), sweep).items()}
    assert "RUNNING" in before.values()
    worker.kill()
    worker.communicate()
    ended = time.time()
    tracking.project(sweep)
    runs = stored(local(root), sweep)
    killed = [run for key, run in runs.items() if key]
    assert {run.info.status for run in runs.values()} == {"KILLED"}
    for run in killed:
        assert run.info.start_time < run.info.end_time
        assert abs(run.info.end_time / 1000 - ended) < 5


def test_a_claim_from_another_host(root: Path) -> None:
    sweep = made.make_sweep("elsewhere", made.METHODS[:1], seeds=3)
    now = time.time()
    silences = (5.0, claims.LEASE_SECONDS + 30, 3 * claims.LEASE_SECONDS)
    for run, silence in zip(sweep.plan(), silences, strict=True):
        held = made.begin(run, epochs=1, started=now - 1000)
        held.body.update(host="node7 boot pid", time=now - silence)
        held._write()
    tracking.project(sweep)
    runs = stored(local(root), sweep)
    shown = [runs[run.run_key].info for run in sweep.plan()]
    # One lease and a clock that is half a minute wrong are no death.
    assert [info.status for info in shown] == ["RUNNING", "RUNNING", "KILLED"]
    assert shown[2].end_time == round(1000 * (now - silences[2]))
    assert [info.end_time for info in shown[:2]] == [None, None]
    assert runs[""].info.status == "RUNNING"


def test_a_worker_killed_before_it_wrote_anything(root: Path) -> None:
    sweep = made.make_sweep("early", made.METHODS[:1], seeds=1)
    run = sweep.plan()[0]
    claim = claims.acquire(run.folder.path, "worker", claims.Watch())
    assert claim is not None
    tracking.project(sweep)
    assert stored(local(root), sweep)[run.run_key].info.status == "RUNNING"
    claim.body["process_start"] = "another process's"
    claim._write()
    tracking.project(sweep)
    assert stored(local(root), sweep)[run.run_key].info.status == "KILLED"


def test_a_run_whose_folder_was_taken_away_is_not_running(root: Path) -> None:
    sweep = made.make_sweep("gone", made.METHODS[:1], seeds=2)
    made.finish(sweep.plan()[0])
    made.begin(sweep.plan()[1], epochs=1)
    tracking.project(sweep)
    shutil.rmtree(sweep.plan()[1].folder.path)
    tracking.project(sweep)
    assert stored(local(root), sweep)[sweep.plan()[1].run_key].info.status == "KILLED"


# ---------------------------------------------------------------- what an update costs

_opened: list[str] | None = None


def _count_opens(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _opened is not None and isinstance(arguments[0], str | Path):
        _opened.append(str(arguments[0]))


sys.addaudithook(_count_opens)


def opened_by(projector: tracking.Projector, sweep: SweepFolder) -> set[str]:
    """The files of runs that an update opens."""
    global _opened
    _opened = []
    try:
        projector.update()
        inside = f"{sweep.path / 'runs'}/"
        return {path.removeprefix(inside) for path in _opened if path.startswith(inside)}
    finally:
        _opened = None


def test_an_update_reads_only_what_changed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "SETTLE_SECONDS", 0.05)
    sweep = made.make_sweep("cheap", made.METHODS[:2], seeds=5)
    plan = sweep.plan()
    for run in plan[:7]:
        made.finish(run)
    made.fail(plan[7])
    made.interrupt(plan[8])
    with tracking.Projector(sweep) as projector:
        assert len({path.split("/")[0] for path in opened_by(projector, sweep)}) == 9
        time.sleep(0.1)
        # Two writes may share a tick of the clock: once more, and then never again.
        assert opened_by(projector, sweep)
        time.sleep(0.1)
        assert opened_by(projector, sweep) == set()
        made.finish(plan[8])
        assert {path.split("/")[0] for path in opened_by(projector, sweep)} == {plan[8].run_key}
        time.sleep(0.1)
        opened_by(projector, sweep)
        held = made.begin(plan[9], epochs=1)
        opened_by(projector, sweep)
        time.sleep(0.1)
        opened_by(projector, sweep)
        held.renew(force=True)
        # The heartbeat is read, and the rest of the run is not.
        claim = f"{plan[9].run_key}/claims/000001.json"
        assert opened_by(projector, sweep) <= {claim}
        held.release("stopped")
    assert tracking.project(sweep).updated == 1


# ---------------------------------------------------------------- who may


@pytest.fixture
def guarded(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    """A server that demands a token, or a name and a password."""
    for name in ("TOKEN", "USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    proxy.accept = {"Bearer s3cret-token", basic("ada", "s3cret-word")}
    return proxy


@pytest.fixture
def one_run(root: Path) -> SweepFolder:
    """A sweep of one run, done; each test has its own experiment."""
    sweep = made.make_sweep(f"guarded{time.time_ns()}", made.METHODS[:1], seeds=1)
    made.finish(sweep.plan()[0])
    return sweep


@pytest.mark.parametrize(
    "environment",
    [
        {"MLFLOW_TRACKING_TOKEN": "s3cret-token"},
        {"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "s3cret-word"},
    ],
    ids=["token", "password"],
)
def test_credentials_from_the_environment(
    environment: dict[str, str],
    guarded: Proxy,
    one_run: SweepFolder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert tracking.project(one_run, guarded.address, made.figures).created == 1
    assert tracking.verify(one_run, guarded.address).equal


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("body", [b"", b'{"message": "no"}', b"<html>Unauthorized</html>"])
@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        ({"TOKEN": "s3cret-old"}, "it does not accept the token in MLFLOW_TRACKING_TOKEN"),
        (
            {"USERNAME": "ada", "PASSWORD": "s3cret-no"},
            "it does not accept MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        ),
    ],
    ids=["none", "token", "password"],
)
def test_who_may_not_is_told_which_variable(
    status: int,
    body: bytes,
    environment: dict[str, str],
    words: str,
    guarded: Proxy,
    one_run: SweepFolder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guarded.refusal = (status, body)
    for name, value in environment.items():
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    said: list[str] = []
    for call in (
        lambda: tracking.project(one_run, guarded.address),
        lambda: tracking.verify(one_run, guarded.address),
        # Waiting is of no use here.
        lambda: tracking.follow(one_run, guarded.address, say=said.append),
    ):
        with pytest.raises(tracking.StoreRefused) as raised:
            call()
        assert str(raised.value) == f"MLflow at {guarded.address} answers {status}: {words}"
    assert len(said) == 1


def test_a_password_in_the_address_is_not_printed_or_kept(
    guarded: Proxy, one_run: SweepFolder
) -> None:
    address = guarded.address.replace("//", "//ada:s3cret-word@")
    arguments = ("track", one_run.name, "--uri", address)
    outputs = [running.mixbench_here(*arguments), running.mixbench_here(*arguments, "--verify")]
    assert [done.returncode for done in outputs] == [0, 0], outputs
    shown = f"--uri '{address.replace('ada:s3cret-word', '***')}'"
    assert f" dashboard {one_run.name} {shown}" in outputs[0].stdout
    guarded.accept = set()
    outputs.append(running.mixbench_here(*arguments, "--follow"))
    assert outputs[-1].returncode == 2
    assert "***@127.0.0.1" in outputs[-1].stderr
    guarded.close()
    outputs.append(running.mixbench_here(*arguments))
    assert outputs[-1].returncode == 2
    bad = address.replace("http", "htp")
    outputs.append(running.mixbench_here("track", one_run.name, "--uri", bad))
    assert outputs[-1].returncode == 2
    assert "tracking URI: got 'htp://***@127.0.0.1" in outputs[-1].stderr
    for done in outputs:
        assert "s3cret" not in done.stdout + done.stderr
        assert len(done.stderr.splitlines()) <= 1
    for path in one_run.path.rglob("*"):
        assert not path.is_file() or b"s3cret" not in path.read_bytes()
