"""The plan of a sweep changes in revisions: what comes, what stays, what goes, and for whom."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from mixbench.augmentations.methods.cutmix import CutMix
from mixbench.experiments.errors import UserError
from mixbench.experiments.signals import Stop
from mixbench.experiments.store import processes
from mixbench.experiments.store.growth import Growth
from mixbench.experiments.store.plan import Command, newest_number
from mixbench.experiments.store.states import Outcome
from mixbench.experiments.store.sweep_folder import Asked, SweepFolder, planned_rows
from mixbench.experiments.worker import claim_loop
from mixbench.experiments.worker.claim_loop import ClaimLoop
from tests.support import running

pytestmark = pytest.mark.usefixtures("runs")

LONG_AGO = 1e9
NOBODY = {"host": processes.this_host(), "pid": 1, "process_start": "no such start"}


def key(name: str) -> str:
    """A run key for a short name."""
    return name.encode().hex().ljust(16, "0")


def ask(
    names: str, since: float | None = None, source: str = "a", process: dict[str, Any] | None = None
) -> tuple[SweepFolder, Growth]:
    """Ask for runs, a letter each, as a command that began at `since` does; default: now."""
    rows = [(key(name), key(name), {"name": name, "seed": 0}) for name in names]
    command = Command(time.time() if since is None else since, process or NOBODY, source)
    asked = Asked({"runs": names}, f"About {names}.", planned_rows(rows))
    return SweepFolder.create_or_grow("s", asked, None, command)


def planned(folder: SweepFolder) -> str:
    """The letters of the planned runs, in their order."""
    return "".join(run.config["name"] for run in folder.plan())


def finish(folder: SweepFolder, names: str) -> None:
    """Give runs results, as workers do."""
    for name in names:
        run = folder.find(key(name)).folder
        run.path.mkdir()
        assert run.finish({"by": name})


def test_a_grown_plan() -> None:
    folder, growth = ask("abc")
    assert growth == Growth() and folder.newest_revision() == 1
    first = (folder.path / "plan.jsonl").read_bytes()
    finish(folder, "ab")
    folder, growth = ask("cad")
    assert planned(folder) == "cad" and folder.newest_revision() == 2
    assert (growth.added, growth.dropped) == ((key("d"),), (key("b"),))
    assert (folder.spec, folder.description) == ({"runs": "cad"}, "About cad.")
    assert folder.dropped() == [key("b")]
    assert folder.states() == {key("c"): "waiting", key("a"): "done", key("d"): "waiting"}
    # What came back has its result; what never began is forgotten.
    folder, growth = ask("ab")
    assert growth.returned == (key("b"),) and folder.states()[key("b")] == "done"
    assert (folder.dropped(), set(growth.dropped)) == ([], {key("c"), key("d")})
    assert (folder.path / "plan.jsonl").read_bytes() == first
    assert sorted(path.name for path in folder.path.iterdir()) == [
        *("plan.2.jsonl", "plan.3.jsonl", "plan.jsonl", "runs", "sweep.json")
    ]
    (folder.path / "runs" / key("c")).mkdir()
    with pytest.raises(UserError, match=f"run {key('c')} is no longer asked for") as caught:
        folder.find(key("c"))
    assert str(folder.path / "runs" / key("c")) in str(caught.value)


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_two_that_grow_it_at_once_end_with_the_union(order: str) -> None:
    ask("xyz", LONG_AGO)
    began = time.time()
    wishes = {"a": "xya", "b": "xzb"}
    for source in order:
        folder, growth = ask(wishes[source], began, source)
    assert sorted(planned(folder)) == sorted("xyzab")
    assert len(growth.kept) == 2 and {wish.spec["runs"] for wish in folder.wishes()} == {
        *wishes.values()
    }
    # Again, later and alone, each has its wish: the other's is over.
    folder, growth = ask("xya", source="a")
    assert planned(folder) == "xya" and growth.kept == ()
    assert [wish.spec for wish in folder.wishes()] == [{"runs": "xya"}]


def test_a_command_that_still_runs_keeps_what_it_asked_for() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        start = processes.process_start(other.pid)
        running_one = {"host": processes.this_host(), "pid": other.pid, "process_start": start}
        ask("ab", process=running_one, source="a")
        folder, growth = ask("bc", source="b")
        assert planned(folder) == "bca" and growth.kept == (key("a"),)
        # From the same file it is the same wish, changed.
        folder, _ = ask("bd", source="a")
        assert planned(folder) == "bd"
    folder, _ = ask("e", source="b")
    assert planned(folder) == "e"


def test_going_on_by_the_name_gives_up_nothing() -> None:
    began = time.time()
    ask("ab", began, "a")
    folder, _ = ask("bc", began, "b")
    command = Command(time.time(), NOBODY, "s", continues=True)
    rows = [(key(name), key(name), {"name": name, "seed": 0}) for name in "bc"]
    growth = folder.grow(Asked({"runs": "bc"}, "About bc.", planned_rows(rows)), command)
    assert planned(folder) == "bca" and growth.kept == (key("a"),) and not growth.dropped
    assert folder.newest_revision() == 2


GROW = """
import sys, time
from mixbench.experiments.store.plan import Command
from mixbench.experiments.store.sweep_folder import Asked, SweepFolder, planned_rows
own, began = sys.argv[1], float(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
rows = [(f"{n:016x}", "cell", {"n": n}) for n in range(20)]
for number in range(5):
    rows.append((f"{own}{number:015x}", "cell", {"n": number}))
    asked = Asked({"by": own, "runs": len(rows)}, "", planned_rows(rows))
    SweepFolder.create_or_grow("one", asked, None, Command(began, source=own))
"""


def test_many_that_grow_it_at_once_lose_nothing() -> None:
    command = [sys.executable, "-c", GROW]
    many = [
        subprocess.Popen(
            [*command, own, str(time.time())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for own in "abc"
    ]
    for process in many:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in many:
        process.communicate("\n", timeout=300)
        assert process.returncode == 0
    folder = SweepFolder.open("one")
    wanted = {f"{n:016x}" for n in range(20)} | {f"{o}{n:015x}" for o in "abc" for n in range(5)}
    assert {run.run_key for run in folder.plan()} == wanted
    assert not list(folder.path.glob("*lock*")) and not list(folder.path.glob(".*"))


def test_another_run_under_the_same_key() -> None:
    folder, _ = ask("ab")
    rows = planned_rows([(key("a"), key("a"), {"name": "b", "seed": 0})])
    message = rf"run {key('a')} of sweep 's': name was 'a' \(plan.jsonl\), and is 'b' now"
    with pytest.raises(UserError, match=message):
        folder.grow(Asked({}, "", rows), Command(time.time()))
    # Also where the YAML is the same to the letter, and so the plan stays as it is.
    ab = planned_rows(
        [
            (key("a"), key("a"), {"name": "b", "seed": 0}),
            (key("b"), key("b"), {"name": "b", "seed": 0}),
        ]
    )
    with pytest.raises(UserError, match=message):
        folder.grow(Asked({"runs": "ab"}, "About ab.", ab), Command(time.time()))
    finish(folder, "a")
    stored = folder.path / "runs" / key("a") / "config.json"
    stored.write_text('{"config": {"seed": 3, "added": null}}')
    with pytest.raises(UserError, match=r"seed was 3 \(runs/.*/config.json\), and is 0 now"):
        ask("ac")
    assert newest_number(folder.path) == 1 and not list(folder.path.glob("*.lock"))
    # Options that only one of the two has are of another version.
    stored.write_text('{"config": {"seed": 0, "old": 1}}')
    assert planned(ask("ac")[0]) == "ac"


def test_a_damaged_plan() -> None:
    ask("ab")
    folder, _ = ask("abc")
    path = folder.path / "plan.2.jsonl"
    whole = path.read_text()
    for damaged, why in (
        (whole[:-40], "2 of its 3 runs can be read; the file is damaged"),
        (whole.replace('"schema": 1', '"schema": 7', 1), "another version .* .schema 7, this one"),
        ("", "another version"),
        ('{"schema": 1, "revision": 2, "runs": 0, "wishes": []}', "first line is damaged"),
    ):
        path.write_text(damaged)
        with pytest.raises(UserError, match=why):
            ask("abcd")
        with pytest.raises(UserError, match=why):
            folder.plan()
    assert newest_number(folder.path) == 2


def test_a_method_that_draws_otherwise_makes_other_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = running.planned(running.spec("one"))
    old = {run.run_key for run in folder.plan()}
    monkeypatch.setattr(CutMix, "revision", 7)
    new = {run.run_key for run in running.planned(running.spec("one")).plan()}
    assert len(old & new) == 2 and len(new - old) == 2


def claim_all(folder: SweepFolder, loop: ClaimLoop, names: list[str]) -> None:
    """Claim runs and finish them at once; note their names."""
    for claim, run in loop:
        names.append(run.config["name"])
        assert run.folder.finish({})
        claim.release(Outcome.DONE)
    del folder


def test_a_worker_follows_the_newest_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim_loop, "WAIT_SECONDS", 0.01)
    folder, _ = ask("abc")
    known = {key("a"), key("b"), key("c"), key("d"), key("f")}
    loop = ClaimLoop(folder, "w", Stop(lambda: None), knows=lambda run: run.run_key in known)
    did = []
    for claim, run in loop:
        did.append(run.config["name"])
        if did == ["a"]:
            # In its midst: c is no longer asked for, d is new, e is of code that it does not have.
            ask("abde")
        assert run.folder.finish({})
        claim.release(Outcome.DONE)
    assert did == ["a", "b", "d"] and folder.begun() == {key(name) for name in "abd"}

    # While it waits for a run that another holds, and when it is about to end.
    held = ClaimLoop(folder, "other", Stop(lambda: None))
    ask("abdf")
    claim, run = next(iter(held))
    assert run.config["name"] == "f"
    names: list[str] = []
    waiting = threading.Thread(target=claim_all, args=(folder, loop, names))
    waiting.start()
    time.sleep(0.05)
    ask("abdfg")
    known.add(key("g"))
    running.wait_until(lambda: names == ["g"], "the new run is done")
    ask("abd")
    waiting.join(300)
    assert not waiting.is_alive(), "what it waited for is no longer asked for"
    # The worker that has it finishes it all the same.
    assert run.folder.finish({})
    claim.release(Outcome.DONE)
    assert list(held) == []
    assert folder.dropped() == [key("f"), key("g")]


def test_a_run_dropped_between_the_plan_and_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be removed at this moment: who sees that after the claim leaves it alone."""
    folder, _ = ask("ab")
    acquire = claim_loop.claims.acquire

    def dropped_first(path: Path, *arguments: Any) -> Any:
        if path.name == key("a"):
            ask("b")
        return acquire(path, *arguments)

    monkeypatch.setattr(claim_loop.claims, "acquire", dropped_first)
    names: list[str] = []
    claim_all(folder, ClaimLoop(folder, "w", Stop(lambda: None)), names)
    assert names == ["b"]
    last = claim_loop.claims.last(folder.path / "runs" / key("a"))
    assert last is not None and last["released"] == "nothing to do"


def test_a_plan_that_a_worker_cannot_read_changes_nothing_for_it() -> None:
    folder, _ = ask("abc")
    names = []
    for claim, run in ClaimLoop(folder, "w", Stop(lambda: None)):
        names.append(run.config["name"])
        (folder.path / "plan.2.jsonl").write_text(json.dumps({"schema": 99}) + "\n")
        assert run.folder.finish({})
        claim.release(Outcome.DONE)
    assert names == ["a", "b", "c"]


def test_when_a_process_began() -> None:
    code = "from mixbench.experiments.store import processes; print(processes.began())"
    before = time.time()
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # The kernel counts in hundredths of a second.
    assert before - 0.05 <= float(said.stdout) <= time.time()
    assert processes.began() <= os.stat(f"/proc/{os.getpid()}").st_ctime + 5
