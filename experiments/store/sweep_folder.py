"""Sweep folders and run folders: the store of everything, and the queue of what is to be done.

Standard library only: the launcher, the report and the MLflow projection read it without torch.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixbench.experiments.errors import UserError
from mixbench.experiments.store import claims

SCHEMA = 1


def root() -> Path:
    """Where sweeps live: `$MIXBENCH_RUNS`, or `runs` in the working folder."""
    path = Path(os.environ.get("MIXBENCH_RUNS") or "runs").absolute()
    if path.exists() and not path.is_dir():
        raise UserError(f"MIXBENCH_RUNS: {str(path)!r} is not a folder")
    return path


def atomic_write(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader, or a crash, sees all of it or nothing."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; a run folder is to be read by colleagues.
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def dump(value: Any) -> str:
    """JSON as it is stored: keys in order, floats in full, NaN refused."""
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run. It exists once a worker has claimed the run."""

    path: Path

    @property
    def run_key(self) -> str:
        """The run's key, which is the folder's name."""
        return self.path.name

    def result(self) -> dict[str, Any] | None:
        """`result.json`, the done marker; None while the run is not done."""
        return _read_json(self.path / "result.json")

    def failure(self) -> dict[str, Any] | None:
        """`failure.json`: the error and its traceback, when the last attempt failed."""
        return _read_json(self.path / "failure.json")

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of `metrics.jsonl`, one per epoch; a torn last line is dropped."""
        return _read_lines(self.path / "metrics.jsonl")

    def attempts(self) -> list[dict[str, Any]]:
        """Who tried, when and how it ended: a row per attempt, and a row "retry" per forgiveness.

        Where two have reported the end of an attempt (the launcher that saw the process die knows
        the signal, the worker that took over does not), the last report counts.
        """
        rows: dict[Any, dict[str, Any]] = {}
        for place, row in enumerate(_read_lines(self.path / "attempts.jsonl")):
            rows[row.get("attempt") or f"retry {place}"] = row
        if not any(row.get("outcome") == "done" for row in rows.values()):
            last = self._done_unsaid()
            if last is not None:
                rows[last["attempt"]] = last
        return list(rows.values())

    def _done_unsaid(self) -> dict[str, Any] | None:
        """The row of the attempt that made the result and was killed before it could say so."""
        result = self.result()
        if result is None or "attempt" not in result:
            return None
        claim = claims.numbered(self.path, result["attempt"]) or {}
        known = {name: claim.get(name) for name in ("worker", "host", "job", "started")}
        ended = result.get("provenance", {}).get("finished")
        saved = (claim.get("progress") or {}).get("saved", 0)
        outcome = {"ended": ended, "outcome": "done", "error": None, "saved": saved}
        return {"attempt": result["attempt"], **known, **outcome}

    def claim(self) -> dict[str, Any] | None:
        """Who works on the run, with its progress; None when nobody does."""
        return claims.holder(self.path)

    def last_claim(self) -> dict[str, Any] | None:
        """The last claim on the run, held or released; None when it was never claimed."""
        return claims.last(self.path)

    def state(self) -> str:
        """ "done", "failed", "running" or "waiting"."""
        return self.state_on_file() or ("running" if self.claim() else "waiting")

    def state_on_file(self) -> str | None:
        """ "done" or "failed"; None for a run that is still to be done, or being done."""
        if (self.path / "result.json").exists():
            return "done"
        return "failed" if (self.path / "failure.json").exists() else None

    def add_attempt(self, row: dict[str, Any]) -> None:
        """Append one row to `attempts.jsonl`."""
        path = self.path / "attempts.jsonl"
        line = json.dumps(row) + "\n"
        with path.open("ab") as file:
            # What a kill in mid-write left behind must not swallow this row too.
            torn = file.tell() and not path.read_bytes().endswith(b"\n")
            file.write((("\n" if torn else "") + line).encode())

    def finish(self, result: dict[str, Any]) -> bool:
        """Write `result.json`, the done marker, unless there is one; was it written?

        The first result stays: a worker that was overtaken without noticing changes nothing.
        """
        path = self.path / "result.json"
        aside = self.path / f".result.json.{uuid.uuid4().hex}"
        atomic_write(aside, dump(result))
        try:
            os.link(aside, path)
        except FileExistsError:
            # A server may have made the link and lost its answer: two links mean that it is ours.
            return aside.stat().st_nlink == 2
        finally:
            aside.unlink()
        # A later attempt may do what an earlier one could not.
        (self.path / "failure.json").unlink(missing_ok=True)
        return True

    def fail(self, error: str, traceback: str, attempt: int) -> None:
        """Record that an attempt failed; a result that is there stays."""
        failure = {"error": error, "traceback": traceback, "time": time.time(), "attempt": attempt}
        atomic_write(self.path / "failure.json", dump(failure))


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep, whether it has begun or not."""

    run_key: str
    cell_key: str
    config: dict[str, Any]
    folder: RunFolder
    pretraining: bool = False
    """Is it there only because others start from its weights?"""


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
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            guess = f"; did you mean {close[0]!r}?" if close else ""
            have = f" (there are: {', '.join(known)})" if known and not close else ""
            raise UserError(f"no sweep {name!r} in {root()}{guess}{have}")
        folder = cls(path)
        if folder._header().get("schema") != SCHEMA:
            raise UserError(
                f"sweep {name!r} was written by another version of mixbench (schema "
                f"{folder._header().get('schema')!r}, this one reads {SCHEMA})"
            )
        return folder

    @staticmethod
    def names() -> list[str]:
        """The sweeps below the root."""
        # One that starts with a dot is what a crash left of a sweep in the making.
        found = (path.parent.name for path in root().glob("*/sweep.json"))
        return sorted(name for name in found if not name.startswith("."))

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
        known = folder._header()
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
        aside = Path(tempfile.mkdtemp(dir=root(), prefix=f".{header['name']}."))
        try:
            os.chmod(aside, 0o777 & ~_umask())
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
        return dict(self._header()["spec"])

    @property
    def description(self) -> str:
        """What the sweep is about, in its author's words."""
        return str(self._header().get("description") or "")

    @property
    def commit(self) -> str | None:
        """The commit of mixbench that the sweep was made with, where that is known."""
        return self._header().get("commit")

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
            for row in _read_lines(self.path / "plan.jsonl")
        ]

    def find(self, prefix: str) -> PlannedRun:
        """The run whose key begins so; UserError if none does, or more than one."""
        plan = self.plan()
        found = [run for run in plan if prefix and run.run_key.startswith(prefix)]
        if len(found) == 1:
            return found[0]
        if found:
            some = ", ".join(f"{run.run_key} ({_in_short(run)})" for run in found[:4])
            more = f" and {len(found) - 4} more" if len(found) > 4 else ""
            raise UserError(
                f"run {prefix!r} of sweep {self.name!r} is ambiguous: it can be {some}{more}"
            )
        keys = [run.run_key for run in plan]
        close = difflib.get_close_matches(prefix, keys, n=1, cutoff=0.5)
        guess = f"; did you mean {close[0]!r}?" if close else ""
        raise UserError(
            f"no run {prefix!r} in sweep {self.name!r}{guess} "
            f"(`mixbench status {self.name}` shows the keys)"
        )

    def begun(self) -> set[str]:
        """The keys of the runs that a worker has claimed, ever."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.path / "runs") as entries:
            return {entry.name for entry in entries}
        return set()

    def ask_to_stop(self, reason: str) -> None:
        """Have all workers of the sweep stop, wherever they are, and none start."""
        atomic_write(self.path / "stop.json", dump({"reason": reason, "time": time.time()}))

    def stop_reason(self) -> str | None:
        """Why no worker may work on the sweep now; None while they may."""
        found = _read_json(self.path / "stop.json")
        return str(found.get("reason") or "stopped") if found is not None else None

    def allow(self) -> None:
        """Let workers work again."""
        (self.path / "stop.json").unlink(missing_ok=True)

    def states(self) -> dict[str, str]:
        """run_key -> "done", "failed", "running" or "waiting"."""
        begun = self.begun()
        return {
            run.run_key: run.folder.state() if run.run_key in begun else "waiting"
            for run in self.plan()
        }

    def forgive(self, keys: Collection[str] | None = None) -> int:
        """Let failed runs (of these keys) be tried again; how many there were.

        Their attempts stay on record, and no longer count. With a run go those that failed because
        it did, and those whose failure made it fail.
        """
        from mixbench.experiments.store import dependencies

        begun = self.begun()
        plan = self.plan()
        needed = dependencies.needed(plan)
        failed = {
            run.run_key: run
            for run in plan
            if run.run_key in begun and run.folder.state() == "failed"
        }
        if keys is not None:
            chosen = {key for key in keys if key in failed}
            chosen |= {
                run.run_key
                for key in chosen
                for run in dependencies.chain(key, needed)
                if run.run_key in failed
            }
            # A run begins when the one that it needs has ended, so if that failed, so did it.
            chosen |= dependencies.dependants(chosen, needed)
            failed = {key: run for key, run in failed.items() if key in chosen}
        # What is needed first: a worker that looks meanwhile would have the others fail again.
        for run in dependencies.by_need(list(failed.values()), needed):
            run.folder.add_attempt({"outcome": "retry", "time": time.time()})
            (run.folder.path / "failure.json").unlink(missing_ok=True)
        return len(failed)

    def _header(self) -> dict[str, Any]:
        header = _read_json(self.path / "sweep.json")
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


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    return value if isinstance(value, dict) else None


def _read_lines(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    rows = []
    for line in text.split("\n"):
        if line:
            # Only the last line can be torn, by a kill in mid-write; it is as if not yet written.
            with contextlib.suppress(json.JSONDecodeError):
                row = json.loads(line)
                if isinstance(row, dict):
                    rows.append(row)
    return rows
