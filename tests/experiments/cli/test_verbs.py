"""`logs`, `retry`, `cancel` and `clean` on real folders, with real workers where it matters."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mixbench.experiments import cli
from mixbench.experiments.cli import names, sweep
from mixbench.experiments.errors import UserError
from mixbench.experiments.manage import clean
from mixbench.experiments.manage.observe import Observer
from mixbench.experiments.store import claims, evaluations, processes
from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support import running

OLD = 7 * 24 * 3600.0


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def aged(path: Path) -> Path:
    """The file or folder as if it were a week old."""
    os.utime(path, (time.time() - OLD,) * 2, follow_symlinks=False)
    return path


@contextlib.contextmanager
def worker(folder: SweepFolder, name: str) -> Iterator[subprocess.Popen[str]]:
    """A real worker, which does not outlive the test."""
    process = running.start_worker(folder, name)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def long(name: str, epochs: int = 2000, **parts: Any) -> dict[str, Any]:
    spec = running.spec(name, **{"seeds": [0], **parts})
    spec["fixed"]["training"] = {"epochs": epochs, "batch_size": 64}
    return spec


def in_its_midst(folder: SweepFolder) -> bool:
    return any(run.folder.claim() and run.folder.metrics() for run in folder.plan())


@pytest.fixture
def failed(runs: Path) -> SweepFolder:
    """Four runs: one done, two failed, one that has not begun."""
    folder = running.planned(running.spec("failed"))
    done, one, other, _ = folder.plan()
    for planned in (done, one, other):
        planned.folder.path.mkdir()
    (done.folder.path / "result.json").write_text("{}")
    for planned in (one, other):
        planned.folder.add_attempt(
            {"attempt": 1, "worker": "w", "outcome": "failed", "error": "ValueError: no"}
        )
        (planned.folder.path / "log.txt").write_text("first line\nsecond line\n")
        planned.folder.fail("ValueError: no", "Traceback\n  here\nValueError: no\n", 1)
    return folder


def test_the_summary_calls_runs_by_the_labels_of_the_sweep(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = {"augmentation": [{"name": "cutmix", "alpha": alpha} for alpha in (0.2, 1.0)]}
    folder = running.planned(running.spec("summed", grid=grid, seeds=[3]))
    first, other = folder.plan()
    for planned in (first, other):
        planned.folder.path.mkdir()
        planned.folder.fail("ValueError: no", "", 1)
    sweep._print_summary(folder, Observer(folder).snapshot(), 5.0)
    assert capsys.readouterr().out.splitlines()[:3] == [
        "0 of 2 runs done in 5 s",
        f"failed: {first.run_key[:8]} cutmix α=0.2, seed 3: ValueError: no",
        f"failed: {other.run_key[:8]} cutmix α=1, seed 3: ValueError: no",
    ]


# Which run is meant.


def test_a_run_is_found_by_as_much_of_its_key_as_it_takes(failed: SweepFolder) -> None:
    planned = failed.plan()[1]
    key = planned.run_key
    words = (
        [key],
        [key[:8]],
        ["failed", key[:8]],
        [f"failed/{key[:8]}"],
        [str(planned.folder.path)],
        [f"failed/runs/{key}/"],
    )
    for given in words:
        folder, found = names.one_run(given)
        assert (folder, found.run_key) == (failed, key), given


def test_a_key_of_two_sweeps_needs_the_name_of_one(failed: SweepFolder) -> None:
    twin = running.planned(running.spec("twin"))
    key = failed.plan()[0].run_key
    with pytest.raises(UserError, match="ambiguous") as caught:
        names.one_run([key])
    assert f"failed/{key}" in str(caught.value) and f"twin/{key}" in str(caught.value)
    assert "none seed 0" in str(caught.value)
    assert names.one_run(["twin", key])[0] == twin


def test_a_slip_in_a_key_gets_the_nearest(failed: SweepFolder) -> None:
    key = failed.plan()[2].run_key
    slip = key[:6] + ("0" if key[6] != "0" else "1")
    with pytest.raises(UserError, match=f"no run '{slip}'.*did you mean '{key}'"):
        names.one_run([slip])


def test_a_sweep_goes_by_its_name_or_its_folder(
    failed: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("failed", "runs/failed", "runs/failed/", "./runs/failed", str(failed.path)):
        assert names.started_sweep(name) == failed
    (tmp_path / "elsewhere").mkdir()
    shutil.copytree(failed.path, tmp_path / "elsewhere" / "failed")
    for name in ("elsewhere/failed", "runs/../runs/failed", "./runs", "/", "runs/failed/runs"):
        with pytest.raises(UserError, match="outside the sweeps folder"):
            names.started_sweep(name)


# logs


def test_logs_show_attempts_log_and_traceback(
    failed: SweepFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    key = failed.plan()[1].run_key
    assert cli.main(["logs", key[:8]]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"failed/{key}: none, seed 1, failed\n")
    parts = [
        "attempt 1 (w",
        "first line\nsecond line\n",
        "Traceback\n  here",
        "\nfailed: ValueError",
    ]
    assert [out.index(part) for part in parts] == sorted(out.index(part) for part in parts)
    assert cli.main(["logs", key[:8], "-n", "1"]) == 0
    out = capsys.readouterr().out
    assert "second line" in out and "first line" not in out
    assert cli.main(["logs", failed.plan()[3].run_key]) == 0
    assert "no worker has begun with it" in capsys.readouterr().out


def test_following_a_log_ends_at_once_where_the_run_has_ended(
    failed: SweepFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    done, one, *_ = failed.plan()
    assert cli.main(["logs", "-f", one.run_key]) == 1
    out = capsys.readouterr().out
    assert "second line\n" in out and out.endswith("-- failed: ValueError: no\n")
    assert cli.main(["logs", "-f", done.run_key]) == 0
    assert capsys.readouterr().out.endswith("-- done\n")


def up_to(last: str, rows: Iterator[str]) -> Iterator[str]:
    """Rows up to the one that is `last`."""
    for row in rows:
        yield row
        if row == last:
            return


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run whose log is followed while its worker is killed and another takes over."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIXBENCH_RUNS", str(tmp_path_factory.mktemp("followed")))
        folder = running.planned(long("followed", 30, grid={"augmentation": ["cutmix"]}))
        (planned,) = folder.plan()
        follower = running.start(*running.COMMAND, "logs", planned.run_key[:7], "-f")
        assert follower.stdout is not None
        rows = iter(follower.stdout.readline, "")
        out = "".join(up_to("-- waiting for a worker\n", rows))
        with worker(folder, "first") as first:
            running.wait_until(lambda: len(planned.folder.metrics()) >= 3, "three epochs")
            first.send_signal(signal.SIGKILL)
            first.wait()
        running.wait_until(lambda: planned.folder.claim() is None, "the claim to fall free")
        out += "".join(up_to("-- waiting for a worker\n", rows))
        with worker(folder, "second") as second:
            second.wait(timeout=300)
        rest, err = follower.communicate(timeout=300)
        out += rest
    return folder, planned, out, err, follower.returncode


def test_a_followed_log_goes_on_through_a_restart(followed: Any) -> None:
    _, planned, out, err, status = followed
    assert (status, err) == (0, "")
    for row in (planned.folder.path / "log.txt").read_text().splitlines():
        assert row in out
    lines = out.splitlines()
    assert lines.count("-- waiting for a worker") == 2, "before the first, and after its death"
    (death,) = [number for number, row in enumerate(lines) if "died" in row]
    assert lines[death].startswith("-- attempt 1 (first")
    assert any("epoch 30/30" in row for row in lines[death:])
    assert not any("epoch 30/30" in row for row in lines[:death])
    accuracy = planned.folder.result()["metrics"]["test/accuracy"]
    assert lines[-1] == f"-- done, test accuracy {accuracy:.4f}"


# retry


def test_retry_forgives_just_what_was_named(
    failed: SweepFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    done, one, other, waiting = failed.plan()
    kept = (done.folder.path / "result.json").read_bytes()
    assert cli.main(["retry", one.run_key[:8]]) == 0
    out = capsys.readouterr().out
    assert "failed: 1 failed run will be tried again" in out and "mixbench sweep failed" in out
    assert [p.folder.state() for p in (one, other)] == ["waiting", "failed"]
    assert [row["outcome"] for row in one.folder.attempts()] == ["failed", "retry"]
    assert cli.main(["retry", "failed"]) == 0
    assert other.folder.state() == "waiting"
    assert cli.main(["retry", "failed", "--failed"]) == 0
    assert "no run of failed has failed" in capsys.readouterr().out
    assert (done.folder.path / "result.json").read_bytes() == kept
    assert not waiting.folder.path.exists()


def test_retry_of_all_sweeps(failed: SweepFolder, capsys: pytest.CaptureFixture[str]) -> None:
    running.planned(running.spec("without"))
    assert cli.main(["retry", "--failed"]) == 0
    assert capsys.readouterr().out.startswith("failed: 2 failed runs will be tried again")
    assert "failed" not in failed.states().values()


def test_what_has_not_failed_is_not_tried_again(
    failed: SweepFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    done, one, *_ = failed.plan()
    before = files(failed.path)
    assert cli.main(["retry", one.run_key, done.run_key]) == 2
    assert "is done, only a failed one" in capsys.readouterr().err
    assert files(failed.path) == before, "not even the one that could be"


# cancel


@pytest.fixture(scope="module")
def cancelled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two sweeps with a real worker each, of which one is cancelled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIXBENCH_RUNS", str(tmp_path_factory.mktemp("cancelled")))
        ours, other = running.planned(long("ours")), running.planned(long("other", seeds=[5]))
        # A worker of ours that died, and whose process id is now somebody else's.
        stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (ours.path / "workers").mkdir()
        body = {
            "worker": "gone",
            "host": processes.this_host(),
            "pid": stranger.pid,
            "process_start": "1",
            "run_key": None,
        }
        (ours.path / "workers" / "gone.json").write_text(json.dumps(body))
        try:
            with worker(ours, "our-one") as victim, worker(other, "other-one") as survivor:
                running.wait_until(lambda: in_its_midst(ours) and in_its_midst(other), "both")
                began = time.monotonic()
                done = running.mixbench("cancel", "ours", "--yes")
                said = {
                    "done": done,
                    "spent": time.monotonic() - began,
                    "victim": victim.wait(timeout=300),
                    "survivor": survivor.poll(),
                    "stranger": stranger.poll(),
                    "other": other.stop_reason(),
                    "late": running.start_worker(ours, "late").wait(timeout=300),
                }
        finally:
            stranger.kill()
            stranger.wait()
    return ours, said


def test_cancel_stops_the_sweeps_workers_and_nobody_else(cancelled: Any) -> None:
    _, said = cancelled
    assert said["done"].returncode == 0 and said["done"].stderr == ""
    assert said["victim"] == 3, "stopped, not killed"
    assert said["survivor"] is None and said["stranger"] is None and said["other"] is None
    assert said["spent"] < 200
    assert said["late"] == 3, "a worker that starts later stops at once"


def test_cancel_keeps_what_was_done_and_says_so(cancelled: Any) -> None:
    ours, said = cancelled
    assert ours.stop_reason() == "mixbench cancel"
    out = said["done"].stdout
    for part in (
        "1 running on 1 worker",
        "stopped",
        "the checkpoints of 1 unfinished run",
        "mixbench sweep ours",
    ):
        assert part in out
    (begun,) = [run for run in ours.plan() if run.folder.path.exists()]
    assert (begun.folder.path / "checkpoint.pt").is_file()
    assert begun.folder.last_claim()["released"] == "stopped"
    assert begun.folder.attempts()[-1]["outcome"] == "stopped"


def at_a_terminal(answer: bytes, *arguments: str) -> tuple[int, str]:
    """The command at a terminal of its own, which answers; exit status and what was shown."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [*running.COMMAND, *arguments])
    shown = b""
    while b"[y/N]" not in shown:
        shown += os.read(terminal, 4096)
    os.write(terminal, answer)
    with contextlib.suppress(OSError):
        while True:
            if select.select([terminal], [], [], 1.0)[0]:
                shown += os.read(terminal, 4096)
            else:
                # Pressed between the prompt and the reading of the answer, it is not heard.
                os.write(terminal, answer)
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), shown.decode()


def test_cancel_asks_first(failed: SweepFolder) -> None:
    before = files(failed.path)
    for answer, expected in ((b"n\n", 1), (b"\n", 1), (b"\x03", 130)):
        status, shown = at_a_terminal(answer, "cancel", "failed")
        assert status == expected and "Traceback" not in shown, shown
        assert "1 of 4 runs done" in shown and files(failed.path) == before
    status, shown = at_a_terminal(b"y\n", "cancel", "failed")
    assert status == 0 and "stopped" in shown and failed.stop_reason() == "mixbench cancel"


# clean


@pytest.fixture
def littered(trained: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    """The trained sweep with all kinds of litter, a week old."""
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path / "littered"))
    folder = SweepFolder(tmp_path / "littered" / "trained")
    shutil.copytree(trained.path, folder.path)
    for planned in folder.plan():
        path = planned.folder.path
        (path / "checkpoint.previous.pt").write_bytes(b"p" * 100)
        (path / ".checkpoint.pt.abc").write_bytes(b"torn")
        aged(path / ".checkpoint.pt.abc")
        (path / ".fresh.pt.abc").write_bytes(b"in the making")
        shutil.copy(path / "claims" / "000001.json", path / "claims" / "000002.json")
    workers = folder.path / "workers"
    # The process of the tests was its worker, and lives.
    shutil.rmtree(workers, ignore_errors=True)
    workers.mkdir()
    dead = {"worker": "dead", "host": processes.this_host(), "pid": 1, "process_start": "never"}
    (workers / "dead.json").write_text(json.dumps(dead))
    (workers / "dead.log").write_text("it said something")
    for place, name in enumerate(("aaaa", "bbbb")):
        copy = folder.path / "code" / name
        copy.mkdir(parents=True)
        (copy / "COMMIT").write_text("abc")
        os.utime(copy, (time.time() - OLD + place,) * 2)
    return folder


def test_clean_lists_first_and_deletes_only_what_is_of_no_use(
    littered: SweepFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(littered.path)
    expected = running.outcome(littered)
    assert cli.main(["clean", "trained"]) == 0
    listed = capsys.readouterr().out
    assert files(littered.path) == before and "nothing was deleted" in listed
    assert cli.main(["clean", "trained", "--delete"]) == 0
    after = files(littered.path)
    gone = set(before) - set(after)
    assert set(after) <= set(before) and all(after[name] == before[name] for name in after)
    names = sorted(Path(name).name for name in gone)
    assert names == sorted(
        [
            *["checkpoint.previous.pt", ".checkpoint.pt.abc", "000001.json"] * 4,
            "dead.json",
            "dead.log",
            "COMMIT",
        ]
    )
    assert "code/bbbb/COMMIT" in after, "the newest copy stays"
    assert running.outcome(littered) == expected
    freed = sum(len(before[name]) for name in gone)
    assert f"{freed} B freed" in capsys.readouterr().out or freed >= 1000
    assert cli.main(["clean", "trained", "--delete"]) == 0
    assert "nothing to clean" in capsys.readouterr().out


def test_trained_networks_go_only_when_asked_for(littered: SweepFolder) -> None:
    kept = {item.path.name for item in clean.unneeded(littered)}
    assert "checkpoint.pt" not in kept
    more = clean.unneeded(littered, weights=True)
    assert [item.path.name for item in more].count("checkpoint.pt") == 4
    expected = running.outcome(littered)
    clean.delete(more)
    assert running.outcome(littered) == expected


def test_the_weights_of_a_run_that_is_measured_stay(littered: SweepFolder) -> None:
    run = littered.plan()[1].folder.path
    place = run / evaluations.FOLDER
    place.mkdir()
    claim = claims.acquire(place, "measuring", claims.Watch())
    assert claim is not None

    def offered() -> int:
        items = clean.unneeded(littered, weights=True)
        return sum(item.path == run / "checkpoint.pt" for item in items)

    assert offered() == 0
    claim.release("measured")
    assert offered() == 1


def test_clean_follows_no_link_and_removes_none(littered: SweepFolder, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("checkpoint.previous.pt", ".torn.abc", "000001.json", "dead2.log"):
        (outside / name).write_text("dear to somebody")
        aged(outside / name)
    run = littered.plan()[0].folder.path
    (run / "checkpoint.previous.pt").unlink()
    (run / "checkpoint.previous.pt").symlink_to(outside / "checkpoint.previous.pt")
    (run / ".torn.abc").symlink_to(outside / ".torn.abc")
    (littered.path / "workers" / "dead2.log").symlink_to(outside / "dead2.log")
    (littered.path / "code" / "cccc").symlink_to(outside)
    other = littered.plan()[1].folder.path
    shutil.rmtree(other / "claims")
    (other / "claims").symlink_to(outside)
    shutil.rmtree(littered.plan()[2].folder.path)
    littered.plan()[2].folder.path.symlink_to(other)
    for path in littered.path.rglob("*"):
        if path.is_symlink():
            aged(path)
    links = {path for path in littered.path.rglob("*") if path.is_symlink()}
    before = files(outside)
    items = clean.unneeded(littered, weights=True)
    assert items and not links & {item.path for item in items}
    clean.delete(items)
    assert files(outside) == before
    assert {path for path in littered.path.rglob("*") if path.is_symlink()} == links


def test_what_turned_into_a_link_since_is_left_alone(littered: SweepFolder, tmp_path: Path) -> None:
    items = clean.unneeded(littered)
    (item,) = [item for item in items if item.path.name == "dead.log"]
    target = tmp_path / "dear.log"
    target.write_text("dear")
    item.path.unlink()
    item.path.symlink_to(target)
    clean.delete(items)
    assert target.read_text() == "dear" and item.path.is_symlink()


def test_clean_leaves_jobs_that_may_still_run(littered: SweepFolder) -> None:
    slurm = littered.path / "slurm"
    slurm.mkdir()
    for name in ("jobs.jsonl", "120_submission.sh", "120_7_0_log.out", "121_submission.sh", "note"):
        (slurm / name).write_text("x")
        aged(slurm / name)

    def offered(jobs: set[str] | None) -> set[str]:
        items = clean.unneeded(littered, jobs=jobs)
        return {
            item.path.name for item in items if item.path.parent in (slurm, slurm.parent / "code")
        }

    assert offered(None) == set(), "nobody can say"
    idle = littered.path / "workers" / "far.json"
    idle.write_text('{"host": "far boot pid", "pid": 1, "process_start": "1", "run_key": null}')
    assert "aaaa" not in offered(set()), "a worker elsewhere that waits may run it"
    aged(idle)
    assert offered({"120"}) == {"121_submission.sh"}
    assert offered(set()) == {"120_submission.sh", "120_7_0_log.out", "121_submission.sh", "aaaa"}


def test_a_run_that_was_interrupted_goes_on_bit_for_bit_after_clean(
    trained: SweepFolder, runs: Path
) -> None:
    folder = running.planned(running.spec("trained"))
    with worker(folder, "first") as first:
        running.wait_until(lambda: in_its_midst(folder), "a run in its midst")
        alive = {str(item.path) for item in clean.unneeded(folder, weights=True)}
        held = [p for p in folder.plan() if p.folder.claim() and not p.folder.result()]
        assert not any(str(p.folder.path) in item for p in held for item in alive)
        first.send_signal(signal.SIGKILL)
        first.wait()
    for path in folder.path.rglob("*"):
        aged(path)
    clean.delete(clean.unneeded(folder, weights=True))
    assert running.work(folder, "second") >= 1
    assert running.outcome(folder) == running.outcome(trained)
