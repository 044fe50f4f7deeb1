"""A sweep that is grown, worked at, killed, cleaned and retried in any order, beside a model of it.

The workers are real claim loops, each with its own plan, of which only the training is left out.
Somebody is killed by a signal that comes in the middle of a write.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mixbench.experiments.manage import dropped
from mixbench.experiments.signals import Stop
from mixbench.experiments.store import claims, files, plan, processes, reuse
from mixbench.experiments.store.claims import Claim
from mixbench.experiments.store.plan import Command
from mixbench.experiments.store.retry import retry_failed
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.store.states import Outcome
from mixbench.experiments.store.sweep_folder import Asked, SweepFolder, planned_rows
from mixbench.experiments.store.take_over import take_over
from mixbench.experiments.worker.claim_loop import ClaimLoop

LETTERS = "abcdef"
ASKED = st.lists(st.sampled_from(LETTERS), min_size=1, max_size=5, unique=True)
WORKERS = st.sampled_from([0, 1])
NOBODY = {"host": processes.this_host(), "pid": 1, "process_start": "no such start"}
MEMORY = "/dev/shm"


def key(name: str) -> str:
    """A run key for a letter."""
    return name.encode().hex().ljust(16, "0")


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the process goes on."""


class Kill:
    """Kill whoever makes the hard link number `links` from now, before it or after it."""

    def __init__(self, links: int, *, after: bool) -> None:
        self.links = links
        self.after = after

    def __call__(self, source: Any, target: Any, **options: Any) -> None:
        self.links -= 1
        if self.links != 0:
            os_link(source, target, **options)
            return
        if self.after:
            with contextlib.suppress(FileExistsError):
                os_link(source, target, **options)
        raise Killed


os_link = os.link


@contextlib.contextmanager
def killed(folder: Path, kill: Kill) -> Iterator[None]:
    """Run the block until it is killed; what cleans up after it does not run either."""
    unlink = Path.unlink

    def no_unlink(path: Path, missing_ok: bool = False) -> None:
        # A process that is dead removes nothing.
        if kill.links > 0:
            unlink(path, missing_ok)

    with (
        mock.patch.object(os, "link", kill),
        mock.patch.object(Path, "unlink", no_unlink),
        contextlib.suppress(Killed),
    ):
        yield
    for path in folder.glob("*.lock*"):
        # This process lives, but who held the lock does not.
        path.write_text(json.dumps({**json.loads(path.read_text()), **NOBODY}))


class GrowingSweep(RuleBasedStateMachine):
    """The model: what is planned, what was begun, what came to a result, what failed."""

    def __init__(self) -> None:
        super().__init__()
        memory = MEMORY if os.path.isdir(MEMORY) else None
        self.root = Path(tempfile.mkdtemp(dir=memory))
        self.environment = mock.patch.dict(os.environ, {"MIXBENCH_RUNS": str(self.root)})
        self.quick = mock.patch.object(os, "fsync", return_value=None)
        self.environment.start()
        self.quick.start()
        self.planned: dict[str, None] = {}
        self.results: dict[str, int] = {}
        self.failed: set[str] = set()
        self.trained = 0
        self.loops: list[Iterator[tuple[Claim, PlannedRun]] | None] = [None, None]
        self.held: list[tuple[Claim, PlannedRun] | None] = [None, None]
        self.began = time.time()
        self.ask(["a", "b"], self.began)
        self.planned = dict.fromkeys("ab")

    @property
    def folder(self) -> SweepFolder:
        """The sweep's folder."""
        return SweepFolder(self.root / "s")

    def ask(self, names: list[str], since: float) -> None:
        """Ask for these runs, as `mixbench sweep` does."""
        rows = [(key(name), key(name), {"name": name, "seed": 0}) for name in names]
        asked = Asked({"runs": names}, "", planned_rows(rows))
        SweepFolder.create_or_grow("s", asked, None, Command(since, NOBODY, "test"))

    @rule(names=ASKED)
    def grow(self, names: list[str]) -> None:
        """Somebody asks for other runs: these, and no others, are planned."""
        before, began = plan.newest_number(self.folder.path), time.time()
        self.ask(names, began)
        if plan.newest_number(self.folder.path) > before:
            self.began = began
        self.planned = dict.fromkeys(names)

    @rule(names=ASKED)
    def grow_at_once(self, names: list[str]) -> None:
        """Somebody who began when the last change was made asks too: the union is planned."""
        self.ask(names, self.began)
        self.planned = dict.fromkeys([*names, *self.planned])

    @rule(names=ASKED, links=st.integers(1, 2), after=st.booleans())
    def grow_and_be_killed(self, names: list[str], links: int, after: bool) -> None:
        """Killed in its midst: the plan is as before, or as wanted, and the next is not held up."""
        before, began = plan.newest_number(self.folder.path), time.time()
        with killed(self.folder.path, Kill(links, after=after)):
            self.ask(names, began)
        grown = plan.newest_number(self.folder.path) > before
        is_same = set(names) == set(self.planned)
        assert not grown or (links == 2 and after)
        if grown:
            self.began = began
        if grown or is_same:
            self.planned = dict.fromkeys(names)

    @rule(worker=WORKERS)
    def claim(self, worker: int) -> None:
        """A worker takes its next run, if it holds none and there is one that is free."""
        if self.held[worker] is not None or not self.free():
            return
        loop = self.loops[worker]
        if loop is None:
            loop = self.loops[worker] = iter(ClaimLoop(self.folder, str(worker), Stop(no_reason)))
        self.held[worker] = next(loop, None)
        if self.held[worker] is None:
            # It ended before, and a launcher starts another.
            self.loops[worker] = None
            self.claim(worker)
            return
        _, run = self.held[worker] or (None, None)
        assert run is not None
        assert run.config["name"] in self.planned, "claimed, and not planned"
        assert run.config["name"] not in self.results, "trained twice"

    def free(self) -> set[str]:
        """The runs that a worker can begin."""
        held = {run.config["name"] for _, run in filter(None, self.held)}
        return set(self.planned) - self.results.keys() - self.failed - held

    @rule(worker=WORKERS, fails=st.booleans())
    def end(self, worker: int, fails: bool) -> None:
        """A worker comes to the end of its run, also of one that is no longer asked for."""
        if self.held[worker] is None:
            return
        claim, run = self.held[worker] or (None, None)
        assert claim is not None and run is not None
        self.held[worker] = None
        name = run.config["name"]
        if fails:
            run.folder.fail("E: no", "", claim.number)
            claim.release(Outcome.FAILED)
            self.failed.add(name)
            return
        self.trained += 1
        assert run.folder.finish({"number": self.trained}), "somebody else trained it meanwhile"
        claim.release(Outcome.DONE)
        self.results[name] = self.trained

    @rule(worker=WORKERS)
    def kill(self, worker: int) -> None:
        """A worker is killed; what it held is free again."""
        self.loops[worker] = None
        if self.held[worker] is not None:
            claim, _ = self.held[worker] or (None, None)
            assert claim is not None
            claim.path.write_text(json.dumps({**claim.body, **NOBODY}))
            self.held[worker] = None

    @rule(name=st.sampled_from(LETTERS), links=st.integers(0, 2), after=st.booleans())
    def reuse(self, name: str, links: int, after: bool) -> None:
        """A run that another sweep has finished is taken over where it is asked for, not begun.

        Killed at one of its links, it is not there at all.
        """
        self.trained += 1
        run = self.root / "other" / "runs" / key(name)
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir(parents=True)
        (self.root / "other" / "sweep.json").write_text("{}")
        about = {"schema": files.SCHEMA, "run_key": key(name), "metrics": {}}
        (run / "config.json").write_text(json.dumps(about))
        (run / "result.json").write_text(json.dumps({**about, "number": self.trained}))
        wanted = name in self.planned and key(name) not in self.folder.begun()
        found = reuse.find(self.folder.path, self.folder.states(), self.folder.plan)
        assert set(found.sources) == ({key(name)} if wanted else set())
        kill = Kill(links, after=after)
        with killed(self.folder.path, kill) if links else contextlib.nullcontext():
            taken = take_over(self.folder.path, self.folder.plan(), found.sources)
            assert taken.sweeps.keys() == found.sources.keys() and not taken.refused
        if wanted:
            assert (key(name) in self.folder.begun()) == (not links)
            if not links:
                self.results[name] = self.trained
        shutil.rmtree(run)

    @precondition(lambda self: self.failed)
    @rule()
    def retry(self) -> None:
        """Failed runs that are asked for are tried again."""
        again = self.failed & self.planned.keys()
        assert retry_failed(self.folder) == len(again)
        self.failed -= again

    @rule()
    def clean(self) -> None:
        """What is no longer asked for is removed, but for what a worker holds."""
        held = {run.config["name"] for _, run in filter(None, self.held)}
        found = dropped.remove(self.folder)
        gone = {name for name in LETTERS if key(name) in found.sizes}
        assert not gone & (held | self.planned.keys())
        assert {name for name in self.results if name not in self.planned} - held <= gone
        for name in gone:
            self.results.pop(name, None)
        self.failed -= gone

    @invariant()
    def the_folder_is_as_the_model(self) -> None:
        """No run is lost, none is trained twice, and the plan is what was asked for."""
        states = self.folder.states()
        assert set(states) == {key(name) for name in self.planned}
        held = {run.config["name"] for _, run in filter(None, self.held)}
        for name in self.planned:
            wanted = "waiting"
            if name in self.results:
                wanted = "done"
            elif name in self.failed:
                wanted = "failed"
            elif name in held:
                wanted = "running"
            assert states[key(name)] == wanted, name
        for name, number in self.results.items():
            path = self.folder.path / "runs" / key(name) / "result.json"
            result = files.read_json(path)
            assert result is not None and result["number"] == number
        gone = {name for name in self.results.keys() | self.failed if name not in self.planned}
        assert {key(name) for name in gone} <= set(self.folder.dropped())

    def teardown(self) -> None:
        """Remove what was made."""
        self.environment.stop()
        self.quick.stop()
        shutil.rmtree(self.root, ignore_errors=True)


def no_reason() -> None:
    """Return why the workers are to stop: nothing."""


assert claims.LEASE_SECONDS > 60, "no claim must expire while a test runs"
