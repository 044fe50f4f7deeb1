"""The folders on disk: written whole or not at all, and the same sweep or another name."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import claims
from experiments.claims import Watch
from experiments.errors import UserError
from experiments.store import RunFolder, SweepFolder, atomic_write, dump, root
from tests.experiments import running


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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB, where this process may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("only root can mount a small disk")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_leaves_the_old_file(small_disk: Path) -> None:
    atomic_write(small_disk / "result.json", "old")
    with pytest.raises(OSError, match="No space left") as caught:
        atomic_write(small_disk / "result.json", b"x" * 200_000)
    assert caught.value.errno == errno.ENOSPC
    assert files(small_disk) == {"result.json": b"old"}


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
        ("none", 0), ("none", 1), ("cutmix", 0), ("cutmix", 1),
    ]  # fmt: skip
    assert len({run.run_key for run in plan}) == 4 and len({run.cell_key for run in plan}) == 2
    assert plan[0].folder.path == runs / "one" / "runs" / plan[0].run_key
    assert set(folder.states().values()) == {"waiting"}
    assert SweepFolder.names() == ["one"] and SweepFolder.open("one").plan() == plan


def test_creating_again_changes_nothing(runs: Path) -> None:
    running.planned(running.spec("one"))
    before = files(runs)
    running.planned(running.spec("one"))
    assert files(runs) == before
    # The same runs in another order, in other words: only the words are new.
    grid = {"augmentation": [{"name": "cutmix", "alpha": 1}, "none"]}
    other = running.spec("one", grid=grid, seeds=[1, 0])
    assert running.planned(other).spec == other
    after = files(runs)
    old, new = (json.loads(found.pop("one/sweep.json")) for found in (before, after))
    assert after == before and old["created"] == new["created"]
    assert sorted(path.name for path in runs.iterdir()) == ["one"]


@pytest.mark.parametrize(
    ("overrides", "old", "new"),
    [
        ({"training.epochs": 9}, "4 of its 4 runs are not in this one", "4 are new"),
        ({"augmentation": "none"}, "2 of its 4 runs are not in this one", "0 are new"),
    ],
)
def test_another_configuration_needs_another_name(
    runs: Path, overrides: dict[str, Any], old: str, new: str
) -> None:
    running.planned(running.spec("one"))
    before = files(runs)
    with pytest.raises(UserError, match="exists with another configuration") as caught:
        running.planned(running.spec("one"), overrides)
    for part in (old, new, "--name"):
        assert part in str(caught.value)
    assert files(runs) == before
    assert sorted(path.name for path in runs.iterdir()) == ["one"]


CREATE = """
import sys, time
from experiments.store import SweepFolder
rows = [(f"{n:016x}", f"{n:016x}", {"variant": sys.argv[2], "n": n}) for n in range(2000)]
print("ready", flush=True)
sys.stdin.readline()
folder = SweepFolder.create("one", "", {}, rows, None)
print(folder._header()["created"], len(folder.plan()))
"""


def test_two_launchers_at_once_make_one_folder(runs: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CREATE, str(number), "same"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(4)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = {process.communicate(timeout=60)[0].strip() for process in processes}
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
    assert folder.forgive() == 1
    assert failed.state() == "waiting" and failed.attempts() == [
        {"attempt": 1, "outcome": "failed"}
    ]
    assert done.state() == "done" and folder.forgive() == 0
