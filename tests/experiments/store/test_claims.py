"""Claims: one winner, a live holder is left alone, a dead one is not waited for."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mixbench.experiments.store import claims, processes
from mixbench.experiments.store.claims import ClaimLost, Watch

RACE = """
import sys
from pathlib import Path
from mixbench.experiments.store import claims, processes
root, name, runs = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
watch = claims.Watch()
for number in range(runs):
    claim = claims.acquire(root / f"{number:03d}", name, watch)
    if claim:
        print(number, claim.number, flush=True)
print("all tried", flush=True)
sys.stdin.readline()
"""

HOLD = """
import sys
from pathlib import Path
from mixbench.experiments.store import claims, processes
print(claims.acquire(Path(sys.argv[1]), "holder", claims.Watch()).number, flush=True)
sys.stdin.readline()
"""


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def take(folder: Path, name: str = "here", watch: Watch | None = None) -> claims.Claim:
    claim = claims.acquire(folder, name, watch or Watch())
    assert claim is not None
    return claim


class Clock:
    """The clock that leases are measured with; it moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return time.time()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(claims, "time", made)
    return made


def edit(claim: claims.Claim, **changes: object) -> None:
    claim.path.write_text(json.dumps({**json.loads(claim.path.read_text()), **changes}))


def test_exactly_one_winner_among_processes(tmp_path: Path) -> None:
    runs, workers = 50, 8
    processes = [python(RACE, tmp_path, f"w{number}", runs) for number in range(workers)]
    for process in processes:
        assert line(process) == "ready"
    for process in processes:
        tell(process)
    # All stay alive until the last has tried every run, so that no claim is free for its death.
    won: list[list[str]] = []
    for process in processes:
        while (row := line(process)) != "all tried":
            assert row, "it ended"
            won.append(row.split())
    for process in processes:
        tell(process)
        assert process.wait(300) == 0
    assert Counter(number for number, _ in won) == {str(number): 1 for number in range(runs)}
    assert {number for _, number in won} == {"1"}
    for number in range(runs):
        # Nothing else is left behind, such as temporary files of those who lost.
        names = [path.name for path in (tmp_path / f"{number:03d}" / "claims").iterdir()]
        assert names == ["000001.json"]


def test_a_live_holder_is_left_alone_and_a_dead_one_is_free_at_once(tmp_path: Path) -> None:
    process = python(HOLD, tmp_path)
    assert line(process) == "1"
    watch = Watch()
    assert claims.acquire(tmp_path, "here", watch) is None
    held = claims.holder(tmp_path)
    assert held and held["worker"] == "holder" and held["pid"] == process.pid
    assert held["number"] == 1
    os.kill(process.pid, signal.SIGKILL)
    process.wait(300)
    assert claims.holder(tmp_path) is None
    assert take(tmp_path, watch=watch).number == 2


def test_a_process_that_died_but_was_not_collected_is_dead(tmp_path: Path) -> None:
    process = python(HOLD, tmp_path)
    assert line(process) == "1"
    os.kill(process.pid, signal.SIGKILL)
    # A zombie: its parent, this test, has not waited for it.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert Path(f"/proc/{process.pid}/stat").exists()
    assert processes.process_start(process.pid) is None
    assert take(tmp_path).number == 2
    process.wait(300)


def test_a_process_number_given_anew_is_not_the_old_process(tmp_path: Path) -> None:
    claim = take(tmp_path)
    assert claims.acquire(tmp_path, "other", Watch()) is None
    edit(claim, process_start="1")
    assert take(tmp_path, "other").number == 2


def test_a_released_claim_is_free(tmp_path: Path) -> None:
    claim = take(tmp_path)
    claim.release("stopped")
    assert claims.holder(tmp_path) is None
    last = claims.last(tmp_path)
    assert last and last["released"] == "stopped" and last["worker"] == "here"
    assert take(tmp_path, "next").number == 2
    held = claims.holder(tmp_path)
    assert held and held["worker"] == "next"


def test_the_number_goes_on_and_the_history_stays(tmp_path: Path) -> None:
    for number in range(1, 13):
        claim = take(tmp_path, f"w{number}")
        assert claim.number == number
        claim.release("stopped")
    kept = sorted((tmp_path / "claims").iterdir())
    assert [json.loads(path.read_text())["worker"] for path in kept] == [
        f"w{number}" for number in range(1, 13)
    ]


def test_a_lease_expires_when_nothing_changes(tmp_path: Path, clock: Clock) -> None:
    claim = take(tmp_path, "far")
    # As seen from here, it is on another machine: nobody can tell whether its process lives.
    edit(claim, host="elsewhere")
    claim.body["host"] = "elsewhere"
    watch = Watch()
    for _ in range(4):
        assert claims.acquire(tmp_path, "here", watch) is None
        clock.now += claims.LEASE_SECONDS / 3
        claim.renew(force=True)
    assert claims.acquire(tmp_path, "here", watch) is None
    clock.now += claims.LEASE_SECONDS - 1
    assert claims.acquire(tmp_path, "here", watch) is None
    clock.now += 2
    # Who only now begins to look must watch for the length of a lease of its own.
    assert claims.acquire(tmp_path, "late", Watch()) is None
    assert take(tmp_path, watch=watch).number == 2
    with pytest.raises(ClaimLost, match="taken over"):
        claim.renew(force=True)
    held = claims.last(tmp_path)
    assert held and held["worker"] == "here"


@pytest.mark.parametrize("offset", [-86400.0, 60.0])
def test_the_clock_of_another_machine_does_not_matter(
    tmp_path: Path, clock: Clock, offset: float
) -> None:
    claim = take(tmp_path, "far")
    edit(claim, host="elsewhere", time=time.time() + offset, started=time.time() + offset)
    watch = Watch()
    assert claims.acquire(tmp_path, "here", watch) is None
    clock.now += claims.LEASE_SECONDS - 1
    assert claims.acquire(tmp_path, "here", watch) is None
    clock.now += 2
    assert take(tmp_path, watch=watch).number == 2


def test_one_who_was_overtaken_is_told_at_the_next_renewal(tmp_path: Path, clock: Clock) -> None:
    claim = take(tmp_path)
    claim.renew({"epoch": 1.5})
    edit(claim, process_start="1")
    other = take(tmp_path, "other")
    content = other.path.read_text()
    claim.renew()  # within the same second: not even looked at
    with pytest.raises(ClaimLost):
        claim.renew(force=True)
    assert other.path.read_text() == content
    other.renew({"epoch": 0.5}, force=True)


def test_progress_is_told_at_most_once_a_second(tmp_path: Path, clock: Clock) -> None:
    claim = take(tmp_path)

    def beats() -> tuple[int, object]:
        held = claims.holder(tmp_path)
        assert held is not None
        return held["beat"], held["progress"].get("epoch")

    claim.renew({"epoch": 1})
    assert beats() == (1, 1)
    clock.now += 0.9
    claim.renew({"epoch": 2})
    assert beats() == (1, 1)
    clock.now += 0.2
    claim.renew({"epoch": 3})
    assert beats() == (2, 3)


def test_a_claim_from_elsewhere_that_went_silent_is_not_shown_as_running(tmp_path: Path) -> None:
    claim = take(tmp_path)
    edit(claim, host="elsewhere", time=time.time() - 60)
    assert claims.holder(tmp_path)
    edit(claim, time=time.time() - 3 * claims.LEASE_SECONDS)
    assert claims.holder(tmp_path) is None
    last = claims.last(tmp_path)
    assert last and "released" not in last


def test_an_unreadable_claim_is_waited_for_and_then_free(tmp_path: Path, clock: Clock) -> None:
    take(tmp_path).path.write_text('{"worker": ')
    watch = Watch()
    assert claims.acquire(tmp_path, "here", watch) is None
    clock.now += claims.LEASE_SECONDS + 1
    assert take(tmp_path, watch=watch).number == 2


def test_progress_told_between_renewals_is_shown_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where epochs are short, the renewal at an epoch's end is the only one that is written."""
    monkeypatch.setattr(claims, "RENEW_SECONDS", 3600.0)
    claim = take(tmp_path)
    claim.renew(force=True)
    claim.renew({"epoch": 0.5})
    claim.renew(None, force=True)
    assert (claims.holder(tmp_path) or {})["progress"] == {"epoch": 0.5}


def test_a_claim_is_kept_while_something_slow_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "RENEW_SECONDS", 0.01)
    claim = take(tmp_path)
    with claim.keep_renewing():
        limit = time.monotonic() + 300
        while (claims.holder(tmp_path) or {}).get("beat", 0) < 3 and time.monotonic() < limit:
            time.sleep(0.01)
    assert (claims.holder(tmp_path) or {})["beat"] >= 3


def test_who_is_overtaken_while_something_slow_runs_is_told_at_its_end(tmp_path: Path) -> None:
    claim = take(tmp_path)
    with pytest.raises(ClaimLost), claim.keep_renewing():
        (claim.path.parent / f"{claim.number + 1:06d}.json").write_text("{}")


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes this process part of a SLURM job."""

    def be(number: str, restart: str | None = None, **more: str) -> None:
        monkeypatch.setenv("SLURM_JOB_ID", number)
        for name in ("RESTART_COUNT", "ARRAY_JOB_ID", "ARRAY_TASK_ID", "CLUSTER_NAME"):
            monkeypatch.delenv(f"SLURM_{name}", raising=False)
        for name, value in (more | ({"SLURM_RESTART_COUNT": restart} if restart else {})).items():
            monkeypatch.setenv(name, value)

    return be


def test_a_claim_says_which_job_it_is_of(tmp_path: Path, job: Callable[..., None]) -> None:
    assert take(tmp_path / "a").body["job"] is None
    job("123", SLURM_CLUSTER_NAME="c", SLURM_ARRAY_JOB_ID="120", SLURM_ARRAY_TASK_ID="7")
    wanted = {"cluster": "c", "id": "123", "array": "120", "task": "7", "restart": 0}
    assert take(tmp_path / "b").body["job"] == wanted
    job("124", "2")
    wanted = {"cluster": None, "id": "124", "array": None, "task": None, "restart": 2}
    assert take(tmp_path / "c").body["job"] == wanted


@pytest.mark.parametrize(
    ("before", "after", "free"),
    [
        (("5", None), ("5", "1"), True),
        (("5", "1"), ("5", "3"), True),
        # The same turn of the job, and turns of others: they may be at work.
        (("5", "1"), ("5", "1"), False),
        (("5", "2"), ("5", "1"), False),
        (("5", None), ("6", "1"), False),
    ],
)
def test_a_job_that_was_requeued_has_its_runs_back_at_once(
    tmp_path: Path, job: Callable[..., None], before: Any, after: Any, free: bool
) -> None:
    """On whatever node it was before: SLURM does not start it again before that has ended."""
    job(*before)
    claim = take(tmp_path, "earlier")
    edit(claim, host="another node")
    job(*after)
    found = claims.acquire(tmp_path, "later", Watch())
    assert (found is not None) == free
    if found:
        assert found.number == 2


def test_a_claim_is_closed_on_behalf_of_the_dead(tmp_path: Path) -> None:
    claim = take(tmp_path, "dead")
    claim.renew({"saved": 3}, force=True)
    claims.close(tmp_path, 1, "died")
    last = claims.last(tmp_path)
    assert last and last["released"] == "died" and last["progress"] == {"saved": 3}
    claims.close(tmp_path, 1, "hung")
    assert (claims.last(tmp_path) or {})["released"] == "died", "the first word stays"
    successor = take(tmp_path, "next")
    assert successor.number == 2
    claims.close(tmp_path, 1, "hung")
    assert (claims.holder(tmp_path) or {})["worker"] == "next"


def test_a_claim_by_its_number(tmp_path: Path) -> None:
    assert claims.numbered(tmp_path, 1) is None
    take(tmp_path, "first").release("stopped")
    take(tmp_path, "second")
    found = [claims.numbered(tmp_path, number) for number in (1, 2, 3)]
    assert [one and (one["worker"], one["number"]) for one in found] == [
        ("first", 1),
        ("second", 2),
        None,
    ]


@pytest.mark.usefixtures("clock")
class TestSomebodyWorksThere:
    """Who does not wait must have seen that the others live."""

    @pytest.fixture
    def far(self, tmp_path: Path) -> claims.Claim:
        claim = take(tmp_path, "far")
        claim.body["host"] = "elsewhere"
        claim.renew(force=True)
        return claim

    def look(self, folder: Path, watch: Watch) -> bool:
        assert claims.acquire(folder, "here", watch) is None
        return watch.somebody_works_on(folder)

    def test_one_look_says_nothing(self, tmp_path: Path, far: claims.Claim) -> None:
        watch = Watch()
        assert not watch.somebody_works_on(tmp_path)
        assert not self.look(tmp_path, watch)
        assert not self.look(tmp_path, watch), "nothing has changed"
        far.renew(force=True)
        assert self.look(tmp_path, watch)
        assert self.look(tmp_path, watch), "it need not change all the time"

    def test_another_claim_is_another_worker(self, tmp_path: Path, far: claims.Claim) -> None:
        watch = Watch()
        self.look(tmp_path, watch)
        far.renew(force=True)
        assert self.look(tmp_path, watch)
        far.release("stopped")
        other = take(tmp_path, "other")
        assert other.number == 2 and not self.look(tmp_path, watch)

    def test_a_sign_of_life_grows_old(
        self, tmp_path: Path, far: claims.Claim, clock: Clock
    ) -> None:
        watch = Watch()
        self.look(tmp_path, watch)
        far.renew(force=True)
        assert self.look(tmp_path, watch)
        clock.now += claims.LEASE_SECONDS / 2 - 1
        assert self.look(tmp_path, watch)
        clock.now += 2
        assert not self.look(tmp_path, watch), "half a lease ago"

    def test_a_change_since_long_ago_is_no_sign_of_life(
        self, tmp_path: Path, far: claims.Claim, clock: Clock
    ) -> None:
        """It may have been renewed right after the look, and died then."""
        watch = Watch()
        self.look(tmp_path, watch)
        far.renew(force=True)
        clock.now += claims.LEASE_SECONDS / 4 + 1
        assert not self.look(tmp_path, watch)
        far.renew(force=True)
        assert self.look(tmp_path, watch)


def test_preparing_for_ever_is_not_life(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data set that never loads: the lease must end, and the pool see that it hangs."""
    monkeypatch.setattr(claims, "RENEW_SECONDS", 0.0)
    claim = take(tmp_path)
    before = set(threading.enumerate())
    with claim.keep_renewing():
        (renewing,) = set(threading.enumerate()) - before
        while (claims.holder(tmp_path) or {})["beat"] < 2 and renewing.is_alive():
            time.sleep(0.001)
        clock.now += claims.PREPARING_SECONDS
        renewing.join(300)
        assert not renewing.is_alive()
        first = (claims.holder(tmp_path) or {})["beat"]
        assert (claims.holder(tmp_path) or {})["beat"] == first >= 2
    assert (claims.holder(tmp_path) or {})["beat"] == first + 1


def test_a_sweep_that_was_moved_away_is_not_begun_anew(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        claims.acquire(tmp_path / "gone" / "runs" / "0123", "here", Watch())
    assert list(tmp_path.iterdir()) == []


def test_bytes_that_are_no_text_are_an_unreadable_claim(tmp_path: Path) -> None:
    take(tmp_path).path.write_bytes(b"\xff\xfe\x00\x80")
    assert claims.acquire(tmp_path, "here", Watch()) is None
    assert claims.last(tmp_path) == {"number": 1}


def test_a_handle_that_went_stale_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An NFS client says so when the holder has replaced the file between open and read."""
    take(tmp_path)
    read, failing = Path.read_text, [errno.ESTALE] * 3

    def stale(path: Path, *arguments: Any, **options: Any) -> str:
        if path.name == "000001.json" and failing:
            raise OSError(failing.pop(), "Stale file handle")
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", stale)
    assert (claims.holder(tmp_path) or {})["worker"] == "here"
    assert claims.acquire(tmp_path, "other", Watch()) is None
    failing.append(errno.EIO)
    with pytest.raises(OSError, match="Stale"):
        claims.holder(tmp_path)


def test_nothing_is_left_of_a_renewal_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = take(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            claim.renew(force=True)
        with pytest.raises(OSError, match="too large"):
            claims.acquire(tmp_path / "other", "here", Watch())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in claim.path.parent.iterdir()] == ["000001.json"]
    assert list((tmp_path / "other" / "claims").iterdir()) == []
    claim.renew(force=True)
