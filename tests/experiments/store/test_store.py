"""The folders on disk: written whole or not at all, and the same sweep or another name."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixbench.experiments import cli
from mixbench.experiments.errors import UserError
from mixbench.experiments.store import claims, rights
from mixbench.experiments.store.claims import Watch
from mixbench.experiments.store.files import atomic_write, dump, folder_aside
from mixbench.experiments.store.retry import retry_failed
from mixbench.experiments.store.run_folder import RunFolder
from mixbench.experiments.store.sweep_folder import SweepFolder, root
from tests.support import disks, running


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MIXBENCH_RUNS", raising=False)
    assert root() == tmp_path / "runs"
    monkeypatch.setenv("MIXBENCH_RUNS", "elsewhere")
    assert root() == tmp_path / "elsewhere"


def test_atomic_write_replaces_and_leaves_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for content in (b"\x00\xff" * 1000, "ä text"):
        atomic_write(path, content)
        wanted = content.encode() if isinstance(content, str) else content
        assert files(tmp_path) == {"a.json": wanted}


def test_atomic_write_is_for_colleagues_to_read(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        atomic_write(tmp_path / "a", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_what_is_made_gets_the_group_and_rights_that_its_folder_gives(tmp_path: Path) -> None:
    """As any program's files: setgid is handed on, and a default ACL stands in for the umask."""
    shared = tmp_path / "shared"
    shared.mkdir()
    if os.geteuid() == 0:
        os.chown(shared, -1, 54_300)
    shared.chmod(0o2770)
    before = os.umask(0o077)
    try:
        atomic_write(shared / "private", "x")
        with contextlib.suppress(OSError):
            # u::rwx, g::rwx, o::---: what `setfacl -d -m u::rwx,g::rwx,o::-` sets.
            entries = b"".join(struct.pack("<HHI", tag, rights, 2**32 - 1) for tag, rights in ACL)
            os.setxattr(shared, "system.posix_acl_default", struct.pack("<I", 2) + entries)
        has_acl = "system.posix_acl_default" in os.listxattr(shared)
        atomic_write(shared / "file", "x")
        made = folder_aside(shared / "folder")
    finally:
        os.umask(before)
    assert {path.stat().st_gid for path in shared.iterdir()} == {shared.stat().st_gid}
    assert (shared / "private").stat().st_mode & 0o777 == 0o600
    assert (shared / "file").stat().st_mode & 0o777 == (0o660 if has_acl else 0o600)
    assert made.stat().st_mode & 0o7777 == (0o2770 if has_acl else 0o2700)


ACL = ((1, 7), (4, 7), (0x20, 0))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB, where this process may mount one."""
    with disks.mounted(tmp_path / "disk", "64k") as disk:
        yield disk


def test_a_full_disk_leaves_the_old_file(small_disk: Path) -> None:
    atomic_write(small_disk / "result.json", "old")
    with pytest.raises(OSError, match="No space left") as caught:
        atomic_write(small_disk / "result.json", b"x" * 200_000)
    assert caught.value.errno == errno.ENOSPC
    assert files(small_disk) == {"result.json": b"old"}


def test_a_read_only_disk_is_no_matter_of_rights(small_disk: Path) -> None:
    rights.check_writable(small_disk)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for path, check in (
        (small_disk, rights.check_writable),
        (small_disk / "report", rights.check_folder),
    ):
        with pytest.raises(OSError, match=os.strerror(errno.EROFS)) as caught:
            check(path)
        assert caught.value.errno == errno.EROFS and rights.is_write_refusal(caught.value)
        assert rights.describe(caught.value) == f"{os.strerror(errno.EROFS)}: {path}"


def test_a_write_that_breaks_off_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    atomic_write(path, "old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            atomic_write(path, b"x" * 20_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert files(tmp_path) == {"result.json": b"old"}


def test_json_is_written_in_full_and_never_with_nan() -> None:
    value = {"b": 0.1 + 0.2, "a": [1, None, "ä"]}
    assert json.loads(dump(value)) == value and list(json.loads(dump(value))) == ["b", "a"]
    with pytest.raises(ValueError, match="JSON compliant"):
        dump({"loss": float("nan")})


def test_the_plan_comes_back_as_it_was(runs: Path) -> None:
    spec = running.spec("one", description="Two methods.")
    folder = running.planned(spec)
    assert folder.path == runs / "one" and folder.name == "one"
    assert (folder.spec, folder.description, folder.commit) == (spec, "Two methods.", None)
    plan = folder.plan()
    assert [(run.config["augmentation"]["name"], run.config["seed"]) for run in plan] == [
        ("none", 0),
        ("none", 1),
        ("cutmix", 0),
        ("cutmix", 1),
    ]
    assert len({run.run_key for run in plan}) == 4 and len({run.cell_key for run in plan}) == 2
    assert plan[0].folder.path == runs / "one" / "runs" / plan[0].run_key
    assert set(folder.states().values()) == {"waiting"}
    assert SweepFolder.names() == ["one"] and SweepFolder.open("one").plan() == plan


def test_creating_again_changes_nothing(runs: Path) -> None:
    running.planned(running.spec("one"))
    before = files(runs)
    running.planned(running.spec("one"))
    assert files(runs) == before
    # The same runs in another order, in other words: a revision with the words is new.
    grid = {"augmentation": [{"name": "cutmix", "alpha": 1}, "none"]}
    other = running.spec("one", grid=grid, seeds=[1, 0])
    folder = running.planned(other)
    assert folder.spec == other and folder.dropped() == []
    after = files(runs)
    assert after.pop("one/plan.2.jsonl") and after == before
    assert sorted(path.name for path in runs.iterdir()) == ["one"]


CREATE = """
import sys, time
from mixbench.experiments.store.sweep_folder import SweepFolder
rows = [(f"{n:016x}", f"{n:016x}", {"variant": sys.argv[2], "n": n}) for n in range(2000)]
print("ready", flush=True)
sys.stdin.readline()
folder = SweepFolder.create("one", "", {}, rows, None)
print(folder.header()["created"], len(folder.plan()))
"""


def test_two_launchers_at_once_make_one_folder(runs: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CREATE, str(number), "same"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = {process.communicate(timeout=300)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0] * 4
    assert len(said) == 1, "all must see the folder of the same maker"
    assert said.pop().endswith(" 2000")
    assert [path.name for path in runs.iterdir()] == ["one"]


def test_opening_what_is_not_there(runs: Path) -> None:
    running.planned(running.spec("alpha_small"))
    for name, expected in (
        ("alpha_smal", "did you mean 'alpha_small'?"),
        ("zzz", "(there are: alpha_small)"),
        ("..", "no sweep '..'"),
        ("alpha_small/runs", "no sweep"),
        ("", "no sweep ''"),
    ):
        with pytest.raises(UserError) as caught:
            SweepFolder.open(name)
        assert expected in str(caught.value)


def test_a_sweep_of_another_version(runs: Path) -> None:
    folder = running.planned(running.spec("one"))
    header = json.loads((folder.path / "sweep.json").read_text())
    atomic_write(folder.path / "sweep.json", dump({**header, "schema": 99}))
    with pytest.raises(
        UserError, match=r"another version of mixbench .schema 99, this one reads 1"
    ):
        SweepFolder.open("one")


def test_a_sweep_half_made_by_a_crash_is_not_shown(runs: Path) -> None:
    folder = running.planned(running.spec("one"))
    os.rename(folder.path, runs / ".one.k3jd92")
    assert SweepFolder.names() == []
    assert len(running.planned(running.spec("one")).plan()) == 4


ROWS = [{"epoch": n, "train/loss": 1 / n} for n in range(1, 6)]
WHOLE = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


@given(cut=st.integers(0, len(WHOLE)))
def test_a_torn_last_line_is_dropped(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = RunFolder(tmp_path_factory.getbasetemp() / "torn")
    folder.path.mkdir(exist_ok=True)
    (folder.path / "metrics.jsonl").write_bytes(WHOLE[:cut])
    found = folder.metrics()
    # A row of which only the line break is missing is whole.
    complete = WHOLE[:cut].count(b"\n") + (WHOLE[cut - 1 : cut + 1] == b"}\n")
    assert found == ROWS[:complete]


def test_a_folder_that_does_not_exist_yet(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "0123456789abcdef")
    assert folder.run_key == "0123456789abcdef"
    assert folder.metrics() == folder.attempts() == []
    assert folder.result() is folder.failure() is folder.claim() is folder.last_claim() is None
    assert folder.state() == "waiting"
    # Nor one of a sweep: somebody may wait for its runs to begin.
    sweep = SweepFolder(tmp_path / "sweep")
    assert sweep.plan() == [] and sweep.states() == {} and sweep.dropped() == []
    # A look for changes is at a sweep that was there: one that is gone is no unchanged one.
    with pytest.raises(FileNotFoundError):
        sweep.newest_revision()
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        SweepFolder(tmp_path / "file").plan()


def test_a_result_that_is_not_json_is_no_result(tmp_path: Path) -> None:
    for content in (b'{"metrics": ', b"[1]", b"\xff\xfe"):
        (tmp_path / "result.json").write_bytes(content)
        assert RunFolder(tmp_path).result() is None


def test_states(runs: Path) -> None:
    folder = running.planned(running.spec("one"))
    done, failed, held, waiting = (run.folder for run in folder.plan())
    claims_held = [claims.acquire(run.path, "w", Watch()) for run in (done, failed, held)]
    assert set(folder.states().values()) == {"running", "waiting"}
    failed.fail("ValueError: no", "traceback", 1)
    assert claims_held[0] and claims_held[1]
    claims_held[1].release("failed")
    done.fail("ValueError: at first", "traceback", 1)
    atomic_write(done.path / "result.json", dump({"metrics": {}}))
    claims_held[0].release("done")
    states = [run.state() for run in (done, failed, held, waiting)]
    assert states == ["done", "failed", "running", "waiting"]
    failure = failed.failure()
    assert failure and failure["error"] == "ValueError: no" and failure["attempt"] == 1

    failed.add_attempt({"attempt": 1, "outcome": "failed"})
    assert retry_failed(folder) == 1
    assert failed.state() == "waiting" and len(failed.attempts()) == 2
    assert failed.attempts()[0] == {"attempt": 1, "outcome": "failed"}
    assert done.state() == "done" and retry_failed(folder) == 0


def test_an_attempt_that_was_reported_twice_counts_by_its_last_report(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for row in (
        {"attempt": 1, "outcome": "died", "error": "no heartbeat"},
        {"outcome": "retry", "time": 1.0},
        {"attempt": 2, "outcome": "stopped"},
        {"attempt": 1, "outcome": "died", "error": "signal SIGKILL"},
        {"outcome": "retry", "time": 2.0},
    ):
        folder.add_attempt(row)
    assert folder.attempts() == [
        {"attempt": 1, "outcome": "died", "error": "signal SIGKILL"},
        {"outcome": "retry", "time": 1.0},
        {"attempt": 2, "outcome": "stopped"},
        {"outcome": "retry", "time": 2.0},
    ]


ATTEMPTS = [{"attempt": n, "outcome": "failed", "error": "x" * n} for n in range(1, 5)]


@given(cuts=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 60)), max_size=3, unique=True))
def test_a_torn_line_costs_itself_alone(
    cuts: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Killed in the middle of a row, whoever comes next begins a line of its own."""
    folder = RunFolder(tmp_path_factory.mktemp("torn"))
    torn = dict(cuts)
    for place, row in enumerate(ATTEMPTS):
        folder.add_attempt(row)
        if place in torn:
            path = folder.path / "attempts.jsonl"
            path.write_bytes(path.read_bytes()[: -torn[place]])
    kept = folder.attempts()
    # One torn off behind its last bracket is whole, and one cut back over a line takes that too.
    for place, row in enumerate(ATTEMPTS):
        if all(other < place for other in torn) or not torn:
            assert row in kept
    assert all(row in ATTEMPTS for row in kept)
    assert kept == sorted(kept, key=lambda row: int(row["attempt"]))


def test_what_is_json_and_no_row_is_no_row(tmp_path: Path) -> None:
    (tmp_path / "attempts.jsonl").write_text('3\n"failed"\n[1]\nnull\n{"attempt": 1}\n')
    assert RunFolder(tmp_path).attempts() == [{"attempt": 1}]


APPEND = """
import sys
from pathlib import Path
from mixbench.experiments.store.run_folder import RunFolder
folder, first = RunFolder(Path(sys.argv[1])), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for number in range(first, first + 200):
    folder.add_attempt({"attempt": number, "error": "e" * (number % 97) * 40})
"""


def test_two_that_append_at_once_lose_nothing(tmp_path: Path) -> None:
    """The pool that saw a worker die, and the worker that took its run over."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", APPEND, str(tmp_path), str(first)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for first in (0, 1000)
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        process.communicate("\n", timeout=300)
        assert process.returncode == 0
    found = {row["attempt"]: len(row["error"]) for row in RunFolder(tmp_path).attempts()}
    assert found == {first + n: (first + n) % 97 * 40 for first in (0, 1000) for n in range(200)}


def test_the_first_result_wins(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.fail("ValueError: at first", "traceback", 1)
    assert folder.state_on_file() == "failed"
    assert folder.finish({"metrics": {"by": 1}})
    assert folder.state_on_file() == "done" and folder.failure() is None
    assert not folder.finish({"metrics": {"by": 2}})
    assert files(tmp_path) == {"result.json": dump({"metrics": {"by": 1}}).encode()}
    folder.fail("ValueError: too late", "traceback", 2)
    assert folder.state() == "done" and folder.result() == {"metrics": {"by": 1}}


FINISH = """
import sys
from pathlib import Path
from mixbench.experiments.store.run_folder import RunFolder
root, own = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for number in range(100):
    if RunFolder(root / str(number)).finish({"metrics": {}, "by": own}):
        print(number, own)
"""


def test_exactly_one_result_among_processes(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / str(number)).mkdir()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FINISH, str(tmp_path), str(own)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for own in range(3)
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [line for p in processes for line in p.communicate(timeout=300)[0].splitlines()]
    results = [RunFolder(tmp_path / str(number)).result() for number in range(100)]
    assert sorted(said) == sorted(f"{n} {(one or {})['by']}" for n, one in enumerate(results))
    assert {str(path.name) for path in tmp_path.rglob("*") if path.is_file()} == {"result.json"}


def test_the_mark_that_stops_a_sweep(runs: Path) -> None:
    folder = running.planned(running.spec("one"))
    assert folder.stop_reason() is None
    folder.allow()
    folder.ask_to_stop("mixbench cancel, by me")
    assert folder.stop_reason() == "mixbench cancel, by me"
    folder.ask_to_stop("again")
    assert folder.stop_reason() == "again"
    folder.allow()
    assert folder.stop_reason() is None
    (folder.path / "stop.json").write_text("{}")
    assert folder.stop_reason() == "stopped", "it is the file that counts"


def test_the_runs_that_were_begun(runs: Path) -> None:
    folder = running.planned(running.spec("one"))
    assert folder.begun() == set()
    first, second, *_ = folder.plan()
    for planned in (first, second):
        assert claims.acquire(planned.folder.path, "w", Watch())
    assert folder.begun() == {first.run_key, second.run_key}
    os.rename(folder.path / "runs", folder.path / "elsewhere")
    assert folder.begun() == set()


def planned_keys(root: Path, keys: list[str]) -> SweepFolder:
    config = {"augmentation": {"name": "cutmix"}, "seed": 3}
    (root / "runs").mkdir()
    lines = [json.dumps({"run_key": key, "cell_key": key, "config": config}) for key in keys]
    (root / "plan.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return SweepFolder(root)


@given(
    keys=st.lists(st.text("ab0", min_size=6, max_size=6), min_size=1, max_size=8, unique=True),
    length=st.integers(1, 6),
    which=st.integers(0, 7),
)
def test_a_run_by_the_beginning_of_its_key(
    keys: list[str], length: int, which: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = planned_keys(tmp_path_factory.mktemp("find"), keys)
    prefix = keys[which % len(keys)][:length]
    fitting = [key for key in keys if key.startswith(prefix)]
    if len(fitting) == 1:
        assert folder.find(prefix).run_key == fitting[0]
        return
    with pytest.raises(UserError, match="is ambiguous") as caught:
        folder.find(prefix)
    for key in fitting[:4]:
        assert f"{key} (cutmix seed 3)" in str(caught.value)
    assert ("more" in str(caught.value)) == (len(fitting) > 4)


@pytest.mark.parametrize("prefix", ["", "abcdefg0", "zz", "../runs", "AB", "*"])
def test_no_run_of_that_key(tmp_path: Path, prefix: str) -> None:
    folder = planned_keys(tmp_path, ["abcdef01", "abcdef02"])
    with pytest.raises(UserError) as caught:
        folder.find(prefix)
    said = str(caught.value)
    assert said.startswith(f"no run {prefix!r} in sweep ") and "\n" not in said
    assert "mixbench status" in said
    assert ("did you mean 'abcdef0" in said) == (prefix == "abcdefg0")


def test_forgiving_some_runs(runs: Path) -> None:
    folder = running.planned(running.spec("one"))
    one, two, done, waiting = folder.plan()
    for planned in (one, two, done):
        assert claims.acquire(planned.folder.path, "w", Watch())
        planned.folder.add_attempt({"attempt": 1, "outcome": "failed", "saved": 0})
        planned.folder.fail("E: no", "traceback", 1)
        claims.close(planned.folder.path, 1, "failed")
    done.folder.finish({"metrics": {}})
    assert retry_failed(folder, {waiting.run_key, done.run_key, "unknown"}) == 0
    assert retry_failed(folder, {two.run_key}) == 1
    assert [run.folder.state() for run in (one, two, done)] == ["failed", "waiting", "done"]
    attempt, retry = two.folder.attempts()
    assert (attempt["attempt"], retry["outcome"]) == (1, "retry")
    assert retry_failed(folder) == 1 and one.folder.state() == "waiting"
    assert len(done.folder.attempts()) == 1


def test_a_state_on_file_needs_no_look_at_claims(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    claim = claims.acquire(tmp_path, "w", Watch())
    assert claim and folder.state_on_file() is None and folder.state() == "running"
    folder.fail("E: no", "", 1)
    assert folder.state_on_file() == folder.state() == "failed"


@pytest.mark.parametrize("place", ["link", "link/below", "loop", "file", "file/below", "x" * 300])
def test_a_runs_folder_that_can_be_none(
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "purged")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path / place))
    for words in (["status"], ["sweep", "demo_digits"]):
        assert cli.main(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"mixbench: MIXBENCH_RUNS: {str(tmp_path / place.split('/')[0])!r}")
    assert not (tmp_path / "purged").exists()


def test_a_sweep_that_is_a_link_to_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "demo_digits").symlink_to(tmp_path / "purged")
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path))
    assert cli.main(["sweep", "demo_digits"]) == 2
    assert "demo_digits' is a link to" in capsys.readouterr().err
