"""The states of a run and the ways in which an attempt at it can end.

The values are those in files, in `status --json` and in tables.
"""

from __future__ import annotations

from enum import StrEnum


class RunState(StrEnum):
    """Where a run stands."""

    DONE = "done"
    RUNNING = "running"
    """A worker holds it and sends heartbeats."""
    FAILED = "failed"
    """Given up: its attempts are used up, or another one would fail the same way."""
    STALE = "stale"
    """A worker holds it and sends no heartbeats; the next worker takes over."""
    WAITING = "waiting"


class Outcome(StrEnum):
    """How an attempt at a run ended, in `attempts.jsonl`; also why a claim was released."""

    DONE = "done"
    FAILED = "failed"
    OUT_OF_MEMORY = "out of memory"
    DIED = "died"
    """Its process died without recording an outcome."""
    HUNG = "hung"
    """Its process sent no heartbeats and was killed."""
    DIVERGED = "diverged"
    STOPPED = "stopped"
    """Somebody stopped the worker; it goes on from the checkpoint."""
    PAUSED = "paused"
    """A tuning run has got as far as it goes before a look; it goes on from the checkpoint."""
    LOST = "lost"
    """Another worker had taken the run over; never on record."""
    RETRY = "retry"
    """Not an attempt: attempts before this row no longer count."""
    GIVEN_UP = "given up"
    """Only of a claim: with attempts recorded late, the run had no retries left."""
    NOTHING_TO_DO = "nothing to do"
    """Only of a claim: the run had ended before it could begin."""
    MEASURED = "measured"
    """Only of a claim on the evaluations of a run."""


FAULTS = (Outcome.FAILED, Outcome.OUT_OF_MEMORY, Outcome.DIED, Outcome.HUNG)
"""Outcomes that may be the machine's fault: the run is tried again."""
