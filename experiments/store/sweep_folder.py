"""Sweep folders: the store of all runs, and the queue of runs to be done.

Standard library only: the launcher, the report and the MLflow projection read it without torch.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixbench.experiments.errors import UserError, did_you_mean
from mixbench.experiments.store import adopt, choices, claims, lock
from mixbench.experiments.store import growth as growing
from mixbench.experiments.store import plan as plans
from mixbench.experiments.store.files import (
    SCHEMA,
    atomic_write,
    dump,
    folder_aside,
    no_folder,
    read_json,
)
from mixbench.experiments.store.growth import Growth
from mixbench.experiments.store.plan import Command, PlanRow, Revision, Wish
from mixbench.experiments.store.run_folder import PlannedRun, RunFolder
from mixbench.experiments.store.states import RunState

Row = tuple[str, str, dict[str, Any]]
"""A run as a sweep describes it: run key, cell key, configuration."""
GROW_SECONDS = 60.0
"""How long to wait while others change the plan, which takes them a second or two."""


def root() -> Path:
    """Where sweeps live: `$MIXBENCH_RUNS`, or `runs` in the working folder.

    UserError where no folder is, or can be made: a file, a link that leads nowhere.
    """
    path = Path(os.environ.get("MIXBENCH_RUNS") or "runs").absolute()
    problem = no_folder(path)
    if problem:
        name = "MIXBENCH_RUNS: " if os.environ.get("MIXBENCH_RUNS") else "the runs folder "
        raise UserError(f"{name}{problem}")
    return path


@dataclass(frozen=True)
class Asked:
    """The runs that somebody asks for, and the sweep as it was given."""

    spec: dict[str, Any]
    description: str
    rows: tuple[PlanRow, ...]


@dataclass(frozen=True)
class SweepFolder:
    """The folder of one sweep."""

    path: Path

    @classmethod
    def open(cls, name: str) -> SweepFolder:
        """The sweep of that name below the root; UserError with the nearest name if none."""
        path = root() / name
        if not _is_name(name) or not (path / "sweep.json").is_file():
            known = cls.names()
            guess = did_you_mean(name, known)
            have = f" (there are: {', '.join(known)})" if known and not guess else ""
            raise UserError(f"no sweep {name!r} in {root()}{guess}{have}")
        return cls.at(path)

    @classmethod
    def at(cls, path: Path) -> SweepFolder:
        """The sweep in a folder, wherever it is; UserError where this version can't read it."""
        folder = cls(path.absolute())
        schema = folder._first_header().get("schema")
        if schema != SCHEMA:
            raise UserError(
                f"sweep {path.name!r} was written by another version of mixbench (schema "
                f"{schema!r}, this one reads {SCHEMA})"
            )
        return folder

    @staticmethod
    def names() -> list[str]:
        """The sweeps below the root."""
        # A name with a dot in front was left by a crash while a sweep was created.
        names = (path.parent.name for path in root().glob("*/sweep.json"))
        return sorted(name for name in names if not name.startswith("."))

    @classmethod
    def create(
        cls,
        name: str,
        description: str,
        spec: dict[str, Any],
        runs: Iterable[Row],
        commit: str | None,
        pretraining: Collection[str] = (),
    ) -> SweepFolder:
        """The folder of a sweep that plans just these runs, as `create_or_grow` makes it."""
        rows = planned_rows(runs, pretraining)
        return cls.create_or_grow(name, Asked(spec, description, rows), commit)[0]

    @classmethod
    def create_or_grow(
        cls,
        name: str,
        asked: Asked,
        commit: str | None,
        command: Command | None = None,
        checked: int = 0,
    ) -> tuple[SweepFolder, Growth]:
        """The folder of a new sweep, or the one that is there with its plan changed, and how.

        UserError, and nothing changed, where a run would be another one under the same key.
        """
        command = command or Command(time.time())
        folder = cls(root() / name)
        if not (folder.path / "sweep.json").exists():
            if problem := no_folder(folder.path):
                raise UserError(f"sweep {name!r}: {problem}")
            header = {
                "schema": SCHEMA,
                "name": name,
                "description": asked.description,
                "spec": asked.spec,
                "created": time.time(),
                "commit": commit,
                "by": command.as_json(),
            }
            if adopt.check_destination(folder.path):
                adopt.adopt(folder.path, header, plans.lines(asked.rows))
            else:
                folder._install(header, asked.rows)
        folder = cls.open(name)
        return folder, folder.grow(asked, command, checked)

    def _install(self, header: dict[str, Any], rows: Sequence[PlanRow]) -> None:
        # Made aside and renamed into place: two launchers at once, or a crash, leave one whole
        # sweep folder or none.
        try:
            root().mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:
            # /proc and the like, where no one can make a folder.
            raise UserError(
                f"MIXBENCH_RUNS: {str(root())!r}: a folder can't be made there ({error.strerror})"
            ) from None
        aside = folder_aside(self.path)
        try:
            atomic_write(aside / plans.FIRST, plans.lines(rows))
            (aside / "runs").mkdir()
            atomic_write(aside / "sweep.json", dump(header))
            with contextlib.suppress(OSError):
                os.rename(aside, self.path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def grow(self, asked: Asked, command: Command, checked: int = 0) -> Growth:
        """Change the plan to what is asked for; UserError while `clean --dropped` runs."""
        revision, growth = self.grown(asked, command, checked)
        if revision is None:
            return growth
        what = f"growing the sweep {self.name!r}"
        with self.changing(what, wait=GROW_SECONDS, waits_for=what):
            while revision is not None:
                is_next = revision.head.number == self.newest_revision() + 1
                if is_next and plans.write(self.path, revision):
                    break
                revision, growth = self.grown(asked, command)
        return growth

    def grown(
        self, asked: Asked, command: Command, checked: int = 0
    ) -> tuple[Revision | None, Growth]:
        """What `grow` would make of the plan, None where it stays as it is, and what changes.

        checked: a revision of which it is known that no run would be another one.
        """
        newest = plans.read(self.path, self._known_header())
        wish = Wish(asked.spec, asked.description, time.time(), command.as_json())
        begun = self.begun()
        revision, growth = growing.grown(newest, wish, asked.rows, command, begun)
        if newest.head.number != checked:
            # Of a plan that stays as it is, what is on disk need not be read again.
            self._check_same_runs(newest, asked.rows, set() if revision is newest else begun)
        return (None if revision is newest else revision), growth

    def _check_same_runs(
        self, newest: Revision, wanted: Sequence[PlanRow], begun: set[str]
    ) -> None:
        planned = newest.keys
        where = plans.path(self.path, newest.head.number).name
        for row in wanted:
            known = planned.get(row.run_key)
            if known is not None and known.config != row.config:
                growing.check_same_run(self.name, row.run_key, known.config, row.config, where)
            if row.run_key in begun:
                named = f"runs/{row.run_key}/config.json"
                config = read_json(Path(f"{self.path}/{named}"))
                # One of another run is a folder that was copied here: it is set aside.
                if config is not None and config.get("run_key", row.run_key) == row.run_key:
                    stored = config.get("config", config)
                    growing.check_same_run(self.name, row.run_key, stored, row.config, named)

    def changing(
        self, what: str, wait: float = 0.0, waits_for: str | None = None
    ) -> contextlib.AbstractContextManager[lock.Lock]:
        """Let nobody else change the plan, or remove runs that are not in it, in this block."""
        path = self.path / "plan.lock"
        return lock.exclusive(path, what, wait, waits_for=waits_for, lease=claims.LEASE_SECONDS)

    @property
    def name(self) -> str:
        """The sweep's name, which is the folder's."""
        return self.path.name

    @property
    def spec(self) -> dict[str, Any]:
        """The sweep as it was given."""
        return dict(self.header()["spec"])

    @property
    def first_spec(self) -> dict[str, Any]:
        """The sweep as it was given when it began."""
        return dict(self._first_header()["spec"])

    @property
    def description(self) -> str:
        """Its author's description."""
        return str(self.header().get("description") or "")

    @property
    def commit(self) -> str | None:
        """The commit of mixbench that the sweep was made with, where that is known."""
        return self.header().get("commit")

    def plan(self) -> list[PlannedRun]:
        """All runs of the sweep, in the order of its cells, seeds within a cell."""
        return self.revision()[1]

    def revision(self) -> tuple[int, list[PlannedRun]]:
        """The number of the newest revision of the plan, and its runs."""
        newest = plans.read(self.path, self._known_header())
        return newest.head.number, choices.planned(self.path, newest.rows)

    def newest_revision(self) -> int:
        """The number of the newest revision of the plan: one look at the folder."""
        return plans.newest_number(self.path)

    def version(self) -> tuple[int, int]:
        """What changes when runs do: the newest revision, and how many settings are chosen."""
        return plans.newest_number(self.path), choices.count(os.listdir(self.path))

    def earlier_plans(self) -> list[Path]:
        """The revisions of the plan between the first and the newest: nothing reads them."""
        return plans.older(self.path)

    def dropped(self) -> list[str]:
        """The keys of the runs that are no longer asked for and still have a folder."""
        dropped = plans.read_head(self.path, self._known_header()).dropped
        if not dropped:
            return []
        gone = dropped & self.begun()
        if gone and self.version()[1]:
            # What was no longer asked for may have been chosen since.
            gone -= {run.run_key for run in self.plan()}
        return sorted(gone)

    def wishes(self) -> tuple[Wish, ...]:
        """What was asked for: the newest wish, and those of others that it was united with."""
        return plans.read_head(self.path, self._known_header()).wishes

    def _planned(self, row: PlanRow) -> PlannedRun:
        return choices.as_planned(self.path, row)

    def find(self, prefix: str, *, dropped: bool = False) -> PlannedRun:
        """The run whose key begins so; UserError if none does, or more than one.

        dropped: also of the runs that are no longer asked for, and are still there.
        """
        plan = self.plan()
        if dropped:
            plan += filter(None, map(self.last_planned, self.dropped()))
        matches = [run for run in plan if prefix and run.run_key.startswith(prefix)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            some = ", ".join(f"{run.run_key} ({_in_short(run)})" for run in matches[:4])
            more = f" and {len(matches) - 4} more" if len(matches) > 4 else ""
            raise UserError(
                f"run {prefix!r} of sweep {self.name!r} is ambiguous: it can be {some}{more}"
            )
        for key in self.dropped() if prefix else ():
            if key.startswith(prefix):
                raise UserError(
                    f"run {key} is no longer asked for in sweep {self.name!r}; what it came to is "
                    f"in {self.path / 'runs' / key}"
                )
        guess = did_you_mean(prefix, [run.run_key for run in plan])
        raise UserError(
            f"no run {prefix!r} in sweep {self.name!r}{guess} "
            f"(`mixbench status {self.name}` shows the keys)"
        )

    def last_planned(self, run_key: str) -> PlannedRun | None:
        """The run as it was last planned, though it may no longer be; None if it is not known."""
        row = plans.last_row(self.path, run_key)
        if row is None and self.version()[1]:
            # The plan knows a run whose setting was chosen by its place.
            known = next((run for run in self.plan() if run.run_key == run_key), None)
            if known is not None:
                return known
        if row is None:
            about = read_json(self.path / "runs" / run_key / "config.json")
            if about is None:
                return None
            row = PlanRow(run_key, about.get("cell_key", ""), about.get("config", {}))
        return self._planned(row)

    def begun(self) -> set[str]:
        """The keys of the runs that were ever claimed."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.path / "runs") as entries:
            return {entry.name for entry in entries}
        return set()

    def ask_to_stop(self, reason: str) -> None:
        """Tell all workers of the sweep to stop, on any machine, and let none start."""
        atomic_write(self.path / "stop.json", dump({"reason": reason, "time": time.time()}))

    def stop_reason(self) -> str | None:
        """Return why the sweep was stopped; None if it was not."""
        stop = read_json(self.path / "stop.json")
        return str(stop.get("reason") or "stopped") if stop is not None else None

    def allow(self) -> None:
        """Let workers work again."""
        (self.path / "stop.json").unlink(missing_ok=True)

    def states(self) -> dict[str, RunState]:
        """run_key -> state, as in `RunFolder.state`."""
        begun = self.begun()
        return {
            run.run_key: run.folder.state()
            if run.pending or run.run_key in begun
            else RunState.WAITING
            for run in self.plan()
        }

    def state_of(self, run_key: str) -> RunState:
        """The state of a run, planned or not."""
        return RunFolder(self.path / "runs" / run_key).state()

    def header(self) -> dict[str, Any]:
        """`sweep.json` (schema, name, created, commit), with the newest spec and description."""
        header = self._first_header()
        newest = plans.read_head(self.path, header).wishes[0]
        return {**header, "spec": newest.spec, "description": newest.description}

    def _known_header(self) -> dict[str, Any]:
        return read_json(self.path / "sweep.json") or {}

    def _first_header(self) -> dict[str, Any]:
        header = read_json(self.path / "sweep.json")
        if header is None:
            raise UserError(f"{self.path / 'sweep.json'}: not readable as JSON")
        return header


def planned_rows(
    runs: Iterable[Row],
    pretraining: Collection[str] = (),
    tune: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[PlanRow, ...]:
    """The rows of a plan.

    pretraining: the cells that others start from, and that is all. tune: run_key -> its part in
    the tuning of a method.
    """
    parts = tune or {}
    return tuple(
        PlanRow(key, cell, config, cell in pretraining, tune=parts.get(key))
        for key, cell, config in runs
    )


def _in_short(run: PlannedRun) -> str:
    return f"{run.config['augmentation']['name']} seed {run.config['seed']}"


def _is_name(name: str) -> bool:
    return bool(name) and name not in (".", "..") and "/" not in name and "\\" not in name
