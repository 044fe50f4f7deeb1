"""Show or follow the log of a run, through all attempts at it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mixbench.experiments.design import tasks
from mixbench.experiments.manage.observe import host_name, job_name
from mixbench.experiments.store.files import read_json
from mixbench.experiments.store.run_folder import PlannedRun, RunFolder
from mixbench.experiments.store.states import FAULTS, Outcome, RunState
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.text import duration, first_line

POLL_SECONDS = 0.5


def heading(folder: SweepFolder, planned: PlannedRun, label: str) -> str:
    """Say which run it is, in a line."""
    state = planned.folder.state()
    return f"{folder.name}/{planned.run_key}: {label}, seed {planned.config['seed']}, {state}"


def report(folder: RunFolder, lines: int | None = None) -> str:
    """Return the attempts, the log (or its last `lines`), and the traceback of a failed run."""
    parts = [_attempts(folder)]
    log, _ = _read(folder.path / "log.txt")
    parts.append(_last(log, lines) or "the log is empty: no worker has begun with it\n")
    failure = folder.failure()
    if failure is not None and folder.state_on_file() == RunState.FAILED:
        trace = str(failure.get("traceback") or "").strip()
        if trace and trace not in log:
            parts.append(f"\n{trace}\n")
        parts.append(f"failed: {failure.get('error')}\n")
    return "\n".join(part for part in parts if part)


def follow(folder: RunFolder, lines: int | None = None) -> Iterator[str]:
    """Yield what the run logs, until it is done or failed; wait for the next attempt.

    Between two attempts a line says how the one before ended.
    """
    path = folder.path / "log.txt"
    text, position = _read(path)
    yield _last(text, lines)
    told = len(folder.attempts())
    waiting = False
    while True:
        # Read the state before the log, so that the end of the log is not missed.
        ended = folder.state_on_file()
        rows = folder.attempts()
        if path.exists() and path.stat().st_size < position:
            position = 0
        new, position = _read(path, position)
        if new:
            waiting = False
            yield new
        for row in rows[told:]:
            yield f"-- {_sentence(row)}\n"
        told = len(rows)
        if ended == RunState.DONE:
            result = folder.result() or {"metrics": {}}
            stored = read_json(folder.path / "config.json") or {}
            metric = tasks.of_config(stored.get("config") or {}).headline
            score = result["metrics"].get(metric.key)
            words = metric.title if metric.title.isupper() else metric.title.lower()
            yield f"-- done{'' if score is None else f', test {words} {score:.4f}'}\n"
            return
        if ended == RunState.FAILED:
            yield f"-- failed: {(folder.failure() or {}).get('error')}\n"
            return
        if not waiting and folder.claim() is None:
            waiting = True
            yield "-- waiting for a worker\n"
        time.sleep(POLL_SECONDS)


def _attempts(folder: RunFolder) -> str:
    rows = folder.attempts()
    if not rows:
        return ""
    return "".join(f"{_sentence(row)}\n" for row in rows)


def _sentence(row: dict[str, Any]) -> str:
    """Describe an attempt in a line."""
    if row.get("outcome") == Outcome.RETRY:
        return f"to be tried again, since {_clock(row.get('time'))}"
    worker = str(row.get("worker") or "?")
    host = host_name(row.get("host")) or ""
    if not worker.startswith(host):
        worker = f"{worker} on {host}"
    job = job_name(row.get("job"))
    if job:
        worker += f", job {job}"
    began, ended = row.get("started"), row.get("ended")
    span = _clock(began)
    if began and ended:
        span += f", {_spent(ended - began)}"
    error = first_line(row.get("error"))
    has_reason = row.get("outcome") in (*FAULTS, Outcome.DIVERGED, Outcome.STOPPED, Outcome.PAUSED)
    why = f": {error}" if error and has_reason else ""
    return f"attempt {row.get('attempt')} ({worker}; {span}): {row.get('outcome')}{why}"


def _clock(moment: float | None) -> str:
    return "?" if not moment else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def _spent(seconds: float) -> str:
    return duration(max(0.0, seconds))


def _read(path: Path, position: int = 0) -> tuple[str, int]:
    """Return the whole lines of a file from this byte on, and where they end."""
    try:
        with path.open("rb") as file:
            file.seek(position)
            content = file.read()
    except FileNotFoundError:
        return "", position
    whole = content[: content.rfind(b"\n") + 1]
    return whole.decode("utf-8", errors="replace"), position + len(whole)


def _last(text: str, lines: int | None) -> str:
    if lines is None:
        return text
    all_lines = text.splitlines(keepends=True)
    return "".join(all_lines[len(all_lines) - lines :] if lines < len(all_lines) else all_lines)
