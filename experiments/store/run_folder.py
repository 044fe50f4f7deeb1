"""The folder of one run: its result, failure, metrics, attempts and claims."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixbench.experiments.store import claims, rights
from mixbench.experiments.store.files import (
    atomic_write,
    dump,
    read_json,
    read_lines,
    write_once,
)
from mixbench.experiments.store.states import Outcome, RunState


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run. It exists once a worker has claimed the run."""

    path: Path

    @property
    def run_key(self) -> str:
        """The run's key, which is the folder's name."""
        return self.path.name

    def result(self) -> dict[str, Any] | None:
        """`result.json`, the done marker; None while the run is not done, or if it is another's."""
        result = read_json(self.path / "result.json")
        is_own = result is None or result.get("run_key", self.run_key) == self.run_key
        return result if is_own else None

    def failure(self) -> dict[str, Any] | None:
        """`failure.json`: the error and its traceback, when the last attempt failed."""
        return read_json(self.path / "failure.json")

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of `metrics.jsonl`, one per epoch; a torn last line is dropped."""
        return read_lines(self.path / "metrics.jsonl")

    def attempts(self) -> list[dict[str, Any]]:
        """Who tried, when and how it ended: a row per attempt, and a row "retry" per retry.

        Where two have reported the end of an attempt (the launcher that saw the process die knows
        the signal, the worker that took over does not), the last report counts.
        """
        rows: dict[Any, dict[str, Any]] = {}
        for number, row in enumerate(read_lines(self.path / "attempts.jsonl")):
            rows[row.get("attempt") or f"retry {number}"] = row
        if not any(row.get("outcome") == Outcome.DONE for row in rows.values()):
            last = self._unrecorded_success()
            if last is not None:
                rows[last["attempt"]] = last
        return list(rows.values())

    def _unrecorded_success(self) -> dict[str, Any] | None:
        """The row of the attempt that wrote the result and was killed before it could record it."""
        result = self.result()
        if result is None or "attempt" not in result:
            return None
        claim = claims.numbered(self.path, result["attempt"]) or {}
        known = {name: claim.get(name) for name in ("worker", "host", "job", "started")}
        ended = result.get("provenance", {}).get("finished")
        saved_step = (claim.get("progress") or {}).get("saved", 0)
        outcome = {"ended": ended, "outcome": Outcome.DONE, "error": None, "saved": saved_step}
        return {"attempt": result["attempt"], **known, **outcome}

    def claim(self) -> dict[str, Any] | None:
        """Who works on the run, with its progress; None when nobody does."""
        return claims.holder(self.path)

    def last_claim(self) -> dict[str, Any] | None:
        """The last claim on the run, held or released; None when it was never claimed."""
        return claims.last(self.path)

    def state(self) -> RunState:
        """DONE, FAILED, RUNNING or WAITING; a stale run counts as waiting."""
        return self.state_on_file() or (RunState.RUNNING if self.claim() else RunState.WAITING)

    def state_on_file(self) -> RunState | None:
        """DONE or FAILED; None for a run that is still to be done, or being done."""
        if (self.path / "result.json").exists():
            return RunState.DONE
        return RunState.FAILED if (self.path / "failure.json").exists() else None

    def check_writable(self) -> None:
        """Raise PermissionError if another user's file in the folder can't be continued."""
        names = ("", "attempts.jsonl", "log.txt", "metrics.jsonl")
        rights.check_writable(*(self.path / name for name in names))

    def add_attempt(self, row: dict[str, Any]) -> None:
        """Append one row to `attempts.jsonl`."""
        path = self.path / "attempts.jsonl"
        line = json.dumps(row) + "\n"
        with path.open("ab") as file:
            # A line torn by a kill in mid-write must not absorb this row.
            torn = file.tell() and not path.read_bytes().endswith(b"\n")
            file.write((("\n" if torn else "") + line).encode())

    def finish(self, result: dict[str, Any]) -> bool:
        """Write `result.json`, the done marker, unless there is one; was it written?

        The first result stays: a worker that was overtaken without noticing changes nothing.
        """
        if not write_once(self.path / "result.json", dump(result)):
            return False
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
    """Does it exist only because others start from its weights?"""
    tune: Mapping[str, Any] | None = None
    """Its part in the tuning of a method, see `choices`; None for most."""
    cell_config: Mapping[str, Any] | None = None
    """Of a run whose setting is chosen: its configuration before the choice."""
    pending: bool = False
    """Is its setting still to be chosen? It has no folder, and its key is that of its place."""
    until: int | None = None
    """Of a tuning run: the epoch after which it waits for a look; None where none comes."""
    stopped_at: int | None = None
    """Of a tuning run: the epoch after which it was stopped, because others do better."""

    def epoch_of(self, share: float) -> int:
        """The epoch at which so much of the training is done."""
        epochs = int(self.config["training"]["epochs"])
        return max(1, math.ceil(share * epochs - 1e-9))

    @property
    def part(self) -> str:
        """Its part in the tuning of a method: "tuning", "tuned", "default", or "" for none."""
        return str(self.tune["part"]) if self.tune is not None else ""
