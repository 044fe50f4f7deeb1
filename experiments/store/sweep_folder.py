"""Sweep folders: the store of all runs, and the queue of runs to be done.

Standard library only: the launcher, the report and the MLflow projection read it without torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixbench.experiments.errors import UserError, did_you_mean
from mixbench.experiments.store.files import (
    SCHEMA,
    atomic_write,
    dump,
    folder_aside,
    read_json,
    read_lines,
)
from mixbench.experiments.store.run_folder import PlannedRun, RunFolder
from mixbench.experiments.store.states import RunState


def root() -> Path:
    """Where sweeps live: `$MIXBENCH_RUNS`, or `runs` in the working folder."""
    path = Path(os.environ.get("MIXBENCH_RUNS") or "runs").absolute()
    if path.exists() and not path.is_dir():
        raise UserError(f"MIXBENCH_RUNS: {str(path)!r} is not a folder")
    return path


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
        folder = cls(path)
        if folder.header().get("schema") != SCHEMA:
            raise UserError(
                f"sweep {name!r} was written by another version of mixbench (schema "
                f"{folder.header().get('schema')!r}, this one reads {SCHEMA})"
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
        runs: Iterable[tuple[str, str, dict[str, Any]]],
        commit: str | None,
        pretraining: Collection[str] = (),
    ) -> SweepFolder:
        """The folder of a new sweep, or the one that is there if it plans the very same runs.

        runs: (run_key, cell_key, config). pretraining: the cells that are there only because
        others start from their weights. UserError when a sweep of that name has other runs.
        """
        rows = list(runs)
        folder = cls(root() / name)
        if not (folder.path / "sweep.json").exists():
            header = {
                "schema": SCHEMA,
                "name": name,
                "description": description,
                "spec": spec,
                "created": time.time(),
                "commit": commit,
            }
            folder._install(header, rows, pretraining)
        folder = cls.open(name)
        folder.check_same({row[0] for row in rows}, spec)
        there = {run.cell_key for run in folder.plan() if run.pretraining}
        if there != set(pretraining):
            atomic_write(folder.path / "plan.jsonl", _plan_lines(rows, pretraining))
        known = folder.header()
        if known["spec"] != spec or known["description"] != description:
            # The same runs, described or compared in another way.
            atomic_write(
                folder.path / "sweep.json",
                dump({**known, "spec": spec, "description": description}),
            )
        return folder

    def check_same(self, wanted: set[str], spec: dict[str, Any]) -> None:
        """UserError unless the sweep plans just the runs of these keys, made of `spec`."""
        there = {run.run_key for run in self.plan()}
        if there == wanted:
            return
        gone, new = len(there - wanted), len(wanted - there)
        if spec == self.spec:
            raise UserError(
                f"sweep {self.name!r} was planned by another version of mixbench, in which {gone} "
                f"of its {len(there)} runs were not what they are now (a method draws otherwise, "
                f"say); give the sweep another name with --name"
            )
        raise UserError(
            f"sweep {self.name!r} exists with another configuration ({gone} of its {len(there)} "
            f"runs are not in this one, {new} are new); give the changed sweep another name "
            f"with --name"
        )

    def _install(
        self,
        header: dict[str, Any],
        rows: list[tuple[str, str, dict[str, Any]]],
        pretraining: Collection[str],
    ) -> None:
        # Made aside and renamed into place: two launchers at once, or a crash, leave one whole
        # sweep folder or none.
        root().mkdir(parents=True, exist_ok=True)
        aside = folder_aside(self.path)
        try:
            atomic_write(aside / "plan.jsonl", _plan_lines(rows, pretraining))
            (aside / "runs").mkdir()
            atomic_write(aside / "sweep.json", dump(header))
            with contextlib.suppress(OSError):
                os.rename(aside, self.path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    @property
    def name(self) -> str:
        """The sweep's name, which is the folder's."""
        return self.path.name

    @property
    def spec(self) -> dict[str, Any]:
        """The sweep as it was given."""
        return dict(self.header()["spec"])

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
        return [
            PlannedRun(
                row["run_key"],
                row["cell_key"],
                row["config"],
                RunFolder(self.path / "runs" / row["run_key"]),
                bool(row.get("pretraining")),
            )
            for row in read_lines(self.path / "plan.jsonl")
        ]

    def find(self, prefix: str) -> PlannedRun:
        """The run whose key begins so; UserError if none does, or more than one."""
        plan = self.plan()
        matches = [run for run in plan if prefix and run.run_key.startswith(prefix)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            some = ", ".join(f"{run.run_key} ({_in_short(run)})" for run in matches[:4])
            more = f" and {len(matches) - 4} more" if len(matches) > 4 else ""
            raise UserError(
                f"run {prefix!r} of sweep {self.name!r} is ambiguous: it can be {some}{more}"
            )
        guess = did_you_mean(prefix, [run.run_key for run in plan])
        raise UserError(
            f"no run {prefix!r} in sweep {self.name!r}{guess} "
            f"(`mixbench status {self.name}` shows the keys)"
        )

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
            run.run_key: run.folder.state() if run.run_key in begun else RunState.WAITING
            for run in self.plan()
        }

    def header(self) -> dict[str, Any]:
        """`sweep.json`: schema, name, description, spec, created, commit."""
        header = read_json(self.path / "sweep.json")
        if header is None:
            raise UserError(f"{self.path / 'sweep.json'}: not readable as JSON")
        return header


def _plan_lines(
    rows: Iterable[tuple[str, str, dict[str, Any]]], pretraining: Collection[str]
) -> str:
    lines = []
    for key, cell, config in rows:
        row: dict[str, Any] = {"run_key": key, "cell_key": cell, "config": config}
        if cell in pretraining:
            row["pretraining"] = True
        lines.append(json.dumps(row) + "\n")
    return "".join(lines)


def _in_short(run: PlannedRun) -> str:
    return f"{run.config['augmentation']['name']} seed {run.config['seed']}"


def _is_name(name: str) -> bool:
    return bool(name) and name not in (".", "..") and "/" not in name and "\\" not in name
